// Products of prompts with VNNI: activations in eight bits, weights as they are, sums in float.
//
// A few channels carry most of what a network computes with. In a block of eight bits they
// leave nothing to their neighbours, so that a row needs twelve, two products instead of one.
// Here columns are turned by a Hadamard matrix before, which spreads what stands out over 16
// of them (Ashkboos et al., 2024, https://arxiv.org/abs/2404.00456), and eight bits do. The
// codes of weights are turned likewise once for all rows of a step: sums of 16 codes of four
// bits are whole numbers of eight, so nothing is lost there. For one row that would take longer
// than the second product.
//
// A sum has one order whatever the number of rows: blocks come in order.
#include <immintrin.h>
#include <math.h>

#include "bfloat16.h"
#include "lanes_avx512.h"
#include "tier.h"

namespace thermesh {
namespace {

#include "numbers_body.h"

// What a row has of a block.
struct Record {
  uint8_t codes[kBlock];  // plus 128
  float scale;
  float whole;  // the sum of its numbers, which stays as it is
};
constexpr int kPanelBlockBytes = kPanelRows * sizeof(Record);
static_assert(kPanelBlockBytes <= kPromptBlockBytes);

// Columns are turned together whose numbers differ in these bits. The fifth is left: sums of
// 32 codes would not fit into eight bits.
constexpr int kTurned = 16;
constexpr int kStrides[] = {1, 4, 8, 16};
constexpr float kInverseTurned = 1.0f / kTurned;

// Blocks whose weights are laid out at once: those of two rows of tiles, 23 kB, stay in the
// first level cache while the rows pass by.
constexpr int kPiece = 18;
// Their sums of integers and of floats fill the registers.
constexpr int kPassRows = 6;

// Weights of 16 outputs: base + scale * code, where codes are turned.
struct Block {
  int8_t codes[kLanes * kBlock];  // [32 / 4][16 outputs][4 columns]
  int32_t start[kLanes];          // of sums of products: what 128 more in each row adds, less
  float scale[kLanes], base[kLanes];

