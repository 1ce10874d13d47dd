// Attention of prompts as products of bfloat16 tiles.
//
// Tokens that are only read are many: up to kPromptTaskRows query rows share a page.
// Its tiles are made once for all of them, a segment at a time (segment_tiles_body.h).
// Weights are powers of two, as queries take the factor log2(e) on their way to bfloat16.
//
// As everywhere a row's sums have one order: channels and tokens come in order, segments
// begin where they always do, and what a row does not see weighs 0.
#include "attention_amx.h"

#include <immintrin.h>
#include <math.h>

#include "amx_bfloat16.h"
#include "lanes_avx512.h"

namespace thermesh {
namespace {

#include "numbers_body.h"
#include "segment_tiles_body.h"

constexpr int kTileRows = 16;
constexpr int kRowsTogether = 2 * kTileRows;
constexpr int kMaxRows = (kPromptTaskRows + kRowsTogether - 1) / kRowsTogether * kRowsTogether;
constexpr float kLogOf2 = 0.693147181f;

// out[32][32] = rows times columns, `count` tiles of each. `row_bytes` is the stride of
// the rows, `stride` that of the sums in floats.
inline void multiply(const Side& rows, size_t row_bytes, const Side& columns, int count,
                     float* out, size_t stride) {
  // GCC's intrinsics do not say that they read memory.
  asm volatile("" ::: "memory");
  _tile_zero(0);
  _tile_zero(1);
  _tile_zero(2);
  _tile_zero(3);
  for (int i = 0; i < count; ++i) {
    _tile_loadd(4, rows.at(i), row_bytes);
    _tile_loadd(6, columns.at(i), 64);
    _tile_loadd(7, columns.at(i) + columns.next, 64);
    _tile_loadd(5, rows.at(i) + rows.next, row_bytes);
    _tile_dpbf16ps(0, 4, 6);
    _tile_dpbf16ps(1, 4, 7);
    _tile_dpbf16ps(2, 5, 6);
    _tile_dpbf16ps(3, 5, 7);
  }
  const size_t bytes = stride * sizeof(float);
  _tile_stored(0, out, bytes);
  _tile_stored(1, out + kLanes, bytes);
  _tile_stored(2, out + kTileRows * stride, bytes);
  _tile_stored(3, out + kTileRows * stride + kLanes, bytes);
  asm volatile("" ::: "memory");
}

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
    const WholeTiles tiles;
    asm volatile("" ::: "memory");
    _tile_loadconfig(&tiles);
    for (int begin = task_.begin; begin < limit_; begin += kSegment) {
      const int seen = limit_ - begin < kSegment ? limit_ - begin : kSegment;
      tiles_.lay_out(begin, seen);
      attend(begin, seen, ceil_div(seen, kTileInputs));
    }
    // Without it every switch of threads would save 8 kB of tiles.
    _tile_release();
    for (int r = 0; r < task_.rows; ++r) {
      result_.top[r] = tops_[r] * kLogOf2;
      result_.total[r] = reduce_add(load(totals_ + r * kLanes));
      __builtin_memcpy(result_.out + r * kMaxHeadSize, out_ + r * size_, size_ * sizeof(float));
    }
  }

 private:
  // Channels [i, i + 32) of a row; rows beyond the last are zeros.
  void enter_query(int r, int i) {
    __m512i both = _mm512_setzero_si512();
    if (r < task_.rows) {
      const float* x = task_.queries + r * kMaxHeadSize + i;
      const Lanes factor = set1(kLog2OfE);
      both = in_turn(mul(load(x), factor), mul(load(x + kLanes), factor));
    }
    _mm512_store_si512(queries_ + r * size_ + i, both);
  }

