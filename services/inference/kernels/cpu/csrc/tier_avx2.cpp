// AVX2 with FMA and F16C (Haswell, Zen and later): sixteen lanes are two
// vectors, and int8 products go through 16-bit sums.
#include <immintrin.h>
#include <math.h>

#include "pass.h"
#include "tier.h"

namespace thermesh {
namespace {

struct Lanes {
  __m256 low, high;
};

inline Lanes load(const float* x) { return {_mm256_loadu_ps(x), _mm256_loadu_ps(x + 8)}; }
inline void store(float* x, Lanes v) {
  _mm256_storeu_ps(x, v.low);
  _mm256_storeu_ps(x + 8, v.high);
}
inline Lanes set1(float x) { return {_mm256_set1_ps(x), _mm256_set1_ps(x)}; }
inline Lanes add(Lanes a, Lanes b) {
  return {_mm256_add_ps(a.low, b.low), _mm256_add_ps(a.high, b.high)};
}
inline Lanes subtract(Lanes a, Lanes b) {
  return {_mm256_sub_ps(a.low, b.low), _mm256_sub_ps(a.high, b.high)};
}
inline Lanes mul(Lanes a, Lanes b) {
  return {_mm256_mul_ps(a.low, b.low), _mm256_mul_ps(a.high, b.high)};
}
inline Lanes divide(Lanes a, Lanes b) {
  return {_mm256_div_ps(a.low, b.low), _mm256_div_ps(a.high, b.high)};
}
inline Lanes fma(Lanes a, Lanes b, Lanes c) {
  return {_mm256_fmadd_ps(a.low, b.low, c.low), _mm256_fmadd_ps(a.high, b.high, c.high)};
}
inline Lanes min(Lanes a, Lanes b) {
  return {_mm256_min_ps(a.low, b.low), _mm256_min_ps(a.high, b.high)};
}
inline Lanes max(Lanes a, Lanes b) {
  return {_mm256_max_ps(a.low, b.low), _mm256_max_ps(a.high, b.high)};
}
inline Lanes absolute(Lanes a) {
  const __m256 sign = _mm256_set1_ps(-0.0f);
  return {_mm256_andnot_ps(sign, a.low), _mm256_andnot_ps(sign, a.high)};
}
inline Lanes round(Lanes a) {
  constexpr int kNearest = _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC;
  return {_mm256_round_ps(a.low, kNearest), _mm256_round_ps(a.high, kNearest)};
}
// Adds n to the exponent: a is near 1 and |n| below 127 wherever this is used.
inline __m256 times_power_of_two(__m256 a, __m256 n) {
  const __m256i exponent = _mm256_slli_epi32(_mm256_cvtps_epi32(n), 23);
  return _mm256_castsi256_ps(_mm256_add_epi32(_mm256_castps_si256(a), exponent));
}
inline Lanes times_power_of_two(Lanes a, Lanes n) {
  return {times_power_of_two(a.low, n.low), times_power_of_two(a.high, n.high)};
}
inline float reduce_add(Lanes a) {
  const __m256 eight = _mm256_add_ps(a.low, a.high);
  __m128 four = _mm_add_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
  four = _mm_add_ps(four, _mm_movehl_ps(four, four));
  return _mm_cvtss_f32(_mm_add_ss(four, _mm_movehdup_ps(four)));
}
inline float reduce_max(Lanes a) {
  const __m256 eight = _mm256_max_ps(a.low, a.high);
  __m128 four = _mm_max_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
  four = _mm_max_ps(four, _mm_movehl_ps(four, four));
  return _mm_cvtss_f32(_mm_max_ss(four, _mm_movehdup_ps(four)));
}
inline Lanes load_half(const uint16_t* x) {
  const __m128i* halves = reinterpret_cast<const __m128i*>(x);
  return {_mm256_cvtph_ps(_mm_loadu_si128(halves)), _mm256_cvtph_ps(_mm_loadu_si128(halves + 1))};
}
inline __m256 eight_bfloat16(const uint16_t* x) {
  const __m256i wide = _mm256_cvtepu16_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(x)));
  return _mm256_castsi256_ps(_mm256_slli_epi32(wide, 16));
}
inline Lanes load_bfloat16(const uint16_t* x) { return {eight_bfloat16(x), eight_bfloat16(x + 8)}; }
inline void store_half(uint16_t* x, Lanes v) {
  __m128i* halves = reinterpret_cast<__m128i*>(x);
  _mm_storeu_si128(halves, _mm256_cvtps_ph(v.low, _MM_FROUND_TO_NEAREST_INT));
  _mm_storeu_si128(halves + 1, _mm256_cvtps_ph(v.high, _MM_FROUND_TO_NEAREST_INT));
}
inline __m128i eight_int16(__m256 v) {
  const __m256i wide = _mm256_cvtps_epi32(v);
  return _mm_packs_epi32(_mm256_castsi256_si128(wide), _mm256_extracti128_si256(wide, 1));
}
inline void store_int8(uint8_t* x, Lanes v) {
  const __m128i codes = _mm_packs_epi16(eight_int16(v.low), eight_int16(v.high));
  _mm_storeu_si128(reinterpret_cast<__m128i*>(x), codes);
}
template <int kStride>
inline __m256 partners(__m256 a) {
  switch (kStride) {
    case 1: return _mm256_permute_ps(a, _MM_SHUFFLE(2, 3, 0, 1));
    case 2: return _mm256_permute_ps(a, _MM_SHUFFLE(1, 0, 3, 2));
    default: return _mm256_permute2f128_ps(a, a, 1);
  }
}
template <int kStride>
inline Lanes partners(Lanes a) {
  if (kStride == 8) return {a.high, a.low};
  return {partners<kStride>(a.low), partners<kStride>(a.high)};
}
inline Lanes keep_below(Lanes a, int count, float fill) {
  const __m256i lane = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
  const __m256 low = _mm256_castsi256_ps(_mm256_cmpgt_epi32(_mm256_set1_epi32(count), lane));
  const __m256 high = _mm256_castsi256_ps(_mm256_cmpgt_epi32(_mm256_set1_epi32(count - 8), lane));
  const __m256 other = _mm256_set1_ps(fill);
  return {_mm256_blendv_ps(other, a.low, low), _mm256_blendv_ps(other, a.high, high)};
}

