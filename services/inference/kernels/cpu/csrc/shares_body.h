// Weights of attention as codes and 256ths of codes; included over a tier's lanes, behind
// numbers_body.h, by all that attends to values in eight bits: their bits are the same.

// What a row's weights of a segment have in common.
struct Share {
  float factor;   // by which what was summed before must shrink
  float base;     // the greatest score; of a row that has seen nothing infinite, so that all is 0
  float inverse;  // 256ths in one
  FineScale all;
};

// Scores [rows][kSegment] of a segment, and the scales of its values; row r sees `seen[r]`
// tokens of it.
struct Scored {
  const float *scores, *value_scales;
  int tokens;  // a multiple of kLanes
  const int* seen;
};

// 2^x for x <= 0 by a polynomial of its fraction, which is 1 at 0; off by at most 2e-7.
inline Lanes power_of_two(Lanes x) {
  x = max(x, set1(-125.0f));
  const Lanes n = round(x);
  const Lanes f = subtract(x, n);
  Lanes p = set1(1.32647261e-3f);
  p = fma(p, f, set1(9.67151299e-3f));
  p = fma(p, f, set1(5.55073358e-2f));
  p = fma(p, f, set1(2.40222424e-1f));
  p = fma(p, f, set1(6.93147004e-1f));
  p = fma(p, f, set1(1.0f));
  return times_power_of_two(p, n);
}

// Of a row whose greatest score here is `here`: keeps its top. No weight is above that of
// this score, so the greatest does not have to be found before weights become codes.
inline Share share_of(float here, float greatest_scale, float* top) {
  constexpr float kMostParts = 127.0f * 256.0f;
  constexpr float kSmallest = 1e-30f;  // beside the top nothing is left of it
  const float before = *top;
  const bool rises = here > before;
  const float less = expf(fmaxf(-fabsf(here - before), -80.0f));
  const float bound = rises ? greatest_scale : greatest_scale * less;
  *top = rises ? here : before;
  return {!rises ? 1.0f : before == -INFINITY ? 0.0f : less,
          *top == -INFINITY ? INFINITY : *top,
          bound > kSmallest ? kMostParts / bound : 0.0f,
          {bound / kMostParts, 0}};
}

// By the greatest score and the greatest scale of what each row sees: what lies behind that
// depends on the rows beside it.
template <int kRows, bool kIsMasked>
inline void share_rows(const Scored& scored, float* top, Share* shares) {
  constexpr int kReaches = kIsMasked ? kRows : 1;
  Lanes largest[kRows], scales[kReaches];
  for (int r = 0; r < kRows; ++r) largest[r] = set1(-INFINITY);
  for (int r = 0; r < kReaches; ++r) scales[r] = set1(0.0f);
  for (int t = 0; t < scored.tokens; t += kLanes) {
    const Lanes scale = load(scored.value_scales + t);
    if (!kIsMasked) scales[0] = max(scales[0], scale);
    for (int r = 0; r < kRows; ++r) {
      Lanes score = load(scored.scores + r * kSegment + t);
      if (kIsMasked) {
        score = keep_below(score, scored.seen[r] - t, -INFINITY);
        scales[r] = max(scales[r], keep_below(scale, scored.seen[r] - t, 0.0f));
      }
      largest[r] = max(largest[r], score);
    }
  }
  for (int r = 0; r < kRows; ++r) {
    const float scale = reduce_max(scales[kIsMasked ? r : 0]);
    shares[r] = share_of(reduce_max(largest[r]), scale, top + r);
  }
}

// Codes and 256ths of 16 numbers of at most 32,512; returns what they say.
inline Lanes store_fine(Lanes fine, uint8_t* codes, uint8_t* fractions) {
  // Halves go down: 128 is more than a fraction holds, -128 more than `maddubs` turns round.
  const Lanes code = round(fma(fine, set1(1.0f / 256.0f), set1(-1.0f / 1024.0f)));
  const Lanes fraction = min(fma(code, set1(-256.0f), fine), set1(127.0f));
  store_int8(codes, code);
  store_int8(fractions, fraction);
  return fma(code, set1(256.0f), fraction);
}

// Scores -> weights times the scales of values, [kRows][kSegment] codes and fractions; keeps
// top and total (Milakov and Gimelshein, 2018, https://arxiv.org/abs/1805.02867). What runs
// between two vectors, `between`, has time while they wait for each other.
template <int kRows, bool kIsMasked, typename Between>
inline void weigh_fine(const Scored& scored, float* top, float* total, uint8_t* codes,
                       uint8_t* fractions, Share* shares, const Between& between) {
  constexpr float kLog2E = 1.44269504f;
  Lanes sums[kRows], said[kRows];
  share_rows<kRows, kIsMasked>(scored, top, shares);
  for (int r = 0; r < kRows; ++r) sums[r] = said[r] = set1(0.0f);
  for (int t = 0; t < scored.tokens; t += kLanes) {
    between();
    const Lanes scales = load(scored.value_scales + t);
    for (int r = 0; r < kRows; ++r) {
      const int place = r * kSegment + t;
      Lanes score = load(scored.scores + place);
      if (kIsMasked) score = keep_below(score, scored.seen[r] - t, -INFINITY);
      Lanes weight = power_of_two(mul(subtract(score, set1(shares[r].base)), set1(kLog2E)));
      if (kIsMasked) weight = keep_below(weight, scored.seen[r] - t, 0.0f);
      sums[r] = add(sums[r], weight);
      const Lanes fine = round(mul(weight, mul(scales, set1(shares[r].inverse))));
      said[r] = add(said[r], store_fine(fine, codes + place, fractions + place));
    }
  }
  for (int r = 0; r < kRows; ++r) {
    total[r] = total[r] * shares[r].factor + reduce_add(sums[r]);
    // Exact: below 2^24.
    shares[r].all.sum = static_cast<int32_t>(reduce_add(said[r]));
  }
}
