#include "attention_plan.h"

#include <algorithm>

#include "layout.h"

namespace thermesh {
namespace {

int position_of(const ThermeshSpan& span, int query) {
  return span.context_length - span.count + query;
}

// Tokens of a span that are only read; they come first.
int only_read(const ThermeshSpan& span) {
  return std::clamp(span.prompt_end - position_of(span, 0), 0, span.count);
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

int window_start(int window, int position) {
  const int start = (position + 1 - window) / kSegment * kSegment;
  return start > 0 ? start : 0;
}

bool AttentionPlan::changes_at(const ThermeshBatch& batch, int layer) {
  if (layer == 0) return true;
  return std::any_of(batch.spans, batch.spans + batch.span_count, [&](const ThermeshSpan& span) {
    const bool differs = span.dense_layers == layer || span.head_windows >= 0;
    return differs && span.sparse_from < span.context_length;
  });
}

void AttentionPlan::make(const ThermeshNetwork& network, const ThermeshBatch& batch, int layer,
                         int threads, bool tells_prompts) {
  tasks.clear();
  merges.clear();
  choices.clear();
  partials = merged_rows = lists = list_size = most_candidates = 0;
  group_ = network.heads / network.kv_heads;
  partial_rows = std::max(most(false), most(true)) * group_;
  // Where few tasks would leave threads idle, what is read is cut into parts. The
  // result is the same, bit for bit: a task over all pieces merges them in the same
  // order. Parts as long as that allows, as each begins with a wait for memory.
  parts_ = threads > 1 && batch.tokens < 2 * threads ? 2 * threads : 1;
  prompt_parts_ = tells_prompts ? parts_for(batch, network.kv_heads, threads) : 1;
  for (int index = 0; index < batch.span_count; ++index) {
    const ThermeshSpan& span = batch.spans[index];
    const int read = tells_prompts ? only_read(span) : 0;
    const size_t first = tasks.size();
    for (int head = 0; head < network.kv_heads; ++head) {
      const int place = span.head_windows + layer * network.kv_heads + head;
      const int window = span.head_windows < 0 ? 0 : batch.head_windows[place];
      add_queries(span, {index, head, 0, read, 0, 0, -1, -1, true, 0, 0}, layer, window);
      add_queries(span, {index, head, read, span.count - read, 0, 0, -1, -1, false, 0, 0}, layer,
                  window);
    }
    // By rows, as all else is shared among threads.
    if (read) {
      std::stable_sort(tasks.begin() + first, tasks.end(), [](const Task& a, const Task& b) {
        return a.first_query < b.first_query;
      });
    }
  }
}

// Of prompts: the last piece of a long prompt has few rows, as has one that joins others.
int AttentionPlan::parts_for(const ThermeshBatch& batch, int kv_heads, int threads) const {
  constexpr int kTasksOfThread = 4;
  if (threads == 1) return 1;
  int own = 0;
  for (int index = 0; index < batch.span_count; ++index) {
    own += ceil_div(only_read(batch.spans[index]), most(true)) * kv_heads;
  }
  return own ? ceil_div(threads * kTasksOfThread, own) : 1;
}

void AttentionPlan::add_queries(const ThermeshSpan& span, const Task& task, int layer,
                                int window) {
  if (task.queries == 0) return;
  if (window) {
    add_windows(span, task, window);
  } else {
    add_head(span, task, layer);
  }
}

// Queries of a head that read a window each; those that follow read the same but for
// themselves, mostly.
void AttentionPlan::add_windows(const ThermeshSpan& span, Task task, int window) {
  const auto start_of = [&](int query) {
    const int position = position_of(span, query);
    return position < span.sparse_from ? 0 : window_start(window, position);
  };
  const int last = task.first_query + task.queries;
  for (int first = task.first_query, end; first < last; first = end) {
    task.start = start_of(first);
    end = first + 1;
    while (end < last && start_of(end) == task.start) ++end;
    task.first_query = first;
    task.queries = end - first;
    add_dense(span, task);
  }
}

void AttentionPlan::add_head(const ThermeshSpan& span, Task task, int layer) {
  const int last = task.first_query + task.queries;
  for (int first = task.first_query, end; first < last; first = end) {
    const bool chooses = query_chooses(span, layer, first);
    end = first + 1;
    while (end < last && query_chooses(span, layer, end) == chooses) ++end;
    task.first_query = first;
    task.queries = end - first;
    if (chooses) {
      add_sparse(span, task, layer);
    } else {
      add_dense(span, task);
    }
  }
}

void AttentionPlan::add(Task task) {
  const int count = task.all_pieces(), parts = task.is_prompt ? prompt_parts_ : parts_;
  if (parts == 1 || count == 1) {
    task.pieces = count;
    tasks.push_back(task);
    return;
  }
  task.partial = partials;
  task.pieces = count;
  merges.push_back(task);
  merged_rows += task.queries * group_;
  const int step = std::max(1, count / parts);
  for (task.first_piece = 0; task.first_piece < count; task.first_piece += step) {
    task.partial = partials + task.first_piece;
    task.pieces = std::min(step, count - task.first_piece);
    tasks.push_back(task);
  }
  partials += count;
}

void AttentionPlan::add_dense(const ThermeshSpan& span, Task task) {
  const int end = task.first_query + task.queries, together = most(task.is_prompt);
  for (; task.first_query < end; task.first_query += together) {
    task.queries = std::min(together, end - task.first_query);
    task.end = position_of(span, task.first_query + task.queries);
    add(task);
  }
}

// Each query reads a list of pages of its own, which few rows share.
void AttentionPlan::add_sparse(const ThermeshSpan& span, Task task, int layer) {
  const int end = task.first_query + task.queries;
  const int together = parts_ > 1 ? 1 : most(false);
  task.is_prompt = false;
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
    add(task);
  }
}

}  // namespace thermesh
