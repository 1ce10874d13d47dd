// One step of a network: the new tokens of several sequences to logits.
#pragma once

#include <cstddef>
#include <vector>

#include "network.h"
#include "pool.h"
#include "tier.h"

namespace thermesh {

// Memory that grows and is never cleared, on cache lines.
class Buffer {
 public:
  Buffer() = default;
  ~Buffer();
  Buffer(const Buffer&) = delete;
  Buffer& operator=(const Buffer&) = delete;

  // Room for `count` of T; what was there is lost. Throws std::bad_alloc.
  template <typename T>
  T* room(size_t count) {
    return static_cast<T*>(reserve(count * sizeof(T)));
  }

 private:
  void* reserve(size_t bytes);
  void* start_ = nullptr;
  size_t bytes_ = 0;
};

// A part of one layer's attention: some queries of one sequence and one
// key-value head, over one range of tokens or over all ranges in turn.
struct Task {
  int span;
  int kv_head;
  int first_query;  // within the span
  int queries;
  int begin, end;  // tokens; a multiple of kRange apart from the last
  int partial;     // index of the partial result of a range, or -1: over all
};

// What steps reuse. One thread at a time.
struct Workspace {
  Buffer hidden, normed, gated, panel, joined, attended, cosines, sines, partials;
  std::vector<int> span_of_row;
  std::vector<Task> tasks;
  std::vector<Task> merges;  // queries whose ranges were computed apart
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
