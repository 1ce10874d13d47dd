// One step of a network: the new tokens of several sequences to logits.
#pragma once

#include <vector>

#include "attention.h"
#include "buffer.h"
#include "linear.h"
#include "narrow.h"
#include "network.h"
#include "pool.h"
#include "tier.h"

namespace thermesh {

// What steps reuse. One thread at a time.
struct Workspace {
  Buffer hidden, normed, gated, panel, next_panel, joined, attended, cosines, sines, drawn;
  std::vector<Run> runs, output_runs;
  AttentionMemory attention;
  Narrowed asked;
  Pool pool;
};

// Returns null, or what is wrong with the sizes of a network or with a batch.
const char* problem_of(const ThermeshNetwork& network);
const char* problem_of(const ThermeshNetwork& network, const ThermeshBatch& batch);

// Runs a step; both arguments must have no problem.
void run_step(const ThermeshNetwork& network, const ThermeshBatch& batch, const Tier& tier,
              Workspace& workspace);

// out[rows][matrix.rows] = x[rows][matrix.columns] times the matrix.
// `outlier` as of Tier::quantise; `is_prompt` tells which arithmetic.
void multiply(const ThermeshMatrix& matrix, const float* x, int rows, float outlier,
              bool is_prompt, float* out, const Tier& tier, Workspace& workspace);

}  // namespace thermesh
