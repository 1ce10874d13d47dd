// All rows of a product, pass by pass, over `product<kRows, kKind>` of the tier.
//
// Included by translation units inside an unnamed namespace.

// Rows of a panel that one pass over a row of tiles multiplies: their sums stay in
// registers.
constexpr int kPassRows = 8;

// Calls product<kRows, kKind> for a number of rows known at run time.
template <int32_t kKind, int kRows = kPassRows>
void pass_of(const Pass& pass, int rows) {
  if constexpr (kRows > 1) {
    if (rows < kRows) return pass_of<kKind, kRows - 1>(pass, rows);
  }
  product<kRows, kKind>(pass);
}

// Calls work(pass, rows) for all rows of activations and what begins with a row of tiles.
template <int32_t kKind, typename Work>
inline void for_passes(const Product& task, int index, const Work& work) {
  for (int row = 0; row < task.rows; row += kPassRows) {
    const int first = row / kPanelRows * kPanelRows;
    const int panel_rows = task.rows - first < kPanelRows ? task.rows - first : kPanelRows;
    const int rows = first + panel_rows - row < kPassRows ? first + panel_rows - row : kPassRows;
    const size_t done = static_cast<size_t>(first) / kPanelRows * task.blocks;
    work(Pass{task.tiles + static_cast<size_t>(index) * task.blocks * tile_bytes(kKind),
              task.panels + done * panel_block_bytes(kPanelRows), panel_rows, row - first,
              task.blocks, task.out + row * task.stride + index * kLanes, task.stride, task.adds,
              task.errand},
         rows);
  }
}

template <int32_t kKind, int kMostRows = kPassRows>
void product_of_kind(const Product& task, int index = 0) {
  const auto work = [](const Pass& pass, int rows) { pass_of<kKind, kMostRows>(pass, rows); };
  for (; index < task.tile_rows; ++index) for_passes<kKind>(task, index, work);
}
