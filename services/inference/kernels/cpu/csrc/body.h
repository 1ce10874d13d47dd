// The kernels of a tier, over its `Lanes` (16 floats) and its `product`.
//
// Included by each tier's own translation unit inside an unnamed namespace:
// code compiled for AVX-512 must never be what the linker picks for another.
// All sums have one order, whatever the number of rows, so that a row's result
// does not depend on its neighbours. Nothing here may come from a header's inline
// functions, hence `expf` and not `std::exp`.

// Cephes' expf (Moshier): 2^n times a polynomial on [-ln 2 / 2, ln 2 / 2].
inline Lanes exponential(Lanes x) {
  x = min(max(x, set1(-87.0f)), set1(88.0f));
  const Lanes n = round(mul(x, set1(1.44269504f)));
  Lanes f = fma(n, set1(-0.693359375f), x);
  f = fma(n, set1(2.12194440e-4f), f);
  Lanes p = set1(1.9875691500e-4f);
  p = fma(p, f, set1(1.3981999507e-3f));
  p = fma(p, f, set1(8.3334519073e-3f));
  p = fma(p, f, set1(4.1665795894e-2f));
  p = fma(p, f, set1(1.6666665459e-1f));
  p = fma(p, f, set1(5.0000001201e-1f));
  p = fma(p, mul(f, f), add(f, set1(1.0f)));
  return times_power_of_two(p, n);
}

inline float sum_of_squares(const float* x, int size) {
  Lanes squares = set1(0.0f);
  for (int i = 0; i < size; i += kLanes) {
    const Lanes value = load(x + i);
    squares = fma(value, value, squares);
  }
  return reduce_add(squares);
}

// Half a block: stores codes and fractions, each fraction one of `kParts` of a
// code, and returns both together in that unit.
template <int kParts>
inline Lanes quantise_half(Lanes x, float inverse, bool is_wide, uint8_t* codes,
                           uint8_t* fractions) {
  constexpr float parts = kParts;
  const Lanes narrow = round(mul(x, set1(inverse)));
  if (!is_wide) {
    store_int8(codes, narrow);
    store_int8(fractions, set1(0.0f));
    return mul(narrow, set1(parts));
  }
  const Lanes fine = round(mul(x, set1(inverse * parts)));
  const Lanes code = round(mul(fine, set1(1.0f / parts)));
  // Of 256 parts half of them is one more than a byte holds.
  const Lanes fraction = min(max(fma(code, set1(-parts), fine), set1(-127.0f)), set1(127.0f));
  store_int8(codes, code);
  store_int8(fractions, fraction);
  return fma(code, set1(parts), fraction);
}

void quantise(const float* x, int blocks, float outlier, uint8_t* panel, int rows, int row) {
  const int size = blocks * kBlock;
  const float limit = outlier * sqrtf(sum_of_squares(x, size) / static_cast<float>(size));
  for (int block = 0; block < blocks; ++block, panel += panel_block_bytes(rows)) {
    const Lanes low = load(x + block * kBlock), high = load(x + block * kBlock + kLanes);
    const float largest = reduce_max(max(absolute(low), absolute(high)));
    const float inverse = largest > 0 ? 127.0f / largest : 0.0f;
    const float scale = largest / 127.0f;
    const bool is_wide = largest > limit;
    uint8_t* codes = panel + row * kRowBytes;
    uint8_t* fractions = codes + kBlock;
    const Lanes first = quantise_half<kParts>(low, inverse, is_wide, codes, fractions);
    const Lanes second =
        quantise_half<kParts>(high, inverse, is_wide, codes + kLanes, fractions + kLanes);
    float* scales = reinterpret_cast<float*>(panel + scales_offset(rows));
    scales[row] = scale;
    scales[rows + row] = scale * kFraction * reduce_add(add(first, second));
    panel[flags_offset(rows) + row] = is_wide;
  }
}

void rms_norm(const float* x, const float* weight, float epsilon, int size, float* out) {
  const float mean = sum_of_squares(x, size) / static_cast<float>(size);
  const float factor = 1.0f / sqrtf(mean + epsilon);
  for (int i = 0; i < size; i += kLanes) {
    store(out + i, mul(mul(load(x + i), set1(factor)), load(weight + i)));
  }
}

void silu_mul(float* gate, const float* up, int size) {
  for (int i = 0; i < size; i += kLanes) {
    const Lanes x = load(gate + i);
    const Lanes sigmoid = divide(set1(1.0f), add(set1(1.0f), exponential(subtract(set1(0.0f), x))));
    store(gate + i, mul(mul(x, sigmoid), load(up + i)));
  }
}

void to_half(const float* x, int size, uint16_t* out) {
  for (int i = 0; i < size; i += kLanes) {
    store_half(out + i, min(max(load(x + i), set1(-65504.0f)), set1(65504.0f)));
  }
}

#include "attention_body.h"
#include "selection_body.h"

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

template <int32_t kKind>
void product_of_kind(const Product& task) {
  for (int index = 0; index < task.tile_rows; ++index) {
    for (int row = 0; row < task.rows; row += kPassRows) {
      const int first = row / kPanelRows * kPanelRows;
      const int panel_rows = task.rows - first < kPanelRows ? task.rows - first : kPanelRows;
      const int rows = first + panel_rows - row < kPassRows ? first + panel_rows - row : kPassRows;
      const size_t done = static_cast<size_t>(first) / kPanelRows * task.blocks;
      pass_of<kKind>({task.tiles + static_cast<size_t>(index) * task.blocks * tile_bytes(kKind),
                      task.panels + done * panel_block_bytes(kPanelRows), panel_rows, row - first,
                      task.blocks, task.out + row * task.stride + index * kLanes, task.stride,
                      task.adds},
                     rows);
    }
  }
}

void product_any(const Product& task) {
  switch (task.kind) {
    case kQ4_0: return product_of_kind<kQ4_0>(task);
    case kQ4_1: return product_of_kind<kQ4_1>(task);
    default: return product_of_kind<kQ8_0>(task);
  }
}

constexpr Tier make_tier(const char* name) {
  return {name,
          product_any,
          nullptr,
          nullptr,
          quantise,
          rms_norm,
          silu_mul,
          to_half,
          to_int8,
          {attend<HalfPages>, attend<Int8Pages>},
          merge,
          {unpack_keys_half, unpack_keys_int8},
          summarise,
          choose};
}
