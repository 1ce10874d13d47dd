// What several kernels of a tier share; included inside its unnamed namespace, over
// its lanes (body.h).

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

// 1 in the lanes whose number lacks the bit `kStride`, -1 in the others.
template <int kStride>
struct Signs {
  alignas(64) float at[kLanes];

  constexpr Signs() : at{} {
    for (int i = 0; i < kLanes; ++i) at[i] = i & kStride ? -1.0f : 1.0f;
  }
};

// Lanes that are `kStride` apart become their sum and their difference.
template <int kStride>
inline Lanes butterfly(Lanes a) {
  static constexpr Signs<kStride> signs;
  return fma(a, load(signs.at), partners<kStride>(a));
}

// What is no greater has no inverse that is a number.
constexpr float kNothing = 0x1p-100f;

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

// The largest magnitude of `size` numbers.
inline float largest_of(const float* x, int size) {
  Lanes largest = set1(0.0f);
  for (int i = 0; i < size; i += kLanes) largest = max(largest, absolute(load(x + i)));
  return reduce_max(largest);
}

// What numbers that are kept as codes and 256ths of codes have in common.
struct FineScale {
  float scale;  // of a 256th
  int32_t sum;  // of all, in 256ths
};

inline FineScale to_fine(const float* x, int size, uint8_t* codes, uint8_t* fractions) {
  const float largest = largest_of(x, size);
  const float inverse = largest > kNothing ? 127.0f / largest : 0.0f;
  Lanes total = set1(0.0f);
  for (int i = 0; i < size; i += kLanes) {
    total = add(total, quantise_half<256>(load(x + i), inverse, true, codes + i, fractions + i));
  }
  // The sum is exact: below 2^24.
  return {largest / (127.0f * 256.0f), static_cast<int32_t>(reduce_add(total))};
}
