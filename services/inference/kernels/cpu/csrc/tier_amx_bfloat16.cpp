// Products of prompts with Advanced Matrix Extensions: activations and weights as
// bfloat16, sums in float.
//
// The sums of a product of integers must leave the tile unit after each block of 32
// columns, which has its own scale; moving and scaling them takes several times as
// long as the product. Weights that are dequantised before need that once for all
// columns. It pays for many rows, among which the dequantising is divided.
//
// A sum has one order whatever the number of rows: each instruction adds 16 pairs of
// columns to it, and blocks come in order.
#include <immintrin.h>

#include "amx_bfloat16.h"
#include "tier.h"

namespace thermesh {
namespace {

// Tile registers of two panels times two rows of tiles. Macros, as GCC's intrinsics
// paste them into assembly.
#define TILE_SUM_00 0
#define TILE_SUM_01 1
#define TILE_SUM_10 2
#define TILE_SUM_11 3
#define TILE_ROWS_0 4
#define TILE_ROWS_1 5
#define TILE_WEIGHTS_0 6
#define TILE_WEIGHTS_1 7

// Blocks whose weights are dequantised at once: those of two rows of tiles, 36 kB, stay
// in the first level cache while the panels pass by. Longer rows are added piece by
// piece.
constexpr int kPiece = 18;

inline __m512 load_half(const uint8_t* x) {
  return _mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(x)));
}

// The code at bit `kShift` of every lane as 1 + code / 2^kBits.
template <int kShift, int kBits>
inline __m512 fraction_of(__m512i codes) {
  constexpr int kPlace = 23 - kBits;
  const __m512i mask = _mm512_set1_epi32(((1 << kBits) - 1) << kPlace);
  const __m512i one = _mm512_set1_epi32(0x3F800000);
  const __m512i moved = kShift < kPlace ? _mm512_slli_epi32(codes, (kPlace - kShift) & 31)
                                        : _mm512_srli_epi32(codes, (kShift - kPlace) & 31);
  return _mm512_castsi512_ps(_mm512_ternarylogic_epi32(moved, mask, one, 0xEA));
}

template <int32_t kKind>
inline __m512 load_wide(const uint16_t* x) {
  if constexpr (kKind == kF16) return load_half(reinterpret_cast<const uint8_t*>(x));
  const __m256i upper = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(x));
  return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(upper), 16));
}

// Weights of bfloat16 stay what they are, half precision is rounded.
template <int32_t kKind>
inline void pair_up(const uint8_t* tile, uint8_t* out) {
  fetch_far(tile + kFetchFarAhead, tile_bytes(kKind));
  const uint16_t* columns = reinterpret_cast<const uint16_t*>(tile);
  for (int i = 0; i < kBlock / 2; ++i, columns += 2 * kLanes) {
    const __m512 first = load_wide<kKind>(columns), second = load_wide<kKind>(columns + kLanes);
    _mm512_store_si512(out + 64 * i, paired(first, second));
  }
}

template <int32_t kKind>
inline void dequantise(const uint8_t* tile, uint8_t* out) {
  if constexpr (is_wide(kKind)) return pair_up<kKind>(tile, out);
  constexpr int kBits = kKind == kQ8_0 ? 8 : 4;
  constexpr float kCodes = 1 << kBits;
  fetch_far(tile + kFetchFarAhead, tile_bytes(kKind));
  const __m512 stored = load_half(tile);
  const __m512 scale = _mm512_mul_ps(stored, _mm512_set1_ps(kCodes));
  // Of code -2^kBits, which is what 0 stands for here.
  const __m512 base =
      kKind == kQ4_1 ? _mm512_sub_ps(load_half(tile + 32), scale)
                     : _mm512_mul_ps(scale, _mm512_set1_ps(-1.5f));
  const uint8_t* codes = tile + code_offset(kKind);
  const auto store = [&](int row, __m512 first, __m512 second) {
    first = _mm512_fmadd_ps(first, scale, base);
    second = _mm512_fmadd_ps(second, scale, base);
    _mm512_store_si512(out + 64 * row, paired(first, second));
  };
  for (int i = 0; i < code_bytes(kKind) / 64; ++i) {
    const __m512i four = _mm512_loadu_si512(codes + 64 * i);
    if constexpr (kKind == kQ8_0) {
      store(2 * i, fraction_of<0, 8>(four), fraction_of<8, 8>(four));
      store(2 * i + 1, fraction_of<16, 8>(four), fraction_of<24, 8>(four));
    } else {
      store(4 * i, fraction_of<0, 4>(four), fraction_of<8, 4>(four));
      store(4 * i + 1, fraction_of<16, 4>(four), fraction_of<24, 4>(four));
      store(4 * i + 2, fraction_of<4, 4>(four), fraction_of<12, 4>(four));
      store(4 * i + 3, fraction_of<20, 4>(four), fraction_of<28, 4>(four));
    }
  }
}

