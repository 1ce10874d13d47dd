// The C interface's structures: a network, a batch, and what computes them.
//
// They are mirrored in native.py, field by field; `thermesh_layout` lets it
// check that both sides agree.
#pragma once

#include <cstdint>

extern "C" {

// Packed by `thermesh_pack`; see layout.h.
struct ThermeshMatrix {
  const uint8_t* tiles;
  int32_t kind;
  int32_t rows;     // outputs
  int32_t columns;  // inputs
  int32_t reserved;
};

// Optional vectors are null where the model has none.
struct ThermeshLayer {
  const float* attention_norm;
  ThermeshMatrix query, key, value;
  const float* query_key_value_bias;
  const float* query_norm;
  const float* key_norm;
  ThermeshMatrix attention_output;
  const float* attention_output_bias;
  const float* feed_forward_norm;
  ThermeshMatrix gate, up, down;
};

struct ThermeshNetwork {
  int32_t layers, hidden_size, heads, kv_heads, head_size, intermediate_size, vocabulary_size;
  float rms_epsilon;
  // Blocks of activations whose largest number exceeds this many times their
  // row's root mean square are kept in twelve bits, the others in eight: what
  // enters query, key, value, gate and up; the attention's output matrix; down;
  // the head. 0 stands for all blocks.
  float normed_outlier, attended_outlier, gated_outlier, head_outlier;
  const float* inverse_frequencies;  // [head_size / 2]
  ThermeshMatrix embedding, head;    // the same where they are tied
  const float* norm;
  const ThermeshLayer* layer;
};

// One sequence's part of a step; as `Span` of the kernels' door.
struct ThermeshSpan {
  int32_t start, count, context_length;
  int32_t first_page, page_count;  // its page table within `pages`
  int32_t prompt_end;  // tokens at positions below are only read; see layout.h
  // Queries from position `sparse_from` on choose pages in layers from
  // `dense_layers` on: `budget` tokens or `share` / 65536 of what they see are
  // read, whichever is more, the last `window` tokens among them. Of heads that have
  // a window of their own, in any layer, they read that instead: `head_windows` is the
  // index in the batch's `head_windows` of [layers][kv_heads] of them, where 0 stands
  // for none, or -1 where no head has any.
  int32_t sparse_from, dense_layers, budget, share, window, head_windows;
};

struct ThermeshBatch {
  const int64_t* token_ids;
  const int64_t* positions;
  const ThermeshSpan* spans;
  const int32_t* pages;
  const int32_t* output_rows;
  const int32_t* head_windows;
  float* logits;  // [outputs][vocabulary_size]
  uint8_t* cache;  // units of `cache_pages` pages, up to a whole slab; see layout.h
  uint8_t* means;  // [layers][cache_pages][kv_heads] records
  float* mean_scales;
  int32_t tokens, span_count, page_entries, outputs, cache_pages, threads, cache_kind;
  int32_t head_window_entries;
};

}  // extern "C"
