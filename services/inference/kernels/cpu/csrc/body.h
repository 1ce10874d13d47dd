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

// Half a block: stores codes and fractions, returns them as 16ths of a code.
inline Lanes quantise_half(Lanes x, float inverse, bool is_wide, uint8_t* codes,
                           uint8_t* fractions) {
  const Lanes narrow = round(mul(x, set1(inverse)));
  if (!is_wide) {
    store_int8(codes, narrow);
    store_int8(fractions, set1(0.0f));
    return mul(narrow, set1(1.0f / kFraction));
  }
  const Lanes fine = round(mul(x, set1(inverse / kFraction)));
  const Lanes code = round(mul(fine, set1(kFraction)));
  store_int8(codes, code);
  store_int8(fractions, fma(code, set1(-1.0f / kFraction), fine));
  return fine;
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
    const Lanes first = quantise_half(low, inverse, is_wide, codes, fractions);
    const Lanes second =
        quantise_half(high, inverse, is_wide, codes + kLanes, fractions + kLanes);
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

// Scores of kRows query rows with the 16 tokens of a page. Four sums hide the
// latency of the additions where there are few rows.
template <int kRows>
void score_page(const float* queries, const uint16_t* page, int head_size, float* scores) {
  Lanes sums[kRows][4];
  for (int r = 0; r < kRows; ++r) {
    for (int u = 0; u < 4; ++u) sums[r][u] = set1(0.0f);
  }
  for (int i = 0; i < head_size; i += 4) {
    for (int u = 0; u < 4; ++u) {
      const Lanes keys = load_half(page + (i + u) * kPageTokens);
      for (int r = 0; r < kRows; ++r) {
        sums[r][u] = fma(set1(queries[r * kMaxHeadSize + i + u]), keys, sums[r][u]);
      }
    }
  }
  for (int r = 0; r < kRows; ++r) {
    store(scores + r * kSegment,
          add(add(sums[r][0], sums[r][1]), add(sums[r][2], sums[r][3])));
  }
}

// out[r] = out[r] * factors[r] + the values of `tokens` tokens, 16 channels from
// `channel` on, weighted by weights[r].
template <int kRows>
void add_values(const float* weights, const uint16_t* values, size_t page_stride,
                const int32_t* pages, int tokens, int channel, const float* factors, float* out) {
  Lanes sums[kRows][4];
  for (int r = 0; r < kRows; ++r) {
    for (int u = 0; u < 4; ++u) sums[r][u] = set1(0.0f);
  }
  // Weights beyond `tokens` are 0, so whole groups of four may be added.
  for (int t = 0; t < tokens; t += 4) {
    const uint16_t* page = values + pages[t / kPageTokens] * page_stride +
                           static_cast<size_t>(channel + t % kPageTokens) * kLanes;
    for (int u = 0; u < 4; ++u) {
      const Lanes value = load_half(page + u * kLanes);
      for (int r = 0; r < kRows; ++r) {
        sums[r][u] = fma(set1(weights[r * kSegment + t + u]), value, sums[r][u]);
      }
    }
  }
  for (int r = 0; r < kRows; ++r) {
    float* place = out + r * kMaxHeadSize + channel;
    const Lanes sum = add(add(sums[r][0], sums[r][1]), add(sums[r][2], sums[r][3]));
    store(place, fma(load(place), set1(factors[r]), sum));
  }
}

// Scores -> weights of one row: masks, keeps top and total, returns the factor
// by which what was summed before must shrink. Milakov and Gimelshein, 2018,
// https://arxiv.org/abs/1805.02867.
inline float weigh(float* scores, int tokens, int seen, float* top, float* total) {
  if (seen <= 0) {
    for (int t = 0; t < tokens; t += kLanes) store(scores + t, set1(0.0f));
    return 1.0f;
  }
  Lanes largest = set1(-INFINITY);
  for (int t = 0; t < tokens; t += kLanes) {
    const Lanes masked = keep_below(load(scores + t), seen - t, -INFINITY);
    store(scores + t, masked);
    largest = max(largest, masked);
  }
  const float before = *top;
  const float after = fmaxf(before, reduce_max(largest));
  Lanes sum = set1(0.0f);
  for (int t = 0; t < tokens; t += kLanes) {
    const Lanes weight = exponential(subtract(load(scores + t), set1(after)));
    const Lanes kept = keep_below(weight, seen - t, 0.0f);
    store(scores + t, kept);
    sum = add(sum, kept);
  }
  const float factor = before == -INFINITY ? 0.0f : expf(before - after);
  *total = *total * factor + reduce_add(sum);
  *top = after;
  return factor;
}

// Pages lie apart, where the processor does not fetch ahead by itself.
constexpr int kPagesAhead = 4;

template <int kRows>
void attend_rows(const Attention& task, int first, const Attended& result) {
  alignas(64) float scores[kRows * kSegment];
  float factors[kRows];
  const float* queries = task.queries + first * kMaxHeadSize;
  float* out = result.out + first * kMaxHeadSize;
  int limit = 0;
  for (int r = 0; r < kRows; ++r) {
    const int row = first + r;
    if (task.limits[row] > limit) limit = task.limits[row];
    result.top[row] = -INFINITY;
    result.total[row] = 0.0f;
    for (int i = 0; i < task.head_size; i += kLanes) {
      store(out + r * kMaxHeadSize + i, set1(0.0f));
    }
  }
  if (limit > task.end) limit = task.end;
  const int page_bytes = task.head_size * kPageTokens * static_cast<int>(sizeof(uint16_t));
  for (int begin = task.begin; begin < limit; begin += kSegment) {
    const int seen = limit - begin < kSegment ? limit - begin : kSegment;
    const int tokens = (seen + kLanes - 1) / kLanes * kLanes;
    const int32_t* pages = task.pages + begin / kPageTokens;
    for (int t = 0; t < tokens; t += kPageTokens) {
      const int32_t* page = pages + t / kPageTokens;
      fetch(task.values + page[0] * task.page_stride, page_bytes);
      if (begin + t + kPagesAhead * kPageTokens < limit) {
        fetch(task.keys + page[kPagesAhead] * task.page_stride, page_bytes);
      }
      score_page<kRows>(queries, task.keys + page[0] * task.page_stride, task.head_size, scores + t);
    }
    for (int r = 0; r < kRows; ++r) {
      const int row = first + r;
      const int own = task.limits[row] - begin < seen ? task.limits[row] - begin : seen;
      factors[r] = weigh(scores + r * kSegment, tokens, own, result.top + row, result.total + row);
    }
    for (int channel = 0; channel < task.head_size; channel += kLanes) {
      add_values<kRows>(scores, task.values, task.page_stride, pages, seen, channel, factors, out);
    }
  }
}

void attend(const Attention& task, const Attended& result) {
  int row = 0;
  for (; row + 6 <= task.rows; row += 6) attend_rows<6>(task, row, result);
  switch (task.rows - row) {
    case 1: attend_rows<1>(task, row, result); break;
    case 2: attend_rows<2>(task, row, result); break;
    case 3: attend_rows<3>(task, row, result); break;
    case 4: attend_rows<4>(task, row, result); break;
    case 5: attend_rows<5>(task, row, result); break;
    default: break;
  }
}

void merge(const Attended& part, int rows, int head_size, const Attended& result) {
  for (int r = 0; r < rows; ++r) {
    if (part.total[r] == 0.0f) continue;
    const float before = result.top[r];
    const float top = fmaxf(before, part.top[r]);
    const float kept = before == -INFINITY ? 0.0f : expf(before - top);
    const float added = expf(part.top[r] - top);
    float* out = result.out + r * kMaxHeadSize;
    const float* more = part.out + r * kMaxHeadSize;
    for (int i = 0; i < head_size; i += kLanes) {
      store(out + i, fma(load(more + i), set1(added), mul(load(out + i), set1(kept))));
    }
    result.total[r] = result.total[r] * kept + part.total[r] * added;
    result.top[r] = top;
  }
}

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
  return {name, product_any, quantise, rms_norm, silu_mul, to_half, attend, merge};
}
