// AVX-512 with VNNI (Ice Lake, Zen 4 and later): a vector is a row of lanes and
// `vpdpbusd` multiplies 64 codes at once.
#include <immintrin.h>
#include <math.h>

#include "lanes_avx512.h"
#include "pass.h"
#include "tier.h"

namespace thermesh {
namespace {

using WeightsAhead = FetchedTwice;

#include "product_avx512_body.h"
#include "body.h"

// Products of many rows take two rows of tiles at once: each four activations that are spread
// serve two products, where one row of tiles would wait for loads as long as for products.
constexpr int kPair = 2;
constexpr int kFewestOfPairs = 5;

// Keeps the compiler from holding an address of its own for each of many places behind this one,
// which takes more registers than there are, and a load more for every product.
inline const uint8_t* one_address(const uint8_t* x) {
  asm("" : "+r"(x));
  return x;
}

// Adds products of a block with the codes or the fractions at `part` to the dots of all rows.
// Inlined by order: what the compiler is free to leave apart, it does once this file has
// grown enough, and the dots go through memory then, which takes steps of many rows a third longer.
template <int kRows, int32_t kKind>
[[gnu::always_inline]] inline void add_dots(const uint8_t* const* tiles, const uint8_t* part,
                     __m512i (*dots)[kPair]) {
#pragma GCC unroll 4
  for (int i = 0; i < 4; ++i) {
    __m512i low[kPair], high[kPair];
    for (int t = 0; t < kPair; ++t) {
      expand<kKind>(tiles[t] + code_offset(kKind), i, &low[t], &high[t]);
    }
    for (int r = 0; r < kRows; ++r) {
      const __m512i x = four(part + r * kRowBytes + 8 * i);
      for (int t = 0; t < kPair; ++t) dots[r][t] = _mm512_dpbusd_epi32(dots[r][t], low[t], x);
    }
    for (int r = 0; r < kRows; ++r) {
      const __m512i x = four(part + r * kRowBytes + 8 * i + 4);
      for (int t = 0; t < kPair; ++t) dots[r][t] = _mm512_dpbusd_epi32(dots[r][t], high[t], x);
    }
  }
}

// As `add_block`, with fractions added to 16 times the codes' dots: so there is room for two
// tiles' dots in registers. The sums lie in memory.
template <int kRows, int32_t kKind, bool kHasFractions>
inline void add_pair(const Pass& pass, const uint8_t* const* tiles, const uint8_t* panel,
                     float (*sums)[kPair][kLanes]) {
  const uint8_t* codes = one_address(pass.codes(panel, 0));
  __m512i dots[kRows][kPair];
  for (int r = 0; r < kRows; ++r) {
    for (int t = 0; t < kPair; ++t) dots[r][t] = _mm512_setzero_si512();
  }
  add_dots<kRows, kKind>(tiles, codes, dots);
  Lanes scale[kPair], minimum[kPair];
  for (int t = 0; t < kPair; ++t) {
    scale[t] = load_half(reinterpret_cast<const uint16_t*>(tiles[t]));
    minimum[t] = kKind == kQ4_1 ? load_half(reinterpret_cast<const uint16_t*>(tiles[t] + 32))
                                : mul(scale[t], set1(kKind == kQ4_0 ? -8.0f : -128.0f));
  }
  if (kHasFractions) {
    for (int r = 0; r < kRows; ++r) {
      for (int t = 0; t < kPair; ++t) dots[r][t] = _mm512_slli_epi32(dots[r][t], 4);
    }
    add_dots<kRows, kKind>(tiles, codes + kBlock, dots);
    for (int t = 0; t < kPair; ++t) scale[t] = mul(scale[t], set1(kFraction));
  }
  for (int r = 0; r < kRows; ++r) {
    const Lanes own = set1(pass.scales(panel)[r]), sum = set1(pass.sums(panel)[r]);
    for (int t = 0; t < kPair; ++t) {
      const Lanes before = load(sums[r][t]);
      const Lanes with = fma(_mm512_cvtepi32_ps(dots[r][t]), mul(scale[t], own), before);
      store(sums[r][t], fma(minimum[t], sum, with));
    }
  }
}

// Rows of outputs as long as this are logits. Nothing in the step reads them, and lines that are
// written whole and past the caches need not be read before.
constexpr size_t kLongRow = 16384;

inline void put(float* out, Lanes sum, const Pass& pass) {
  if (pass.stride >= kLongRow && !pass.adds && reinterpret_cast<uintptr_t>(out) % 64 == 0) {
    _mm512_stream_ps(out, sum);
  } else {
    store(out, pass.adds ? add(load(out), sum) : sum);
  }
}

template <int kRows, int32_t kKind>
void product_pair(const Pass& pass) {
  const size_t row_bytes = static_cast<size_t>(pass.blocks) * tile_bytes(kKind);
  const uint8_t* tiles[kPair] = {pass.tile, pass.tile + row_bytes};
  const uint8_t* panel = pass.panel;
  const uint8_t* later = pass.tile + kPair * row_bytes;
  // One for each tile and panel: there are half as many pairs, but two passes over most panels.
  const int errands = pass.panel_rows > kPassRows ? 1 : kPair;
  alignas(64) float sums[kRows][kPair][kLanes] = {};
  for (int block = 0; block < pass.blocks; ++block) {
    if (pass.first == 0) {
      for (const uint8_t* tile : tiles) fetch(tile + kFetchNearAhead, tile_bytes(kKind));
      fetch_far(later, kPair * tile_bytes(kKind));
      later += kPair * tile_bytes(kKind);
    }
    for (int i = 0; i < errands; ++i) run_errand(pass.errand);
    if (pass.has_fractions(panel, kRows)) {
      add_pair<kRows, kKind, true>(pass, tiles, panel, sums);
    } else {
      add_pair<kRows, kKind, false>(pass, tiles, panel, sums);
    }
    for (int t = 0; t < kPair; ++t) tiles[t] = one_address(tiles[t] + tile_bytes(kKind));
    panel += panel_block_bytes(pass.panel_rows);
  }
  for (int r = 0; r < kRows; ++r) {
    for (int t = 0; t < kPair; ++t) {
      put(pass.out + r * pass.stride + t * kLanes, load(sums[r][t]), pass);
    }
  }
}

template <int32_t kKind, int kRows = kPassRows>
void pair_of(const Pass& pass, int rows) {
  if constexpr (kRows > 1) {
    if (rows < kRows) return pair_of<kKind, kRows - 1>(pass, rows);
  }
  product_pair<kRows, kKind>(pass);
}

template <int32_t kKind>
void product_of_pairs(const Product& task) {
  int index = 0;
  for (; index + kPair <= task.tile_rows; index += kPair) {
    for_passes<kKind>(task, index, [](const Pass& pass, int rows) { pair_of<kKind>(pass, rows); });
  }
  product_of_kind<kKind>(task, index);
  _mm_sfence();  // what went past the caches is there before others are told
}

void product_of_rows(const Product& task) {
  if (task.rows < kFewestOfPairs || is_wide(task.kind)) return product_any(task);
  switch (task.kind) {
    case kQ4_0: return product_of_pairs<kQ4_0>(task);
    case kQ4_1: return product_of_pairs<kQ4_1>(task);
    default: return product_of_pairs<kQ8_0>(task);
  }
}

}  // namespace

const Tier& tier_avx512() {
  static const Tier tier = [] {
    Tier own = make_tier("avx512-vnni", &avx512_prompts());
    own.product = product_of_rows;
    own.errand_rows = kFewestOfPairs;
    // All that 32 short contexts have: what a second level cache has no room for waits in the
    // third one. With 1 MB products were slowed as much and attention spared half of it.
    own.errand_bytes = 4 << 20;
    return own;
  }();
  return tier;
}

}  // namespace thermesh