// Products of four bytes: the stored codes become signed, and their sign moves
// to the activations, as `maddubs` wants one side unsigned.
struct IntLanes {
  __m256i low, high;
};
using Codes = IntLanes;
using Activations = IntLanes;

inline IntLanes zero_int() { return {_mm256_setzero_si256(), _mm256_setzero_si256()}; }
inline Activations activations(const uint8_t* x) {
  const __m256i* bytes = reinterpret_cast<const __m256i*>(x);
  return {_mm256_loadu_si256(bytes), _mm256_loadu_si256(bytes + 1)};
}
inline Codes load_stored(const uint8_t* x) {
  const __m256i offset = _mm256_set1_epi8(static_cast<char>(0x80));
  const Activations stored = activations(x);
  return {_mm256_xor_si256(stored.low, offset), _mm256_xor_si256(stored.high, offset)};
}
inline Activations spread(const uint8_t* x) {
  int32_t together;
  __builtin_memcpy(&together, x, sizeof together);
  return {_mm256_set1_epi32(together), _mm256_set1_epi32(together)};
}
inline __m256i dot4(__m256i sum, __m256i codes, __m256i x) {
  const __m256i pairs = _mm256_maddubs_epi16(_mm256_abs_epi8(codes), _mm256_sign_epi8(x, codes));
  return _mm256_add_epi32(sum, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)));
}
inline IntLanes dot4(IntLanes sum, Codes codes, Activations x) {
  return {dot4(sum.low, codes.low, x.low), dot4(sum.high, codes.high, x.high)};
}
// Fourths of four codes a lane, `index` of the four that a byte has. In 128ths, as two
// products of 256ths would not fit 16 bits.
inline Codes load_fourths(const uint8_t* x, int index) {
  const __m256i two = _mm256_set1_epi8(0x60);
  const IntLanes all = activations(x);
  return {_mm256_and_si256(_mm256_srli_epi32(_mm256_slli_epi32(all.low, 2 * index), 1), two),
          _mm256_and_si256(_mm256_srli_epi32(_mm256_slli_epi32(all.high, 2 * index), 1), two)};
}
inline __m256i dot4_of_fourths(__m256i sum, __m256i fourths, __m256i x) {
  const __m256i pairs = _mm256_maddubs_epi16(fourths, x);
  return _mm256_add_epi32(sum, _mm256_madd_epi16(pairs, _mm256_set1_epi16(2)));
}
inline IntLanes dot4_of_fourths(IntLanes sum, Codes fourths, Activations x) {
  return {dot4_of_fourths(sum.low, fourths.low, x.low),
          dot4_of_fourths(sum.high, fourths.high, x.high)};
}
inline Lanes in_256ths(IntLanes whole, IntLanes rest, int32_t) {
  const __m256i low = _mm256_add_epi32(_mm256_slli_epi32(whole.low, 8), rest.low);
  const __m256i high = _mm256_add_epi32(_mm256_slli_epi32(whole.high, 8), rest.high);
  return {_mm256_cvtepi32_ps(low), _mm256_cvtepi32_ps(high)};
}
inline int32_t reduce(IntLanes dots, int32_t) {
  const __m256i eight = _mm256_add_epi32(dots.low, dots.high);
  __m128i four = _mm_add_epi32(_mm256_castsi256_si128(eight), _mm256_extracti128_si256(eight, 1));
  four = _mm_add_epi32(four, _mm_shuffle_epi32(four, 0x4E));
  return _mm_cvtsi128_si32(_mm_add_epi32(four, _mm_shuffle_epi32(four, 0xB1)));
}

inline __m256i load_codes(const uint8_t* x) {
  return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(x));
}

inline __m256i four(const uint8_t* codes) {
  int32_t together;
  __builtin_memcpy(&together, codes, sizeof together);
  return _mm256_set1_epi32(together);
}