  // All rows attend to the segment that is laid out, 32 at a time in four stages. What a
  // stage stores the next one reads a turn later: a tile waits for what was stored just
  // before, and what reads a sum waits for its products.
  void attend(int begin, int seen, int pairs) {
    const int groups = rows_ / kRowsTogether;
    for (int turn = 0; turn < groups + 3; ++turn) {
      if (turn < groups) score(turn, pairs);
      if (turn >= 3) add_sums(turn - 3);
      if (turn >= 1 && turn - 1 < groups) weigh(turn - 1, begin, seen, pairs);
      if (turn >= 2 && turn - 2 < groups) sum_values(turn - 2, pairs);
    }
  }

  void score(int group, int pairs) {
    const size_t row_bytes = static_cast<size_t>(size_) * sizeof(uint16_t);
    const Side queries{queries_ + group * kRowsTogether * size_, 64, kTileRows * row_bytes};
    for (int pair = 0; pair < pairs; ++pair) {
      multiply(queries, row_bytes, tiles_.keys(pair), size_ / kTileInputs,
               scores_[group % 2] + pair * kTileInputs, kSegment);
    }
  }

  // Scores become weights.
  void weigh(int group, int begin, int seen, int pairs) {
    const int first = group * kRowsTogether;
    const int rows = task_.rows - first < kRowsTogether ? task_.rows - first : kRowsTogether;
    float* scores = scores_[group % 2];
    uint16_t* weights = weights_[group % 2];
    alignas(64) float tops[kRowsTogether];
    for (int r = 0; r < kRowsTogether; ++r) {
      const int own = r < rows ? task_.limits[first + r] - begin : 0;
      tops[r] = r < rows ? mask(scores + r * kSegment, own < seen ? own : seen, pairs) : -INFINITY;
    }
    raise_tops(first, tops);
    for (int r = 0; r < rows; ++r) {
      weigh_row(scores + r * kSegment, first + r, pairs, weights + r * kSegment);
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

  // By `factors_` the sums of rows [first, first + 32) so far must shrink.
  void raise_tops(int first, const float* tops) {
    for (int r = 0; r < kRowsTogether; r += kLanes) {
      const Lanes before = load(tops_ + first + r);
      const Lanes after = max(before, load(tops + r));
      // Of a row that saw nothing so far there is nothing to shrink. One whose top stays is
      // left alone: `power_of_two(0)` is not 1, and how many segments follow that a row does
      // not see depends on the rows beside it.
      const __mmask16 any = _mm512_cmp_ps_mask(before, set1(-INFINITY), _CMP_NEQ_OQ);
      const __mmask16 stays = _mm512_cmp_ps_mask(before, after, _CMP_EQ_OQ);
      const Lanes factor = _mm512_maskz_mov_ps(any, power_of_two(subtract(before, after)));
      store(factors_ + first + r, _mm512_mask_mov_ps(factor, stays, set1(1.0f)));
      store(tops_ + first + r, after);
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
      _mm512_store_si512(weights + t, reinterpret_cast<const __m512i&>(both));
    }
    store(totals_ + row * kLanes, total);
  }

  void sum_values(int group, int pairs) {
    const Side weights{weights_[group % 2], 64, kTileRows * kSegment * sizeof(uint16_t)};
    for (int channel = 0; channel < size_; channel += kTileInputs) {
      multiply(weights, kSegment * sizeof(uint16_t), tiles_.values(channel), pairs,
               sums_ + channel, size_);
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
  // Of 32 rows in turn: [row][token], [row][token], and [row][channel].
  alignas(64) float scores_[2][kRowsTogether * kSegment];
  alignas(64) uint16_t weights_[2][kRowsTogether * kSegment];
  alignas(64) float sums_[kRowsTogether * kMaxHeadSize];
};

}  // namespace

void attend_prompt_half(const Attention& task, const Attended& result) {
  PromptAttention<HalfPages>(task, result).run();
}

void attend_prompt_int8(const Attention& task, const Attended& result) {
  PromptAttention<Int8Pages>(task, result).run();
}

}  // namespace thermesh
