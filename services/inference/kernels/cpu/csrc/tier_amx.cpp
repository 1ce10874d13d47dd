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
#include <cpuid.h>
#include <immintrin.h>

#include "attention_amx.h"
#include "tier.h"

#ifdef __linux__
#include <sys/syscall.h>
#include <unistd.h>
#endif

namespace thermesh {
namespace {

// With fewer rows a pass of AVX-512 is done before the tiles are laid out.
constexpr int kFewestRows = 5;
// Blocks of one row of tiles that are laid out at once, for several panels: 72 kB, of the
// stack. For one panel a few take turns, as it leaves little of the first level cache.
constexpr int kPiece = 64;
constexpr int kRing = 8;

// Blocks that are laid out before the one that is multiplied: the tile unit reads
// memory only, and would wait for what was stored just before.
constexpr int kAhead = 4;

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

// A block of weights as products want it: Q4 [16 * codes | codes], Q8 codes.
struct alignas(64) Laid {
  uint8_t codes[1024];
  float scale[kLanes];  // of 16ths
  float minimum[kLanes];
};

// Sums of one block: [rows][16]; Q8 has those of the fractions apart.
struct alignas(64) Sums {
  int32_t whole[kPanelRows * kLanes];
  int32_t rest[kPanelRows * kLanes];
};

inline __m512 load_half(const uint8_t* x) {
  return _mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(x)));
}

