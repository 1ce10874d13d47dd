// The products of attention as tiles (tier_amx.cpp tells what those are).
//
// A page's keys, [head_size / 4][16 tokens][4], are tiles as they lie. Its values,
// [head_size / 16][4][16][4 tokens], are a quarter of a tile each: the pages of a
// segment are laid side by side while they are scored. On the other side are planes:
// the codes of all query rows, then their fractions, so that one row of queries is two
// rows of a tile. Integers are exact and all else has the order of attention_body.h,
// hence the bits of tier_avx512.
#include "attention_amx.h"

#include <immintrin.h>
#include <math.h>

#include "lanes_avx512.h"

namespace thermesh {
namespace {

#include "numbers_body.h"
#include "shares_body.h"
#include "ahead_body.h"

constexpr int kMaxRows = 64;
constexpr int kTileRows = 16;
constexpr int kMaxPlanes = 2 * kMaxRows;
constexpr int kTileBytes = 1024;
constexpr int kSegmentPages = kSegment / kPageTokens;
constexpr int kTilePages = kTileChannels / kPageTokens;  // whose values share a tile

// Tile registers: four sums, and what is multiplied in turn.
#define TILE_ROWS_EVEN 4
#define TILE_ROWS_ODD 5
#define TILE_CODES_EVEN 6
#define TILE_CODES_ODD 7

// The operand of `ldtilecfg`.
struct alignas(64) Shapes {
  uint8_t palette = 1, start_row = 0;
  uint8_t reserved[14] = {};
  uint16_t row_bytes[16] = {64, 64, 64, 64, 64, 64, 64, 64};
  uint8_t rows[16];

  explicit Shapes(int planes) : rows{} {
    for (int i = 0; i < TILE_CODES_EVEN; ++i) rows[i] = static_cast<uint8_t>(planes);
    rows[TILE_CODES_EVEN] = rows[TILE_CODES_ODD] = kTileRows;
  }
};

// One tile of sums: `rows` of `stride` bytes times `codes`, `count` tiles of each.
struct Chain {
  const uint8_t* rows;
  size_t row_step;
  const uint8_t* codes;
  size_t code_step;
};

template <int kSum>
inline void add_products(const Chain& chain, int count, size_t stride);

// A macro, as GCC's intrinsics paste register numbers into assembly.
#define ADD_PRODUCTS(SUM, ROWS, CODES)                                                    \
  template <>                                                                             \
  inline void add_products<SUM>(const Chain& chain, int count, size_t stride) {           \
    _tile_zero(SUM);                                                                      \
    for (int i = 0; i < count; ++i) {                                                     \
      _tile_loadd(ROWS, chain.rows + i * chain.row_step, stride);                         \
      _tile_loadd(CODES, chain.codes + i * chain.code_step, 64);                          \
      _tile_dpbsud(SUM, ROWS, CODES);                                                     \
    }                                                                                     \
  }
ADD_PRODUCTS(0, TILE_ROWS_EVEN, TILE_CODES_EVEN)
ADD_PRODUCTS(1, TILE_ROWS_ODD, TILE_CODES_ODD)
ADD_PRODUCTS(2, TILE_ROWS_EVEN, TILE_CODES_EVEN)
ADD_PRODUCTS(3, TILE_ROWS_ODD, TILE_CODES_ODD)
#undef ADD_PRODUCTS

// Four sums at once hide what each has to wait for.
inline void multiply(const Chain* chains, int count, size_t stride, int32_t* const* sums) {
  // GCC's intrinsics do not say that they read memory.
  asm volatile("" ::: "memory");
  add_products<0>(chains[0], count, stride);
  add_products<1>(chains[1], count, stride);
  add_products<2>(chains[2], count, stride);
  add_products<3>(chains[3], count, stride);
  _tile_stored(0, sums[0], 64);
  _tile_stored(1, sums[1], 64);
  _tile_stored(2, sums[2], 64);
  _tile_stored(3, sums[3], 64);
  asm volatile("" ::: "memory");
}

// One call's work. Planes are padded to whole tiles; what padding gives is not read.
class TiledAttention {
 public:
  TiledAttention(const Attention& task, const Attended& result)
      : task_(task), result_(result), planes_(2 * task.rows),
        tiles_((planes_ + kTileRows - 1) / kTileRows) {
    for (int r = 0; r < task.rows; ++r) {
      const int size = task.head_size;
      queries_[r] = to_fine(task.queries + r * kMaxHeadSize, size, query_planes_ + r * size,
                            query_planes_ + (task.rows + r) * size);
      if (task.limits[r] > limit_) limit_ = task.limits[r];
      result.top[r] = -INFINITY;
      result.total[r] = 0.0f;
      for (int i = 0; i < size; i += kLanes) store(result.out + r * kMaxHeadSize + i, set1(0.0f));
    }
    if (limit_ > task.end) limit_ = task.end;
  }

