#include "linear.h"

namespace thermesh {
namespace {

// Rows of tiles of gate and up whose outputs are joined while they are at hand.
constexpr int kJoined = 4;
constexpr int kMostRows = std::max(kRowsAtOnce, kPromptRowsAtOnce);

// Rows [first, first + count) of a run.
struct Rows {
  const Run* run;
  int first, count;

  int first_in_step() const { return run->first + first; }
};

// Tile rows [first, last) of one output's matrix.
struct Tiles {
  const Output* output;
  int first, last;
};

// Where a product goes.
struct Target {
  float* out;
  size_t stride;
  bool adds;
};

// Tile rows [first, last) of a matrix times some rows.
Product product_of(const Panels& panels, const Rows& rows, const ThermeshMatrix& matrix, int first,
                   int last, const Target& target) {
  return {matrix.kind,
          last - first,
          rows.count,
          panels.blocks,
          tile_row(matrix, first),
          panels.at(*rows.run, rows.first / kPanelRows),
          target.out,
          target.stride,
          target.adds};
}

void compute(const Product& task, const Rows& rows, const Tier& tier) {
  (rows.run->is_prompt ? tier.prompt_product : tier.product)(task);
}

// The last tile row has fewer outputs than lanes.
void multiply_narrow(const Product& task, const Rows& rows, int width, const Tier& tier) {
  alignas(64) float lanes[kMostRows * kLanes];
  Product narrow = task;
  narrow.out = lanes;
  narrow.stride = kLanes;
  narrow.adds = false;
  compute(narrow, rows, tier);
  for (int r = 0; r < task.rows; ++r) {
    for (int i = 0; i < width; ++i) {
      float& place = task.out[r * task.stride + i];
      place = lanes[r * kLanes + i] + (task.adds ? place : 0.0f);
    }
  }
}

void add_bias(const Tiles& tiles, const Rows& rows) {
  const Output& output = *tiles.output;
  const int last = std::min(tiles.last * kLanes, output.matrix->rows);
  for (int r = 0; r < rows.count; ++r) {
    float* out = output.out + (rows.first_in_step() + r) * output.stride;
    for (int i = tiles.first * kLanes; i < last; ++i) out[i] += output.bias[i];
  }
}

void multiply(const Panels& panels, const Rows& rows, const Tiles& tiles, const Tier& tier) {
  const Output& output = *tiles.output;
  const ThermeshMatrix& matrix = *output.matrix;
  const auto part = [&](int first, int last) {
    float* out = output.out + rows.first_in_step() * output.stride + first * kLanes;
    return product_of(panels, rows, matrix, first, last, {out, output.stride, output.adds});
  };
  const int whole = std::min(tiles.last, matrix.rows / kLanes);
  if (whole > tiles.first) compute(part(tiles.first, whole), rows, tier);
  if (whole < tiles.last) {
    multiply_narrow(part(whole, tiles.last), rows, matrix.rows % kLanes, tier);
  }
  if (output.bias) add_bias(tiles, rows);
}

template <typename Work>
void for_rows_at_once(const Panels& panels, const Work& work) {
  for (const Run* run = panels.runs; run < panels.runs + panels.run_count; ++run) {
    const int most = run->is_prompt ? kPromptRowsAtOnce : kRowsAtOnce;
    for (int first = 0; first < run->count; first += most) {
      work(Rows{run, first, std::min(most, run->count - first)});
    }
  }
}

// The first of `tiles` tile rows that chunk `chunk` of `chunks` has.
int first_of(int chunk, int chunks, int tiles) {
  const int64_t groups = ceil_div(tiles, kTilesTogether);
  return std::min(static_cast<int>(groups * chunk / chunks) * kTilesTogether, tiles);
}

// The activations of a feed-forward part on their way from gate and up to down.
struct Joint {
  const Panels& panels;
  const ThermeshMatrix &gate, &up;
  float* out;
  const Panels& next;
  const Tier& tier;

  // Outputs of tile rows [first, last), which are whole blocks of what comes next.
  void join(const Rows& rows, int first, int last) const {
    alignas(64) float gated[kMostRows * kJoined * kLanes], raised[kMostRows * kJoined * kLanes];
    const size_t width = static_cast<size_t>(last - first) * kLanes;
    compute(product_of(panels, rows, gate, first, last, {gated, width, false}), rows, tier);
    compute(product_of(panels, rows, up, first, last, {raised, width, false}), rows, tier);
    for (int r = 0; r < rows.count; ++r) {
      float* own = gated + r * width;
      tier.silu_mul(own, raised + r * width, static_cast<int>(width));
      put(own, rows, r, first * kLanes, static_cast<int>(width));
    }
  }

  void put(const float* own, const Rows& rows, int r, int column, int width) const {
    if (rows.run->is_prompt) {
      const int row = rows.first + r;
      uint8_t* panel = next.at(*rows.run, row / kPanelRows);
      tier.to_bfloat16(own, width / kBlock, panel + column / kBlock * kPromptBlockBytes,
                       row % kPanelRows);
    } else {
      const size_t row = rows.first_in_step() + r;
      std::copy_n(own, width, out + row * gate.rows + column);
    }
  }
};

}  // namespace

void linear(const Panels& panels, const Output* outputs, int count, const Tier& tier, Pool& pool) {
  int tiles = 0;
  for (int i = 0; i < count; ++i) tiles += tiles_of(*outputs[i].matrix);
  const int chunks = chunks_for(tiles, pool);
  pool.run(chunks, [&](int chunk) {
    int first = first_of(chunk, chunks, tiles), last = first_of(chunk + 1, chunks, tiles);
    for (const Output* output = outputs; last > 0 && output < outputs + count; ++output) {
      const int own = tiles_of(*output->matrix);
      const Tiles part{output, std::max(first, 0), std::min(last, own)};
      if (part.first < part.last) {
        for_rows_at_once(panels, [&](const Rows& rows) { multiply(panels, rows, part, tier); });
      }
      first -= own;
      last -= own;
    }
  });
}

void gate_up(const Panels& panels, const ThermeshMatrix& gate, const ThermeshMatrix& up,
             float* out, const Panels& next, const Tier& tier, Pool& pool) {
  const int tiles = tiles_of(gate);
  const int chunks = chunks_for(tiles, pool);
  const Joint joint{panels, gate, up, out, next, tier};
  pool.run(chunks, [&](int chunk) {
    const int end = first_of(chunk + 1, chunks, tiles);
    for (int first = first_of(chunk, chunks, tiles); first < end; first += kJoined) {
      const int last = std::min(first + kJoined, end);
      for_rows_at_once(panels, [&](const Rows& rows) { joint.join(rows, first, last); });
    }
  });
}

}  // namespace thermesh