template <int32_t kKind>
inline void lay_out(const uint8_t* tile, Laid* laid) {
  fetch_far(tile + kFetchFarAhead, tile_bytes(kKind));
  const __m512 scale = load_half(tile);
  const __m512 minimum = kKind == kQ4_1
                             ? load_half(tile + 32)
                             : _mm512_mul_ps(scale, _mm512_set1_ps(kKind == kQ4_0 ? -8 : -128));
  _mm512_store_ps(laid->scale, _mm512_mul_ps(scale, _mm512_set1_ps(kFraction)));
  _mm512_store_ps(laid->minimum, minimum);
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
inline void store_sums(bool is_odd, Sums* sums) {
  if (is_odd) {
    _tile_stored(TILE_SUM_ODD, sums->whole, 64);
    if constexpr (kKind == kQ8_0) _tile_stored(TILE_REST_ODD, sums->rest, 64);
  } else {
    _tile_stored(TILE_SUM_EVEN, sums->whole, 64);
    if constexpr (kKind == kQ8_0) _tile_stored(TILE_REST_EVEN, sums->rest, 64);
  }
  asm volatile("" ::: "memory");
}

template <int32_t kKind, int kCount>
inline void add_scaled(const Laid& laid, const uint8_t* block, const Sums& sums, __m512* out) {
  const float* scales = reinterpret_cast<const float*>(block + scales_offset(kCount));
  const __m512 scale = _mm512_load_ps(laid.scale), minimum = _mm512_load_ps(laid.minimum);
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

// One panel times `blocks` blocks of one row of tiles.
struct Part {
  const uint8_t* tile;  // null where `laid` is laid out already
  Laid* laid;
  const uint8_t* panel;
  int blocks;
  float* out;
  size_t stride;
  bool adds;
  int places;  // of `laid`, a power of two: later blocks lie in those of earlier ones

  Laid& laid_at(int block) const { return laid[block & (places - 1)]; }
};

// Block by block: while the sums of one are scaled, those of the next one are stored
// and the tile unit multiplies the one after.
template <int32_t kKind, int kCount>
void multiply_part(const Part& part) {
  const auto prepare = [&](int block) {
    if (!part.tile || block >= part.blocks) return;
    lay_out<kKind>(part.tile + block * tile_bytes(kKind), &part.laid_at(block));
  };
  const auto panel = [&](int block) { return part.panel + block * panel_block_bytes(kCount); };
  const auto begin = [&](int block) {
    prepare(block + kAhead);
    if (block < part.blocks) multiply<kKind>(part.laid_at(block), panel(block), block % 2);
  };
  for (int block = 0; block < kAhead; ++block) prepare(block);
  __m512 out[kCount];
  for (int r = 0; r < kCount; ++r) out[r] = _mm512_setzero_ps();
  Sums sums[2];
  begin(0);
  begin(1);
  store_sums<kKind>(false, &sums[0]);
  for (int block = 0; block < part.blocks; ++block) {
    const int next = block + 1;
    if (next < part.blocks) store_sums<kKind>(next % 2, &sums[next % 2]);
    begin(block + 2);
    add_scaled<kKind, kCount>(part.laid_at(block), panel(block), sums[block % 2], out);
  }
  for (int r = 0; r < kCount; ++r) {
    float* place = part.out + r * part.stride;
    const __m512 old = part.adds ? _mm512_loadu_ps(place) : _mm512_setzero_ps();
    _mm512_storeu_ps(place, part.adds ? _mm512_add_ps(old, out[r]) : out[r]);
  }
}

template <int32_t kKind, int kCount = kPanelRows>
void multiply_rows(const Part& part, int rows) {
  if constexpr (kCount > 1) {
    if (rows < kCount) return multiply_rows<kKind, kCount - 1>(part, rows);
  }
  multiply_part<kKind, kCount>(part);
}

template <int32_t kKind>
void multiply_tiles(const Product& task) {
  Laid laid[kPiece];
  const int places = task.rows > kPanelRows ? kPiece : kRing;
  int shaped = 0;
  for (int index = 0; index < task.tile_rows; ++index) {
    const uint8_t* tile =
        task.tiles + static_cast<size_t>(index) * task.blocks * tile_bytes(kKind);
    for (int row = 0; row < task.rows; row += kPanelRows) {
      const int rows = task.rows - row < kPanelRows ? task.rows - row : kPanelRows;
      if (shaped != rows) {
        const Shapes shapes(kKind, shaped = rows);
        asm volatile("" ::: "memory");
        _tile_loadconfig(&shapes);
      }
      multiply_rows<kKind>({row == 0 ? tile : nullptr, laid,
                            task.panels + static_cast<size_t>(row) / kPanelRows * task.blocks *
                                              panel_block_bytes(kPanelRows),
                            task.blocks, task.out + row * task.stride + index * kLanes,
                            task.stride, task.adds, places},
                           rows);
    }
  }
  // Without it every switch of threads would save 8 kB of tiles.
  _tile_release();
}

void product(const Product& task) {
  if (task.rows < kFewestRows || task.blocks > kPiece || is_wide(task.kind)) {
    return tier_avx512().product(task);
  }
  switch (task.kind) {
    case kQ4_0: return multiply_tiles<kQ4_0>(task);
    case kQ4_1: return multiply_tiles<kQ4_1>(task);
    default: return multiply_tiles<kQ8_0>(task);
  }
}

void attend_int8(const Attention& task, const Attended& result) {
  const bool fits = fits_tiles(task.head_size);
  (fits ? attend_tiles : tier_avx512().attend[kInt8])(task, result);
}

}  // namespace

bool allows_amx() {
#ifdef __linux__
  constexpr unsigned kTile = 1u << 24, kInt8 = 1u << 25, kBfloat16 = 1u << 22;
  constexpr unsigned kAll = kTile | kInt8 | kBfloat16;
  unsigned a, b, c, d;
  if (!__get_cpuid_count(7, 0, &a, &b, &c, &d) || (d & kAll) != kAll) return false;
  constexpr unsigned kVectorsOfBfloat16 = 1u << 5;
  if (!__get_cpuid_count(7, 1, &a, &b, &c, &d) || !(a & kVectorsOfBfloat16)) return false;
  // Linux saves the tiles of a process only if it has asked for them
  // (https://docs.kernel.org/arch/x86/xstate.html); one without AMX refuses.
  constexpr long kRequestPermission = 0x1023, kTileData = 18;
  return syscall(SYS_arch_prctl, kRequestPermission, kTileData) == 0;
#else
  return false;
#endif
}

const Tier& tier_amx() {
  static const Tier tier = [] {
    Tier own = tier_avx512();
    own.name = "avx512-amx";
    own.product = product;
    own.prompt_product = amx_prompt_product;
    own.to_bfloat16 = amx_to_bfloat16;
    own.silu_mul_to_bfloat16 = amx_silu_mul_to_bfloat16;
    own.attend[kInt8] = attend_int8;
    own.attend_prompt[kHalf] = attend_prompt_tiles;
    return own;
  }();
  return tier;
}

}  // namespace thermesh
