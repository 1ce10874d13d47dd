// Attention of a tier over pages of keys and values, in half precision or in
// codes; included by body.h, whose rules hold here too.

// Pages may lie apart, where the processor does not fetch ahead by itself. Parts are read
// in this order: the keys of a segment's pages, their values, the keys of what follows. With
// each line of one the same lines of two later ones are fetched, as weights are.
struct Parts {
  const Attention& task;
  int first, pages;  // of the segment

  const uint8_t* at(int index) const {
    const bool is_value = index >= pages && index < 2 * pages;
    const int page = first + (index < pages ? index : index - pages);
    return task.unit_at(page) + (is_value ? task.head_size * task.channel_bytes() : 0);
  }
};

// Two parts that are read after part `index`.
struct Later {
  const uint8_t *near, *far;

  Later(const Parts& parts, int index)
      : near(parts.at(index + kPartsAhead)), far(parts.at(index + kPartsWellAhead)) {}
  void fetch_at(int place, int bytes) const {
    fetch(near + place, bytes);
    fetch_far(far + place, bytes);
  }
};

// The work with pages in half precision; `kRows` rows share what is loaded.
template <int kRows>
struct HalfPages {
  const Attention& task;
  const float* queries;

  HalfPages(const Attention& task, const float* queries) : task(task), queries(queries) {}

  // Adds a segment, the last one up to `end`, to `result`, whose first row is row `first`.
  void attend(const Parts& parts, int end, int first, const Attended& result) const {
    alignas(64) float scores[kRows * kSegment];
    float factors[kRows];
    const int begin = parts.first * kPageTokens, tokens = parts.pages * kPageTokens;
    const int seen = end - begin < tokens ? end - begin : tokens;
    for (int page = 0; page < parts.pages; ++page) {
      score(parts.at(page), Later(parts, page), scores + page * kPageTokens);
    }
    for (int r = 0; r < kRows; ++r) {
      const int row = first + r;
      const int own = task.limits[row] - begin < seen ? task.limits[row] - begin : seen;
      factors[r] = weigh(scores + r * kSegment, tokens, own, result.top + row, result.total + row);
    }
    // Weights beyond what a row sees are 0.
    add_values(scores, parts, seen, factors, result.out + first * kMaxHeadSize);
  }

 private:
  const uint16_t* values(int32_t page) const {
    return reinterpret_cast<const uint16_t*>(task.unit_of(page)) + task.head_size * kPageTokens;
  }

  // Scores with the 16 tokens of a page. Four sums hide the latency of the
  // additions where there are few rows.
  void score(const uint8_t* unit, const Later& later, float* scores) const {
    const uint16_t* keys = reinterpret_cast<const uint16_t*>(unit);
    Lanes sums[kRows][4];
    for (int r = 0; r < kRows; ++r) {
      for (int u = 0; u < 4; ++u) sums[r][u] = set1(0.0f);
    }
    for (int i = 0; i < task.head_size; i += 4) {
      later.fetch_at(i * kPageTokens * 2, 4 * kPageTokens * 2);
      for (int u = 0; u < 4; ++u) {
        const Lanes channel = load_half(keys + (i + u) * kPageTokens);
        for (int r = 0; r < kRows; ++r) {
          sums[r][u] = fma(set1(queries[r * kMaxHeadSize + i + u]), channel, sums[r][u]);
        }
      }
    }
    for (int r = 0; r < kRows; ++r) {
      store(scores + r * kSegment,
            add(add(sums[r][0], sums[r][1]), add(sums[r][2], sums[r][3])));
    }
  }

  // out[r] = out[r] * factors[r] + the values weighted by weights[r]. Half a register file
  // of sums at once, of as many channels as there is room for.
  void add_values(const float* weights, const Parts& parts, int tokens, const float* factors,
                  float* out) const {
    constexpr int kBlocks = kRows > 3 ? 2 : 4;
    int channel = 0;
    for (; channel + kBlocks * kLanes <= task.head_size; channel += kBlocks * kLanes) {
      add_channels<kBlocks>(weights, parts, tokens, channel, factors, out);
    }
    for (; channel < task.head_size; channel += kLanes) {
      add_channels<1>(weights, parts, tokens, channel, factors, out);
    }
  }

