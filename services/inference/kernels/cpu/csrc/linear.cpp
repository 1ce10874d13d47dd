#include "linear.h"

namespace thermesh {
namespace {

// Rows of tiles of gate and up whose outputs are joined while they are at hand.
constexpr int kJoined = 4;

// Rows [first, first + count) of a run, and what is fetched while they are multiplied.
struct Rows {
  const Run* run;
  int first, count;
  Errand* errand;

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
          target.adds,
          rows.errand};
}

void compute(const Product& task, const Rows& rows, const Tier& tier) {
  (rows.run->is_prompt ? tier.prompts->product : tier.product)(task);
}

// The last tile row has fewer outputs than lanes.
void multiply_narrow(const Product& task, const Rows& rows, int width, const Tier& tier) {
  alignas(64) float lanes[kRowsAtOnce * kLanes];
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

// The first of `tiles` tile rows that part `part` of `parts` has.
int first_of(int part, int parts, int tiles) {
  const int64_t groups = ceil_div(tiles, kTilesTogether);
  return std::min(static_cast<int>(groups * part / parts) * kTilesTogether, tiles);
}

// How a product is cut into chunks for the pool. Rows of prompts are cut into the
// pool's shares, and each share's matrix into parts: so a thread multiplies the rows
// that it has normalised, and normalises those that it has multiplied. Of all other
// rows there are few, and each chunk has a part of the matrix.
class Cut {
 public:
  Cut(const Panels& panels, int units, const Pool& pool) : panels_(panels) {
    int longest = 0;
    for (const Run* run = panels.runs; run < panels.runs + panels.run_count; ++run) {
      if (run->is_prompt) longest = std::max(longest, run->count);
    }
    shares_ = std::clamp(longest / kFewestOfShare, 1, pool.shares());
    parts_ = std::max(1, chunks_for(units, pool) / shares_);
  }

  int chunks() const { return shares_ * parts_; }

  // What a chunk fetches while it multiplies its part of so many tile rows in all.
  Errand errand(int chunk, int tile_rows, const Foresight& upcoming, const Pool& pool) const {
    if (!upcoming) return {};
    const int tiles = ceil_div(tile_rows, chunks()) * panels_.blocks * panels_.runs->panels();
    return upcoming->errand(chunk, chunks(), tiles, pool.shares());
  }

  // Calls work(rows, first, last) for the tile rows of `tiles` that a chunk has.
  template <typename Work>
  void for_rows_of(int chunk, int tiles, Errand* errand, const Work& work) const {
    for (const Run* run = panels_.runs; run < panels_.runs + panels_.run_count; ++run) {
      if (run->is_prompt) {
        const int share = chunk / parts_, part = chunk % parts_;
        const int first = first_row(*run, share), end = first_row(*run, share + 1);
        for_rows_at_once({run, first, end - first, errand}, first_of(part, parts_, tiles),
                         first_of(part + 1, parts_, tiles), work);
      } else {
        for_rows_at_once({run, 0, run->count, errand}, first_of(chunk, chunks(), tiles),
                         first_of(chunk + 1, chunks(), tiles), work);
      }
    }
  }

 private:
  // Weights are dequantised for each share: with fewer rows that takes longer than
  // fetching these from another core.
  static constexpr int kFewestOfShare = 64;

  int first_row(const Run& run, int share) const {
    return std::min(run.panels() * share / shares_ * kPanelRows, run.count);
  }

  template <typename Work>
  static void for_rows_at_once(const Rows& all, int first_tile, int last_tile, const Work& work) {
    if (first_tile >= last_tile) return;
    for (int done = 0; done < all.count; done += kRowsAtOnce) {
      const int count = std::min(kRowsAtOnce, all.count - done);
      work(Rows{all.run, all.first + done, count, all.errand}, first_tile, last_tile);
    }
  }

  const Panels& panels_;
  int shares_, parts_;
};

// The activations of a feed-forward part on their way from gate and up to down.
struct Joint {
  const Panels& panels;
  const ThermeshMatrix &gate, &up;
  float* out;
  const Panels& next;
  const Tier& tier;

  // Outputs of tile rows [first, last), which are whole blocks of what comes next.
  void join(const Rows& rows, int first, int last) const {
    alignas(64) float gated[kRowsAtOnce * kJoined * kLanes], raised[kRowsAtOnce * kJoined * kLanes];
    const size_t width = static_cast<size_t>(last - first) * kLanes;
    compute(product_of(panels, rows, gate, first, last, {gated, width, false}), rows, tier);
    compute(product_of(panels, rows, up, first, last, {raised, width, false}), rows, tier);
    for (int r = 0; r < rows.count; ++r) {
      put(gated + r * width, raised + r * width, rows, r, first * kLanes, static_cast<int>(width));
    }
  }

  void put(float* own, const float* raised, const Rows& rows, int r, int column, int width) const {
    if (rows.run->is_prompt) {
      const int row = rows.first + r;
      uint8_t* panel = next.at(*rows.run, row / kPanelRows);
      panel += column / kBlock * tier.prompts->block_bytes;
      tier.prompts->enter_gated(own, raised, width / kBlock, panel, row % kPanelRows);
    } else {
      const size_t row = rows.first_in_step() + r;
      tier.silu_mul(own, raised, width);
      std::copy_n(own, width, out + row * gate.rows + column);
    }
  }
};

// Computes tile rows [first, last), counted through all outputs.
void multiply_all(const Panels& panels, const Rows& rows, const Output* outputs, int count,
                  int first, int last, const Tier& tier) {
  for (const Output* output = outputs; last > 0 && output < outputs + count; ++output) {
    const int own = tiles_of(*output->matrix);
    const Tiles part{output, std::max(first, 0), std::min(last, own)};
    if (part.first < part.last) multiply(panels, rows, part, tier);
    first -= own;
    last -= own;
  }
}

}  // namespace

void linear(const Panels& panels, const Output* outputs, int count, const Tier& tier, Pool& pool,
            const Foresight& upcoming) {
  int tiles = 0;
  for (int i = 0; i < count; ++i) tiles += tiles_of(*outputs[i].matrix);
  const Cut cut(panels, tiles, pool);
  pool.run(cut.chunks(), [&](int chunk) {
    Errand errand = cut.errand(chunk, tiles, upcoming, pool);
    cut.for_rows_of(chunk, tiles, &errand, [&](const Rows& rows, int first, int last) {
      multiply_all(panels, rows, outputs, count, first, last, tier);
    });
  });
}

void gate_up(const Panels& panels, const ThermeshMatrix& gate, const ThermeshMatrix& up,
             float* out, const Panels& next, const Tier& tier, Pool& pool,
             const Foresight& upcoming) {
  const int tiles = tiles_of(gate);
  const Joint joint{panels, gate, up, out, next, tier};
  const Cut cut(panels, tiles, pool);
  pool.run(cut.chunks(), [&](int chunk) {
    Errand errand = cut.errand(chunk, 2 * tiles, upcoming, pool);
    cut.for_rows_of(chunk, tiles, &errand, [&](const Rows& rows, int first, int end) {
      for (; first < end; first += kJoined) joint.join(rows, first, std::min(first + kJoined, end));
    });
  });
}

}  // namespace thermesh
