// What an instruction-set tier computes. The bodies are in body.h, written once
// over 16 lanes; a tier adds the lanes and the product of tiles.
#pragma once

#include "layout.h"

namespace thermesh {

// Query rows [rows][kMaxHeadSize], already scaled, that attend to tokens
// [begin, end) of one key-value head; row r sees tokens below limits[r].
// `end - begin` is at most kRange and `begin` a multiple of it.
struct Attention {
  const float* queries;
  const int32_t* limits;
  int rows;
  int head_size;
  const uint16_t* keys;    // page p starts at keys + p * page_stride
  const uint16_t* values;
  size_t page_stride;
  const int32_t* pages;
  int begin, end;
};

// Sums not yet divided: out[rows][kMaxHeadSize], with the greatest score and the
// total weight of each row. A row that saw nothing has total 0.
struct Attended {
  float* out;
  float* top;
  float* total;
};

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
};

struct Tier {
  const char* name;
  void (*product)(const Product& task);
  // Writes row `row` of a panel of `rows` rows. Blocks whose largest number
  // exceeds `outlier` times the row's root mean square get fractions.
  void (*quantise)(const float* x, int blocks, float outlier, uint8_t* panel, int rows, int row);
  // out = x / rms(x) * weight; out may be x; size is a multiple of 16.
  void (*rms_norm)(const float* x, const float* weight, float epsilon, int size, float* out);
  // gate = silu(gate) * up; size is a multiple of 16.
  void (*silu_mul)(float* gate, const float* up, int size);
  // size is a multiple of 16; what is beyond half's range becomes its end.
  void (*to_half)(const float* x, int size, uint16_t* out);
  void (*attend)(const Attention& task, const Attended& result);
  // Adds `part` to `result`: both of [rows], as if attended in one go.
  void (*merge)(const Attended& part, int rows, int head_size, const Attended& result);
};

const Tier& tier_generic();
#ifdef THERMESH_X86
const Tier& tier_avx2();
const Tier& tier_avx512();
// Only where `allows_amx` has said yes.
const Tier& tier_amx();
bool allows_amx();
#endif

// The tier of that name, or the best one for "", or null where the processor
// or this build lacks it.
const Tier* find_tier(const char* name);

}  // namespace thermesh
