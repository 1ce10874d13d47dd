#include "attention.h"

#include <algorithm>
#include <cstring>

namespace thermesh {
namespace {

// One query of many heads may be more rows than kTaskRows.
constexpr int kMaxTaskRows = std::max(64, kPromptTaskRows);

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
      pages_(network, batch, tier), group_(network.heads / network.kv_heads) {
  memory.span_of_row.resize(batch.tokens);
  memory.final_pages.clear();
  for (int index = 0; index < batch.span_count; ++index) {
    const ThermeshSpan& span = batch.spans[index];
    std::fill_n(memory.span_of_row.begin() + span.start, span.count, index);
    // A page becomes final when kFinalTokens follow it: in one step of those
    // that extend a context, whether or not anybody chooses by it yet.
    const int before = span.context_length - span.count;
    int page = std::max(before - kFinalTokens, 0) / kPageTokens;
    for (; (page + 1) * kPageTokens + kFinalTokens <= span.context_length; ++page) {
      memory.final_pages.push_back(batch.pages[span.first_page + page]);
    }
  }
}

void PagedAttention::plan(int layer) {
  is_planned_ = true;
  AttentionPlan& plan = memory_.plan;
  plan.make(network_, batch_, layer, pool_.threads(),
            tier_.attends_to_prompts_apart(batch_.cache_kind, network_.head_size));
  const size_t rows = static_cast<size_t>(plan.partials) * plan.partial_rows;
  partial_ = memory_.partials.room<float>(rows * (kMaxHeadSize + 2));
  lists_ = memory_.lists.room<int32_t>(static_cast<size_t>(plan.lists) * plan.list_size);
  scratch_ = memory_.scratch.room<float>(plan.choices.size() * scratch_size());
}

void PagedAttention::store(int layer, int row, const float* keys, const float* values) {
  const ThermeshSpan& span = batch_.spans[memory_.span_of_row[row]];
  const int index = span.context_length - span.count + row - span.start;
  const int32_t page = batch_.pages[span.first_page + index / kPageTokens];
  pages_.store(layer, page, index % kPageTokens, keys, values);
}

void PagedAttention::attend(int layer, const float* joined, size_t stride, float* attended) {
  const Rows rows{joined, stride, attended};
  if (!is_planned_ || AttentionPlan::changes_at(batch_, layer)) plan(layer);
  const AttentionPlan& plan = memory_.plan;
  if (!plan.choices.empty()) {
    pool_.run(static_cast<int>(plan.choices.size()),
              [&](int index) { choose_pages(layer, plan.choices[index], index, rows); });
  }
  pool_.run(static_cast<int>(plan.tasks.size()), [&](int index) {
    attend_task(layer, plan.tasks[index], start_of(layer, index + 1), rows);
  });
  merge_all(rows);
}

std::optional<Upcoming> PagedAttention::upcoming(int layer, const Tenths& part) const {
  const AttentionPlan& plan = memory_.plan;
  const bool is_same = plan.choices.empty() && !AttentionPlan::changes_at(batch_, layer);
  if (!is_same || layer == network_.layers) return {};
  return Upcoming(plan, pages_, batch_, layer, part);
}

void PagedAttention::merge_all(const Rows& rows) {
  constexpr int kFewRows = 32;
  const std::vector<Task>& merges = memory_.plan.merges;
  const auto merge = [&](int index) { merge_partials(merges[index], rows); };
  const int count = static_cast<int>(merges.size());
  if (memory_.plan.merged_rows > kFewRows) {
    pool_.run(count, merge);
  } else {
    for (int index = 0; index < count; ++index) merge(index);  // not worth waking anybody
  }
}

void PagedAttention::summarise(int layer) {
  const std::vector<int32_t>& pages = memory_.final_pages;
  const auto summarise = [&](int index) {
    for (int head = 0; head < network_.kv_heads; ++head) pages_.summarise(layer, head, pages[index]);
  };
  const int count = static_cast<int>(pages.size());
  if (count > 2) {
    pool_.run(count, summarise);
  } else {
    for (int index = 0; index < count; ++index) summarise(index);  // not worth waking anybody
  }
}

// Makes the lists of the task's queries.
void PagedAttention::choose_pages(int layer, const Task& task, int index, const Rows& rows) {
  alignas(64) float queries[kMaxTaskRows * kMaxHeadSize];
  int32_t limits[kMaxTaskRows];
  gather_queries(task, rows, queries, limits);
  const ThermeshSpan& span = batch_.spans[task.span];
  const int32_t* pages = batch_.pages + span.first_page;
  float* scratch = scratch_ + index * scratch_size();
  for (int query = 0; query < task.queries; ++query) {
    const int position = span.context_length - span.count + task.first_query + query;
    Reading reading;
    is_sparse(span, layer, position, &reading);
    int32_t* chosen = list(task.list + query);
    chosen[0] = pages[0];
    const PageChoice choice{queries + query * group_ * kMaxHeadSize, group_, network_.head_size,
                        pages_.means(layer, task.kv_head),
                        pages_.mean_scales(layer, task.kv_head),
                        static_cast<size_t>(network_.kv_heads), pages + 1,
                        reading.candidates - 1, reading.chosen};
    tier_.choose(choice, scratch, chosen + 1);
    std::copy_n(pages + reading.candidates, reading.pages - 1 - reading.chosen,
                chosen + 1 + reading.chosen);
  }
}

size_t PagedAttention::scratch_size() const {
  return 3 * static_cast<size_t>(choice_width(memory_.plan.most_candidates));
}

int32_t* PagedAttention::list(int index) const {
  return lists_ + static_cast<size_t>(index) * memory_.plan.list_size;
}

const int32_t* PagedAttention::pages_of(const Task& task) const {
  return task.list >= 0 ? list(task.list) : batch_.pages + batch_.spans[task.span].first_page;
}

// What a task reads first.
Soon PagedAttention::start_of(int layer, int index) const {
  const std::vector<Task>& tasks = memory_.plan.tasks;
  if (index == static_cast<int>(tasks.size())) return {};
  return pages_of_piece(layer, tasks[index], tasks[index].first_piece);
}

Soon PagedAttention::pages_of_piece(int layer, const Task& task, int index) const {
  const Piece piece = task.piece(index);
  return {pages_.units(layer, task.kv_head), pages_of(task) + piece.begin / kPageTokens,
          pages_for(piece.end - piece.begin)};
}

void PagedAttention::attend_task(int layer, const Task& task, const Soon& next,
                                 const Rows& rows) {
  if (task.list >= 0 && task.queries > 1) return attend_lists(layer, task, rows);
  alignas(64) float queries[kMaxTaskRows * kMaxHeadSize];
  int32_t limits[kMaxTaskRows];
  const int count = gather_queries(task, rows, queries, limits);
  Attention attention{queries, limits, count, network_.head_size,
                      pages_.units(layer, task.kv_head), pages_.slab_stride(),
                      pages_.bytes_of_unit(), pages_of(task), 0, 0, {}};
  const auto attend = [&](int index, const Attended& result) {
    const int last = task.first_piece + task.pieces - 1;
    attention.next = index < last ? pages_of_piece(layer, task, index + 1) : next;
    attend_piece(attention, task, index, result);
  };
  if (task.partial >= 0) {
    for (int index = 0; index < task.pieces; ++index) {
      attend(task.first_piece + index, partial(task.partial + index));
    }
    return;
  }
  Scratch all, part;
  attend(0, all.view());
  for (int index = 1; index < task.pieces; ++index) {
    attend(index, part.view());
    tier_.merge(part.view(), count, network_.head_size, all.view());
  }
  scatter(task, all.view(), rows);
}

// Queries that read pages of their own attend one after the other.
void PagedAttention::attend_lists(int layer, const Task& task, const Rows& rows) {
  const ThermeshSpan& span = batch_.spans[task.span];
  Task one = task;
  one.queries = 1;
  for (int query = 0; query < task.queries; ++query) {
    Reading reading;
    one.first_query = task.first_query + query;
    is_sparse(span, layer, span.context_length - span.count + one.first_query, &reading);
    one.list = task.list + query;
    one.end = reading.length;
    one.pieces = one.all_pieces();
    attend_task(layer, one, {}, rows);
  }
}

void PagedAttention::attend_piece(Attention& attention, const Task& task, int index,
                                  const Attended& result) {
  const Piece piece = task.piece(index);
  attention.begin = piece.begin;
  attention.end = piece.end;
  const auto& attend = task.is_prompt ? tier_.attend_prompt : tier_.attend;
  attend[batch_.cache_kind](attention, result);
}

// The query heads that share the task's key-value head, query by query. In a
// list of its own a query sees all tokens of it.
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
      limits[count] = task.list >= 0 ? task.end : span.context_length - span.count + query + 1;
    }
  }
  return count;
}

