#include "step.h"

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <new>

#include "linear.h"
#include "pack.h"

namespace thermesh {

Buffer::~Buffer() { std::free(start_); }

void* Buffer::reserve(size_t bytes) {
  if (bytes > bytes_) {
    const size_t rounded = (bytes + 63) / 64 * 64;
    std::free(start_);
    start_ = std::aligned_alloc(64, rounded);
    bytes_ = start_ ? rounded : 0;
    if (!start_) throw std::bad_alloc();
  }
  return start_;
}

namespace {

// Blocks of activations whose largest number exceeds this many times the row's
// root mean square are kept in sixteen bits. Measured on SmolLM2-135M: all in
// eight bits gives a mean KL divergence of 2.5e-3 nats from float32 on the same
// weights, most of it from few blocks; these give 4e-4 for a quarter more
// arithmetic. The head runs for few rows and decides on the token: always fine.
constexpr float kNormedOutlier = 4.0f;
constexpr float kGatedOutlier = 6.0f;
constexpr float kAttendedOutlier = INFINITY;
constexpr float kHeadOutlier = 0.0f;

// A step's state; each method is one phase of a layer.
class Step {
 public:
  Step(const ThermeshNetwork& network, const ThermeshBatch& batch, const Tier& tier,
       Workspace& workspace)
      : network_(network), batch_(batch), tier_(tier), workspace_(workspace), pool_(workspace.pool) {
    const size_t rows = batch.tokens;
    query_size_ = network.heads * network.head_size;
    key_size_ = network.kv_heads * network.head_size;
    joined_size_ = query_size_ + 2 * key_size_;
    hidden_ = workspace.hidden.room<float>(rows * network.hidden_size);
    normed_ = workspace.normed.room<float>(rows * network.hidden_size);
    joined_ = workspace.joined.room<float>(rows * joined_size_);
    attended_ = workspace.attended.room<float>(rows * query_size_);
    gated_ = workspace.gated.room<float>(rows * network.intermediate_size);
    const int widest = std::max({network.hidden_size, query_size_, network.intermediate_size});
    panel_ = workspace.panel.room<uint8_t>(Panels::bytes_for(batch.tokens, widest));
    cosines_ = workspace.cosines.room<float>(rows * network.head_size / 2);
    sines_ = workspace.sines.room<float>(rows * network.head_size / 2);
    plan_attention();
  }

  void run() {
    begin();
    for (int index = 0; index < network_.layers; ++index) {
      const ThermeshLayer& layer = network_.layer[index];
      project(layer);
      rotate_and_store(layer, index);
      attend(index);
      add_attention(layer);
      add_feed_forward(layer);
    }
    write_logits();
  }

 private:
  // Calls work(row) for every row; in parallel where there are several panels.
  template <typename Work>
  void for_rows(int rows, const Work& work) {
    pool_.run(ceil_div(rows, kPanelRows), [&](int panel) {
      const int end = std::min((panel + 1) * kPanelRows, rows);
      for (int row = panel * kPanelRows; row < end; ++row) work(row);
    });
  }

  void quantise_row(const Panels& panels, int row, const float* x, float outlier) {
    const int panel = row / kPanelRows;
    tier_.quantise(x, panels.blocks, outlier, panels.at(panel), panels.rows_of(panel),
                   row % kPanelRows);
  }

  // x is [rows][columns].
  Panels quantised(const float* x, int columns, float outlier) {
    const Panels panels{panel_, batch_.tokens, columns / kBlock};
    for_rows(batch_.tokens, [&](int row) {
      quantise_row(panels, row, x + static_cast<size_t>(row) * columns, outlier);
    });
    return panels;
  }

  void begin() {
    const int half = network_.head_size / 2;
    for_rows(batch_.tokens, [&](int row) {
      unpack_row(network_.embedding.kind, network_.embedding.tiles, batch_.token_ids[row],
                 network_.hidden_size, hidden_ + static_cast<size_t>(row) * network_.hidden_size);
      for (int i = 0; i < half; ++i) {
        const float angle =
            static_cast<float>(batch_.positions[row]) * network_.inverse_frequencies[i];
        cosines_[static_cast<size_t>(row) * half + i] = std::cos(angle);
        sines_[static_cast<size_t>(row) * half + i] = std::sin(angle);
      }
    });
  }

