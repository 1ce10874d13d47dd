// The kernels of a tier, over its `Lanes` (16 floats) and its `product`.
//
// Included by each tier's own translation unit inside an unnamed namespace:
// code compiled for AVX-512 must never be what the linker picks for another.
// All sums have one order, whatever the number of rows, so that a row's result
// does not depend on its neighbours. Nothing here may come from a header's inline
// functions, hence `expf` and not `std::exp`.

#include "numbers_body.h"

inline float sum_of_squares(const float* x, int size) {
  Lanes squares = set1(0.0f);
  for (int i = 0; i < size; i += kLanes) {
    const Lanes value = load(x + i);
    squares = fma(value, value, squares);
  }
  return reduce_add(squares);
}

void quantise(const float* x, int blocks, float outlier, uint8_t* panel, int rows, int row) {
  const int size = blocks * kBlock;
  const float limit = outlier * sqrtf(sum_of_squares(x, size) / static_cast<float>(size));
  for (int block = 0; block < blocks; ++block, panel += panel_block_bytes(rows)) {
    const Lanes low = load(x + block * kBlock), high = load(x + block * kBlock + kLanes);
    const float largest = reduce_max(max(absolute(low), absolute(high)));
    const float inverse = largest > kNothing ? 127.0f / largest : 0.0f;
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

float inverse_rms(const float* x, float epsilon, int size) {
  const float mean = sum_of_squares(x, size) / static_cast<float>(size);
  return 1.0f / sqrtf(mean + epsilon);
}

void weigh_by(const float* x, const float* weight, float factor, int size, float* out) {
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
#include "hadamard_body.h"
#include "draw_body.h"

#include "passes_body.h"
#include "wide_body.h"

void product_any(const Product& task) {
  switch (task.kind) {
    case kF16: return product_wide<kF16>(task);
    case kBf16: return product_wide<kBf16>(task);
    case kQ4_0: return product_of_kind<kQ4_0>(task);
    case kQ4_1: return product_of_kind<kQ4_1>(task);
    default: return product_of_kind<kQ8_0>(task);
  }
}

constexpr Tier make_tier(const char* name, const Prompts* prompts = nullptr) {
  return {name,
          product_any,
          prompts,
          quantise,
          inverse_rms,
          weigh_by,
          silu_mul,
          to_half,
          to_int8,
          to_int10,
          hadamard,
          {attend<HalfPages>, attend<Int8Pages>, attend<Int10Pages>},
          {},
          merge,
          {unpack_keys_half, unpack_keys_int8, unpack_keys_int10},
          summarise,
          choose,
          extent,
          moments,
          weights,
          collect};
}