void PagedAttention::scatter(const Task& task, const Attended& result, const Rows& rows) {
  const int start = batch_.spans[task.span].start, size = network_.head_size;
  int count = 0;
  for (int query = task.first_query; query < task.first_query + task.queries; ++query) {
    float* vectors = rows.attended + static_cast<size_t>(start + query) * network_.heads * size;
    float* own = vectors + task.kv_head * group_ * size;
    for (int i = 0; i < group_; ++i, ++count) {
      const float share = 1.0f / result.total[count];
      const float* from = result.out + count * kMaxHeadSize;
      for (int channel = 0; channel < size; ++channel) own[i * size + channel] = from[channel] * share;
    }
    if (turns_values(batch_.cache_kind)) tier_.hadamard(own, size, group_);
  }
}

Attended PagedAttention::partial(int index) const {
  const int rows = memory_.plan.partial_rows;
  float* start = partial_ + static_cast<size_t>(index) * rows * (kMaxHeadSize + 2);
  float* top = start + static_cast<size_t>(rows) * kMaxHeadSize;
  return {start, top, top + rows};
}

void PagedAttention::merge_partials(const Task& task, const Rows& rows) {
  const Attended all = partial(task.partial);
  for (int index = 1; index < task.pieces; ++index) {
    tier_.merge(partial(task.partial + index), task.queries * group_, network_.head_size, all);
  }
  scatter(task, all, rows);
}

}  // namespace thermesh
