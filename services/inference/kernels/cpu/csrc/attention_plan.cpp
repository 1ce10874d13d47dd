#include "attention_plan.h"

#include <algorithm>

#include "layout.h"

namespace thermesh {
namespace {

constexpr int pages_for(int tokens) { return (tokens + kPageTokens - 1) / kPageTokens; }

int position_of(const ThermeshSpan& span, int query) {
  return span.context_length - span.count + query;
}

bool query_chooses(const ThermeshSpan& span, int layer, int query) {
  Reading ignored;
  return is_sparse(span, layer, position_of(span, query), &ignored);
}

}  // namespace

bool is_sparse(const ThermeshSpan& span, int layer, int position, Reading* reading) {
  if (position < span.sparse_from || layer < span.dense_layers) return false;
  const int seen = position + 1, all = pages_for(seen);
  const int candidates = seen > span.window ? (seen - span.window) / kPageTokens : 0;
  const int share = static_cast<int>(static_cast<int64_t>(seen) * span.share >> 16);
  const int always = 1 + all - candidates;
  const int chosen = std::max(pages_for(std::max(span.budget, share)) - always, 1);
  if (candidates < 2 || chosen >= candidates - 1) return false;
  const int pages = always + chosen;
  *reading = {candidates, chosen, pages, (pages - 1) * kPageTokens + position % kPageTokens + 1};
  return true;
}

bool AttentionPlan::changes_at(const ThermeshBatch& batch, int layer) {
  if (layer == 0) return true;
  return std::any_of(batch.spans, batch.spans + batch.span_count, [&](const ThermeshSpan& span) {
    return span.dense_layers == layer && span.sparse_from < span.context_length;
  });
}

void AttentionPlan::make(const ThermeshNetwork& network, const ThermeshBatch& batch, int layer,
                         int threads) {
  tasks.clear();
  merges.clear();
  choices.clear();
  partials = lists = list_size = most_candidates = 0;
  const int group = network.heads / network.kv_heads;
  const int most = std::max(1, kTaskRows / group);
  partial_rows = most * group;
  // Where few tasks would leave threads idle, each range of a long context
  // becomes a task of its own. The result is the same, bit for bit: a task over
  // all ranges merges them in the same order.
  const bool is_apart = threads > 1 && batch.tokens < 2 * threads;
  for (int index = 0; index < batch.span_count; ++index) {
    const ThermeshSpan& span = batch.spans[index];
    for (int first = 0, end; first < span.count; first = end) {
      const bool chooses = query_chooses(span, layer, first);
      end = first + 1;
      while (end < span.count && query_chooses(span, layer, end) == chooses) ++end;
      for (int head = 0; head < network.kv_heads; ++head) {
        const Task run{index, head, first, end - first, 0, 0, -1, -1};
        if (chooses) {
          add_sparse(span, run, layer, most, is_apart);
        } else {
          add_dense(span, run, most, is_apart);
        }
      }
    }
  }
}

void AttentionPlan::add(Task task, bool is_apart) {
  if (!is_apart || task.end <= kRange) {
    tasks.push_back(task);
    return;
  }
  task.partial = partials;
  merges.push_back(task);
  const int end = task.end;
  for (task.begin = 0; task.begin < end; task.begin += kRange) {
    task.end = std::min(task.begin + kRange, end);
    task.partial = partials++;
    tasks.push_back(task);
  }
}

void AttentionPlan::add_dense(const ThermeshSpan& span, Task task, int most, bool is_apart) {
  const int end = task.first_query + task.queries;
  for (; task.first_query < end; task.first_query += most) {
    task.queries = std::min(most, end - task.first_query);
    task.end = position_of(span, task.first_query + task.queries);
    add(task, is_apart);
  }
}

// Each query reads a list of pages of its own.
void AttentionPlan::add_sparse(const ThermeshSpan& span, Task task, int layer, int most,
                               bool is_apart) {
  const int end = task.first_query + task.queries;
  const int together = is_apart ? 1 : most;
  for (; task.first_query < end; task.first_query += together) {
    task.queries = std::min(together, end - task.first_query);
    Reading reading{};
    for (int query = 0; query < task.queries; ++query) {
      is_sparse(span, layer, position_of(span, task.first_query + query), &reading);
      list_size = std::max(list_size, reading.pages);
      most_candidates = std::max(most_candidates, reading.candidates);
    }
    task.list = lists;
    task.end = reading.length;  // of the last query; several attend one by one
    lists += task.queries;
    choices.push_back(task);
    add(task, is_apart);
  }
}

}  // namespace thermesh
