// What an instruction-set tier computes. The bodies are in body.h, written once
// over 16 lanes; a tier adds the lanes and the product of tiles.
#pragma once

#include <limits>

#include "layout.h"

namespace thermesh {

// Pages of a layer and head that will be read soon.
struct Soon {
  const uint8_t* units;  // of page 0
  const int32_t* pages;
  int count;
};

// Query rows [rows][kMaxHeadSize], already scaled, that attend to tokens
// [begin, end) of one key-value head; row r sees tokens below limits[r].
// `begin` is a multiple of kSegment.
struct Attention {
  const float* queries;
  const int32_t* limits;
  int rows;
  int head_size;
  const uint8_t* units;  // of page 0; see layout.h
  size_t slab_stride;
  int unit_bytes;
  const int32_t* pages;
  int begin, end;
  Soon next;  // after `end`, here or by the next task

  const uint8_t* unit_of(int32_t page) const {
    return units + unit_offset(page, slab_stride, unit_bytes);
  }
  // Bytes of a channel of a page, of keys or of values.
  int channel_bytes() const { return unit_bytes / (2 * head_size * kPageTokens) * kPageTokens; }
  // What is read as page `index`, or after the last one.
  const uint8_t* unit_at(int index) const {
    const int beyond = index - pages_for(end);
    if (beyond < 0) return unit_of(pages[index]);
    if (beyond >= next.count) return units;
    return next.units + unit_offset(next.pages[beyond], slab_stride, unit_bytes);
  }
};

// Sums not yet divided: out[rows][kMaxHeadSize], with the greatest score and the
// total weight of each row. A row that saw nothing has total 0.
struct Attended {
  float* out;
  float* top;
  float* total;
};

// Pages that a product fetches on its way, for others: they wait for memory, it does not.
struct Errand {
  static constexpr int kMost = 64;
  const uint8_t* units[kMost];
  int count = 0, unit_bytes = 0;
  int step = 0;             // bytes with each tile
  int unit = 0, place = 0;  // of what is fetched next
};

// Takes one step.
static inline void run_errand(Errand* errand) {
  if (!errand || errand->unit == errand->count) return;
  fetch_far(errand->units[errand->unit] + errand->place, errand->step);
  errand->place += errand->step;
  if (errand->place < errand->unit_bytes) return;
  errand->place = 0;
  ++errand->unit;
}

// Rows of tiles, one after another, times panels, one after another: output
// out[row * stride + tile row * 16 + lane] is added to or overwritten.
struct Product {
  int32_t kind;
  int tile_rows;
  int rows;  // of activations, at most kRowsAtOnce
  int blocks;
  const uint8_t* tiles;
  const uint8_t* panels;
  float* out;
  size_t stride;
  bool adds;
  Errand* errand;  // or null
};

// The choice of `chosen` among pages [0, count) by the means of their keys, for
// queries [rows][kMaxHeadSize]. Page p's means are the record p * stride
// of `means`, its scale is scales[p * stride].
struct PageChoice {
  const float* queries;
  int rows;
  int head_size;
  const uint8_t* means;
  const float* scales;
  size_t stride;
  const int32_t* pages;
  int count, chosen;
};

// A row of logits.
struct Extent {
  float highest;
  double sum;
  bool is_finite;
};

// Sums over a row of exp(d), of exp(d) * d with d = logit - highest, and of the squared
// distances to the mean.
struct Moments {
  double total, moment, squares;
};

// Products of rows of prompts, whose panels are whole however few their rows are.
struct Prompts {
  int block_bytes;  // of a panel, at most kPromptBlockBytes
  void (*product)(const Product& task);
  // Writes blocks of a row to the panel that has it, whose first of these blocks is at `panel`.
  void (*enter)(const float* x, int blocks, uint8_t* panel, int row);
  // The same of silu(gate) * up.
  void (*enter_gated)(const float* gate, const float* up, int blocks, uint8_t* panel, int row);
};

struct Tier {
  const char* name;
  void (*product)(const Product& task);
  // Null where a tier computes rows of prompts like all others.
  const Prompts* prompts;
  int prompt_block_bytes() const { return prompts ? prompts->block_bytes : 0; }
  // Writes row `row` of a panel of `rows` rows. Blocks whose largest number
  // exceeds `outlier` times the row's root mean square get fractions.
  void (*quantise)(const float* x, int blocks, float outlier, uint8_t* panel, int rows, int row);
  // 1 / rms(x); size is a multiple of 16, here and below.
  float (*inverse_rms)(const float* x, float epsilon, int size);
  // out = x * factor * weight; out may be x.
  void (*weigh_by)(const float* x, const float* weight, float factor, int size, float* out);
  void rms_norm(const float* x, const float* weight, float epsilon, int size, float* out) const {
    weigh_by(x, weight, inverse_rms(x, epsilon, size), size, out);
  }
  // gate = silu(gate) * up; size is a multiple of 16.
  void (*silu_mul)(float* gate, const float* up, int size);
  // size is a multiple of 16; what is beyond half's range becomes its end.
  void (*to_half)(const float* x, int size, uint16_t* out);
  // Eight bits plus 128; returns the scale as half precision.
  uint16_t (*to_int8)(const float* x, int size, uint8_t* codes);
  // The same with fourths of codes, four numbers a byte as layout.h tells.
  uint16_t (*to_int10)(const float* x, int size, uint8_t* codes, uint8_t* fourths);
  // Turns `count` vectors of heads, for a cache of codes; a second time turns them back.
  void (*hadamard)(float* x, int size, int count);
  // By the kind of the cache; so is `unpack_keys`.
  void (*attend[kCacheKinds])(const Attention& task, const Attended& result);
  // Of tokens that are only read, or null where these attend like all others. What
  // queries choose for themselves is read like all others.
  void (*attend_prompt[kCacheKinds])(const Attention& task, const Attended& result);
  bool attends_to_prompts_apart(int32_t cache_kind, int head_size) const {
    return attend_prompt[cache_kind] && head_size % kBlock == 0;
  }
  // Whether rows of prompts have other bits than they would have as generated tokens.
  bool tells_prompts() const { return prompts || attend_prompt[kHalf]; }
  // Adds `part` to `result`: both of [rows], as if attended in one go.
  void (*merge)(const Attended& part, int rows, int head_size, const Attended& result);
  // The keys of a page, [head_size][16 tokens].
  void (*unpack_keys[kCacheKinds])(const uint8_t* unit, int head_size, float* keys);
  // Writes the means of such keys; returns their scale.
  float (*summarise)(const float* keys, int head_size, uint8_t* record);
  // Writes the `chosen` pages of greatest share in the order of the sequence, of
  // equal ones the earlier. `scratch` has room for 3 * choice_width(choice.count).
  void (*choose)(const PageChoice& choice, float* scratch, int32_t* chosen);
  void (*extent)(const float* logits, int size, Extent* found);
  void (*moments)(const float* logits, int size, float highest, float mean, Moments* found);
  // out = exp((logit - highest) / temperature).
  void (*weights)(const float* logits, int size, float highest, float temperature, float* out);
  // Writes the logits that are `floor` or more and where they are; returns how many.
  int (*collect)(const float* logits, int size, float floor, int32_t* ids, float* found);
  // Rows of activations from which on `product` runs errands.
  int errand_rows = std::numeric_limits<int>::max();
};

const Tier& tier_generic();
#ifdef THERMESH_X86
const Tier& tier_avx2();
const Tier& tier_avx512();
const Tier& tier_bfloat16();
// Only where Linux gives leave (`allows_amx` of tiers.cpp).
const Tier& tier_amx();
const Prompts& avx512_prompts();
const Prompts& amx_prompts();
#endif

// The tier of that name, or the best one for "", or null where the processor
// or this build lacks it.
const Tier* find_tier(const char* name);

}  // namespace thermesh
