// Advanced Matrix Extensions (Sapphire Rapids and later): the products of several
// rows; everything else is that of AVX-512.
//
// One instruction multiplies up to 16 rows of 64 signed bytes with 64 rows of 16
// unsigned ones, in four-byte groups of columns as `vpdpbusd` has them, and so as
// tiles already are. A block of 32 columns has a scale of its own and so a sum of
// its own: both halves of its activations, codes and fractions, fill the 64. Eight
// bits of weight leave no room for 16 * weight; there the halves are two products.
//
// Integers are exact and the scaling has the order of operations of tier_avx512,
// hence the same bits whichever of the two computes a row.
#include <immintrin.h>

#include "attention_amx.h"
#include "tier.h"

namespace thermesh {
namespace {

// With fewer rows a pass of AVX-512 is done before the tiles are laid out.
constexpr int kFewestRows = 5;
// Blocks that are laid out, begun and stored before the one that is scaled. The tile unit
// reads memory only, and what reads it behind a store waits until that has gone there.
constexpr int kLaidAhead = 6;
constexpr int kBegunAhead = 3;
constexpr int kStoredAhead = 2;

// Tile registers. Blocks take turns with two sets of them, so that a product has the
// time of a whole block before its sums are stored: a store that waits for them holds
// up all that follows. Macros, as GCC's intrinsics paste them into assembly.
#define TILE_SUM_EVEN 0
#define TILE_SUM_ODD 1
// Weights of four bits.
#define TILE_ROWS_EVEN 2
#define TILE_ROWS_ODD 3
#define TILE_WEIGHTS_EVEN 4
#define TILE_WEIGHTS_ODD 5
// Weights of eight bits, whose products of codes and of fractions are apart.
#define TILE_REST_EVEN 2
#define TILE_REST_ODD 3
#define TILE_CODES 4
#define TILE_FRACTIONS 5
#define TILE_HALF_EVEN 6
#define TILE_HALF_ODD 7

// The operand of `ldtilecfg`.
struct alignas(64) Shapes {
  uint8_t palette = 1, start_row = 0;
  uint8_t reserved[14] = {};
  uint16_t row_bytes[16] = {64, 64, 64, 64, 64, 64, 64, 64};
  uint8_t rows[16] = {16, 16, 16, 16, 16, 16, 8, 8};

  Shapes(int32_t kind, int count) {
    const uint8_t own = static_cast<uint8_t>(count);
    for (int i = 0; i < 4; ++i) rows[i] = own;
    if (kind != kQ8_0) return;
    row_bytes[TILE_CODES] = row_bytes[TILE_FRACTIONS] = kBlock;
    rows[TILE_CODES] = rows[TILE_FRACTIONS] = own;
  }
};

// A block of weights as products want it: Q4 [16 * codes | codes], Q8 codes. Nothing else, as
// a few of them, sums and a panel of 576 columns just fit the first level cache.
struct alignas(64) Laid {
  uint8_t codes[1024];
};

// Sums of one block: [rows][16]; Q8 has those of the fractions apart.
template <int32_t kKind>
struct alignas(64) Sums {
  int32_t whole[kPanelRows * kLanes];
  int32_t rest[kKind == kQ8_0 ? kPanelRows * kLanes : 1];
};

inline __m512 load_half(const uint8_t* x) {
  return _mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(x)));
}

template <int32_t kKind>
inline void lay_out(const uint8_t* tile, Laid* laid) {
  fetch(tile + kFetchNearAhead, tile_bytes(kKind));
  fetch_far(tile + kFetchFarAhead, tile_bytes(kKind));
  const uint8_t* stored = tile + code_offset(kKind);
  if constexpr (kKind == kQ8_0) {
    for (int i = 0; i < 8; ++i) {
      _mm512_store_si512(laid->codes + 64 * i, _mm512_loadu_si512(stored + 64 * i));
    }
  } else {
    const __m512i low = _mm512_set1_epi8(0x0F), high = _mm512_set1_epi8(static_cast<char>(0xF0));
    for (int i = 0; i < 4; ++i) {
      const __m512i both = _mm512_loadu_si512(stored + 64 * i);
      uint8_t* sixteenfold = laid->codes + 128 * i;
      const __m512i first = _mm512_and_si512(both, low), second = _mm512_and_si512(both, high);
      _mm512_store_si512(sixteenfold, _mm512_slli_epi16(first, 4));
      _mm512_store_si512(sixteenfold + 64, second);
      _mm512_store_si512(sixteenfold + 512, first);
      _mm512_store_si512(sixteenfold + 576, _mm512_srli_epi16(second, 4));
    }
  }
}

