// Products of quantised activations with packed matrices.
#pragma once

#include <algorithm>

#include "network.h"
#include "pool.h"
#include "tier.h"

namespace thermesh {

inline int ceil_div(int a, int b) { return (a + b - 1) / b; }

// Rows of activations as consecutive panels of 16 rows, fewer in the last.
struct Panels {
  uint8_t* bytes;
  int rows;
  int blocks;

  int count() const { return ceil_div(rows, kPanelRows); }
  int rows_of(int panel) const { return std::min(kPanelRows, rows - panel * kPanelRows); }
  uint8_t* at(int panel) const {
    return bytes + static_cast<size_t>(panel) * blocks * panel_block_bytes(kPanelRows);
  }
  static size_t bytes_for(int rows, int columns) {
    const size_t blocks = static_cast<size_t>(ceil_div(rows, kPanelRows)) * (columns / kBlock);
    return blocks * panel_block_bytes(kPanelRows);
  }
};

// One matrix of a product and where its outputs go: out[row * stride + output].
struct Output {
  const ThermeshMatrix* matrix;
  const float* bias;  // null for none
  float* out;
  size_t stride;
  bool adds;  // to what is there
};

inline int tiles_of(const ThermeshMatrix& matrix) { return ceil_div(matrix.rows, kLanes); }

inline const uint8_t* tile_row(const ThermeshMatrix& matrix, int index) {
  return matrix.tiles +
         static_cast<size_t>(index) * (matrix.columns / kBlock) * tile_bytes(matrix.kind);
}

// Chunks into which `units` of equal work are cut: a few for each thread, so that
// one which is late does less.
inline int chunks_for(int units, const Pool& pool) {
  return pool.threads() == 1 ? 1 : std::min(units, 4 * pool.threads());
}

// Computes each output from the same activations.
void linear(const Panels& panels, const Output* outputs, int count, const Tier& tier, Pool& pool);

// out[row * gate.rows + output] = silu(gate) * up.
void gate_up(const Panels& panels, const ThermeshMatrix& gate, const ThermeshMatrix& up,
             float* out, const Tier& tier, Pool& pool);

}  // namespace thermesh
