#include "step.h"

#include <algorithm>
#include <cmath>

#include "attention.h"
#include "linear.h"
#include "pack.h"
#include "runs.h"

namespace thermesh {

namespace {

// Rows that one thread computes sooner than two.
constexpr int kFewRows = 4;

// Who fetches how much of what the next attention begins with: as long as they take.
constexpr Tenths kByGateUp{0, 5}, kByDown{5, 8}, kByQueries{8, 10};

// Blocks [first, last) of a row.
struct Blocks {
  int first, last;
};

// Writes blocks of row `row` of a run, which begin at `x`, to its panel. Whether a block has
// an outlier is asked of all of them.
void enter_row(const Panels& panels, const Run& run, int row, const Blocks& part, const float* x,
               float outlier, const Tier& tier) {
  const int panel = row / kPanelRows, place = row % kPanelRows, rows = run.rows_of(panel);
  uint8_t* bytes = panels.at(run, panel);
  if (run.is_prompt) {
    const Prompts& prompts = *tier.prompts;
    prompts.enter(x, part.last - part.first, bytes + part.first * prompts.block_bytes, place);
  } else {
    tier.quantise(x, part.last - part.first, outlier,
                  bytes + part.first * panel_block_bytes(rows), rows, place);
  }
}

// A step's state; each method is one phase of a layer.
class Step {
 public:
  Step(const ThermeshNetwork& network, const ThermeshBatch& batch, const Tier& tier,
       Workspace& workspace)
      : network_(network), batch_(batch), tier_(tier), workspace_(workspace),
        pool_(workspace.pool),
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
    find_runs(batch, tier, workspace.runs);
    runs_ = workspace.runs.data();
    run_count_ = static_cast<int>(workspace.runs.size());
    panel_ = workspace.panel.room<uint8_t>(Panels::bytes_for(runs_, run_count_, widest));
    next_panel_ = workspace.next_panel.room<uint8_t>(
        Panels::bytes_for(runs_, run_count_, network.intermediate_size));
    cosines_ = workspace.cosines.room<float>(rows * network.head_size / 2);
    sines_ = workspace.sines.room<float>(rows * network.head_size / 2);
  }

  void run() {
    begin();
    const int last = network_.layers - 1;
    for (int index = 0; index < last; ++index) {
      begin_layer(index);
      end_layer(index);
    }
    begin_layer(last);
    // Of all other rows nobody wants more than keys and values.
    Narrowed& asked = workspace_.asked;
    narrow(batch_, asked);
    if (asked.batch.tokens == batch_.tokens) return end();
    move_rows(asked.rows);
    Step(network_, asked.batch, tier_, workspace_).end();
  }

 private:
  // Up to where a row's queries are known, and its keys and values stored.
  void begin_layer(int index) {
    const ThermeshLayer& layer = network_.layer[index];
    project(layer, index);
    rotate_and_store(layer, index);
    attention_.summarise(index);
  }

  void end_layer(int index) {
    const ThermeshLayer& layer = network_.layer[index];
    attention_.attend(index, joined_, joined_size_, attended_);
    add_attention(layer);
    add_feed_forward(layer, index);
  }

  void end() {
    end_layer(network_.layers - 1);
    write_logits();
  }

  // Row i is what row rows[i] was, which is i or a later one.
  void move_rows(const std::vector<int32_t>& rows) {
    for (size_t i = 0; i < rows.size(); ++i) {
      const size_t size = network_.hidden_size, from = rows[i];
      std::copy_n(hidden_ + from * size, size, hidden_ + i * size);
      std::copy_n(joined_ + from * joined_size_, query_size_, joined_ + i * joined_size_);
    }
  }

  // Calls work(row) for every row; in parallel where there are more than a few. Many
  // are cut as the products of prompts are, and so that rows whose keys share cache
  // lines are stored by one thread.
  template <typename Work>
  void for_rows(int rows, const Work& work) {
    const int together = rows > 2 * kPanelRows ? kPanelRows : kFewRows;
    pool_.run(ceil_div(rows, together), [&](int chunk) {
      const int end = std::min((chunk + 1) * together, rows);
      for (int row = chunk * together; row < end; ++row) work(row);
    });
  }