  void store_codes(int column, __m512i four) {
    _mm512_store_si512(codes + column * kLanes, four);
  }
  void set_start() {
    const __m512i more = _mm512_set1_epi8(-128);
    __m512i sum = _mm512_setzero_si512();
    for (int i = 0; i < kBlock; i += 4) {
      sum = _mm512_dpbusd_epi32(sum, more, _mm512_load_si512(codes + i * kLanes));
    }
    _mm512_store_si512(start, _mm512_sub_epi32(_mm512_setzero_si512(), sum));
  }
};

// Codes of four bits, as they are stored.
inline void turn_four_bits(const uint8_t* stored, Block* block) {
  const __m512i nibble = _mm512_set1_epi8(15), middle = _mm512_set1_epi8(8);
  const __m512i neighbours = _mm512_set4_epi32(0x0E0F0C0D, 0x0A0B0809, 0x06070405, 0x02030001);
  const auto turned = [&](__m512i codes) {
    const __m512i own = _mm512_sub_epi8(_mm512_and_si512(codes, nibble), middle);
    const __m512i other = _mm512_shuffle_epi8(own, neighbours);
    constexpr __mmask64 kOdd = 0xAAAAAAAAAAAAAAAA;
    return _mm512_mask_sub_epi8(_mm512_add_epi8(own, other), kOdd, other, own);
  };
  __m512i codes[8];
  for (int i = 0; i < 4; ++i) {
    const __m512i both = load_codes(stored + 64 * i);
    codes[2 * i] = turned(both);
    codes[2 * i + 1] = turned(_mm512_srli_epi16(both, 4));
  }
  for (int stride = 1; stride < 8; stride *= 2) {
    for (int i = 0; i < 8; ++i) {
      if (i & stride) continue;
      const __m512i first = codes[i], second = codes[i + stride];
      codes[i] = _mm512_add_epi8(first, second);
      codes[i + stride] = _mm512_sub_epi8(first, second);
    }
  }
  for (int i = 0; i < 8; ++i) block->store_codes(4 * i, codes[i]);
}

template <int32_t kKind>
inline Lanes column(const uint8_t* tile, int i) {
  const uint16_t* wide = reinterpret_cast<const uint16_t*>(tile) + i * kLanes;
  if constexpr (kKind == kF16) return load_half(wide);
  if constexpr (kKind == kBf16) return load_bfloat16(wide);
  const __m512i four = load_codes(tile + code_offset(kKind) + i / 4 * 64);
  const __m512i code =
      _mm512_and_si512(_mm512_srli_epi32(four, i % 4 * 8), _mm512_set1_epi32(0xFF));
  const Lanes scale = load_half(reinterpret_cast<const uint16_t*>(tile));
  return mul(subtract(_mm512_cvtepi32_ps(code), set1(128.0f)), scale);
}

// All weights but those of four bits are turned as floats, and rounded to eight bits then.
template <int32_t kKind>
inline void lay_out_floats(const uint8_t* tile, Block* block) {
  Lanes columns[kBlock];
  for (int i = 0; i < kBlock; ++i) columns[i] = column<kKind>(tile, i);
  for (const int stride : kStrides) {
    for (int i = 0; i < kBlock; ++i) {
      if (i & stride) continue;
      const Lanes first = columns[i], second = columns[i + stride];
      columns[i] = add(first, second);
      columns[i + stride] = subtract(first, second);
    }
  }
  Lanes largest = set1(0.0f);
  for (const Lanes& weights : columns) largest = max(largest, absolute(weights));
  const Lanes step = mul(largest, set1(1.0f / 127.0f));
  const __mmask16 any = _mm512_cmp_ps_mask(step, set1(0.0f), _CMP_GT_OQ);
  const Lanes inverse = _mm512_maskz_div_ps(any, set1(1.0f), step);
  const __m512i byte = _mm512_set1_epi32(0xFF);
  for (int i = 0; i < kBlock; i += 4) {
    __m512i four = _mm512_setzero_si512();
    for (int j = 0; j < 4; ++j) {
      const __m512i code = _mm512_cvtps_epi32(mul(columns[i + j], inverse));
      four = _mm512_or_si512(four, _mm512_slli_epi32(_mm512_and_si512(code, byte), 8 * j));
    }
    block->store_codes(i, four);
  }
  store(block->scale, mul(step, set1(kInverseTurned)));
  store(block->base, set1(0.0f));
}

template <int32_t kKind>
inline void lay_out(const uint8_t* tile, Block* block) {
  fetch_far(tile + kFetchFarAhead, tile_bytes(kKind));
  if constexpr (kKind != kQ4_0 && kKind != kQ4_1) {
    lay_out_floats<kKind>(tile, block);
    return block->set_start();
  }
  turn_four_bits(tile + code_offset(kKind), block);
  block->set_start();
  const Lanes scale = load_half(reinterpret_cast<const uint16_t*>(tile));
  const Lanes minimum = load_half(reinterpret_cast<const uint16_t*>(tile + 32));
  store(block->scale, mul(scale, set1(kInverseTurned)));
  store(block->base, kKind == kQ4_1 ? fma(scale, set1(8.0f), minimum) : set1(0.0f));
}

// Some blocks of a product, and their weights for up to two rows of tiles.
struct Piece {
  const Product& task;
  int first, blocks;
  const Block* weights;  // [row of tiles][kPiece]