#define MULTIPLY_WHOLE(SUM, ROWS, WEIGHTS) \
  _tile_zero(SUM);                         \
  _tile_loadd(WEIGHTS, laid.codes, 64);    \
  _tile_loadd(ROWS, block, kRowBytes);     \
  _tile_dpbsud(SUM, ROWS, WEIGHTS)

#define MULTIPLY_HALVES(SUM, REST, WEIGHTS)               \
  _tile_zero(SUM);                                        \
  _tile_zero(REST);                                       \
  _tile_loadd(WEIGHTS, laid.codes, 64);                   \
  _tile_loadd(TILE_CODES, block, kRowBytes);              \
  _tile_loadd(TILE_FRACTIONS, block + kBlock, kRowBytes); \
  _tile_dpbsud(SUM, TILE_CODES, WEIGHTS);                 \
  _tile_dpbsud(REST, TILE_FRACTIONS, WEIGHTS)

// Begins the product of a block, with the registers of odd or of even blocks.
template <int32_t kKind>
inline void multiply(const Laid& laid, const uint8_t* block, bool is_odd) {
  // GCC's intrinsics do not say that they read memory.
  asm volatile("" ::: "memory");
  if constexpr (kKind == kQ8_0) {
    if (is_odd) {
      MULTIPLY_HALVES(TILE_SUM_ODD, TILE_REST_ODD, TILE_HALF_ODD);
    } else {
      MULTIPLY_HALVES(TILE_SUM_EVEN, TILE_REST_EVEN, TILE_HALF_EVEN);
    }
  } else if (is_odd) {
    MULTIPLY_WHOLE(TILE_SUM_ODD, TILE_ROWS_ODD, TILE_WEIGHTS_ODD);
  } else {
    MULTIPLY_WHOLE(TILE_SUM_EVEN, TILE_ROWS_EVEN, TILE_WEIGHTS_EVEN);
  }
  asm volatile("" ::: "memory");
}

// Waits for it.
template <int32_t kKind>
inline void store_sums(bool is_odd, Sums<kKind>* sums) {
  if (is_odd) {
    _tile_stored(TILE_SUM_ODD, sums->whole, 64);
    if constexpr (kKind == kQ8_0) _tile_stored(TILE_REST_ODD, sums->rest, 64);
  } else {
    _tile_stored(TILE_SUM_EVEN, sums->whole, 64);
    if constexpr (kKind == kQ8_0) _tile_stored(TILE_REST_EVEN, sums->rest, 64);
  }
  asm volatile("" ::: "memory");
}

// Loops over rows are unrolled, as else GCC keeps the sums in memory.
template <int32_t kKind, int kCount>
inline void add_scaled(const uint8_t* tile, const uint8_t* block, const Sums<kKind>& sums,
                       __m512* out) {
  const float* scales = reinterpret_cast<const float*>(block + scales_offset(kCount));
  const __m512 whole_scale = load_half(tile);  // its 16ths are what is summed
  const __m512 minimum =
      kKind == kQ4_1 ? load_half(tile + 32)
                     : _mm512_mul_ps(whole_scale, _mm512_set1_ps(kKind == kQ4_0 ? -8 : -128));
  const __m512 scale = _mm512_mul_ps(whole_scale, _mm512_set1_ps(kFraction));
#pragma GCC unroll 16
  for (int r = 0; r < kCount; ++r) {
    __m512i dot = _mm512_load_si512(sums.whole + r * kLanes);
    if constexpr (kKind == kQ8_0) {
      const __m512i rest = _mm512_load_si512(sums.rest + r * kLanes);
      dot = _mm512_add_epi32(_mm512_slli_epi32(dot, 4), rest);
    }
    const __m512 own = _mm512_mul_ps(scale, _mm512_set1_ps(scales[r]));
    out[r] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(dot), own, out[r]);
    out[r] = _mm512_fmadd_ps(minimum, _mm512_set1_ps(scales[kCount + r]), out[r]);
  }
}

// Rows of tiles times one panel, as one pipeline from the first block to the last: while
// the sums of a block are scaled, those of a later one are stored, the tile unit
// multiplies one after that, and yet another is laid out.
template <int32_t kKind, int kCount>
class PanelProduct {
 public:
  explicit PanelProduct(const Product& task)
      : task_(task), blocks_(task.tile_rows * task.blocks) {}

  void run() {
    for (int block = 0; block < kLaidAhead; ++block) lay(block);
    for (int block = 0; block < kBegunAhead; ++block) {
      store(block - (kBegunAhead - kStoredAhead));
      begin(block);
    }
    for (int index = 0; index < task_.tile_rows; ++index) multiply_row(index);
  }

 private:
  static constexpr unsigned kRing = 8, kKept = 4;  // later blocks lie in places of earlier ones
  static_assert(kLaidAhead < kRing && kStoredAhead < kKept);
  static constexpr size_t kPanelBytes = panel_block_bytes(kCount);

