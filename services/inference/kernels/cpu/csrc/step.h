// One step of a network: the new tokens of several sequences to logits.
#pragma once

#include "attention.h"
#include "buffer.h"
#include "network.h"
#include "pool.h"
#include "tier.h"

namespace thermesh {

// What steps reuse. One thread at a time.
struct Workspace {
  Buffer hidden, normed, gated, panel, joined, attended, cosines, sines;
  AttentionMemory attention;
  Pool pool;
};

// Returns null, or what is wrong with the sizes of a network or with a batch.
const char* problem_of(const ThermeshNetwork& network);
const char* problem_of(const ThermeshNetwork& network, const ThermeshBatch& batch);

// Runs a step; both arguments must have no problem.
void run_step(const ThermeshNetwork& network, const ThermeshBatch& batch, const Tier& tier,
              Workspace& workspace);

// out[rows][matrix.rows] = x[rows][matrix.columns] times the matrix.
// `outlier` as of Tier::quantise.
void multiply(const ThermeshMatrix& matrix, const float* x, int rows, float outlier, float* out,
              const Tier& tier, Workspace& workspace);

}  // namespace thermesh
