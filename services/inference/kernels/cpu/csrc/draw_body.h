// What drawing reads all logits of a row for; included like body.h, over the tier's lanes.
// Sums are taken in pieces, whose order is that of the row, and added in double.

constexpr int kPiece = 64 * kLanes;

// Calls visit(lanes, index, count) for all of x; what the last lanes lack is `fill`.
template <typename Visit>
inline void each_lanes(const float* x, int size, float fill, const Visit& visit) {
  int i = 0;
  for (; i + kLanes <= size; i += kLanes) visit(load(x + i), i, kLanes);
  if (i == size) return;
  float last[kLanes];
  for (int lane = 0; lane < kLanes; ++lane) last[lane] = i + lane < size ? x[i + lane] : fill;
  visit(load(last), i, size - i);
}

inline int piece_size(int size, int start) { return size - start < kPiece ? size - start : kPiece; }

void extent(const float* x, int size, Extent* found) {
  Lanes highest = set1(-INFINITY), bad = set1(0.0f);
  double total = 0.0;
  for (int start = 0; start < size; start += kPiece) {
    Lanes sum = set1(0.0f);
    each_lanes(x + start, piece_size(size, start), 0.0f, [&](Lanes value, int, int count) {
      sum = add(sum, value);
      bad = add(bad, mul(value, set1(0.0f)));  // 0, or NaN for what is not finite
      highest = max(highest, keep_below(value, count, -INFINITY));
    });
    total += reduce_add(sum);
  }
  *found = {reduce_max(highest), total, reduce_add(bad) == 0.0f};
}

void moments(const float* x, int size, float highest, float mean, Moments* found) {
  *found = {0.0, 0.0, 0.0};
  for (int start = 0; start < size; start += kPiece) {
    Lanes total = set1(0.0f), moment = set1(0.0f), squares = set1(0.0f);
    each_lanes(x + start, piece_size(size, start), mean, [&](Lanes value, int, int count) {
      const Lanes below = subtract(value, set1(highest)), apart = subtract(value, set1(mean));
      const Lanes weight = keep_below(exponential(below), count, 0.0f);
      total = add(total, weight);
      moment = fma(weight, below, moment);
      squares = fma(apart, apart, squares);
    });
    found->total += reduce_add(total);
    found->moment += reduce_add(moment);
    found->squares += reduce_add(squares);
  }
}

void weights(const float* x, int size, float highest, float temperature, float* out) {
  each_lanes(x, size, highest, [&](Lanes value, int i, int count) {
    float together[kLanes];
    store(together, exponential(divide(subtract(value, set1(highest)), set1(temperature))));
    for (int lane = 0; lane < count; ++lane) out[i + lane] = together[lane];
  });
}

// The greatest of kTogether * kLanes numbers.
constexpr int kTogether = 8;

inline float largest_together(const float* x) {
  Lanes highest = load(x);
  for (int i = 1; i < kTogether; ++i) highest = max(highest, load(x + i * kLanes));
  return reduce_max(highest);
}

int collect(const float* x, int size, float floor, int32_t* ids, float* logits) {
  int found = 0;
  for (int start = 0; start < size; start += kTogether * kLanes) {
    const int end = size - start < kTogether * kLanes ? size : start + kTogether * kLanes;
    if (end - start == kTogether * kLanes && largest_together(x + start) < floor) continue;
    for (int i = start; i < end; ++i) {
      if (x[i] < floor) continue;
      ids[found] = i;
      logits[found++] = x[i];
    }
  }
  return found;
}
