// Attention of a tier over pages of codes; included by attention_body.h.

#include "ahead_body.h"
#include "shares_body.h"

// Numbers as codes and 256ths of codes, of one scale.
template <int kSize>
struct Fine {
  alignas(64) uint8_t codes[kSize], fractions[kSize];
  FineScale all;

  void set(const float* x, int size) { all = to_fine(x, size, codes, fractions); }
};

// The work with pages of codes, of which keys may have fourths. Queries and weights have
// sixteen bits, so that what is lost is lost by the cache alone; sums of integers are exact.
// Fourths meet the codes of queries only: what they say with the 256ths of these is a 30th
// of what is lost when keys are rounded.
template <int kRows, bool kHasFourths>
class CodedPages {
 public:
  CodedPages(const Attention& task, const float* vectors) : task_(task) {
    for (int r = 0; r < kRows; ++r) queries_[r].set(vectors + r * kMaxHeadSize, task.head_size);
  }

  // Adds a segment to `result`, whose first row is row `first`. Pages are read whole: what a row
  // does not see weighs nothing.
  void attend(const Parts& parts, int, int first, const Attended& result) const {
    Ahead ahead(task_, parts.first + kSegment / kPageTokens);
    Segment segment;
    int page = 0;
    for (; page + kTogether <= parts.pages; page += kTogether) {
      score<kTogether>(parts, page, ahead, segment);
    }
    for (; page < parts.pages; ++page) score<1>(parts, page, ahead, segment);
    weigh(parts, first, ahead, result, segment);
    float* out = result.out + first * kMaxHeadSize;
    int channel = 0;
    for (; channel + kBlocks * kLanes <= task_.head_size; channel += kBlocks * kLanes) {
      add_channels<kBlocks>(segment, parts, channel, ahead, out);
    }
    for (; channel < task_.head_size; channel += kLanes) {
      add_channels<1>(segment, parts, channel, ahead, out);
    }
  }

 private:
  // Pages whose scores, and blocks of 16 channels whose sums, fill the registers.
  static constexpr int kTogether = kRows > 3 ? 2 : 4;
  static constexpr int kBlocks = kTogether;
  // Parts that are fetched into the first level cache before they are read.
  static constexpr int kPartsNear = 4;
  // Lines of what is ahead with each step; together a little more than there are.
  static constexpr int kLinesOfScores = kHasFourths ? 4 : 3;
  static constexpr int kLinesOfWeights = 10, kLinesOfValues = 3;

  struct Segment {
    alignas(64) float scores[kRows * kSegment], value_scales[kSegment];
    alignas(64) uint8_t codes[kRows * kSegment], fractions[kRows * kSegment];
    Share shares[kRows];
  };

  template <int kPages>
  void score(const Parts& parts, int first, Ahead& ahead, Segment& segment) const {
    IntLanes whole[kPages][kRows], rest[kPages][kRows];
    const int plane = unit_fourths(task_.head_size);
    const uint8_t *units[kPages], *near[kPages];
    for (int p = 0; p < kPages; ++p) {
      units[p] = parts.at(first + p);
      near[p] = parts.at(first + p + kPartsNear);
      // The scales, if it is a page's keys; else another page lies there, which does no harm.
      fetch(near[p] + unit_scales(task_.head_size), 64);
      for (int r = 0; r < kRows; ++r) whole[p][r] = rest[p][r] = zero_int();
    }
    for (int i = 0; i < task_.head_size; i += 4) {
      Codes keys[kPages], fourths[kPages];
      for (int p = 0; p < kPages; ++p) {
        keys[p] = load_stored(units[p] + i * kPageTokens);
        if constexpr (kHasFourths) {
          fourths[p] = load_fourths(units[p] + plane + i / kLanes * 64, i / 4 % 4);
        }
        fetch(near[p] + i * kPageTokens, 64);
      }
      if (kPages > 1) ahead.template fetch_lines<kLinesOfScores>();
      for (int r = 0; r < kRows; ++r) {
        const Activations codes = spread(queries_[r].codes + i);
        const Activations fractions = spread(queries_[r].fractions + i);
        for (int p = 0; p < kPages; ++p) {
          whole[p][r] = dot4(whole[p][r], keys[p], codes);
          rest[p][r] = dot4(rest[p][r], keys[p], fractions);
          if constexpr (kHasFourths) rest[p][r] = dot4_of_fourths(rest[p][r], fourths[p], codes);
        }
      }
    }
    for (int p = 0; p < kPages; ++p) {
      scale_scores(units[p], (first + p) * kPageTokens, whole[p], rest[p], segment);
    }
  }

