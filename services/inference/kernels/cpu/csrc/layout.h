// How weights, activations and pages lie in memory. Every tier reads the same
// bytes, so a model is packed once and any tier can be chosen at run time.
//
// Weights: a matrix of [rows, columns] is cut into tiles of 16 rows by 32
// columns, the tiles of 16 rows lying one after another. Lane n of a vector of
// 16 is row n of the tile. A tile holds, in this order,
//   16 half scales, 16 half minima (Q4_1 only),
//   codes: 32-bit lanes of 4 consecutive columns, 16 lanes a vector;
//     Q4: 4 vectors, the low nibbles of vector i are columns 8i..8i+3, the high
//         ones 8i+4..8i+7; Q8: 8 vectors, vector i is columns 4i..4i+3.
// Weights of sixteen bits, half precision or bfloat16, lie as [32 columns][16 rows].
// Codes are unsigned, as `vpdpbusd` wants them: Q8 is stored plus 128. A weight
// is scale * code + minimum, where the minimum of Q4_0 is -8 * scale and that
// of Q8_0 is -128 * scale.
//
// Activations: a panel of up to 16 rows holds, for each block of 32 columns,
//   for each row 32 int8 codes and 32 int8 fractions (-8 to 8 16ths of a code),
//   rows float scales, rows float sums, 16 bytes: which rows have fractions,
// up to a whole cache line; the sum is that of the dequantised numbers. So
//   y = sum over blocks of
//       weight_scale * scale * (dot(codes) + dot(fractions) / 16) + minimum * sum.
// A block with an outlier would lose its small numbers in eight bits: it has
// fractions, which make twelve of them. The others are spared the second dot
// product. Twelve because 16 * code of a Q4 weight is still a byte, so that one
// product of 64 columns, [codes | fractions] x [16 * weights | weights], is both.
//
// Rows of prompts: where a tier has an arithmetic of its own for them, a panel holds 16 rows
// however few there are, as [blocks][16 rows][32] bfloat16 for tiles of AMX, or as what
// tier_avx512_prompts.cpp tells.
//
// Keys and values: a unit holds 16 tokens of one key-value head. Of kind kHalf,
//   keys as [head_size][16 tokens] halves, values as [head_size / 16][16 tokens][16];
// of kind kInt8, codes plus 128 as the products of four bytes want them,
//   keys as [head_size / 4][16 tokens][4], values as [head_size / 16][4][16][4 tokens],
//   then a scale of each token's keys and of each token's values, 32 halves; keys are
//   turned before (hadamard_body.h), and so are queries;
// of kind kInt10, the same, and then two more bits of each key, which tell fourths of its
//   code: [head_size / 16][16 tokens][4 bytes], where byte j has those of channels j, j + 4,
//   j + 8 and j + 12 of its 16, uppermost first; values are turned too, and so is what
//   attention gives.
// A slab is 16 pages of all layers and heads, [layers][kv_heads][16 pages], so that a
// cache becomes resident as it fills, some huge pages at a time, and pages that follow
// each other are read as one stream.
//
// Means of keys, for the choice of pages: [layers][pages][kv_heads] records of the
// mean key of the first and of the last 8 tokens as codes plus 128, each padded to
// whole vectors with 128; their scales lie in an array of their own.
#pragma once

#include <cstddef>
#include <cstdint>

