// Attention of prompts as products of bfloat16; included inside an unnamed namespace, over
// lanes, numbers_body.h, segment_tiles_body.h and
//   multiply(const Side& rows, const Side& columns, int count, float* out, size_t stride),
// out[Unit::kRows][32] = rows times columns, `count` tiles of each; `stride` is that of the
// sums, in floats. A `Unit` lives as long as products are computed; `kWaits` says whether
// what they read and write must lie some time apart.
//
// Tokens that are only read are many: up to kPromptTaskRows query rows share a page.
// Its tiles are made once for all of them, a segment at a time (segment_tiles_body.h).
// Weights are powers of two, as queries take the factor log2(e) on their way to bfloat16.
//
// As everywhere a row's sums have one order: channels and tokens come in order, segments
// begin where they always do, and what a row does not see weighs 0.

constexpr int kRowsTogether = Unit::kRows;
constexpr int kMaxRows = (kPromptTaskRows + kRowsTogether - 1) / kRowsTogether * kRowsTogether;
constexpr __mmask16 kOwnLanes = kRowsTogether < kLanes ? (1 << kRowsTogether) - 1 : 0xFFFF;
constexpr float kLogOf2 = 0.693147181f;

template <class Pages>
class PromptAttention {
 public:
  PromptAttention(const Attention& task, const Attended& result)
      : task_(task), result_(result), tiles_(task), size_(task.head_size),
        rows_((task.rows + kRowsTogether - 1) / kRowsTogether * kRowsTogether) {
    for (int r = 0; r < rows_; ++r) {
      tops_[r] = -INFINITY;
      store(totals_ + r * kLanes, set1(0.0f));
      for (int i = 0; i < size_; i += kLanes) store(out_ + r * size_ + i, set1(0.0f));
      for (int i = 0; i < size_; i += kTileInputs) enter_query(r, i);
    }
    for (int r = 0; r < task.rows; ++r) {
      if (task.limits[r] > limit_) limit_ = task.limits[r];
    }
    if (limit_ > task.end) limit_ = task.end;
  }

  void run() {
    [[maybe_unused]] const Unit unit;
    for (int begin = task_.begin; begin < limit_; begin += kSegment) {
      const int seen = limit_ - begin < kSegment ? limit_ - begin : kSegment;
      tiles_.lay_out(begin, seen);
      attend(begin, seen, ceil_div(seen, kTileInputs));
    }
    for (int r = 0; r < task_.rows; ++r) {
      result_.top[r] = tops_[r] * kLogOf2;
      result_.total[r] = reduce_add(load(totals_ + r * kLanes));
      __builtin_memcpy(result_.out + r * kMaxHeadSize, out_ + r * size_, size_ * sizeof(float));
    }
  }

 private:
  // Tiles of a group's rows, one row of tiles after the other.
  static Side rows_of(const uint16_t* tiles) {
    return {tiles, kRowsTogether * kTileInputs * sizeof(uint16_t), kTileBytes};
  }
  uint16_t* queries_of(int group) { return queries_ + group * kRowsTogether * size_; }

  // Channels [i, i + 32) of a row; rows beyond the last are zeros.
  void enter_query(int r, int i) {
    __m512i both = _mm512_setzero_si512();
    if (r < task_.rows) {
      const float* x = task_.queries + r * kMaxHeadSize + i;
      const Lanes factor = set1(kLog2OfE);
      both = in_turn(mul(load(x), factor), mul(load(x + kLanes), factor));
    }
    const int group = r / kRowsTogether, place = r % kRowsTogether;
    _mm512_store_si512(queries_of(group) + i * kRowsTogether + place * kTileInputs, both);
  }

  // All rows attend to the segment that is laid out, a group at a time in four stages. On a
  // unit that waits, what a stage stores the next one reads a turn later: a tile waits for
  // what was stored just before, and what reads a sum waits for its products.
  void attend(int begin, int seen, int pairs) {
    const int groups = rows_ / kRowsTogether;
    if constexpr (!Unit::kWaits) {
      for (int group = 0; group < groups; ++group) {
        score(group, pairs);
        weigh(group, begin, seen, pairs);
        sum_values(group, pairs);
        add_sums(group);
      }
      return;
    }
    for (int turn = 0; turn < groups + 3; ++turn) {
      if (turn < groups) score(turn, pairs);
      if (turn >= 3) add_sums(turn - 3);
      if (turn >= 1 && turn - 1 < groups) weigh(turn - 1, begin, seen, pairs);
      if (turn >= 2 && turn - 2 < groups) sum_values(turn - 2, pairs);
    }
  }

  void score(int group, int pairs) {
    for (int pair = 0; pair < pairs; ++pair) {
      multiply(rows_of(queries_of(group)), tiles_.keys(pair), size_ / kTileInputs,
               scores_[group % kInTurn] + pair * kTileInputs, kSegment);
    }
  }

