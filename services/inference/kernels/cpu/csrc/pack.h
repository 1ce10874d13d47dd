// Blocks of a GGUF file <-> tiles.
#pragma once

#include "layout.h"

namespace thermesh {

// Bytes of one row of 32 columns in the file.
constexpr int block_bytes(int32_t kind) {
  return is_wide(kind) ? 2 * kBlock : kind == kQ4_0 ? 18 : kind == kQ4_1 ? 20 : 34;
}

// `source` is [rows][columns / 32] blocks as GGML lays them out; rows beyond the
// last become zeros up to a multiple of 16. False where a scale, or a weight of
// sixteen bits, is not finite.
bool pack(int32_t kind, const uint8_t* source, int64_t rows, int64_t columns, uint8_t* tiles);

// Writes row `row` of a packed matrix as floats.
void unpack_row(int32_t kind, const uint8_t* tiles, int64_t row, int64_t columns, float* out);

}  // namespace thermesh
