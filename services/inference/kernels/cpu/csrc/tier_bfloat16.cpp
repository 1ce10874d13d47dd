// AVX-512 with bfloat16 but without AMX (Cooper Lake, Zen 4 and later): tokens that are only
// read attend in products of bfloat16, two a lane at once; all else is that of `avx512-vnni`.
//
// `vdpbf16ps` takes denormals for zeros and rounds each of its two additions, the tile unit
// of AMX does otherwise: prompts have other bits there, as close to the truth.
#include <immintrin.h>
#include <math.h>

#include "bfloat16.h"
#include "lanes_avx512.h"
#include "tier.h"

namespace thermesh {
namespace {

#include "numbers_body.h"
#include "segment_tiles_body.h"

// Vectors need no preparation, and wait for nothing. Of 16 rows all that a segment takes
// stays in the first level cache, nearly.
struct Unit {
  static constexpr int kRows = 16;
  static constexpr bool kWaits = false;
};

inline __m512bh pairs(const uint8_t* x) {
  const __m512i all = _mm512_load_si512(x);
  return reinterpret_cast<const __m512bh&>(all);
}

// A pair in every lane.
inline __m512bh spread_pair(const uint8_t* x) {
  int32_t pair;
  __builtin_memcpy(&pair, x, sizeof pair);
  const __m512i all = _mm512_set1_epi32(pair);
  return reinterpret_cast<const __m512bh&>(all);
}

// Rows whose sums with 32 columns stay in registers: 16 vectors hide how long a product takes,
// and ten loads serve 16 products.
constexpr int kRowsAtATime = 8;

inline void multiply_rows(const Side& rows, const Side& columns, int count, float* out,
                          size_t stride) {
  Lanes low[kRowsAtATime], high[kRowsAtATime];
#pragma GCC unroll 8
  for (int r = 0; r < kRowsAtATime; ++r) low[r] = high[r] = set1(0.0f);
  for (int i = 0; i < count; ++i) {
    const uint8_t *row = rows.at(i), *column = columns.at(i);
    for (int k = 0; k < kTileInputs / 2; ++k) {
      const __m512bh first = pairs(column + k * 64);
      const __m512bh second = pairs(column + columns.next + k * 64);
#pragma GCC unroll 8
      for (int r = 0; r < kRowsAtATime; ++r) {
        const __m512bh inputs = spread_pair(row + r * 64 + k * 4);
        low[r] = _mm512_dpbf16_ps(low[r], inputs, first);
        high[r] = _mm512_dpbf16_ps(high[r], inputs, second);
      }
    }
  }
#pragma GCC unroll 8
  for (int r = 0; r < kRowsAtATime; ++r) {
    store(out + r * stride, low[r]);
    store(out + r * stride + kLanes, high[r]);
  }
}

inline void multiply(const Side& rows, const Side& columns, int count, float* out,
                     size_t stride) {
  Side some = rows;
  for (int r = 0; r < Unit::kRows; r += kRowsAtATime) {
    some.tiles = rows.at(0) + r * 64;
    multiply_rows(some, columns, count, out + r * stride, stride);
  }
}

#include "prompt_attention_body.h"

void attend_prompt_half(const Attention& task, const Attended& result) {
  PromptAttention<HalfPages>(task, result).run();
}

void attend_prompt_int8(const Attention& task, const Attended& result) {
  PromptAttention<Int8Pages>(task, result).run();
}

}  // namespace

const Tier& tier_bfloat16() {
  static const Tier tier = [] {
    Tier own = tier_avx512();
    own.name = "avx512-bf16";
    own.attend_prompt[kHalf] = attend_prompt_half;
    own.attend_prompt[kInt8] = attend_prompt_int8;
    return own;
  }();
  return tier;
}

}  // namespace thermesh