template <int kPanels, int kTiles>
inline void clear_sums() {
  asm volatile("" ::: "memory");
  _tile_zero(TILE_SUM_00);
  if constexpr (kTiles > 1) _tile_zero(TILE_SUM_01);
  if constexpr (kPanels > 1) _tile_zero(TILE_SUM_10);
  if constexpr (kPanels > 1 && kTiles > 1) _tile_zero(TILE_SUM_11);
}

// Adds one block of kPanels panels times kTiles rows of tiles. Panels come from the second
// level cache and are told to leave the first one to the weights.
template <int kPanels, int kTiles>
inline void add_block(const uint8_t* rows, size_t panel_stride, const uint8_t* weights,
                      size_t tile_stride) {
  _tile_loadd(TILE_WEIGHTS_0, weights, 64);
  _tile_stream_loadd(TILE_ROWS_0, rows, 64);
  if constexpr (kTiles > 1) _tile_loadd(TILE_WEIGHTS_1, weights + tile_stride, 64);
  if constexpr (kPanels > 1) _tile_stream_loadd(TILE_ROWS_1, rows + panel_stride, 64);
  _tile_dpbf16ps(TILE_SUM_00, TILE_ROWS_0, TILE_WEIGHTS_0);
  if constexpr (kTiles > 1) _tile_dpbf16ps(TILE_SUM_01, TILE_ROWS_0, TILE_WEIGHTS_1);
  if constexpr (kPanels > 1) _tile_dpbf16ps(TILE_SUM_10, TILE_ROWS_1, TILE_WEIGHTS_0);
  if constexpr (kPanels > 1 && kTiles > 1) {
    _tile_dpbf16ps(TILE_SUM_11, TILE_ROWS_1, TILE_WEIGHTS_1);
  }
}

// Where the sums of one panel and one row of tiles go.
struct Place {
  float* out;
  size_t stride;
  int rows;
  bool adds;
};

inline void copy_out(const float* sums, const Place& place) {
  for (int r = 0; r < place.rows; ++r) {
    float* out = place.out + r * place.stride;
    const __m512 own = _mm512_load_ps(sums + r * kLanes);
    _mm512_storeu_ps(out, place.adds ? _mm512_add_ps(_mm512_loadu_ps(out), own) : own);
  }
}

// A macro, as the number of a tile register is part of the instruction.
#define STORE_SUM(TILE, place) \
  store_sum(place, [](float* out, size_t stride) { _tile_stored(TILE, out, stride); })

template <typename Store>
inline void store_sum(const Place& place, const Store& store) {
  if (!place.adds && place.rows == kPanelRows) {
    store(place.out, place.stride * sizeof(float));
    asm volatile("" ::: "memory");
    return;
  }
  alignas(64) float sums[kPanelRows * kLanes];
  store(sums, 64);
  asm volatile("" ::: "memory");
  copy_out(sums, place);
}

// Some blocks of a product, and their weights for up to two rows of tiles.
struct Piece {
  const Product& task;
  int first, blocks;
  uint8_t* weights;  // [tile row][block]

  size_t panel_stride() const { return static_cast<size_t>(task.blocks) * kPromptBlockBytes; }
  size_t tile_stride() const { return static_cast<size_t>(blocks) * kPromptBlockBytes; }
  const uint8_t* rows(int row) const {
    return task.panels + row / kPanelRows * panel_stride() + first * kPromptBlockBytes;
  }
};

// Of panels from `row` on, times the weights of one block.
template <int kPanels, int kTiles>
inline void add_block(const Piece& piece, int row, int block) {
  const size_t place = static_cast<size_t>(block) * kPromptBlockBytes;
  add_block<kPanels, kTiles>(piece.rows(row) + place, piece.panel_stride(), piece.weights + place,
                             piece.tile_stride());
}

// Panels from `row` on, rows of tiles from `index` on.
template <int kPanels, int kTiles>
inline void store_sums(const Piece& piece, int row, int index) {
  asm volatile("" ::: "memory");
  const Product& task = piece.task;
  const auto place = [&](int panel, int tile) {
    const int first = row + panel * kPanelRows;
    const int rows = task.rows - first < kPanelRows ? task.rows - first : kPanelRows;
    return Place{task.out + first * task.stride + (index + tile) * kLanes, task.stride, rows,
                 task.adds || piece.first > 0};
  };
  STORE_SUM(TILE_SUM_00, place(0, 0));
  if constexpr (kTiles > 1) STORE_SUM(TILE_SUM_01, place(0, 1));
  if constexpr (kPanels > 1) STORE_SUM(TILE_SUM_10, place(1, 0));
  if constexpr (kPanels > 1 && kTiles > 1) STORE_SUM(TILE_SUM_11, place(1, 1));
}

