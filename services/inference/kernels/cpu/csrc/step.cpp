#include "step.h"

#include <algorithm>
#include <cmath>

#include "attention.h"
#include "linear.h"
#include "pack.h"

namespace thermesh {

namespace {

// A step's state; each method is one phase of a layer.
class Step {
 public:
  Step(const ThermeshNetwork& network, const ThermeshBatch& batch, const Tier& tier,
       Workspace& workspace)
      : network_(network), batch_(batch), tier_(tier), pool_(workspace.pool),
        attention_(network, batch, tier, workspace.attention, pool_) {
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
  }

  void run() {
    begin();
    for (int index = 0; index < network_.layers; ++index) {
      const ThermeshLayer& layer = network_.layer[index];
      project(layer);
      rotate_and_store(layer, index);
      attention_.attend(index, joined_, joined_size_, attended_);
      add_attention(layer);
      add_feed_forward(layer);
    }
    write_logits();
  }

 private:
  // Calls work(row) for every row; in parallel where there are more than a few.
  template <typename Work>
  void for_rows(int rows, const Work& work) {
    constexpr int kFewRows = 4;
    pool_.run(ceil_div(rows, kFewRows), [&](int chunk) {
      const int end = std::min((chunk + 1) * kFewRows, rows);
      for (int row = chunk * kFewRows; row < end; ++row) work(row);
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
    for_rows(batch_.tokens, [&](int row) {
      normalise_row(panels, row, row, weight, network_.normed_outlier);
    });
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
      attention_.store(index, row, vectors + query_size_, vectors + query_size_ + key_size_);
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

  void add_attention(const ThermeshLayer& layer) {
    const Panels panels = quantised(attended_, query_size_, network_.attended_outlier);
    const Output output{&layer.attention_output, layer.attention_output_bias, hidden_,
                        static_cast<size_t>(network_.hidden_size), true};
    linear(panels, &output, 1, tier_, pool_);
  }

  void add_feed_forward(const ThermeshLayer& layer) {
    gate_up(normalised(layer.feed_forward_norm), layer.gate, layer.up, gated_, tier_, pool_);
    const Panels panels = quantised(gated_, network_.intermediate_size, network_.gated_outlier);
    const Output output{&layer.down, nullptr, hidden_, static_cast<size_t>(network_.hidden_size),
                        true};
    linear(panels, &output, 1, tier_, pool_);
  }

  void write_logits() {
    const Panels panels{panel_, batch_.outputs, network_.hidden_size / kBlock};
    for_rows(batch_.outputs, [&](int row) {
      const int from = batch_.output_rows[row];
      normalise_row(panels, row, from, network_.norm, network_.head_outlier);
    });
    const Output output{&network_.head, nullptr, batch_.logits,
                        static_cast<size_t>(network_.vocabulary_size), false};
    linear(panels, &output, 1, tier_, pool_);
  }

  const ThermeshNetwork& network_;
  const ThermeshBatch& batch_;
  const Tier& tier_;
  Pool& pool_;
  PagedAttention attention_;
  int query_size_, key_size_, joined_size_;
  float *hidden_, *normed_, *gated_, *joined_, *attended_, *cosines_, *sines_;
  uint8_t* panel_;
};

}  // namespace

void run_step(const ThermeshNetwork& network, const ThermeshBatch& batch, const Tier& tier,
              Workspace& workspace) {
  workspace.pool.begin(batch.threads);
  Step(network, batch, tier, workspace).run();
  workspace.pool.end();
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
