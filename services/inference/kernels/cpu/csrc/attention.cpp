#include "attention.h"

#include <algorithm>
#include <cstring>

namespace thermesh {
namespace {

// One query of many heads may be more rows than kTaskRows.
constexpr int kMaxTaskRows = 64;

// A result of one task, on the stack.
struct Scratch {
  alignas(64) float out[kMaxTaskRows * kMaxHeadSize];
  float top[kMaxTaskRows], total[kMaxTaskRows];
  Attended view() { return {out, top, total}; }
};

}  // namespace

PagedAttention::PagedAttention(const ThermeshNetwork& network, const ThermeshBatch& batch,
                               const Tier& tier, AttentionMemory& memory, Pool& pool)
    : network_(network), batch_(batch), tier_(tier), memory_(memory), pool_(pool),
      group_(network.heads / network.kv_heads) {
  memory.tasks.clear();
  memory.merges.clear();
  memory.span_of_row.resize(batch.tokens);
  const int most = std::max(1, kTaskRows / group_);
  int partials = 0;
  for (int index = 0; index < batch.span_count; ++index) {
    const ThermeshSpan& span = batch.spans[index];
    std::fill_n(memory.span_of_row.begin() + span.start, span.count, index);
    for (int first = 0; first < span.count; first += most) {
      const int queries = std::min(most, span.count - first);
      const int end = span.context_length - span.count + first + queries;
      for (int head = 0; head < network.kv_heads; ++head) {
        plan_task({index, head, first, queries, 0, end, -1}, &partials);
      }
    }
  }
  if (partials > 0) {
    partial_rows_ = most * group_;
    const size_t rows = static_cast<size_t>(partials) * partial_rows_;
    partial_ = memory.partials.room<float>(rows * (kMaxHeadSize + 2));
  }
}

// Where few tasks would leave threads idle, each range of a long context
// becomes a task of its own. The result is the same, bit for bit: a task over
// all ranges merges them in the same order.
void PagedAttention::plan_task(const Task& task, int* partials) {
  const bool is_few = pool_.threads() > 1 && batch_.tokens < 2 * pool_.threads();
  if (!is_few || task.end <= kRange) {
    memory_.tasks.push_back(task);
    return;
  }
  Task whole = task;
  whole.partial = *partials;
  memory_.merges.push_back(whole);
  for (int begin = 0; begin < task.end; begin += kRange) {
    Task range = task;
    range.begin = begin;
    range.end = std::min(begin + kRange, task.end);
    range.partial = (*partials)++;
    memory_.tasks.push_back(range);
  }
}

// Elements of a page of one head, and of what all layers keep of 16 tokens.
size_t PagedAttention::page_size() const {
  return static_cast<size_t>(network_.head_size) * kPageTokens;
}
size_t PagedAttention::page_stride() const {
  return page_size() * 2 * network_.kv_heads * network_.layers;
}

uint16_t* PagedAttention::keys_of(int layer, int head) const {
  return batch_.cache + (static_cast<size_t>(layer) * network_.kv_heads + head) * 2 * page_size();
}
uint16_t* PagedAttention::values_of(int layer, int head) const {
  return keys_of(layer, head) + page_size();
}

void PagedAttention::store(int layer, int row, const float* keys, const float* values) {
  const ThermeshSpan& span = batch_.spans[memory_.span_of_row[row]];
  const int index = span.context_length - span.count + row - span.start;
  const size_t page = batch_.pages[span.first_page + index / kPageTokens] * page_stride();
  const int slot = index % kPageTokens, size = network_.head_size;
  uint16_t halves[kMaxHeadSize];
  for (int head = 0; head < network_.kv_heads; ++head) {
    uint16_t* key_page = keys_of(layer, head) + page;
    tier_.to_half(keys + head * size, size, halves);
    for (int i = 0; i < size; ++i) key_page[i * kPageTokens + slot] = halves[i];
    uint16_t* value_page = values_of(layer, head) + page;
    tier_.to_half(values + head * size, size, halves);
    for (int i = 0; i < size; i += kLanes) {
      std::memcpy(value_page + (i + slot) * kLanes, halves + i, kLanes * sizeof(uint16_t));
    }
  }
}

void PagedAttention::attend(int layer, const float* joined, size_t stride, float* attended) {
  const Rows rows{joined, stride, attended};
  const std::vector<Task>& tasks = memory_.tasks;
  pool_.run(static_cast<int>(tasks.size()),
            [&](int index) { attend_task(layer, tasks[index], rows); });
  for (const Task& task : memory_.merges) merge_partials(task, rows);
}

void PagedAttention::attend_task(int layer, const Task& task, const Rows& rows) {
  alignas(64) float queries[kMaxTaskRows * kMaxHeadSize];
  int32_t limits[kMaxTaskRows];
  const int count = gather_queries(task, rows, queries, limits);
  const int32_t* pages = batch_.pages + batch_.spans[task.span].first_page;
  const Attention attention{queries, limits, count, network_.head_size,
                            keys_of(layer, task.kv_head), values_of(layer, task.kv_head),
                            page_stride(), pages, task.begin, task.end};
  if (task.partial >= 0) {
    tier_.attend(attention, partial(task.partial));
    return;
  }
  Scratch all;
  attend_ranges(attention, task.end, all.view());
  scatter(task, all.view(), rows);
}

void PagedAttention::attend_ranges(Attention attention, int end, const Attended& all) {
  attention.end = std::min(kRange, end);
  tier_.attend(attention, all);
  if (end <= kRange) return;
  Scratch part;
  for (attention.begin = kRange; attention.begin < end; attention.begin += kRange) {
    attention.end = std::min(attention.begin + kRange, end);
    tier_.attend(attention, part.view());
    tier_.merge(part.view(), attention.rows, network_.head_size, all);
  }
}

// The query heads that share the task's key-value head, query by query.
int PagedAttention::gather_queries(const Task& task, const Rows& rows, float* queries,
                                   int32_t* limits) {
  const ThermeshSpan& span = batch_.spans[task.span];
  const int size = network_.head_size;
  int count = 0;
  for (int query = task.first_query; query < task.first_query + task.queries; ++query) {
    const float* vectors = rows.joined + (span.start + query) * rows.stride;
    for (int i = 0; i < group_; ++i, ++count) {
      std::memcpy(queries + count * kMaxHeadSize, vectors + (task.kv_head * group_ + i) * size,
                  size * sizeof(float));
      limits[count] = span.context_length - span.count + query + 1;
    }
  }
  return count;
}

void PagedAttention::scatter(const Task& task, const Attended& result, const Rows& rows) {
  const int start = batch_.spans[task.span].start, size = network_.head_size;
  int count = 0;
  for (int query = task.first_query; query < task.first_query + task.queries; ++query) {
    float* vectors = rows.attended + static_cast<size_t>(start + query) * network_.heads * size;
    for (int i = 0; i < group_; ++i, ++count) {
      const float share = 1.0f / result.total[count];
      const float* from = result.out + count * kMaxHeadSize;
      float* to = vectors + (task.kv_head * group_ + i) * size;
      for (int channel = 0; channel < size; ++channel) to[channel] = from[channel] * share;
    }
  }
}

Attended PagedAttention::partial(int index) const {
  float* start = partial_ + static_cast<size_t>(index) * partial_rows_ * (kMaxHeadSize + 2);
  float* top = start + static_cast<size_t>(partial_rows_) * kMaxHeadSize;
  return {start, top, top + partial_rows_};
}

void PagedAttention::merge_partials(const Task& task, const Rows& rows) {
  const Attended all = partial(task.partial);
  const int ranges = (task.end + kRange - 1) / kRange;
  for (int index = 1; index < ranges; ++index) {
    tier_.merge(partial(task.partial + index), task.queries * group_, network_.head_size, all);
  }
  scatter(task, all, rows);
}

}  // namespace thermesh