  void run() {
    const Shapes shapes(planes_ < kTileRows ? planes_ : kTileRows);
    asm volatile("" ::: "memory");
    _tile_loadconfig(&shapes);
    fetch_page(task_.begin / kPageTokens);
    fetch_page(task_.begin / kPageTokens + 1);
    for (int begin = task_.begin; begin < limit_; begin += kSegment) {
      const int seen = limit_ - begin < kSegment ? limit_ - begin : kSegment;
      const int pages = (seen + kPageTokens - 1) / kPageTokens;
      Ahead ahead(task_, begin / kPageTokens + kSegmentPages);
      for (int page = 0; page < pages; page += pages_at_once()) {
        score(begin / kPageTokens, page, pages, ahead);
      }
      weigh_all(begin, pages, ahead);
      add_values(pages);
    }
    // Without it every switch of threads would save 8 kB of tiles.
    _tile_release();
  }

 private:
  // Of what is ahead: half while pages are laid out, half or more while rows are weighed.
  static constexpr int kLinesOfStep = 3, kStepsOfPage = 5;

  // Sums of four tiles are computed at once: with few rows those of several pages.
  int pages_at_once() const { return tiles_ < 4 ? 4 / tiles_ : 1; }

  const uint8_t* unit(int index) const { return task_.unit_of(task_.pages[index]); }
  const uint16_t* scales(int index) const {
    return reinterpret_cast<const uint16_t*>(unit(index) + 2 * task_.head_size * kPageTokens);
  }

  // Pages may lie apart, where the processor does not fetch ahead by itself.
  void fetch_page(int index) const { fetch(task_.unit_at(index), task_.unit_bytes); }

  // Scores of pages [first, first + pages_at_once()) of a segment of `pages` pages.
  void score(int segment, int first, int pages, Ahead& ahead) {
    const int size = task_.head_size;
    const int end = first + pages_at_once() < pages ? first + pages_at_once() : pages;
    for (int page = first; page < end; ++page) {
      fetch_page(segment + page + pages_at_once());
      for (int step = 0; step < kStepsOfPage; ++step) ahead.fetch_lines<kLinesOfStep>();
      lay_out_values(unit(segment + page) + size * kPageTokens, page);
    }
    const int count = (end - first) * tiles_;
    for (int done = 0; done < count; done += 4) {
      Chain chains[4];
      int32_t* sums[4];
      for (int i = 0; i < 4; ++i) {
        const int index = done + i < count ? done + i : count - 1;
        chains[i] = {query_planes_ + static_cast<size_t>(index % tiles_) * kTileRows * size,
                     kTileChannels, unit(segment + first + index / tiles_), kTileBytes};
        sums[i] = sums_ + index * (kTileBytes / 4);
      }
      multiply(chains, size / kTileChannels, size, sums);
    }
    for (int page = first; page < end; ++page) {
      scale_scores(segment + page, sums_ + (page - first) * tiles_ * (kTileBytes / 4),
                   scores_ + page * kPageTokens);
    }
  }

  void scale_scores(int index, const int32_t* sums, float* scores) const {
    const Lanes key_scales = load_half(scales(index));
    for (int r = 0; r < task_.rows; ++r) {
      const IntLanes whole = _mm512_load_si512(sums + r * kLanes);
      const IntLanes rest = _mm512_load_si512(sums + (task_.rows + r) * kLanes);
      const Lanes dots = in_256ths(whole, rest, queries_[r].sum);
      store(scores + r * kSegment, mul(dots, mul(key_scales, set1(queries_[r].scale))));
    }
  }