  Panels normalised(const float* weight) {
    const Panels panels{panel_, batch_.tokens, network_.hidden_size / kBlock};
    for_rows(batch_.tokens,
             [&](int row) { normalise_row(panels, row, row, weight, kNormedOutlier); });
    return panels;
  }

  void normalise_row(const Panels& panels, int row, int from, const float* weight, float outlier) {
    const size_t size = network_.hidden_size;
    float* normed = normed_ + row * size;
    tier_.rms_norm(hidden_ + from * size, weight, network_.rms_epsilon, network_.hidden_size,
                   normed);
    quantise_row(panels, row, normed, outlier);
  }

  void project(const ThermeshLayer& layer) {
    const Panels panels = normalised(layer.attention_norm);
    const float* bias = layer.query_key_value_bias;
    const size_t stride = joined_size_;
    const int key_start = query_size_, value_start = query_size_ + key_size_;
    const Output outputs[] = {
        {&layer.query, bias, joined_, stride, false},
        {&layer.key, bias ? bias + key_start : bias, joined_ + key_start, stride, false},
        {&layer.value, bias ? bias + value_start : bias, joined_ + value_start, stride, false},
    };
    linear(panels, outputs, 3, tier_, pool_);
  }

  // Queries and keys turn with their positions; queries also take the scale of
  // attention, keys and values go to the cache.
  void rotate_and_store(const ThermeshLayer& layer, int index) {
    const int size = network_.head_size;
    const float scale = 1.0f / std::sqrt(static_cast<float>(size));
    for_rows(batch_.tokens, [&](int row) {
      float* vectors = joined_ + static_cast<size_t>(row) * joined_size_;
      for (int head = 0; head < network_.heads + network_.kv_heads; ++head) {
        float* vector = vectors + head * size;
        const bool is_query = head < network_.heads;
        const float* norm = is_query ? layer.query_norm : layer.key_norm;
        if (norm) tier_.rms_norm(vector, norm, network_.rms_epsilon, size, vector);
        rotate(vector, row, is_query ? scale : 1.0f);
      }
      store_row(vectors, row, index);
    });
  }

  void rotate(float* vector, int row, float scale) {
    const int half = network_.head_size / 2;
    const float* cosine = cosines_ + static_cast<size_t>(row) * half;
    const float* sine = sines_ + static_cast<size_t>(row) * half;
    for (int i = 0; i < half; ++i) {
      const float first = vector[i], second = vector[i + half];
      vector[i] = (first * cosine[i] - second * sine[i]) * scale;
      vector[i + half] = (second * cosine[i] + first * sine[i]) * scale;
    }
  }

  // Elements of a page of one head, and of what all layers keep of 16 tokens.
  size_t page_size() const { return static_cast<size_t>(network_.head_size) * kPageTokens; }
  size_t page_stride() const { return page_size() * 2 * network_.kv_heads * network_.layers; }

  uint16_t* keys_of(int layer, int head) const {
    return batch_.cache + (static_cast<size_t>(layer) * 2 * network_.kv_heads + head) * page_size();
  }
  uint16_t* values_of(int layer, int head) const {
    return keys_of(layer, head) + network_.kv_heads * page_size();
  }

  void store_row(const float* vectors, int row, int layer) {
    const ThermeshSpan& span = batch_.spans[workspace_.span_of_row[row]];
    const int index = span.context_length - span.count + row - span.start;
    const size_t page = batch_.pages[span.first_page + index / kPageTokens] * page_stride();
    const int slot = index % kPageTokens, size = network_.head_size;
    uint16_t halves[kMaxHeadSize];
    for (int head = 0; head < network_.kv_heads; ++head) {
      uint16_t* keys = keys_of(layer, head) + page;
      tier_.to_half(vectors + query_size_ + head * size, size, halves);
      for (int i = 0; i < size; ++i) keys[i * kPageTokens + slot] = halves[i];
      uint16_t* values = values_of(layer, head) + page;
      tier_.to_half(vectors + query_size_ + key_size_ + head * size, size, halves);
      for (int i = 0; i < size; i += kLanes) {
        std::memcpy(values + (i + slot) * kLanes, halves + i, kLanes * sizeof(uint16_t));
      }
    }
  }