  const Record* row(int index) const {
    const size_t panel = static_cast<size_t>(index / kPanelRows) * task.blocks + first;
    return reinterpret_cast<const Record*>(task.panels + panel * kPanelBlockBytes) +
           index % kPanelRows;
  }
};

// Rows `row` and following times the weights.
template <int kRows, int kTiles>
void multiply(const Piece& piece, int row, float* out) {
  const Record* rows[kRows];
  Lanes sums[kRows][kTiles];
  for (int r = 0; r < kRows; ++r) {
    rows[r] = piece.row(row + r);
    for (int t = 0; t < kTiles; ++t) sums[r][t] = set1(0.0f);
  }
  for (const Block* block = piece.weights; block < piece.weights + piece.blocks; ++block) {
    __m512i dots[kRows][kTiles];
    for (int r = 0; r < kRows; ++r) {
      for (int t = 0; t < kTiles; ++t) dots[r][t] = _mm512_load_si512(block[t * kPiece].start);
    }
    for (int i = 0; i < kBlock; i += 4) {
      __m512i codes[kTiles];
      for (int t = 0; t < kTiles; ++t) {
        codes[t] = _mm512_load_si512(block[t * kPiece].codes + i * kLanes);
      }
      for (int r = 0; r < kRows; ++r) {
        const __m512i four = spread(rows[r]->codes + i);
        for (int t = 0; t < kTiles; ++t) {
          dots[r][t] = _mm512_dpbusd_epi32(dots[r][t], four, codes[t]);
        }
      }
    }
    for (int t = 0; t < kTiles; ++t) {
      const Lanes scale = load(block[t * kPiece].scale), base = load(block[t * kPiece].base);
      for (int r = 0; r < kRows; ++r) {
        const Lanes both = mul(scale, set1(rows[r]->scale));
        sums[r][t] = fma(_mm512_cvtepi32_ps(dots[r][t]), both, sums[r][t]);
        sums[r][t] = fma(base, set1(rows[r]->whole), sums[r][t]);
      }
    }
    for (int r = 0; r < kRows; ++r) rows[r] += kPanelRows;
  }
  const bool adds = piece.task.adds || piece.first > 0;
  for (int r = 0; r < kRows; ++r, out += piece.task.stride) {
    for (int t = 0; t < kTiles; ++t) {
      float* place = out + t * kLanes;
      store(place, adds ? add(load(place), sums[r][t]) : sums[r][t]);
    }
  }
}

template <int kTiles, int kRows = kPassRows>
void pass(const Piece& piece, int row, float* out) {
  if constexpr (kRows > 1) {
    if (piece.task.rows - row < kRows) return pass<kTiles, kRows - 1>(piece, row, out);
  }
  multiply<kRows, kTiles>(piece, row, out);
}

template <int32_t kKind, int kTiles>
void multiply_tiles(const Product& task, int first, int index) {
  alignas(64) Block weights[kTiles * kPiece];
  const int blocks = task.blocks - first < kPiece ? task.blocks - first : kPiece;
  for (int t = 0; t < kTiles; ++t) {
    const size_t before = static_cast<size_t>(index + t) * task.blocks + first;
    const uint8_t* tile = task.tiles + before * tile_bytes(kKind);
    for (int block = 0; block < blocks; ++block, tile += tile_bytes(kKind)) {
      lay_out<kKind>(tile, weights + t * kPiece + block);
    }
  }
  const Piece piece{task, first, blocks, weights};
  for (int row = 0; row < task.rows; row += kPassRows) {
    pass<kTiles>(piece, row, task.out + row * task.stride + index * kLanes);
  }
}

template <int32_t kKind>
void multiply_all(const Product& task) {
  for (int index = 0; index < task.tile_rows; index += 2) {
    for (int first = 0; first < task.blocks; first += kPiece) {
      (index + 1 < task.tile_rows ? multiply_tiles<kKind, 2> : multiply_tiles<kKind, 1>)(
          task, first, index);
    }
  }
}

inline Lanes turned(Lanes x) { return butterfly<8>(butterfly<4>(butterfly<1>(x))); }

inline void store_codes(uint8_t* out, Lanes codes) {
  const __m128i bytes = _mm512_cvtepi32_epi8(_mm512_cvtps_epi32(codes));
  const __m128i more = _mm_set1_epi8(-128);
  _mm_storeu_si128(reinterpret_cast<__m128i*>(out), _mm_xor_si128(bytes, more));
}

// Columns 0 to 15 and 16 to 31 of a block of a row.
inline void enter_block(Lanes low, Lanes high, uint8_t* panel, int row) {
  const Lanes first = turned(add(low, high)), second = turned(subtract(low, high));
  const float largest = reduce_max(max(absolute(first), absolute(second)));
  const Lanes inverse = set1(largest > 0 ? 127.0f / largest : 0.0f);
  Record* record = reinterpret_cast<Record*>(panel) + row;
  store_codes(record->codes, mul(first, inverse));
  store_codes(record->codes + kLanes, mul(second, inverse));
  record->scale = largest * (1.0f / 127.0f);
  // Columns 0 and 2 are now the sums of those that were turned together.
  const Lanes sums = add(first, _mm512_permute_ps(first, _MM_SHUFFLE(1, 0, 3, 2)));
  record->whole = _mm512_cvtss_f32(sums);
}

void enter(const float* x, int blocks, uint8_t* panel, int row) {
  for (; blocks-- > 0; x += kBlock, panel += kPanelBlockBytes) {
    enter_block(load(x), load(x + kLanes), panel, row);
  }
}

void enter_gated(const float* gate, const float* up, int blocks, uint8_t* panel, int row) {
  const auto gated = [&](int i) {
    const Lanes x = load(gate + i);
    // The largest finite power keeps 0 times infinity away.
    const Lanes power = power_of_two(min(mul(x, set1(-1.44269504f)), set1(126.0f)));
    return mul(mul(x, _mm512_rcp14_ps(add(set1(1.0f), power))), load(up + i));
  };
  for (int i = 0; i < blocks * kBlock; i += kBlock, panel += kPanelBlockBytes) {
    enter_block(gated(i), gated(i + kLanes), panel, row);
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

const Prompts& avx512_prompts() {
  static constexpr Prompts prompts{kPanelBlockBytes, product, enter, enter_gated};
  return prompts;
}

}  // namespace thermesh