namespace thermesh {

// Formats by their numbers in GGML.
constexpr int32_t kF16 = 1;
constexpr int32_t kQ4_0 = 2;
constexpr int32_t kQ4_1 = 3;
constexpr int32_t kQ8_0 = 8;
constexpr int32_t kBf16 = 30;

// Kinds of the cache.
constexpr int32_t kHalf = 0;
constexpr int32_t kInt8 = 1;
constexpr int32_t kInt10 = 2;
constexpr int kCacheKinds = 3;

constexpr int kLanes = 16;
constexpr int kBlock = 32;
constexpr int kPanelRows = 16;
// Rows that are multiplied with a matrix before the next ones: 256 rows of
// activations stay in the second level cache. Of prompts weights are dequantised once
// for them.
constexpr int kRowsAtOnce = 256;
// Tile rows of a matrix that a product of prompts wants together.
constexpr int kTilesTogether = 2;
constexpr int kPageTokens = 16;
static constexpr int ceil_div(int a, int b) { return (a + b - 1) / b; }
static constexpr int pages_for(int tokens) { return ceil_div(tokens, kPageTokens); }
constexpr int kSlabPages = 16;
constexpr int kMaxHeadSize = 256;
// How far ahead of the sums weights are fetched into the first and into the second level
// cache. The first one has few places for what is on its way: 8 kB ahead into it alone, two
// cores read 22 GB/s where both ways together give them 32.
constexpr int kFetchAhead = 2048;
constexpr int kFetchWellAhead = 16384;
// Where they are asked for once. From 4 to 16 kB it makes no difference.
constexpr int kFetchOnceAhead = 8192;
// The same of keys and values, in halves of pages.
constexpr int kPartsAhead = 2;
constexpr int kPartsWellAhead = 6;
// Where a tile serves many rows there is more time, and less room in the first cache.
constexpr int kFetchNearAhead = 1024;
constexpr int kFetchFarAhead = 16384;
// Tokens whose scores are held at once, and tokens of one partial result of
// attention. Both are fixed, so that the order of additions, and with it every
// bit of a result, depends on nothing but the sequence itself.
constexpr int kSegment = 128;
constexpr int kRange = 512;
// Of prompts, whose many rows have their sums added up at the end of each.
constexpr int kPromptRange = 2048;
// Query rows that attend to the same keys in one task.
constexpr int kTaskRows = 48;
// Of prompts where a tier has an arithmetic of its own for them: what a page takes to be
// converted is divided among them.
constexpr int kPromptTaskRows = 96;
// Tokens behind the newest whose page is final: a step may write the newest ones
// again (drafts that were refused), but never as many.
constexpr int kFinalTokens = 64;

// Static, as code compiled for one processor must not serve another.
static constexpr bool is_wide(int32_t kind) { return kind == kF16 || kind == kBf16; }
static constexpr int code_offset(int32_t kind) {
  return is_wide(kind) ? 0 : kind == kQ4_1 ? 64 : 32;
}
static constexpr int code_bytes(int32_t kind) {
  return is_wide(kind) ? 2 * kLanes * kBlock : kind == kQ8_0 ? 512 : 256;
}
static constexpr int tile_bytes(int32_t kind) { return code_offset(kind) + code_bytes(kind); }
static constexpr bool is_known(int32_t kind) {
  return kind == kQ4_0 || kind == kQ4_1 || kind == kQ8_0 || is_wide(kind);
}

// Asks for memory that is needed soon. Any address will do.
static inline void fetch(const void* start, int bytes) {
  const char* line = static_cast<const char*>(start);
  for (int i = 0; i < bytes; i += 64) __builtin_prefetch(line + i);
}

// Into the second level cache: the first one has few places for what is on its way.
static inline void fetch_far(const void* start, int bytes) {
  const char* line = static_cast<const char*>(start);
  for (int i = 0; i < bytes; i += 64) __builtin_prefetch(line + i, 0, 2);
}

// A tile behind the one that is multiplied.
static inline void fetch_weights(const uint8_t* tile, int bytes) {
  fetch(tile + kFetchAhead, bytes);
  fetch_far(tile + kFetchWellAhead, bytes);
}

static constexpr bool is_cache_kind(int32_t kind) { return kind >= 0 && kind < kCacheKinds; }
static constexpr bool turns_keys(int32_t kind) { return kind != kHalf; }
static constexpr bool turns_values(int32_t kind) { return kind == kInt10; }

// Where a unit of codes has its scales, and those further bits of keys.
static constexpr int unit_scales(int head_size) { return 2 * head_size * kPageTokens; }
static constexpr int unit_fourths(int head_size) {
  return unit_scales(head_size) + 2 * kPageTokens * 2;
}
static constexpr int unit_bytes(int32_t kind, int head_size) {
  const int numbers = head_size * kPageTokens;
  if (kind == kHalf) return 4 * numbers;
  return unit_fourths(head_size) + (kind == kInt10 ? numbers / 4 : 0);
}
// From the unit of page 0 of a layer and head to that of another page.
static inline size_t unit_offset(int32_t page, size_t slab_stride, int bytes) {
  const size_t index = static_cast<uint32_t>(page);
  return index / kSlabPages * slab_stride + index % kSlabPages * bytes;
}
// Bytes of the mean of half a page's keys.
static constexpr int mean_size(int head_size) { return (head_size + 63) / 64 * 64; }

// Numbers that a choice among `count` pages works on at once.
static constexpr int choice_width(int count) { return (count + kLanes - 1) / kLanes * kLanes; }

// Parts of one block of a panel of `rows` rows.
constexpr int kParts = 16;
constexpr float kFraction = 1.0f / kParts;
constexpr int kRowBytes = 2 * kBlock;
// Of bfloat16, the most that a tier takes.
constexpr int kPromptBlockBytes = kPanelRows * kRowBytes;
static constexpr size_t scales_offset(int rows) { return static_cast<size_t>(rows) * kRowBytes; }
static constexpr size_t flags_offset(int rows) { return scales_offset(rows) + 8 * rows; }
static constexpr size_t panel_block_bytes(int rows) {
  return (flags_offset(rows) + kPanelRows + 63) / 64 * 64;
}

}  // namespace thermesh