  void plan_attention() {
    workspace_.tasks.clear();
    workspace_.merges.clear();
    workspace_.span_of_row.resize(batch_.tokens);
    const int group = network_.heads / network_.kv_heads;
    const int most = std::max(1, kTaskRows / group);
    int partials = 0;
    for (int index = 0; index < batch_.span_count; ++index) {
      const ThermeshSpan& span = batch_.spans[index];
      std::fill_n(workspace_.span_of_row.begin() + span.start, span.count, index);
      for (int first = 0; first < span.count; first += most) {
        const int queries = std::min(most, span.count - first);
        const int end = span.context_length - span.count + first + queries;
        for (int head = 0; head < network_.kv_heads; ++head) {
          plan_task({index, head, first, queries, 0, end, -1}, &partials);
        }
      }
    }
    if (partials > 0) {
      const size_t rows = static_cast<size_t>(partials) * most * group;
      partial_ = workspace_.partials.room<float>(rows * (kMaxHeadSize + 2));
      partial_rows_ = most * group;
    }
  }

  // Where few tasks would leave threads idle, each range of a long context
  // becomes a task of its own. The result is the same, bit for bit: a task over
  // all ranges merges them in the same order.
  void plan_task(const Task& task, int* partials) {
    const bool is_few = batch_.tokens < 2 * pool_.threads();
    if (pool_.threads() == 1 || !is_few || task.end <= kRange) {
      workspace_.tasks.push_back(task);
      return;
    }
    Task merge = task;
    merge.partial = *partials;
    workspace_.merges.push_back(merge);
    for (int begin = 0; begin < task.end; begin += kRange) {
      Task range = task;
      range.begin = begin;
      range.end = std::min(begin + kRange, task.end);
      range.partial = (*partials)++;
      workspace_.tasks.push_back(range);
    }
  }

  void attend(int layer) {
    const std::vector<Task>& tasks = workspace_.tasks;
    pool_.run(static_cast<int>(tasks.size()), [&](int index) { attend_task(tasks[index], layer); });
    for (const Task& task : workspace_.merges) merge_partials(task);
  }

  void attend_task(const Task& task, int layer) {
    alignas(64) float queries[kTaskRowsMax * kMaxHeadSize];
    int32_t limits[kTaskRowsMax];
    const ThermeshSpan& span = batch_.spans[task.span];
    const int rows = gather_queries(task, queries, limits);
    const Attention attention{queries, limits, rows, network_.head_size,
                              keys_of(layer, task.kv_head), values_of(layer, task.kv_head),
                              page_stride(), batch_.pages + span.first_page, task.begin, task.end};
    if (task.partial >= 0) {
      tier_.attend(attention, partial(task.partial));
      return;
    }
    alignas(64) float out[kTaskRowsMax * kMaxHeadSize];
    float top[kTaskRowsMax], total[kTaskRowsMax];
    const Attended all{out, top, total};
    attend_ranges(attention, task.end, all);
    scatter(task, all);
  }

  void attend_ranges(Attention attention, int end, const Attended& all) {
    attention.end = std::min(kRange, end);
    tier_.attend(attention, all);
    if (end <= kRange) return;
    alignas(64) float out[kTaskRowsMax * kMaxHeadSize];
    float top[kTaskRowsMax], total[kTaskRowsMax];
    const Attended part{out, top, total};
    for (attention.begin = kRange; attention.begin < end; attention.begin += kRange) {
      attention.end = std::min(attention.begin + kRange, end);
      tier_.attend(attention, part);
      tier_.merge(part, attention.rows, network_.head_size, all);
    }
  }

  // The query heads that share the task's key-value head, query by query.
  int gather_queries(const Task& task, float* queries, int32_t* limits) {
    const ThermeshSpan& span = batch_.spans[task.span];
    const int group = network_.heads / network_.kv_heads, size = network_.head_size;
    int count = 0;
    for (int query = task.first_query; query < task.first_query + task.queries; ++query) {
      const float* vectors = joined_ + static_cast<size_t>(span.start + query) * joined_size_;
      for (int i = 0; i < group; ++i, ++count) {
        std::memcpy(queries + count * kMaxHeadSize, vectors + (task.kv_head * group + i) * size,
                    size * sizeof(float));
        limits[count] = span.context_length - span.count + query + 1;
      }
    }
    return count;
  }

