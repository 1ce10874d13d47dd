// What products of bfloat16 share, on tiles (tier_amx.cpp tells what tiles are) or on vectors; for
// the translation units that are compiled for them.
#pragma once

#include <immintrin.h>

#include "layout.h"

namespace thermesh {
// Unnamed: each translation unit has its own, compiled for its processor.
namespace {

// Columns of a tile of bfloat16: pairs of inputs, of each pair 16 outputs.
constexpr int kTileInputs = 32;
constexpr int kTileBytes = 1024;

// Two vectors of floats as pairs of bfloat16, rounded to the nearest.
inline __m512i paired(__m512 first, __m512 second) {
  const __m512i half = _mm512_set1_epi32(0x8000);
  const __m512i low = _mm512_add_epi32(_mm512_castps_si512(first), half);
  const __m512i high = _mm512_add_epi32(_mm512_castps_si512(second), half);
  return _mm512_mask_blend_epi16(0xAAAAAAAA, _mm512_srli_epi32(low, 16), high);
}

// Two vectors of floats as bfloat16, one after the other.
inline __m512i in_turn(__m512 first, __m512 second) {
  const __m512i half = _mm512_set1_epi32(0x8000);
  const auto narrow = [&](__m512 x) {
    const __m512i rounded = _mm512_add_epi32(_mm512_castps_si512(x), half);
    return _mm512_cvtepi32_epi16(_mm512_srli_epi32(rounded, 16));
  };
  return _mm512_inserti64x4(_mm512_castsi256_si512(narrow(first)), narrow(second), 1);
}

constexpr float kLog2OfE = 1.44269504f;

// 2^x: a polynomial on [0, 1) whose error, 1e-4, is a twentieth of what rounding to
// bfloat16 makes, times the power of the whole part.
inline __m512 power_of_two(__m512 x) {
  const __m512 f = _mm512_reduce_ps(x, _MM_FROUND_TO_NEG_INF | _MM_FROUND_NO_EXC);
  __m512 p = _mm512_fmadd_ps(_mm512_set1_ps(0.07802398f), f, _mm512_set1_ps(0.22606702f));
  p = _mm512_fmadd_ps(p, f, _mm512_set1_ps(0.69583408f));
  p = _mm512_fmadd_ps(p, f, _mm512_set1_ps(0.99992511f));
  return _mm512_scalef_ps(p, x);
}

}  // namespace
}  // namespace thermesh
