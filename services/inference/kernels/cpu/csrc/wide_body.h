// Products with weights of sixteen bits of a tier, over its lanes; included by body.h,
// whose rules hold here too.
//
// Activations are those of all products, codes and fractions of a block's scale, spelled
// out as floats once for many rows of tiles. A sum has one order: columns of even and of
// odd places apart, in pieces.

// Blocks whose activations are spelled out at once: 32 kB for a pass.
constexpr int kWidePiece = 32;

template <int32_t kKind>
inline Lanes load_wide(const uint16_t* x) {
  return kKind == kF16 ? load_half(x) : load_bfloat16(x);
}

// Blocks [first, first + blocks) of row `row` of a product.
inline void spell_out(const Product& task, int row, int first, int blocks, float* x) {
  const int before = row / kPanelRows * kPanelRows;
  const int rows = task.rows - before < kPanelRows ? task.rows - before : kPanelRows;
  const size_t done = static_cast<size_t>(before) / kPanelRows * task.blocks;
  const uint8_t* panel = task.panels + done * panel_block_bytes(kPanelRows);
  for (int block = first; block < first + blocks; ++block, x += kBlock) {
    const uint8_t* own = panel + block * panel_block_bytes(rows);
    const float scale = reinterpret_cast<const float*>(own + scales_offset(rows))[row - before];
    const int8_t* codes = reinterpret_cast<const int8_t*>(own) + (row - before) * kRowBytes;
    for (int i = 0; i < kBlock; ++i) {
      x[i] = scale * kFraction * static_cast<float>(kParts * codes[i] + codes[kBlock + i]);
    }
  }
}

// Some blocks of one row of tiles times rows [kRows][kWidePiece * kBlock].
struct WidePass {
  const uint8_t* tile;
  const float* x;
  int blocks;
  float* out;
  size_t stride;
  bool adds;
};

template <int32_t kKind, int kRows>
inline void multiply_wide(const WidePass& pass) {
  constexpr int kTile = tile_bytes(kKind);
  Lanes sums[kRows][2];
  for (int r = 0; r < kRows; ++r) sums[r][0] = sums[r][1] = set1(0.0f);
  for (int block = 0; block < pass.blocks; ++block) {
    const uint8_t* tile = pass.tile + block * kTile;
    fetch_weights(tile, kTile);
    const uint16_t* weights = reinterpret_cast<const uint16_t*>(tile);
    const float* x = pass.x + block * kBlock;
    for (int i = 0; i < kBlock; i += 2) {
      const Lanes even = load_wide<kKind>(weights + i * kLanes);
      const Lanes odd = load_wide<kKind>(weights + (i + 1) * kLanes);
      for (int r = 0; r < kRows; ++r) {
        const float* own = x + r * kWidePiece * kBlock + i;
        sums[r][0] = fma(set1(own[0]), even, sums[r][0]);
        sums[r][1] = fma(set1(own[1]), odd, sums[r][1]);
      }
    }
  }
  for (int r = 0; r < kRows; ++r) {
    float* out = pass.out + r * pass.stride;
    const Lanes sum = add(sums[r][0], sums[r][1]);
    store(out, pass.adds ? add(load(out), sum) : sum);
  }
}

template <int32_t kKind, int kRows = kPassRows>
void wide_pass(const WidePass& pass, int rows) {
  if constexpr (kRows > 1) {
    if (rows < kRows) return wide_pass<kKind, kRows - 1>(pass, rows);
  }
  multiply_wide<kKind, kRows>(pass);
}

template <int32_t kKind>
void product_wide(const Product& task) {
  alignas(64) float x[kPassRows * kWidePiece * kBlock];
  for (int row = 0; row < task.rows; row += kPassRows) {
    const int rows = task.rows - row < kPassRows ? task.rows - row : kPassRows;
    for (int first = 0; first < task.blocks; first += kWidePiece) {
      const int blocks = task.blocks - first < kWidePiece ? task.blocks - first : kWidePiece;
      for (int r = 0; r < rows; ++r) {
        spell_out(task, row + r, first, blocks, x + r * kWidePiece * kBlock);
      }
      for (int index = 0; index < task.tile_rows; ++index) {
        const size_t before = static_cast<size_t>(index) * task.blocks + first;
        wide_pass<kKind>({task.tiles + before * tile_bytes(kKind), x, blocks,
                          task.out + row * task.stride + index * kLanes, task.stride,
                          task.adds || first > 0},
                         rows);
      }
    }
  }
}
