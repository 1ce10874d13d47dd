#include "linear.h"

namespace thermesh {
namespace {

// Rows of tiles of gate and up whose outputs are joined while they are at hand.
constexpr int kJoined = 4;

// Rows [first, first + count) of the activations.
struct Rows {
  int first, count;
};

// Tile rows [first, last) of one output's matrix.
struct Tiles {
  const Output* output;
  int first, last;
};

Product product_of(const Panels& panels, Rows rows, const Tiles& tiles) {
  const ThermeshMatrix& matrix = *tiles.output->matrix;
  return {matrix.kind,
          tiles.last - tiles.first,
          rows.count,
          panels.blocks,
          tile_row(matrix, tiles.first),
          panels.at(rows.first / kPanelRows),
          tiles.output->out + rows.first * tiles.output->stride + tiles.first * kLanes,
          tiles.output->stride,
          tiles.output->adds};
}

// The last tile row has fewer outputs than lanes.
void multiply_narrow(const Product& task, int width, const Tier& tier) {
  alignas(64) float lanes[kRowsAtOnce * kLanes];
  Product narrow = task;
  narrow.out = lanes;
  narrow.stride = kLanes;
  narrow.adds = false;
  tier.product(narrow);
  for (int r = 0; r < task.rows; ++r) {
    for (int i = 0; i < width; ++i) {
      float& place = task.out[r * task.stride + i];
      place = lanes[r * kLanes + i] + (task.adds ? place : 0.0f);
    }
  }
}

void add_bias(const Tiles& tiles, Rows rows) {
  const Output& output = *tiles.output;
  const int last = std::min(tiles.last * kLanes, output.matrix->rows);
  for (int r = rows.first; r < rows.first + rows.count; ++r) {
    float* out = output.out + r * output.stride;
    for (int i = tiles.first * kLanes; i < last; ++i) out[i] += output.bias[i];
  }
}

void multiply(const Panels& panels, Rows rows, const Tiles& tiles, const Tier& tier) {
  const int whole = std::min(tiles.last, tiles.output->matrix->rows / kLanes);
  if (whole > tiles.first) tier.product(product_of(panels, rows, {tiles.output, tiles.first, whole}));
  if (whole < tiles.last) {
    multiply_narrow(product_of(panels, rows, {tiles.output, whole, tiles.last}),
                    tiles.output->matrix->rows % kLanes, tier);
  }
  if (tiles.output->bias) add_bias(tiles, rows);
}

template <typename Work>
void for_rows_at_once(int rows, const Work& work) {
  for (int first = 0; first < rows; first += kRowsAtOnce) {
    work(Rows{first, std::min(kRowsAtOnce, rows - first)});
  }
}

}  // namespace

void linear(const Panels& panels, const Output* outputs, int count, const Tier& tier, Pool& pool) {
  int tiles = 0;
  for (int i = 0; i < count; ++i) tiles += tiles_of(*outputs[i].matrix);
  const int chunks = chunks_for(tiles, pool);
  pool.run(chunks, [&](int chunk) {
    int first = static_cast<int>(static_cast<int64_t>(tiles) * chunk / chunks);
    int last = static_cast<int>(static_cast<int64_t>(tiles) * (chunk + 1) / chunks);
    for (const Output* output = outputs; last > 0 && output < outputs + count; ++output) {
      const int own = tiles_of(*output->matrix);
      const Tiles part{output, std::max(first, 0), std::min(last, own)};
      if (part.first < part.last) {
        for_rows_at_once(panels.rows, [&](Rows rows) { multiply(panels, rows, part, tier); });
      }
      first -= own;
      last -= own;
    }
  });
}

void gate_up(const Panels& panels, const ThermeshMatrix& gate, const ThermeshMatrix& up,
             float* out, const Tier& tier, Pool& pool) {
  const int tiles = tiles_of(gate);
  const size_t stride = gate.rows;
  const int chunks = chunks_for(tiles, pool);
  pool.run(chunks, [&](int chunk) {
    alignas(64) float raised[kRowsAtOnce * kJoined * kLanes];
    const int end = tiles * (chunk + 1) / chunks;
    for (int first = tiles * chunk / chunks; first < end; first += kJoined) {
      const int last = std::min(first + kJoined, end), width = (last - first) * kLanes;
      const Output gated{&gate, nullptr, out, stride, false};
      for_rows_at_once(panels.rows, [&](Rows rows) {
        multiply(panels, rows, {&gated, first, last}, tier);
        Product task = product_of(panels, rows, {&gated, first, last});
        task.kind = up.kind;
        task.tiles = tile_row(up, first);
        float* place = task.out;
        task.out = raised;
        task.stride = width;
        tier.product(task);
        for (int r = 0; r < rows.count; ++r) {
          tier.silu_mul(place + r * stride, raised + r * width, width);
        }
      });
    }
  });
}

}  // namespace thermesh
