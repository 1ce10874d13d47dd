// What the attention of a layer is cut into, and which pages a query reads.
#pragma once

#include <vector>

#include "buffer.h"
#include "network.h"

namespace thermesh {

// A part of one layer's attention: some queries of one sequence and one
// key-value head, over one range of tokens or over all ranges in turn.
struct Task {
  int span;
  int kv_head;
  int first_query;  // within the span
  int queries;
  int begin, end;  // tokens, of those that are read
  int partial;     // index of the partial result of a range, or -1: over all
  int list;        // index of the first query's own list of pages, or -1: all pages
};

// What one query reads of its context: the first page, `chosen` of the pages
// [1, candidates), and all pages from there on.
struct Reading {
  int candidates;
  int chosen;
  int pages;   // read in all
  int length;  // tokens in them, up to the query's own
};

// Whether the query at `position` chooses pages in a layer, and what it reads then.
// It depends on the position alone.
bool is_sparse(const ThermeshSpan& span, int layer, int position, Reading* reading);

// The tasks of a layer; what they take is reused.
struct AttentionPlan {
  std::vector<Task> tasks;
  std::vector<Task> merges;   // queries whose ranges are computed apart
  std::vector<Task> choices;  // whose lists of pages are made before
  int partials = 0, partial_rows = 0;
  int lists = 0, list_size = 0;  // pages of a list at most
  int most_candidates = 0;

  void make(const ThermeshNetwork& network, const ThermeshBatch& batch, int layer, int threads);
  // Whether `layer` has other tasks than the one before it.
  static bool changes_at(const ThermeshBatch& batch, int layer);

 private:
  void add(Task task, bool is_apart);
  void add_dense(const ThermeshSpan& span, Task task, int most, bool is_apart);
  void add_sparse(const ThermeshSpan& span, Task task, int layer, int most, bool is_apart);
};

}  // namespace thermesh
