// Products of quantised activations with packed matrices.
#pragma once

#include <algorithm>
#include <optional>

#include "network.h"
#include "pool.h"
#include "tier.h"
#include "upcoming.h"

namespace thermesh {

// Rows of a step that follow each other and are computed alike.
struct Run {
  int first, count;
  bool is_prompt;  // and the tier has an arithmetic of its own for prompts
  int first_panel;

  int panels() const { return ceil_div(count, kPanelRows); }
  int rows_of(int panel) const { return std::min(kPanelRows, count - panel * kPanelRows); }
};

// All rows of activations of a step: the panels of one run after those of the other.
struct Panels {
  uint8_t* bytes;
  const Run* runs;
  int run_count;
  int blocks;
  int prompt_block_bytes;

  // A panel has as much room as the larger kind takes.
  uint8_t* at(const Run& run, int panel) const {
    const size_t before = static_cast<size_t>(run.first_panel) * panel_block_bytes(kPanelRows);
    const int own = run.is_prompt ? prompt_block_bytes : panel_block_bytes(kPanelRows);
    return bytes + (before + static_cast<size_t>(panel) * own) * blocks;
  }
  static size_t bytes_for(const Run* runs, int run_count, int columns) {
    const Run& last = runs[run_count - 1];
    const size_t panels = static_cast<size_t>(last.first_panel + last.panels());
    return panels * (columns / kBlock) * panel_block_bytes(kPanelRows);
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

// What is fetched on the way, if anything.
using Foresight = std::optional<Upcoming>;

// Computes each output from the same activations.
void linear(const Panels& panels, const Output* outputs, int count, const Tier& tier, Pool& pool,
            const Foresight& upcoming);

// silu(gate) * up: to out[row * gate.rows + output], or, of rows of prompts, at once to
// the panels of what comes next, whose bytes are not those of `panels`.
void gate_up(const Panels& panels, const ThermeshMatrix& gate, const ThermeshMatrix& up,
             float* out, const Panels& next, const Tier& tier, Pool& pool,
             const Foresight& upcoming);

}  // namespace thermesh