  // Page `page` of a segment fills four rows of the tiles of its 64 tokens.
  void lay_out_values(const uint8_t* values, int page) {
    const int blocks = task_.head_size / kLanes;
    uint8_t* tiles = values_ + page / kTilePages * blocks * kTileBytes + page % kTilePages * 256;
    for (int block = 0; block < blocks; ++block) {
      for (int i = 0; i < 4; ++i) {
        const IntLanes four = _mm512_loadu_si512(values + block * 256 + i * 64);
        _mm512_store_si512(tiles + block * kTileBytes + i * 64, four);
      }
    }
  }

  void weigh_all(int begin, int pages, Ahead& ahead) {
    alignas(64) float value_scales[kSegment];
    for (int page = 0; page < pages; ++page) {
      store(value_scales + page * kPageTokens,
            load_half(scales(begin / kPageTokens + page) + kPageTokens));
    }
    const int tokens = pages * kPageTokens;
    for (int r = 0; r < task_.rows; ++r) {
      const int seen = task_.limits[r] - begin;
      const Scored scored{scores_ + r * kSegment, value_scales, tokens, &seen};
      uint8_t* codes = weight_planes_ + r * kSegment;
      uint8_t* fractions = weight_planes_ + (task_.rows + r) * kSegment;
      const auto between = [&] { ahead.fetch_lines<kLinesOfStep>(); };
      const auto weigh = seen < tokens ? weigh_fine<1, true, decltype(between)>
                                       : weigh_fine<1, false, decltype(between)>;
      weigh(scored, result_.top + r, result_.total + r, codes, fractions, shares_ + r, between);
      for (int t = tokens; t < kSegment; t += kLanes) {
        store_int8(codes + t, set1(0.0f));
        store_int8(fractions + t, set1(0.0f));
      }
    }
  }

  void add_values(int pages) {
    const int blocks = task_.head_size / kLanes;
    const int count = (pages + kTilePages - 1) / kTilePages;
    for (int block = 0; block < blocks; block += 4) {
      for (int tile = 0; tile < tiles_; ++tile) {
        Chain chains[4];
        int32_t* sums[4];
        for (int i = 0; i < 4; ++i) {
          chains[i] = {weight_planes_ + static_cast<size_t>(tile) * kTileRows * kSegment,
                       kTileChannels, values_ + (block + i) * kTileBytes,
                       static_cast<size_t>(blocks) * kTileBytes};
          sums[i] = sums_ + (i * tiles_ + tile) * (kTileBytes / 4);
        }
        multiply(chains, count, kSegment, sums);
      }
      for (int i = 0; i < 4; ++i) add_block(block + i, sums_ + i * tiles_ * (kTileBytes / 4));
    }
  }

  void add_block(int block, const int32_t* sums) {
    for (int r = 0; r < task_.rows; ++r) {
      float* place = result_.out + r * kMaxHeadSize + block * kLanes;
      const IntLanes whole = _mm512_load_si512(sums + r * kLanes);
      const IntLanes rest = _mm512_load_si512(sums + (task_.rows + r) * kLanes);
      const Lanes sum = in_256ths(whole, rest, shares_[r].all.sum);
      store(place, fma(load(place), set1(shares_[r].factor), mul(sum, set1(shares_[r].all.scale))));
    }
  }

  const Attention& task_;
  const Attended& result_;
  const int planes_, tiles_;
  int limit_ = 0;
  FineScale queries_[kMaxRows];
  Share shares_[kMaxRows];
  alignas(64) uint8_t query_planes_[kMaxPlanes * kMaxHeadSize];
  alignas(64) uint8_t weight_planes_[kMaxPlanes * kSegment];
  alignas(64) uint8_t values_[kSegmentPages * kPageTokens * kMaxHeadSize];
  alignas(64) float scores_[kMaxRows * kSegment];
  alignas(64) int32_t sums_[4 * kMaxPlanes * kLanes];
};

}  // namespace

void attend_tiles(const Attention& task, const Attended& result) {
  TiledAttention(task, result).run();
}

}  // namespace thermesh