  // Calls work(row, blocks) for every row on its way to a panel. Rows of one panel share
  // cache lines, and two threads that write these wait for each other longer than they
  // compute: so each has some blocks of all rows. Not where outliers are looked for, which
  // takes whole rows.
  template <typename Work>
  void for_blocks(int rows, int blocks, float outlier, const Work& work) {
    if (rows <= kFewRows || rows > kPanelRows || outlier > 0) {
      return for_rows(rows, [&](int row) { work(row, Blocks{0, blocks}); });
    }
    const int parts = std::min(blocks, 2 * pool_.threads());
    pool_.run(parts, [&](int part) {
      const Blocks own{blocks * part / parts, blocks * (part + 1) / parts};
      for (int row = 0; row < rows; ++row) work(row, own);
    });
  }

  Panels panels_of(int columns) const {
    return {panel_, runs_, run_count_, columns / kBlock, tier_.prompt_block_bytes()};
  }

  // Writes blocks of row `row` of the step, which begin at `x`, to its panel.
  void enter(const Panels& panels, int row, const Blocks& part, const float* x, float outlier) {
    const Run* run = panels.runs;
    while (row >= run->first + run->count) ++run;
    enter_row(panels, *run, row - run->first, part, x, outlier, tier_);
  }

  // x is [rows][columns].
  Panels entered(const float* x, int columns, float outlier) {
    const Panels panels = panels_of(columns);
    for_blocks(batch_.tokens, panels.blocks, outlier, [&](int row, const Blocks& part) {
      const float* own = x + static_cast<size_t>(row) * columns;
      enter(panels, row, part, own + part.first * kBlock, outlier);
    });
    return panels;
  }

  // What is fetched for the attention of `layer` by products that have time for it.
  Foresight upcoming(int layer, const Tenths& part) const {
    const bool has_time = run_count_ == 1 && !runs_->is_prompt && runs_->count >= tier_.errand_rows;
    if (!has_time || layer == 0) return {};
    return attention_.upcoming(layer, part);
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
    const Panels panels = panels_of(network_.hidden_size);
    const float outlier = network_.normed_outlier;
    for_blocks(batch_.tokens, panels.blocks, outlier, [&](int row, const Blocks& part) {
      normalise(panels, row, part, row, weight, outlier);
    });
    return panels;
  }

  // Blocks of row `from` go to row `row` of the panels.
  void normalise(const Panels& panels, int row, const Blocks& part, int from, const float* weight,
                 float outlier) {
    const size_t size = network_.hidden_size, first = part.first * kBlock;
    const float* x = hidden_ + from * size;
    float* normed = normed_ + row * size + first;
    const float factor = tier_.inverse_rms(x, network_.rms_epsilon, network_.hidden_size);
    tier_.weigh_by(x + first, weight + first, factor, (part.last - part.first) * kBlock, normed);
    enter(panels, row, part, normed, outlier);
  }

  void project(const ThermeshLayer& layer, int index) {
    const Panels panels = normalised(layer.attention_norm);
    const float* bias = layer.query_key_value_bias;
    const size_t stride = joined_size_;
    const int key_start = query_size_, value_start = query_size_ + key_size_;
    const Output outputs[] = {
        {&layer.query, bias, joined_, stride, false},
        {&layer.key, bias ? bias + key_start : bias, joined_ + key_start, stride, false},
        {&layer.value, bias ? bias + value_start : bias, joined_ + value_start, stride, false},
    };
    linear(panels, outputs, 3, tier_, pool_, upcoming(index, kByQueries));
  }

