// Attention of all sequences of a step over the paged cache.
#pragma once

#include <vector>

#include "buffer.h"
#include "network.h"
#include "pool.h"
#include "tier.h"

namespace thermesh {

// A part of one layer's attention: some queries of one sequence and one
// key-value head, over one range of tokens or over all ranges in turn.
struct Task {
  int span;
  int kv_head;
  int first_query;  // within the span
  int queries;
  int begin, end;  // tokens
  int partial;     // index of the partial result of a range, or -1: over all
};

// What the attention of steps reuses.
struct AttentionMemory {
  std::vector<int> span_of_row;
  std::vector<Task> tasks;
  std::vector<Task> merges;  // queries whose ranges are computed apart
  Buffer partials;
};

class PagedAttention {
 public:
  // Plans the tasks of a step, which are those of each of its layers.
  PagedAttention(const ThermeshNetwork& network, const ThermeshBatch& batch, const Tier& tier,
                 AttentionMemory& memory, Pool& pool);

  // Writes one row's keys and values, [kv_heads][head_size] each, to the cache.
  void store(int layer, int row, const float* keys, const float* values);

  // attended[row][heads * head_size] from the queries at the start of each row
  // of joined[row][stride], which are scaled already. All rows are stored.
  void attend(int layer, const float* joined, size_t stride, float* attended);

 private:
  struct Rows {
    const float* joined;
    size_t stride;
    float* attended;
  };

  size_t page_size() const;
  size_t page_stride() const;
  uint16_t* keys_of(int layer, int head) const;
  uint16_t* values_of(int layer, int head) const;
  void plan_task(const Task& task, int* partials);
  void attend_task(int layer, const Task& task, const Rows& rows);
  void attend_ranges(Attention attention, int end, const Attended& all);
  int gather_queries(const Task& task, const Rows& rows, float* queries, int32_t* limits);
  void scatter(const Task& task, const Attended& result, const Rows& rows);
  Attended partial(int index) const;
  void merge_partials(const Task& task, const Rows& rows);

  const ThermeshNetwork& network_;
  const ThermeshBatch& batch_;
  const Tier& tier_;
  AttentionMemory& memory_;
  Pool& pool_;
  int group_;  // query heads that share a key-value head
  float* partial_ = nullptr;
  int partial_rows_ = 0;
};

}  // namespace thermesh
