// Sixteen lanes of AVX-512 with VNNI; for the translation units that are compiled for it.
#pragma once

#include <immintrin.h>

#include "layout.h"

namespace thermesh {
// Unnamed: each tier's translation unit has its own, compiled for its processor.
namespace {

using Lanes = __m512;

inline Lanes load(const float* x) { return _mm512_loadu_ps(x); }
inline void store(float* x, Lanes v) { _mm512_storeu_ps(x, v); }
inline Lanes set1(float x) { return _mm512_set1_ps(x); }
inline Lanes add(Lanes a, Lanes b) { return _mm512_add_ps(a, b); }
inline Lanes subtract(Lanes a, Lanes b) { return _mm512_sub_ps(a, b); }
inline Lanes mul(Lanes a, Lanes b) { return _mm512_mul_ps(a, b); }
inline Lanes divide(Lanes a, Lanes b) { return _mm512_div_ps(a, b); }
inline Lanes fma(Lanes a, Lanes b, Lanes c) { return _mm512_fmadd_ps(a, b, c); }
inline Lanes min(Lanes a, Lanes b) { return _mm512_min_ps(a, b); }
inline Lanes max(Lanes a, Lanes b) { return _mm512_max_ps(a, b); }
inline Lanes absolute(Lanes a) { return _mm512_abs_ps(a); }
inline Lanes round(Lanes a) {
  return _mm512_roundscale_ps(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
}
inline Lanes times_power_of_two(Lanes a, Lanes n) { return _mm512_scalef_ps(a, n); }
inline float reduce_add(Lanes a) { return _mm512_reduce_add_ps(a); }
inline float reduce_max(Lanes a) { return _mm512_reduce_max_ps(a); }
inline Lanes load_half(const uint16_t* x) {
  return _mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(x)));
}
inline Lanes load_bfloat16(const uint16_t* x) {
  const __m256i upper = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(x));
  return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(upper), 16));
}
inline void store_half(uint16_t* x, Lanes v) {
  const __m256i half = _mm512_cvtps_ph(v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(x), half);
}
inline void store_int8(uint8_t* x, Lanes v) {
  const __m128i codes = _mm512_cvtsepi32_epi8(_mm512_cvtps_epi32(v));
  _mm_storeu_si128(reinterpret_cast<__m128i*>(x), codes);
}
// Each lane's partner: the one whose number differs in the bit `kStride`.
template <int kStride>
inline Lanes partners(Lanes a) {
  switch (kStride) {
    case 1: return _mm512_permute_ps(a, _MM_SHUFFLE(2, 3, 0, 1));
    case 2: return _mm512_permute_ps(a, _MM_SHUFFLE(1, 0, 3, 2));
    case 4: return _mm512_shuffle_f32x4(a, a, _MM_SHUFFLE(2, 3, 0, 1));
    default: return _mm512_shuffle_f32x4(a, a, _MM_SHUFFLE(1, 0, 3, 2));
  }
}
// Lanes from `count` on become `fill`.
inline Lanes keep_below(Lanes a, int count, float fill) {
  const __mmask16 kept = count >= kLanes ? 0xFFFF : count <= 0 ? 0 : (1u << count) - 1;
  return _mm512_mask_blend_ps(kept, set1(fill), a);
}

inline __m512i load_codes(const uint8_t* x) { return _mm512_loadu_si512(x); }

// Products of four bytes: stored codes are signed plus 128, which is taken off
// their sum with the activations'.
using IntLanes = __m512i;
using Codes = __m512i;
using Activations = __m512i;

inline IntLanes zero_int() { return _mm512_setzero_si512(); }
inline Codes load_stored(const uint8_t* x) { return _mm512_loadu_si512(x); }
inline Activations activations(const uint8_t* x) { return _mm512_loadu_si512(x); }
inline Activations spread(const uint8_t* x) {
  int32_t together;
  __builtin_memcpy(&together, x, sizeof together);
  return _mm512_set1_epi32(together);
}
inline IntLanes dot4(IntLanes sum, Codes codes, Activations x) {
  return _mm512_dpbusd_epi32(sum, codes, x);
}
// Fourths of four codes a lane, `index` of the four that a byte has, in 256ths.
inline Codes load_fourths(const uint8_t* x, int index) {
  const __m512i uppermost = _mm512_set1_epi8(static_cast<char>(0xC0));
  return _mm512_and_si512(_mm512_slli_epi32(load_codes(x), 2 * index), uppermost);
}
inline IntLanes dot4_of_fourths(IntLanes sum, Codes fourths, Activations x) {
  return _mm512_dpbusd_epi32(sum, fourths, x);
}
// whole + rest / 256 in 256ths; the activations' sum is in 256ths too.
inline Lanes in_256ths(IntLanes whole, IntLanes rest, int32_t sum) {
  const IntLanes both = _mm512_add_epi32(_mm512_slli_epi32(whole, 8), rest);
  return _mm512_cvtepi32_ps(_mm512_sub_epi32(both, _mm512_set1_epi32(128 * sum)));
}
inline int32_t reduce(IntLanes dots, int32_t sum) {
  return _mm512_reduce_add_epi32(dots) - 128 * sum;
}

// How a tier asks for weights: twice, as others do, or once, past the second and third level
// caches, for which a step has too many of them anyway.
struct FetchedTwice {
  static void fetch(const uint8_t* tile, int bytes) { fetch_weights(tile, bytes); }
};
struct FetchedOnce {
  static void fetch(const uint8_t* tile, int bytes) {
    for (int i = 0; i < bytes; i += 64) __builtin_prefetch(tile + kFetchOnceAhead + i, 0, 0);
  }
};

}  // namespace
}  // namespace thermesh
