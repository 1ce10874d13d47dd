// What one pass over a row of tiles works on.
#pragma once

#include "tier.h"

namespace thermesh {
// Unnamed: each tier's translation unit has its own, compiled for its processor.
namespace {

// One row of tiles times rows `first`, `first` + 1, ... of one panel.
struct Pass {
  const uint8_t* tile;
  const uint8_t* panel;
  int panel_rows;
  int first;
  int blocks;
  float* out;  // of row `first`
  size_t stride;
  bool adds;
  Errand* errand;

  const uint8_t* codes(const uint8_t* block, int row) const {
    return block + (first + row) * kRowBytes;
  }
  const float* scales(const uint8_t* block) const {
    return reinterpret_cast<const float*>(block + scales_offset(panel_rows)) + first;
  }
  const float* sums(const uint8_t* block) const { return scales(block) + panel_rows; }
  bool has_fractions(const uint8_t* block, int rows) const {
    const uint8_t* flags = block + flags_offset(panel_rows) + first;
    int any = 0;
    for (int r = 0; r < rows; ++r) any |= flags[r];
    return any;
  }
};

}  // namespace
}  // namespace thermesh