template <int kPanels, int kTiles>
inline void multiply_part(const Piece& piece, int row, int index) {
  clear_sums<kPanels, kTiles>();
  for (int block = 0; block < piece.blocks; ++block) {
    add_block<kPanels, kTiles>(piece, row, block);
  }
  store_sums<kPanels, kTiles>(piece, row, index);
}

// The first panels are multiplied while the weights are dequantised, so that both units have
// work: of a chunk of few tokens there are no others. A tile waits for what was stored just
// before it, so products are some blocks behind.
template <int32_t kKind, int kPanels, int kTiles>
inline void multiply_first(const Piece& piece, int index) {
  constexpr int kBehind = 2;
  const Product& task = piece.task;
  const size_t before = static_cast<size_t>(index) * task.blocks + piece.first;
  const uint8_t* packed = task.tiles + before * tile_bytes(kKind);
  const size_t packed_stride = static_cast<size_t>(task.blocks) * tile_bytes(kKind);
  clear_sums<kPanels, kTiles>();
  for (int block = 0; block < piece.blocks + kBehind; ++block) {
    for (int tile = 0; tile < kTiles && block < piece.blocks; ++tile) {
      dequantise<kKind>(packed + tile * packed_stride + block * tile_bytes(kKind),
                        piece.weights + tile * piece.tile_stride() + block * kPromptBlockBytes);
    }
    asm volatile("" ::: "memory");
    if (block >= kBehind) add_block<kPanels, kTiles>(piece, 0, block - kBehind);
  }
  store_sums<kPanels, kTiles>(piece, 0, index);
}

template <int32_t kKind, int kTiles>
void multiply_tiles(const Piece& piece, int index) {
  const int rows = piece.task.rows;
  if (rows <= kPanelRows) return multiply_first<kKind, 1, kTiles>(piece, index);
  multiply_first<kKind, 2, kTiles>(piece, index);
  int row = 2 * kPanelRows;
  for (; row + kPanelRows < rows; row += 2 * kPanelRows) {
    multiply_part<2, kTiles>(piece, row, index);
  }
  if (row < rows) multiply_part<1, kTiles>(piece, row, index);
}

template <int32_t kKind>
void multiply_all(const Product& task) {
  alignas(64) uint8_t weights[kTilesTogether * kPiece * kPromptBlockBytes];
  const WholeTiles tiles;
  asm volatile("" ::: "memory");
  _tile_loadconfig(&tiles);
  for (int index = 0; index < task.tile_rows; index += kTilesTogether) {
    for (int first = 0; first < task.blocks; first += kPiece) {
      const int blocks = task.blocks - first < kPiece ? task.blocks - first : kPiece;
      const Piece piece{task, first, blocks, weights};
      if (index + 1 < task.tile_rows) {
        multiply_tiles<kKind, 2>(piece, index);
      } else {
        multiply_tiles<kKind, 1>(piece, index);
      }
    }
  }
  // Without it every switch of threads would save 8 kB of tiles.
  _tile_release();
}

void enter(const float* x, int blocks, uint8_t* panel, int row) {
  panel += row * kRowBytes;
  for (int block = 0; block < blocks; ++block, x += kBlock, panel += kPromptBlockBytes) {
    _mm512_store_si512(panel, in_turn(_mm512_loadu_ps(x), _mm512_loadu_ps(x + kLanes)));
  }
}

void enter_gated(const float* gate, const float* up, int blocks, uint8_t* panel, int row) {
  // The largest finite power keeps 0 times infinity away.
  const __m512 one = _mm512_set1_ps(1.0f), factor = _mm512_set1_ps(-kLog2OfE);
  const __m512 most = _mm512_set1_ps(126.0f);
  const auto gated = [&](int i) {
    const __m512 x = _mm512_loadu_ps(gate + i);
    const __m512 power = power_of_two(_mm512_min_ps(_mm512_mul_ps(x, factor), most));
    const __m512 sigmoid = _mm512_rcp14_ps(_mm512_add_ps(one, power));
    return _mm512_mul_ps(_mm512_mul_ps(x, sigmoid), _mm512_loadu_ps(up + i));
  };
  panel += row * kRowBytes;
  for (int i = 0; i < blocks * kBlock; i += kBlock, panel += kPromptBlockBytes) {
    _mm512_store_si512(panel, in_turn(gated(i), gated(i + kLanes)));
  }
}

void product(const Product& task) {
  switch (task.kind) {
    case kF16: return multiply_all<kF16>(task);
    case kBf16: return multiply_all<kBf16>(task);
    case kQ4_0: return multiply_all<kQ4_0>(task);
    case kQ4_1: return multiply_all<kQ4_1>(task);
    default: return multiply_all<kQ8_0>(task);
  }
}

}  // namespace

const Prompts& amx_prompts() {
  static constexpr Prompts prompts{kPromptBlockBytes, product, enter, enter_gated};
  return prompts;
}

}  // namespace thermesh