  void scale_scores(const uint8_t* unit, int place, const IntLanes* whole, const IntLanes* rest,
                    Segment& segment) const {
    // Of keys; those of values follow.
    const uint16_t* scales =
        reinterpret_cast<const uint16_t*>(unit + unit_scales(task_.head_size));
    const Lanes key_scales = load_half(scales);
    store(segment.value_scales + place, load_half(scales + kPageTokens));
    for (int r = 0; r < kRows; ++r) {
      const FineScale& query = queries_[r].all;
      const Lanes dots = in_256ths(whole[r], rest[r], query.sum);
      store(segment.scores + r * kSegment + place, mul(dots, mul(key_scales, set1(query.scale))));
    }
  }

  void weigh(const Parts& parts, int first, Ahead& ahead, const Attended& result,
             Segment& segment) const {
    const int tokens = parts.pages * kPageTokens;
    int seen[kRows];
    bool is_masked = false;
    for (int r = 0; r < kRows; ++r) {
      seen[r] = task_.limits[first + r] - parts.first * kPageTokens;
      is_masked |= seen[r] < tokens;
    }
    const Scored scored{segment.scores, segment.value_scales, tokens, seen};
    const auto between = [&] { ahead.template fetch_lines<kLinesOfWeights>(); };
    const auto run = is_masked ? weigh_fine<kRows, true, decltype(between)>
                               : weigh_fine<kRows, false, decltype(between)>;
    run(scored, result.top + first, result.total + first, segment.codes, segment.fractions,
        segment.shares, between);
  }

  template <int kCount>
  void add_channels(const Segment& segment, const Parts& parts, int channel, Ahead& ahead,
                    float* out) const {
    IntLanes whole[kRows][kCount], rest[kRows][kCount];
    for (int r = 0; r < kRows; ++r) {
      for (int b = 0; b < kCount; ++b) whole[r][b] = rest[r][b] = zero_int();
    }
    for (int page = 0; page < parts.pages; ++page) {
      const uint8_t* values = parts.at(parts.pages + page) + channel * kPageTokens;
      const uint8_t* near = parts.at(parts.pages + page + kPartsNear) + channel * kPageTokens;
      for (int t = 0; t < kPageTokens; t += 4) {
        Codes codes[kCount];
        for (int b = 0; b < kCount; ++b) {
          const int place = b * kLanes * kPageTokens + t * kLanes;
          codes[b] = load_stored(values + place);
          fetch(near + place, 64);
        }
        if (kCount > 1) ahead.template fetch_lines<kLinesOfValues>();
        for (int r = 0; r < kRows; ++r) {
          const int place = r * kSegment + page * kPageTokens + t;
          const Activations share = spread(segment.codes + place);
          const Activations fraction = spread(segment.fractions + place);
          for (int b = 0; b < kCount; ++b) {
            whole[r][b] = dot4(whole[r][b], codes[b], share);
            rest[r][b] = dot4(rest[r][b], codes[b], fraction);
          }
        }
      }
    }
    for (int r = 0; r < kRows; ++r) {
      const Share& share = segment.shares[r];
      for (int b = 0; b < kCount; ++b) {
        float* place = out + r * kMaxHeadSize + channel + b * kLanes;
        const Lanes sum = in_256ths(whole[r][b], rest[r][b], share.all.sum);
        store(place, fma(load(place), set1(share.factor), mul(sum, set1(share.all.scale))));
      }
    }
  }

  const Attention& task_;
  Fine<kMaxHeadSize> queries_[kRows];
};

template <int kRows>
using Int8Pages = CodedPages<kRows, false>;
template <int kRows>
using Int10Pages = CodedPages<kRows, true>;
