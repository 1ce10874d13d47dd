#include "linear.h"

namespace thermesh {
namespace {

// Tile rows that share one pass over the panels: their codes stay in the second
// level cache while every panel comes by.
constexpr int kGroup = 4;

struct TileRow {
  const Output* output;
  int index;
};

TileRow find_tile_row(const Output* outputs, int position) {
  while (position >= tiles_of(*outputs->matrix)) position -= tiles_of(*outputs++->matrix);
  return {outputs, position};
}

// The last tile row may have fewer outputs than lanes.
void store_lanes(const float* lanes, int rows, int width, float* out, size_t stride, bool adds) {
  for (int r = 0; r < rows; ++r) {
    for (int i = 0; i < width; ++i) {
      float& place = out[r * stride + i];
      place = lanes[r * kLanes + i] + (adds ? place : 0.0f);
    }
  }
}

void add_bias(const float* bias, int rows, int width, float* out, size_t stride) {
  for (int r = 0; r < rows; ++r) {
    for (int i = 0; i < width; ++i) out[r * stride + i] += bias[i];
  }
}

void multiply_tile(const Panels& panels, int panel, const TileRow& tile, const Tier& tier) {
  const Output& output = *tile.output;
  const ThermeshMatrix& matrix = *output.matrix;
  const int rows = panels.rows_of(panel);
  const int width = std::min(kLanes, matrix.rows - tile.index * kLanes);
  float* out = output.out + static_cast<size_t>(panel) * kPanelRows * output.stride +
               tile.index * kLanes;
  const uint8_t* codes = tile_row(matrix, tile.index);
  if (width == kLanes) {
    tier.product(matrix.kind, codes, panels.at(panel), rows, panels.blocks, out, output.stride,
                 output.adds);
  } else {
    float lanes[kPanelRows * kLanes];
    tier.product(matrix.kind, codes, panels.at(panel), rows, panels.blocks, lanes, kLanes, false);
    store_lanes(lanes, rows, width, out, output.stride, output.adds);
  }
  if (output.bias) add_bias(output.bias + tile.index * kLanes, rows, width, out, output.stride);
}

void multiply_group(const Panels& panels, const Output* outputs, int first, int last,
                    const Tier& tier) {
  TileRow tiles[kGroup];
  for (int i = first; i < last; ++i) tiles[i - first] = find_tile_row(outputs, i);
  for (int panel = 0; panel < panels.count(); ++panel) {
    for (int i = 0; i < last - first; ++i) multiply_tile(panels, panel, tiles[i], tier);
  }
}

// 16 outputs of gate and up, for one panel.
void gate_up_tile(const Panels& panels, int panel, const ThermeshMatrix& gate,
                  const ThermeshMatrix& up, int index, float* out, const Tier& tier) {
  alignas(64) float raised[kPanelRows * kLanes];
  const int rows = panels.rows_of(panel);
  const size_t stride = gate.rows;
  float* gated = out + static_cast<size_t>(panel) * kPanelRows * stride + index * kLanes;
  tier.product(gate.kind, tile_row(gate, index), panels.at(panel), rows, panels.blocks, gated,
               stride, false);
  tier.product(up.kind, tile_row(up, index), panels.at(panel), rows, panels.blocks, raised, kLanes,
               false);
  for (int r = 0; r < rows; ++r) tier.silu_mul(gated + r * stride, raised + r * kLanes, kLanes);
}

}  // namespace

void linear(const Panels& panels, const Output* outputs, int count, const Tier& tier, Pool& pool) {
  int tiles = 0;
  for (int i = 0; i < count; ++i) tiles += tiles_of(*outputs[i].matrix);
  const int chunks = chunks_for(tiles, pool);
  pool.run(chunks, [&](int chunk) {
    const int end = static_cast<int>(static_cast<int64_t>(tiles) * (chunk + 1) / chunks);
    int first = static_cast<int>(static_cast<int64_t>(tiles) * chunk / chunks);
    for (; first < end; first += kGroup) {
      multiply_group(panels, outputs, first, std::min(first + kGroup, end), tier);
    }
  });
}

void gate_up(const Panels& panels, const ThermeshMatrix& gate, const ThermeshMatrix& up,
             float* out, const Tier& tier, Pool& pool) {
  const int tiles = tiles_of(gate);
  const int chunks = chunks_for(tiles, pool);
  pool.run(chunks, [&](int chunk) {
    const int end = tiles * (chunk + 1) / chunks;
    for (int first = tiles * chunk / chunks; first < end; first += kGroup / 2) {
      for (int panel = 0; panel < panels.count(); ++panel) {
        for (int index = first; index < std::min(first + kGroup / 2, end); ++index) {
          gate_up_tile(panels, panel, gate, up, index, out, tier);
        }
      }
    }
  });
}

}  // namespace thermesh