// dot(codes, activations) of 8 lanes; `codes` are 8 vectors of 32 bytes.
//
// Four bits: 16-bit sums of all 8 vectors cannot overflow, 8 * 2 * 15 * 127 =
// 30,480. Eight bits: the stored codes are signed plus 128, and `maddubs` would
// saturate at 2 * 255 * 127, so the sign moves to the activations.
template <int32_t kKind>
inline __m256i dot(const __m256i* codes, const uint8_t* activations) {
  const __m256i ones = _mm256_set1_epi16(1);
  if constexpr (kKind == kQ8_0) {
    __m256i sum = _mm256_setzero_si256();
    for (int i = 0; i < 8; ++i) {
      const __m256i moved = _mm256_sign_epi8(four(activations + 4 * i), codes[i]);
      const __m256i pairs = _mm256_maddubs_epi16(_mm256_abs_epi8(codes[i]), moved);
      sum = _mm256_add_epi32(sum, _mm256_madd_epi16(pairs, ones));
    }
    return sum;
  } else {
    __m256i pairs = _mm256_setzero_si256();
    for (int i = 0; i < 8; ++i) {
      pairs = _mm256_add_epi16(pairs, _mm256_maddubs_epi16(codes[i], four(activations + 4 * i)));
    }
    return _mm256_madd_epi16(pairs, ones);
  }
}

template <int32_t kKind>
inline void expand(const uint8_t* stored, __m256i* codes) {
  for (int i = 0; i < 4; ++i) {
    if constexpr (kKind == kQ8_0) {
      const __m256i offset = _mm256_set1_epi8(static_cast<char>(0x80));
      codes[2 * i] = _mm256_xor_si256(load_codes(stored + 128 * i), offset);
      codes[2 * i + 1] = _mm256_xor_si256(load_codes(stored + 128 * i + 64), offset);
    } else {
      const __m256i nibble = _mm256_set1_epi8(0x0F);
      const __m256i both = load_codes(stored + 64 * i);
      codes[2 * i] = _mm256_and_si256(both, nibble);
      codes[2 * i + 1] = _mm256_and_si256(_mm256_srli_epi16(both, 4), nibble);
    }
  }
}

// dot(codes, activations + fractions / 16) in 16ths.
template <int32_t kKind>
inline __m256i fine_dot(const __m256i* codes, const uint8_t* activations) {
  const __m256i whole = _mm256_slli_epi32(dot<kKind>(codes, activations), 4);
  return _mm256_add_epi32(whole, dot<kKind>(codes, activations + kBlock));
}

// The stored minimum of Q8_0 is not used: its codes are signed here.
template <int kRows, int32_t kKind, bool kHasFractions>
inline void add_block(const Pass& pass, const uint8_t* tile, const uint8_t* panel, Lanes* sums) {
  const Lanes stored_scale = load_half(reinterpret_cast<const uint16_t*>(tile));
  const Lanes scale = kHasFractions ? mul(stored_scale, set1(kFraction)) : stored_scale;
  const Lanes minimum = kKind == kQ4_1 ? load_half(reinterpret_cast<const uint16_t*>(tile + 32))
                                       : mul(stored_scale, set1(-8.0f));
  __m256i low[8], high[8];
  expand<kKind>(tile + code_offset(kKind), low);
  expand<kKind>(tile + code_offset(kKind) + 32, high);
  for (int r = 0; r < kRows; ++r) {
    const uint8_t* activations = pass.codes(panel, r);
    const __m256i first = kHasFractions ? fine_dot<kKind>(low, activations)
                                        : dot<kKind>(low, activations);
    const __m256i second = kHasFractions ? fine_dot<kKind>(high, activations)
                                         : dot<kKind>(high, activations);
    const Lanes dots = {_mm256_cvtepi32_ps(first), _mm256_cvtepi32_ps(second)};
    sums[r] = fma(dots, mul(scale, set1(pass.scales(panel)[r])), sums[r]);
    if (kKind != kQ8_0) sums[r] = fma(minimum, set1(pass.sums(panel)[r]), sums[r]);
  }
}

template <int kRows, int32_t kKind>
void product(const Pass& pass) {
  const uint8_t* tile = pass.tile;
  const uint8_t* panel = pass.panel;
  Lanes sums[kRows];
  for (int r = 0; r < kRows; ++r) sums[r] = set1(0.0f);
  for (int block = 0; block < pass.blocks; ++block) {
    fetch_weights(tile, tile_bytes(kKind));
    if (pass.has_fractions(panel, kRows)) {
      add_block<kRows, kKind, true>(pass, tile, panel, sums);
    } else {
      add_block<kRows, kKind, false>(pass, tile, panel, sums);
    }
    tile += tile_bytes(kKind);
    panel += panel_block_bytes(pass.panel_rows);
  }
  for (int r = 0; r < kRows; ++r) {
    float* out = pass.out + r * pass.stride;
    store(out, pass.adds ? add(load(out), sums[r]) : sums[r]);
  }
}

#include "body.h"

}  // namespace

const Tier& tier_avx2() {
  static constexpr Tier tier = make_tier("avx2");
  return tier;
}

}  // namespace thermesh