  void multiply_row(int index) {
    __m512 sums[kCount];
#pragma GCC unroll 16
    for (int r = 0; r < kCount; ++r) sums[r] = _mm512_setzero_ps();
    int block = index * task_.blocks;
    for (int column = 0; column < task_.blocks; ++column, ++block) {
      lay(block + kLaidAhead);
      store(block + kStoredAhead);
      begin(block + kBegunAhead);
      add_scaled<kKind, kCount>(tile_at(block), task_.panels + column * kPanelBytes,
                                kept_[block % kKept], sums);
    }
#pragma GCC unroll 16
    for (int r = 0; r < kCount; ++r) {
      float* place = task_.out + r * task_.stride + index * kLanes;
      const __m512 old = task_.adds ? _mm512_loadu_ps(place) : _mm512_setzero_ps();
      _mm512_storeu_ps(place, task_.adds ? _mm512_add_ps(old, sums[r]) : sums[r]);
    }
  }

  void lay(int block) {
    if (block >= blocks_) return;
    run_errand(task_.errand);
    lay_out<kKind>(tile_at(block), &laid_[block % kRing]);
  }

  const uint8_t* tile_at(int block) const {
    return task_.tiles + static_cast<size_t>(block) * tile_bytes(kKind);
  }

  void begin(int block) {
    if (block >= blocks_) return;
    multiply<kKind>(laid_[block % kRing], task_.panels + column_ * kPanelBytes, block % 2);
    if (++column_ == task_.blocks) column_ = 0;
  }

  void store(int block) {
    if (block >= 0 && block < blocks_) store_sums<kKind>(block % 2, &kept_[block % kKept]);
  }

  const Product& task_;
  const int blocks_;
  int column_ = 0;  // of the block that is begun next
  Laid laid_[kRing];
  Sums<kKind> kept_[kKept];
};

template <int32_t kKind, int kCount = kPanelRows>
void multiply_panel(const Product& task) {
  if constexpr (kCount > 1) {
    if (task.rows < kCount) return multiply_panel<kKind, kCount - 1>(task);
  }
  const Shapes shapes(kKind, kCount);
  asm volatile("" ::: "memory");
  _tile_loadconfig(&shapes);
  PanelProduct<kKind, kCount>(task).run();
}

template <int32_t kKind>
void multiply_tiles(const Product& task) {
  // Rows of tiles that one panel after the other is multiplied with: meanwhile they stay
  // in the second level cache.
  constexpr int kGroup = 8;
  Product part = task;
  for (int first = 0; first < task.tile_rows; first += part.tile_rows) {
    part.tile_rows = task.rows > kPanelRows && task.tile_rows - first > kGroup
                         ? kGroup : task.tile_rows - first;
    part.tiles = task.tiles + static_cast<size_t>(first) * task.blocks * tile_bytes(kKind);
    for (int row = 0; row < task.rows; row += kPanelRows) {
      part.rows = task.rows - row < kPanelRows ? task.rows - row : kPanelRows;
      part.panels = task.panels + static_cast<size_t>(row) / kPanelRows * task.blocks *
                                      panel_block_bytes(kPanelRows);
      part.out = task.out + row * task.stride + first * kLanes;
      multiply_panel<kKind>(part);
    }
  }
  // Without it every switch of threads would save 8 kB of tiles.
  _tile_release();
}

void product(const Product& task) {
  if (task.rows < kFewestRows || is_wide(task.kind)) {
    return tier_avx512().product(task);
  }
  switch (task.kind) {
    case kQ4_0: return multiply_tiles<kQ4_0>(task);
    case kQ4_1: return multiply_tiles<kQ4_1>(task);
    default: return multiply_tiles<kQ8_0>(task);
  }
}

void attend_int8(const Attention& task, const Attended& result) {
  // Few rows are a few lines of a tile, which take as long as all.
  constexpr int kFewRows = 5;
  const bool fits = task.rows > kFewRows && fits_tiles(task.head_size);
  (fits ? attend_tiles : tier_avx512().attend[kInt8])(task, result);
}

}  // namespace

const Tier& tier_amx() {
  static const Tier tier = [] {
    Tier own = tier_avx512();
    own.name = "avx512-amx";
    own.product = product;
    own.errand_rows = kFewestRows;
    own.prompts = &amx_prompts();
    own.attend[kInt8] = attend_int8;
    own.attend_prompt[kHalf] = attend_prompt_half;
    own.attend_prompt[kInt8] = attend_prompt_int8;
    own.attend_prompt[kInt10] = attend_prompt_int10;
    return own;
  }();
  return tier;
}

}  // namespace thermesh
