#include "pack.h"

#include <cstring>

#include "half.h"

namespace thermesh {
namespace {

// Code of `column` of a block of the file: Q4 blocks hold columns 0-15 in their
// low nibbles and 16-31 in the high ones; Q8_0 is signed.
inline int stored_code(int32_t kind, const uint8_t* block, int column) {
  if (kind == kQ8_0) return static_cast<int8_t>(block[2 + column]) + 128;
  const uint8_t both = block[(kind == kQ4_1 ? 4 : 2) + column % 16];
  return column < 16 ? both & 0x0F : both >> 4;
}

inline int byte_of(int32_t kind, int lane, int column) {
  if (kind == kQ8_0) return column / 4 * 64 + lane * 4 + column % 4;
  return column / 8 * 64 + lane * 4 + column % 4;
}

bool is_finite(const uint8_t* half) { return (half[1] & 0x7C) != 0x7C; }

// Weights of sixteen bits: columns one after the other, of each the tile's rows.
bool pack_wide(int32_t kind, const uint8_t* block, int lane, uint8_t* tile) {
  const uint16_t exponent = kind == kF16 ? 0x7C00 : 0x7F80;
  for (int column = 0; column < kBlock; ++column) {
    uint16_t number;
    std::memcpy(&number, block + 2 * column, 2);
    if ((number & exponent) == exponent) return false;
    std::memcpy(tile + 2 * (column * kLanes + lane), &number, 2);
  }
  return true;
}

void unpack_wide(int32_t kind, const uint8_t* tile, int lane, float* out) {
  for (int column = 0; column < kBlock; ++column) {
    uint16_t number;
    std::memcpy(&number, tile + 2 * (column * kLanes + lane), 2);
    out[column] = kind == kF16 ? half_to_float(number) : bfloat16_to_float(number);
  }
}

bool has_finite_scales(int32_t kind, const uint8_t* block) {
  return is_finite(block) && (kind != kQ4_1 || is_finite(block + 2));
}

void pack_block(int32_t kind, const uint8_t* block, int lane, uint8_t* tile) {
  std::memcpy(tile + 2 * lane, block, 2);
  if (kind == kQ4_1) std::memcpy(tile + 32 + 2 * lane, block + 2, 2);
  uint8_t* codes = tile + code_offset(kind);
  for (int column = 0; column < kBlock; ++column) {
    const bool is_high = kind != kQ8_0 && column / 4 % 2;
    codes[byte_of(kind, lane, column)] |=
        static_cast<uint8_t>(stored_code(kind, block, column) << (is_high ? 4 : 0));
  }
}

}  // namespace

bool pack(int32_t kind, const uint8_t* source, int64_t rows, int64_t columns, uint8_t* tiles) {
  const int64_t blocks = columns / kBlock;
  const int64_t groups = (rows + kLanes - 1) / kLanes;
  std::memset(tiles, 0, static_cast<size_t>(groups * blocks) * tile_bytes(kind));
  for (int64_t row = 0; row < rows; ++row) {
    uint8_t* tile = tiles + row / kLanes * blocks * tile_bytes(kind);
    for (int64_t block = 0; block < blocks; ++block) {
      const int lane = static_cast<int>(row % kLanes);
      if (is_wide(kind)) {
        if (!pack_wide(kind, source, lane, tile)) return false;
      } else {
        if (!has_finite_scales(kind, source)) return false;
        pack_block(kind, source, lane, tile);
      }
      source += block_bytes(kind);
      tile += tile_bytes(kind);
    }
  }
  return true;
}

void unpack_row(int32_t kind, const uint8_t* tiles, int64_t row, int64_t columns, float* out) {
  const int64_t blocks = columns / kBlock;
  const int lane = static_cast<int>(row % kLanes);
  const uint8_t* tile = tiles + row / kLanes * blocks * tile_bytes(kind);
  for (int64_t block = 0; block < blocks; ++block, tile += tile_bytes(kind)) {
    if (is_wide(kind)) {
      unpack_wide(kind, tile, lane, out + block * kBlock);
      continue;
    }
    uint16_t halves[2] = {0, 0};
    std::memcpy(&halves[0], tile + 2 * lane, 2);
    if (kind == kQ4_1) std::memcpy(&halves[1], tile + 32 + 2 * lane, 2);
    const float scale = half_to_float(halves[0]), minimum = half_to_float(halves[1]);
    const int zero = kind == kQ8_0 ? 128 : kind == kQ4_0 ? 8 : 0;
    const uint8_t* codes = tile + code_offset(kind);
    for (int column = 0; column < kBlock; ++column) {
      int code = codes[byte_of(kind, lane, column)];
      if (kind != kQ8_0) code = column / 4 % 2 ? code >> 4 : code & 0x0F;
      out[block * kBlock + column] = scale * static_cast<float>(code - zero) + minimum;
    }
  }
}

}  // namespace thermesh