  // Scores become weights.
  void weigh(int group, int begin, int seen, int pairs) {
    const int first = group * kRowsTogether;
    const int rows = task_.rows - first < kRowsTogether ? task_.rows - first : kRowsTogether;
    float* scores = scores_[group % kInTurn];
    uint16_t* weights = weights_[group % kInTurn];
    alignas(64) float tops[kRowsTogether];
    for (int r = 0; r < kRowsTogether; ++r) {
      const int own = r < rows ? task_.limits[first + r] - begin : 0;
      tops[r] = r < rows ? mask(scores + r * kSegment, own < seen ? own : seen, pairs) : -INFINITY;
    }
    raise_tops(first, tops);
    for (int r = 0; r < rows; ++r) {
      weigh_row(scores + r * kSegment, first + r, pairs, weights + r * kTileInputs);
    }
  }

  // Hides what a row does not see and returns its greatest score.
  static float mask(float* scores, int own, int pairs) {
    Lanes largest = set1(-INFINITY);
    for (int t = 0; t < pairs * kTileInputs; t += kLanes) {
      Lanes score = load(scores + t);
      if (own < t + kLanes) {
        score = keep_below(score, own - t, -INFINITY);
        store(scores + t, score);
      }
      largest = max(largest, score);
    }
    return reduce_max(largest);
  }

  // By `factors_` the sums of a group's rows so far must shrink.
  void raise_tops(int first, const float* tops) {
    for (int r = 0; r < kRowsTogether; r += kLanes) {
      const Lanes before = _mm512_maskz_loadu_ps(kOwnLanes, tops_ + first + r);
      const Lanes after = max(before, _mm512_maskz_loadu_ps(kOwnLanes, tops + r));
      // Of a row that saw nothing so far there is nothing to shrink. One whose top stays is
      // left alone: `power_of_two(0)` is not 1, and how many segments follow that a row does
      // not see depends on the rows beside it.
      const __mmask16 any = _mm512_cmp_ps_mask(before, set1(-INFINITY), _CMP_NEQ_OQ);
      const __mmask16 stays = _mm512_cmp_ps_mask(before, after, _CMP_EQ_OQ);
      const Lanes factor = _mm512_maskz_mov_ps(any, power_of_two(subtract(before, after)));
      const Lanes kept = _mm512_mask_mov_ps(factor, stays, set1(1.0f));
      _mm512_mask_storeu_ps(factors_ + first + r, kOwnLanes, kept);
      _mm512_mask_storeu_ps(tops_ + first + r, kOwnLanes, after);
    }
  }

  void weigh_row(const float* scores, int row, int pairs, uint16_t* weights) {
    // A row that has seen nothing yet has no top to compare with.
    const Lanes top = set1(tops_[row] == -INFINITY ? 0.0f : tops_[row]);
    Lanes total = mul(load(totals_ + row * kLanes), set1(factors_[row]));
    for (int t = 0; t < pairs * kTileInputs; t += kTileInputs) {
      const Lanes low = power_of_two(subtract(load(scores + t), top));
      const Lanes high = power_of_two(subtract(load(scores + t + kLanes), top));
      total = add(total, add(low, high));
      const __m512bh both = _mm512_cvtne2ps_pbh(high, low);
      _mm512_store_si512(weights + t * kRowsTogether, reinterpret_cast<const __m512i&>(both));
    }
    store(totals_ + row * kLanes, total);
  }

  void sum_values(int group, int pairs) {
    const Side weights = rows_of(weights_[group % kInTurn]);
    for (int channel = 0; channel < size_; channel += kTileInputs) {
      multiply(weights, tiles_.values(channel), pairs, sums_ + channel, size_);
    }
  }

  void add_sums(int group) {
    const int first = group * kRowsTogether;
    for (int r = 0; r < kRowsTogether; ++r) {
      float* out = out_ + (first + r) * size_;
      const Lanes factor = set1(factors_[first + r]);
      for (int i = 0; i < size_; i += kLanes) {
        store(out + i, fma(load(out + i), factor, load(sums_ + r * size_ + i)));
      }
    }
  }

  const Attention& task_;
  const Attended& result_;
  SegmentTiles<Pages> tiles_;
  const int size_, rows_;
  int limit_ = 0;
  alignas(64) float tops_[kMaxRows];  // in powers of two
  alignas(64) float factors_[kMaxRows];
  alignas(64) float totals_[kMaxRows * kLanes];
  alignas(64) float out_[kMaxRows * kMaxHeadSize];
  alignas(64) uint16_t queries_[kMaxRows * kMaxHeadSize];
  // Of a group: [row][token], tiles of these, and [row][channel].
  static constexpr int kInTurn = Unit::kWaits ? 2 : 1;
  alignas(64) float scores_[kInTurn][kRowsTogether * kSegment];
  alignas(64) uint16_t weights_[kInTurn][kRowsTogether * kSegment];
  alignas(64) float sums_[kRowsTogether * kMaxHeadSize];
};
