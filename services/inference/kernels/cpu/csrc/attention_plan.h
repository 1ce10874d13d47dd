// What the attention of a layer is cut into, and which pages a query reads.
#pragma once

#include <algorithm>
#include <vector>

#include "buffer.h"
#include "layout.h"
#include "network.h"

namespace thermesh {

// Tokens that are attended to at once. What is read is always cut in the same way,
// whoever computes it: where every range of kRange tokens begins, of prompts of kPromptRange.
struct Piece {
  int begin, end;
};

// A part of one layer's attention: some queries of one sequence and one
// key-value head, over some pieces of what they read.
struct Task {
  int span;
  int kv_head;
  int first_query;  // within the span
  int queries;
  int start;    // the first page is read, and tokens from `start` on
  int end;      // tokens, of those that are read
  int partial;  // index of the first piece's partial result, or -1: over all
  int list;     // index of the first query's own list of pages, or -1: all pages
  bool is_prompt;  // tokens that are only read, which a tier computes in its own way
  int first_piece, pieces;

  // Pieces of all that is read.
  int all_pieces() const {
    const int ranges = ceil_div(end, range());
    return start ? 1 + ranges - start / range() : ranges;
  }
  Piece piece(int index) const {
    if (start && index == 0) return {0, kPageTokens};
    const int place = start ? start / range() + index - 1 : index;
    const int begin = place * range(), after = begin + range();
    return {begin > start ? begin : start, after < end ? after : end};
  }

 private:
  int range() const { return is_prompt ? kPromptRange : kRange; }
};

// What one query reads of its context: the first page, `chosen` of the pages
// [1, candidates), and all pages from there on.
struct Reading {
  int candidates;
  int chosen;
  int pages;   // read in all
  int length;  // tokens in them, up to the query's own
};

// The first token but for those of the first page that a head with a window reads, or
// 0: all are read. It depends on the position alone.
int window_start(int window, int position);

// Whether the query at `position` chooses pages in a layer, and what it reads then.
// It depends on the position alone.
bool is_sparse(const ThermeshSpan& span, int layer, int position, Reading* reading);

// The tasks of a layer; what they take is reused.
struct AttentionPlan {
  std::vector<Task> tasks;
  std::vector<Task> merges;   // queries whose ranges are computed apart
  std::vector<Task> choices;  // whose lists of pages are made before
  int partials = 0, partial_rows = 0;
  int merged_rows = 0;  // of all that is computed apart
  int lists = 0, list_size = 0;  // pages of a list at most
  int most_candidates = 0;

  // `tells_prompts`: whether queries that are only read are apart.
  void make(const ThermeshNetwork& network, const ThermeshBatch& batch, int layer, int threads,
            bool tells_prompts);
  // Whether `layer` has other tasks than the one before it.
  static bool changes_at(const ThermeshBatch& batch, int layer);

 private:
  void add_queries(const ThermeshSpan& span, const Task& task, int layer, int window);
  void add_head(const ThermeshSpan& span, Task task, int layer);
  void add_windows(const ThermeshSpan& span, Task task, int window);
  void add(Task task);
  void add_dense(const ThermeshSpan& span, Task task);
  void add_sparse(const ThermeshSpan& span, Task task, int layer);
  int parts_for(const ThermeshBatch& batch, int kv_heads, int threads) const;
  // Queries of a task at most.
  int most(bool is_prompt) const {
    return std::max(1, (is_prompt ? kPromptTaskRows : kTaskRows) / group_);
  }

  int group_ = 1;
  int parts_ = 1, prompt_parts_ = 1;  // into which what a task reads is cut
};

}  // namespace thermesh
