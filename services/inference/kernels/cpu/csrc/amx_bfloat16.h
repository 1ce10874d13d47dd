// What products of bfloat16 tiles share (tier_amx.cpp tells what tiles are); for the
// translation units that are compiled for them.
#pragma once

#include "bfloat16.h"

namespace thermesh {
// Unnamed: each translation unit has its own, compiled for its processor.
namespace {

// The operand of `ldtilecfg`: eight whole registers. Rows beyond the last are
// multiplied too, and left.
struct alignas(64) WholeTiles {
  uint8_t palette = 1, start_row = 0;
  uint8_t reserved[14] = {};
  uint16_t row_bytes[16] = {64, 64, 64, 64, 64, 64, 64, 64};
  uint8_t rows[16] = {16, 16, 16, 16, 16, 16, 16, 16};
};

}  // namespace
}  // namespace thermesh