  void scatter(const Task& task, const Attended& result) {
    const ThermeshSpan& span = batch_.spans[task.span];
    const int group = network_.heads / network_.kv_heads, size = network_.head_size;
    int count = 0;
    for (int query = task.first_query; query < task.first_query + task.queries; ++query) {
      float* vectors = attended_ + static_cast<size_t>(span.start + query) * query_size_;
      for (int i = 0; i < group; ++i, ++count) {
        const float share = 1.0f / result.total[count];
        const float* from = result.out + count * kMaxHeadSize;
        float* to = vectors + (task.kv_head * group + i) * size;
        for (int channel = 0; channel < size; ++channel) to[channel] = from[channel] * share;
      }
    }
  }

  Attended partial(int index) const {
    float* start = partial_ + static_cast<size_t>(index) * partial_rows_ * (kMaxHeadSize + 2);
    float* top = start + static_cast<size_t>(partial_rows_) * kMaxHeadSize;
    return {start, top, top + partial_rows_};
  }

  void merge_partials(const Task& task) {
    const int rows = task.queries * (network_.heads / network_.kv_heads);
    const Attended all = partial(task.partial);
    for (int index = 1; index < ceil_div(task.end, kRange); ++index) {
      tier_.merge(partial(task.partial + index), rows, network_.head_size, all);
    }
    scatter(task, all);
  }

  void add_attention(const ThermeshLayer& layer) {
    const Panels panels = quantised(attended_, query_size_, kAttendedOutlier);
    const Output output{&layer.attention_output, layer.attention_output_bias, hidden_,
                        static_cast<size_t>(network_.hidden_size), true};
    linear(panels, &output, 1, tier_, pool_);
  }

  void add_feed_forward(const ThermeshLayer& layer) {
    gate_up(normalised(layer.feed_forward_norm), layer.gate, layer.up, gated_, tier_, pool_);
    const Panels panels = quantised(gated_, network_.intermediate_size, kGatedOutlier);
    const Output output{&layer.down, nullptr, hidden_, static_cast<size_t>(network_.hidden_size),
                        true};
    linear(panels, &output, 1, tier_, pool_);
  }

  void write_logits() {
    const Panels panels{panel_, batch_.outputs, network_.hidden_size / kBlock};
    for_rows(batch_.outputs, [&](int row) {
      normalise_row(panels, row, batch_.output_rows[row], network_.norm, kHeadOutlier);
    });
    const Output output{&network_.head, nullptr, batch_.logits,
                        static_cast<size_t>(network_.vocabulary_size), false};
    linear(panels, &output, 1, tier_, pool_);
  }

  // One query of many heads may be more rows than kTaskRows.
  static constexpr int kTaskRowsMax = 64;

  const ThermeshNetwork& network_;
  const ThermeshBatch& batch_;
  const Tier& tier_;
  Workspace& workspace_;
  Pool& pool_;
  int query_size_, key_size_, joined_size_;
  float *hidden_, *normed_, *gated_, *joined_, *attended_, *cosines_, *sines_, *partial_ = nullptr;
  uint8_t* panel_;
  int partial_rows_ = 0;
};

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

const char* problem_of(const ThermeshBatch& batch, const ThermeshSpan& span, int64_t next) {
  if (span.start != next || span.count < 1) return "spans must lie end to end";
  if (span.context_length < span.count) return "a context is shorter than its new tokens";
  if (span.first_page < 0 || span.page_count < 0 ||
      static_cast<int64_t>(span.first_page) + span.page_count > batch.page_entries) {
    return "a page table lies outside the pages";
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
      !batch.output_rows || !batch.logits || !batch.cache) {
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
    if (const char* problem = problem_of(batch, batch.spans[i], next)) return problem;
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

void run_step(const ThermeshNetwork& network, const ThermeshBatch& batch, const Tier& tier,
              Workspace& workspace) {
  workspace.pool.resize(batch.threads);
  Step(network, batch, tier, workspace).run();
}

void multiply(const ThermeshMatrix& matrix, const float* x, int rows, float outlier, float* out,
              const Tier& tier, Workspace& workspace) {
  const Panels panels{workspace.panel.room<uint8_t>(Panels::bytes_for(rows, matrix.columns)), rows,
                      matrix.columns / kBlock};
  for (int row = 0; row < rows; ++row) {
    const int panel = row / kPanelRows;
    tier.quantise(x + static_cast<size_t>(row) * matrix.columns, panels.blocks, outlier,
                  panels.at(panel), panels.rows_of(panel), row % kPanelRows);
  }
  const Output output{&matrix, nullptr, out, static_cast<size_t>(matrix.rows), false};
  linear(panels, &output, 1, tier, workspace.pool);
}

}  // namespace thermesh
