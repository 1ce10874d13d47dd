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
  uint32_t part;          // its scale is 1 + part / kScaleParts times a power of two,
  int32_t exponent;       // and this is that power's exponent, where a float has it
  float whole;            // the sum of its numbers, which stays as it is
};
constexpr int kPanelBlockBytes = kPanelRows * sizeof(Record);
static_assert(kPanelBlockBytes <= kPromptBlockBytes);

#include "turned_weights_body.h"

// Blocks whose weights are laid out at once: those of two rows of tiles, 41 kB, stay in the
// first level cache of 48, or are near it in the second, while the rows pass by.
constexpr int kPiece = 18;
// Their sums of integers and of floats fill the registers.
constexpr int kPassRows = 6;

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

// Of normal numbers, where no exponent leaves what a float has.
inline Lanes times_power(const float* x, int32_t exponent) {
  return _mm512_castsi512_ps(_mm512_add_epi32(_mm512_load_si512(x), _mm512_set1_epi32(exponent)));
}

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
      const Lanes base = load(block[t * kPiece].base);
      for (int r = 0; r < kRows; ++r) {
        const Lanes both =
            times_power(block[t * kPiece].scales[rows[r]->part], rows[r]->exponent);
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

// Rounds a row's scale up and keeps it; returns it.
inline float set_scale(float scale, Record* record) {
  constexpr int kMantissaBits = 23, kBias = 127, kLeftOut = kMantissaBits - kScaleBits;
  const auto bits = static_cast<uint32_t>(_mm_cvtsi128_si32(_mm_castps_si128(_mm_set_ss(scale))));
  const uint32_t parts = (bits + (1u << kLeftOut) - 1) >> kLeftOut;
  const int exponent = static_cast<int>(parts / kScaleParts) - kBias;
  record->part = parts % kScaleParts;
  record->exponent = exponent * (1 << kMantissaBits);
  return _mm_cvtss_f32(_mm_castsi128_ps(_mm_cvtsi32_si128(static_cast<int>(parts << kLeftOut))));
}

// Columns 0 to 15 and 16 to 31 of a block of a row.
inline void enter_block(Lanes low, Lanes high, uint8_t* panel, int row) {
  const Lanes first = turned(add(low, high)), second = turned(subtract(low, high));
  const float exact = reduce_max(max(absolute(first), absolute(second))) * (1.0f / 127.0f);
  Record* record = reinterpret_cast<Record*>(panel) + row;
  const float scale = set_scale(fminf(fmaxf(exact, kSmallest), kGreatest), record);
  const Lanes inverse = set1(1.0f / scale);
  store_codes(record->codes, mul(first, inverse));
  store_codes(record->codes + kLanes, mul(second, inverse));
  // Columns 0 and 2 are now the sums of those that were turned together.
  const Lanes sums = add(first, _mm512_permute_ps(first, _MM_SHUFFLE(1, 0, 3, 2)));
  record->whole = exact < kGreatest ? _mm512_cvtss_f32(sums) : NAN;
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