  // Tokens of even and of odd places have sums of their own.
  template <int kBlocks>
  void add_channels(const float* weights, const Parts& parts, int tokens, int channel,
                    const float* factors, float* out) const {
    Lanes sums[2][kRows][kBlocks];
    for (int r = 0; r < kRows; ++r) {
      for (int b = 0; b < kBlocks; ++b) sums[0][r][b] = sums[1][r][b] = set1(0.0f);
    }
    for (int page = 0; page < pages_for(tokens); ++page) {
      const Later later(parts, parts.pages + page);
      const uint16_t* value = values(task.pages[parts.first + page]) + channel * kPageTokens;
      const float* own = weights + page * kPageTokens;
      const int end = tokens - page * kPageTokens < kPageTokens ? tokens - page * kPageTokens
                                                                 : kPageTokens;
      for (int t = 0; t < end; t += 2) {
        constexpr int kBytes = 2 * kBlocks * kLanes * 2;
        later.fetch_at(channel * kPageTokens * 2 + t / 2 * kBytes, kBytes);
        for (int u = 0; u < 2; ++u) {
          for (int b = 0; b < kBlocks; ++b) {
            const Lanes channels = load_half(value + (b * kPageTokens + t + u) * kLanes);
            for (int r = 0; r < kRows; ++r) {
              sums[u][r][b] = fma(set1(own[r * kSegment + t + u]), channels, sums[u][r][b]);
            }
          }
        }
      }
    }
    for (int r = 0; r < kRows; ++r) {
      for (int b = 0; b < kBlocks; ++b) {
        float* place = out + r * kMaxHeadSize + channel + b * kLanes;
        store(place, fma(load(place), set1(factors[r]), add(sums[0][r][b], sums[1][r][b])));
      }
    }
  }
};

#include "attention_coded_body.h"

template <int kRows, template <int> class Pages>
void attend_rows(const Attention& task, int first, const Attended& result) {
  const Pages<kRows> work(task, task.queries + first * kMaxHeadSize);
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
  for (int begin = task.begin; begin < limit; begin += kSegment) {
    const int seen = limit - begin < kSegment ? limit - begin : kSegment;
    const Parts parts{task, begin / kPageTokens, pages_for(seen)};
    work.attend(parts, limit, first, result);
  }
}

template <template <int> class Pages>
void attend(const Attention& task, const Attended& result) {
  fetch_far(task.unit_at(task.begin / kPageTokens), task.unit_bytes);
  int row = 0;
  for (; row + 6 <= task.rows; row += 6) attend_rows<6, Pages>(task, row, result);
  switch (task.rows - row) {
    case 1: attend_rows<1, Pages>(task, row, result); break;
    case 2: attend_rows<2, Pages>(task, row, result); break;
    case 3: attend_rows<3, Pages>(task, row, result); break;
    case 4: attend_rows<4, Pages>(task, row, result); break;
    case 5: attend_rows<5, Pages>(task, row, result); break;
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

// What a code is worth where the greatest number has the code `most`.
struct Worth {
  uint16_t half;
  float inverse;

  Worth(const float* x, int size, float most) {
    alignas(64) uint16_t halves[kLanes];
    store_half(halves, min(set1(largest_of(x, size) / most), set1(65504.0f)));
    const float scale = reduce_max(load_half(halves));
    half = halves[0];
    inverse = scale > 0 ? 1.0f / scale : 0.0f;
  }
};

uint16_t to_int8(const float* x, int size, uint8_t* codes) {
  const auto [half, inverse] = Worth(x, size, 127.0f);
  for (int i = 0; i < size; i += kLanes) {
    const Lanes code = round(mul(load(x + i), set1(inverse)));
    store_int8(codes + i, min(max(code, set1(-127.0f)), set1(127.0f)));
  }
  for (int i = 0; i < size; ++i) codes[i] ^= 0x80;
  return half;
}

uint16_t to_int10(const float* x, int size, uint8_t* codes, uint8_t* fourths) {
  constexpr float kMost = 511.0f;
  const auto [half, inverse] = Worth(x, size, kMost / 4);
  for (int i = 0; i < size; i += kLanes) {
    const Lanes all = round(mul(load(x + i), set1(4 * inverse)));
    const Lanes kept = min(max(all, set1(-kMost)), set1(kMost));
    // Rounded down: 4 * code + fourth is `kept`, with a fourth of 0 to 3.
    const Lanes code = round(fma(kept, set1(0.25f), set1(-0.375f)));
    alignas(64) uint8_t own[kLanes];
    store_int8(codes + i, code);
    store_int8(own, fma(code, set1(-4.0f), kept));
    uint32_t four[4];
    __builtin_memcpy(four, own, sizeof four);
    const uint32_t all_four = four[0] << 6 | four[1] << 4 | four[2] << 2 | four[3];
    __builtin_memcpy(fourths + i / 4, &all_four, 4);
  }
  for (int i = 0; i < size; ++i) codes[i] ^= 0x80;
  return half;
}
