// AVX-512 with bfloat16 but without AMX (Cooper Lake, Zen 4 and later): tokens that are only
// read attend in products of bfloat16, two a lane at once, and products of few rows ask for
// their weights once; all else is that of `avx512-vnni`.
//
// `vdpbf16ps` takes denormals for zeros and rounds otherwise than the tile unit of AMX does:
// prompts have other bits there, as close to the truth.
#include <immintrin.h>
#include <math.h>

#include "bfloat16.h"
#include "lanes_avx512.h"
#include "pass.h"
#include "tier.h"

namespace thermesh {
namespace {

#include "numbers_body.h"
#include "segment_tiles_body.h"

// Vectors need no preparation and wait for nothing. The sums of 8 rows and 32 columns stay in
// registers: 16 of them hide how long a product takes, and ten loads serve 16 products. What
// a segment of 8 rows takes is 43 kB, which stay in the first level cache.
struct Unit {
  static constexpr int kRows = 8;
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

inline void multiply(const Side& rows, const Side& columns, int count, float* out,
                     size_t stride) {
  Lanes low[Unit::kRows], high[Unit::kRows];
  // Unrolled, or the compiler keeps sums in memory.
#pragma GCC unroll 8
  for (int r = 0; r < Unit::kRows; ++r) low[r] = high[r] = set1(0.0f);
  for (int i = 0; i < count; ++i) {
    const uint8_t *row = rows.at(i), *column = columns.at(i);
    for (int k = 0; k < kTileInputs / 2; ++k) {
      const __m512bh first = pairs(column + k * 64);
      const __m512bh second = pairs(column + columns.next + k * 64);
#pragma GCC unroll 8
      for (int r = 0; r < Unit::kRows; ++r) {
        const __m512bh inputs = spread_pair(row + r * 64 + k * 4);
        low[r] = _mm512_dpbf16_ps(low[r], inputs, first);
        high[r] = _mm512_dpbf16_ps(high[r], inputs, second);
      }
    }
  }
#pragma GCC unroll 8
  for (int r = 0; r < Unit::kRows; ++r) {
    store(out + r * stride, low[r]);
    store(out + r * stride + kLanes, high[r]);
  }
}

#include "prompt_attention_body.h"

void attend_prompt_half(const Attention& task, const Attended& result) {
  PromptAttention<HalfPages>(task, result).run();
}

void attend_prompt_int8(const Attention& task, const Attended& result) {
  PromptAttention<Int8Pages>(task, result).run();
}

void attend_prompt_int10(const Attention& task, const Attended& result) {
  PromptAttention<Int10Pages>(task, result).run();
}

using WeightsAhead = FetchedOnce;

#include "product_avx512_body.h"
#include "passes_body.h"

// More rows wait for arithmetic: memory has time enough for them.
constexpr int kMostOfFew = 4;

void product_of_few(const Product& task) {
  if (task.rows > kMostOfFew) return tier_avx512().product(task);
  switch (task.kind) {
    case kQ4_0: return product_of_kind<kQ4_0, kMostOfFew>(task);
    case kQ4_1: return product_of_kind<kQ4_1, kMostOfFew>(task);
    case kQ8_0: return product_of_kind<kQ8_0, kMostOfFew>(task);
    default: return tier_avx512().product(task);
  }
}

}  // namespace

const Tier& tier_bfloat16() {
  static const Tier tier = [] {
    Tier own = tier_avx512();
    own.name = "avx512-bf16";
    own.product = product_of_few;
    own.attend_prompt[kHalf] = attend_prompt_half;
    own.attend_prompt[kInt8] = attend_prompt_int8;
    own.attend_prompt[kInt10] = attend_prompt_int10;
    return own;
  }();
  return tier;
}

}  // namespace thermesh