  // Queries and keys turn with their positions, and what a cache of codes keeps so that it has
  // no outliers; queries also take the scale of attention, keys and values go to the cache.
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
      tier_.hadamard(vectors, size, turned_heads(batch_.cache_kind));
      attention_.store(index, row, vectors + query_size_, vectors + query_size_ + key_size_);
    });
  }

  // Heads of a row, queries before keys and values, that turn.
  int turned_heads(int32_t kind) const {
    if (!turns_keys(kind)) return 0;
    return network_.heads + network_.kv_heads * (turns_values(kind) ? 2 : 1);
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
    const Panels panels = entered(attended_, query_size_, network_.attended_outlier);
    const Output output{&layer.attention_output, layer.attention_output_bias, hidden_,
                        static_cast<size_t>(network_.hidden_size), true};
    linear(panels, &output, 1, tier_, pool_, {});
  }

  void add_feed_forward(const ThermeshLayer& layer, int index) {
    const int size = network_.intermediate_size;
    const Panels panels{next_panel_, runs_, run_count_, size / kBlock,
                        tier_.prompt_block_bytes()};
    gate_up(normalised(layer.feed_forward_norm), layer.gate, layer.up, gated_, panels, tier_,
            pool_, upcoming(index + 1, kByGateUp));
    for (const Run* run = runs_; run < runs_ + run_count_; ++run) {
      if (run->is_prompt) continue;
      const float outlier = network_.gated_outlier;
      for_blocks(run->count, panels.blocks, outlier, [&](int row, const Blocks& part) {
        const float* own = gated_ + static_cast<size_t>(run->first + row) * size;
        enter_row(panels, *run, row, part, own + part.first * kBlock, outlier, tier_);
      });
    }
    const Output output{&layer.down, nullptr, hidden_, static_cast<size_t>(network_.hidden_size),
                        true};
    linear(panels, &output, 1, tier_, pool_, upcoming(index + 1, kByDown));
  }

  void write_logits() {
    // All kinds of rows alike: a head dequantised for one row would cost more than it does.
    const Run run{0, batch_.outputs, false, 0};
    const Panels panels{panel_, &run, 1, network_.hidden_size / kBlock, 0};
    const float outlier = network_.head_outlier;
    for_blocks(batch_.outputs, panels.blocks, outlier, [&](int row, const Blocks& part) {
      normalise(panels, row, part, batch_.output_rows[row], network_.norm, outlier);
    });
    const Output output{&network_.head, nullptr, batch_.logits,
                        static_cast<size_t>(network_.vocabulary_size), false};
    linear(panels, &output, 1, tier_, pool_, {});
  }

  const ThermeshNetwork& network_;
  const ThermeshBatch& batch_;
  const Tier& tier_;
  Workspace& workspace_;
  Pool& pool_;
  PagedAttention attention_;
  int query_size_, key_size_, joined_size_;
  float *hidden_, *normed_, *gated_, *joined_, *attended_, *cosines_, *sines_;
  const Run* runs_;
  int run_count_;
  uint8_t *panel_, *next_panel_;
};

}  // namespace

void run_step(const ThermeshNetwork& network, const ThermeshBatch& batch, const Tier& tier,
              Workspace& workspace) {
  workspace.pool.begin(batch.threads);
  Step(network, batch, tier, workspace).run();
  workspace.pool.end();
}

void multiply(const ThermeshMatrix& matrix, const float* x, int rows, float outlier,
              bool is_prompt, float* out, const Tier& tier, Workspace& workspace) {
  const Run run{0, rows, is_prompt && tier.prompts, 0};
  const size_t bytes = Panels::bytes_for(&run, 1, matrix.columns);
  const Panels panels{workspace.panel.room<uint8_t>(bytes), &run, 1, matrix.columns / kBlock,
                      tier.prompt_block_bytes()};
  for (int row = 0; row < rows; ++row) {
    enter_row(panels, run, row, {0, panels.blocks}, x + static_cast<size_t>(row) * matrix.columns,
              outlier, tier);
  }
  const Output output{&matrix, nullptr, out, static_cast<size_t>(matrix.rows), false};
  linear(panels, &output, 1, tier, workspace.pool, {});
}

}  // namespace thermesh
