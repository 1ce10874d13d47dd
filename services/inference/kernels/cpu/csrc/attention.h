// Attention of all sequences of a step over the paged cache.
#pragma once

#include <optional>
#include <vector>

#include "attention_cache.h"
#include "attention_plan.h"
#include "buffer.h"
#include "network.h"
#include "pool.h"
#include "tier.h"
#include "upcoming.h"

namespace thermesh {

// What the attention of steps reuses.
struct AttentionMemory {
  std::vector<int> span_of_row;
  std::vector<int32_t> final_pages;
  AttentionPlan plan;
  Buffer partials, lists, scratch;
};

class PagedAttention {
 public:
  PagedAttention(const ThermeshNetwork& network, const ThermeshBatch& batch, const Tier& tier,
                 AttentionMemory& memory, Pool& pool);

  // Writes one row's keys and values, [kv_heads][head_size] each, to the cache.
  void store(int layer, int row, const float* keys, const float* values);

  // Makes means of pages that became final in this step. All rows are stored.
  void summarise(int layer);

  // attended[row][heads * head_size] from the queries at the start of each row
  // of joined[row][stride], which are scaled already. All rows are stored, pages
  // summarised, and layers come in order.
  void attend(int layer, const float* joined, size_t stride, float* attended);

  // Part of what products fetch for the attention of `layer`, which follows the one that was
  // last; nothing where that reads other pages.
  std::optional<Upcoming> upcoming(int layer, const Tenths& part) const;

 private:
  struct Rows {
    const float* joined;
    size_t stride;
    float* attended;
  };

  void plan(int layer);
  void choose_pages(int layer, const Task& task, int index, const Rows& rows);
  Soon start_of(int layer, int index) const;
  Soon pages_of_piece(int layer, const Task& task, int index) const;
  void attend_task(int layer, const Task& task, const Soon& next, const Rows& rows);
  void attend_lists(int layer, const Task& task, const Rows& rows);
  void attend_piece(Attention& attention, const Task& task, int index,
                    const Attended& result);
  const int32_t* pages_of(const Task& task) const;
  int32_t* list(int index) const;
  size_t scratch_size() const;
  int gather_queries(const Task& task, const Rows& rows, float* queries, int32_t* limits);
  void scatter(const Task& task, const Attended& result, const Rows& rows);
  Attended partial(int index) const;
  void merge_all(const Rows& rows);
  void merge_partials(const Task& task, const Rows& rows);

  const ThermeshNetwork& network_;
  const ThermeshBatch& batch_;
  const Tier& tier_;
  AttentionMemory& memory_;
  Pool& pool_;
  CachePages pages_;
  int group_;  // query heads that share a key-value head
  float* partial_ = nullptr;
  int32_t* lists_ = nullptr;
  float* scratch_ = nullptr;
  bool is_planned_ = false;
};

}  // namespace thermesh
