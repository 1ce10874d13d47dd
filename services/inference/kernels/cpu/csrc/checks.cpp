// What may be wrong with a network or a batch: nothing is read or written that
// has not been checked here.
#include <limits>

#include "step.h"

namespace thermesh {
namespace {

bool fits(const ThermeshMatrix& matrix, int64_t rows, int64_t columns) {
  return matrix.tiles && is_known(matrix.kind) && matrix.rows == rows && matrix.columns == columns;
}

const char* problem_of(const ThermeshNetwork& network, const ThermeshLayer& layer) {
  const int64_t query = static_cast<int64_t>(network.heads) * network.head_size;
  const int64_t key = static_cast<int64_t>(network.kv_heads) * network.head_size;
  const int64_t hidden = network.hidden_size, wide = network.intermediate_size;
  if (!layer.attention_norm || !layer.feed_forward_norm) return "a layer lacks a norm";
  if (!fits(layer.query, query, hidden) || !fits(layer.key, key, hidden) ||
      !fits(layer.value, key, hidden) || !fits(layer.attention_output, hidden, query)) {
    return "a matrix of attention does not fit the sizes";
  }
  if (!fits(layer.gate, wide, hidden) || !fits(layer.up, wide, hidden) ||
      !fits(layer.down, hidden, wide)) {
    return "a matrix of the feed-forward part does not fit the sizes";
  }
  return nullptr;
}

const char* problem_of(const ThermeshNetwork& network, const ThermeshBatch& batch,
                       const ThermeshSpan& span, int64_t next) {
  if (span.start != next || span.count < 1) return "spans must lie end to end";
  if (span.context_length < span.count) return "a context is shorter than its new tokens";
  if (span.first_page < 0 || span.page_count < 0 ||
      static_cast<int64_t>(span.first_page) + span.page_count > batch.page_entries) {
    return "a page table lies outside the pages";
  }
  if (span.prompt_end < 0) return "the end of a prompt is negative";
  if (span.sparse_from < 0 || span.dense_layers < 0 || span.budget < 1 ||
      span.budget > 1 << 30 || span.share < 0 || span.share > 1 << 16 || span.window < kFinalTokens) {
    return "the sparsity of a span is impossible";
  }
  if (span.head_windows >= 0) {
    const int64_t heads = static_cast<int64_t>(network.layers) * network.kv_heads;
    const int64_t end = span.head_windows + heads;
    if (!batch.head_windows || end > batch.head_window_entries) {
      return "windows of heads are missing";
    }
    for (int64_t i = span.head_windows; i < end; ++i) {
      const int32_t window = batch.head_windows[i];
      if (window && (window < kFinalTokens || window > 1 << 30)) {
        return "the window of a head is impossible";
      }
    }
  }
  const int64_t needed = (static_cast<int64_t>(span.context_length) + kPageTokens - 1) / kPageTokens;
  if (needed > span.page_count) return "a page table is too short for its context";
  for (int64_t i = 0; i < needed; ++i) {
    const int32_t page = batch.pages[span.first_page + i];
    if (page < 0 || page >= batch.cache_pages) return "a page is not in the cache";
  }
  return nullptr;
}

}  // namespace

const char* problem_of(const ThermeshNetwork& network) {
  if (network.layers < 1 || network.layers > 4096 || network.heads < 1 || network.heads > 4096 ||
      network.kv_heads < 1 || network.heads % network.kv_heads) {
    return "the numbers of layers or heads are impossible";
  }
  if (network.heads / network.kv_heads > 64) return "more than 64 query heads share keys";
  if (network.head_size < 16 || network.head_size % 16 || network.head_size > kMaxHeadSize) {
    return "head_size is no multiple of 16 up to 256";
  }
  if (network.hidden_size < 32 || network.hidden_size % 32 || network.hidden_size > 1 << 20 ||
      network.intermediate_size < 32 || network.intermediate_size % 32 ||
      network.intermediate_size > 1 << 22 || network.heads * network.head_size % 32) {
    return "hidden_size, intermediate_size or the joined heads are no multiple of 32";
  }
  if (network.vocabulary_size < 1 || network.vocabulary_size > 1 << 24) {
    return "vocabulary_size is impossible";
  }
  if (!network.inverse_frequencies || !network.norm || !network.layer ||
      !fits(network.embedding, network.vocabulary_size, network.hidden_size) ||
      !fits(network.head, network.vocabulary_size, network.hidden_size)) {
    return "the embedding, the head or a vector does not fit the sizes";
  }
  for (int i = 0; i < network.layers; ++i) {
    if (const char* problem = problem_of(network, network.layer[i])) return problem;
  }
  return nullptr;
}

const char* problem_of(const ThermeshNetwork& network, const ThermeshBatch& batch) {
  if (!batch.token_ids || !batch.positions || !batch.spans || !batch.pages ||
      !batch.output_rows || !batch.logits || !batch.cache || !batch.means ||
      !batch.mean_scales || !is_cache_kind(batch.cache_kind)) {
    return "a part of the batch is missing";
  }
  if (batch.tokens < 1 || batch.span_count < 1 || batch.outputs < 1 ||
      batch.outputs > batch.tokens || batch.cache_pages < 1 || batch.threads < 1 ||
      batch.threads > 1024) {
    return "the numbers of tokens, spans, outputs, pages or threads are impossible";
  }
  for (int i = 0; i < batch.tokens; ++i) {
    if (batch.token_ids[i] < 0 || batch.token_ids[i] >= network.vocabulary_size) {
      return "a token is not in the vocabulary";
    }
    if (batch.positions[i] < 0 || batch.positions[i] > std::numeric_limits<int32_t>::max()) {
      return "a position is negative or beyond 2^31";
    }
  }
  int64_t next = 0;
  for (int i = 0; i < batch.span_count; ++i) {
    if (const char* problem = problem_of(network, batch, batch.spans[i], next)) return problem;
    next += batch.spans[i].count;
    if (next > batch.tokens) return "spans have more tokens than the batch";
  }
  if (next != batch.tokens) return "spans have fewer tokens than the batch";
  for (int i = 0; i < batch.outputs; ++i) {
    if (batch.output_rows[i] < 0 || batch.output_rows[i] >= batch.tokens) {
      return "an output is not a row of the batch";
    }
  }
  return nullptr;
}

}  // namespace thermesh
