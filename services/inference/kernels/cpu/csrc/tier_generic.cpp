// Any processor: plain loops over 16 lanes. It is what the others must equal.
#include <math.h>
#include <string.h>

#include "half.h"
#include "pass.h"
#include "tier.h"

namespace thermesh {
namespace {

struct Lanes {
  float at[kLanes];
};

template <typename Operation>
inline Lanes each(Operation operation) {
  Lanes result;
  for (int i = 0; i < kLanes; ++i) result.at[i] = operation(i);
  return result;
}

inline Lanes load(const float* x) {
  return each([&](int i) { return x[i]; });
}
inline void store(float* x, const Lanes& v) {
  for (int i = 0; i < kLanes; ++i) x[i] = v.at[i];
}
inline Lanes set1(float x) {
  return each([&](int) { return x; });
}
inline Lanes add(const Lanes& a, const Lanes& b) {
  return each([&](int i) { return a.at[i] + b.at[i]; });
}
inline Lanes subtract(const Lanes& a, const Lanes& b) {
  return each([&](int i) { return a.at[i] - b.at[i]; });
}
inline Lanes mul(const Lanes& a, const Lanes& b) {
  return each([&](int i) { return a.at[i] * b.at[i]; });
}
inline Lanes divide(const Lanes& a, const Lanes& b) {
  return each([&](int i) { return a.at[i] / b.at[i]; });
}
// Not std::fma: without the instruction it is a slow function.
inline Lanes fma(const Lanes& a, const Lanes& b, const Lanes& c) {
  return each([&](int i) { return a.at[i] * b.at[i] + c.at[i]; });
}
inline Lanes min(const Lanes& a, const Lanes& b) {
  return each([&](int i) { return a.at[i] < b.at[i] ? a.at[i] : b.at[i]; });
}
inline Lanes max(const Lanes& a, const Lanes& b) {
  return each([&](int i) { return a.at[i] > b.at[i] ? a.at[i] : b.at[i]; });
}
inline Lanes absolute(const Lanes& a) {
  return each([&](int i) { return fabsf(a.at[i]); });
}
// Adding 1.5 * 2^23 leaves no bits below 1; |a| is below 2^22 wherever this is used.
inline Lanes round(const Lanes& a) {
  return each([&](int i) { return a.at[i] + 12582912.0f - 12582912.0f; });
}
inline Lanes times_power_of_two(const Lanes& a, const Lanes& n) {
  return each([&](int i) { return ldexpf(a.at[i], static_cast<int>(n.at[i])); });
}
inline float reduce_add(const Lanes& a) {
  float sum = 0.0f;
  for (int i = 0; i < kLanes; ++i) sum += a.at[i];
  return sum;
}
inline float reduce_max(const Lanes& a) {
  float largest = a.at[0];
  for (int i = 1; i < kLanes; ++i) largest = a.at[i] > largest ? a.at[i] : largest;
  return largest;
}
inline Lanes load_half(const uint16_t* x) {
  return each([&](int i) { return half_to_float(x[i]); });
}
inline Lanes load_bfloat16(const uint16_t* x) {
  return each([&](int i) { return bfloat16_to_float(x[i]); });
}
inline void store_half(uint16_t* x, const Lanes& v) {
  for (int i = 0; i < kLanes; ++i) x[i] = float_to_half(v.at[i]);
}
inline void store_int8(uint8_t* x, const Lanes& v) {
  for (int i = 0; i < kLanes; ++i) {
    // A value that is not a number has no integer: say 0, as good as any.
    const float code = v.at[i] == v.at[i] ? v.at[i] : 0.0f;
    x[i] = static_cast<uint8_t>(static_cast<int8_t>(code));
  }
}
template <int kStride>
inline Lanes partners(const Lanes& a) {
  return each([&](int i) { return a.at[i ^ kStride]; });
}
inline Lanes keep_below(const Lanes& a, int count, float fill) {
  return each([&](int i) { return i < count ? a.at[i] : fill; });
}

// Products of four bytes, plainly.
struct IntLanes {
  int32_t at[kLanes];
};
struct Codes {
  int16_t at[4 * kLanes];
};
using Activations = Codes;

inline IntLanes zero_int() { return IntLanes{}; }
inline Codes load_stored(const uint8_t* x) {
  Codes codes;
  for (int i = 0; i < 4 * kLanes; ++i) codes.at[i] = static_cast<int16_t>(x[i] - 128);
  return codes;
}
inline Activations activations(const uint8_t* x) {
  Activations codes;
  for (int i = 0; i < 4 * kLanes; ++i) codes.at[i] = static_cast<int8_t>(x[i]);
  return codes;
}
inline Activations spread(const uint8_t* x) {
  Activations codes;
  for (int i = 0; i < 4 * kLanes; ++i) codes.at[i] = static_cast<int8_t>(x[i % 4]);
  return codes;
}
inline IntLanes dot4(IntLanes sum, const Codes& codes, const Activations& x) {
  for (int i = 0; i < 4 * kLanes; ++i) sum.at[i / 4] += codes.at[i] * x.at[i];
  return sum;
}
// Fourths of four codes a lane, `index` of the four that a byte has, in 256ths.
inline Codes load_fourths(const uint8_t* x, int index) {
  Codes codes;
  for (int i = 0; i < 4 * kLanes; ++i) codes.at[i] = x[i] << 2 * index & 0xC0;
  return codes;
}
inline IntLanes dot4_of_fourths(IntLanes sum, const Codes& fourths, const Activations& x) {
  return dot4(sum, fourths, x);
}
inline Lanes in_256ths(const IntLanes& whole, const IntLanes& rest, int32_t) {
  return each([&](int i) { return static_cast<float>(256 * whole.at[i] + rest.at[i]); });
}
inline int32_t reduce(const IntLanes& dots, int32_t) {
  int32_t sum = 0;
  for (int i = 0; i < kLanes; ++i) sum += dots.at[i];
  return sum;
}

// The codes of a tile as 8 vectors of 64: 16 lanes of 4 columns.
template <int32_t kKind>
inline void expand(const uint8_t* stored, int16_t codes[8][64]) {
  for (int i = 0; i < 8; ++i) {
    for (int j = 0; j < 64; ++j) {
      if constexpr (kKind == kQ8_0) {
        codes[i][j] = stored[64 * i + j];
      } else {
        const uint8_t both = stored[64 * (i / 2) + j];
        codes[i][j] = i % 2 ? both >> 4 : both & 0x0F;
      }
    }
  }
}

// Written so that a compiler can use whatever vectors the processor has.
inline Lanes dot(const int16_t codes[8][64], const uint8_t* activations) {
  int32_t sums[64] = {0};
  for (int i = 0; i < 8; ++i) {
    int16_t four[4], lanes[64];
    for (int j = 0; j < 4; ++j) four[j] = static_cast<int8_t>(activations[4 * i + j]);
    for (int lane = 0; lane < kLanes; ++lane) memcpy(lanes + 4 * lane, four, sizeof four);
    for (int j = 0; j < 64; ++j) sums[j] += codes[i][j] * lanes[j];
  }
  return each([&](int lane) {
    const int32_t* own = sums + 4 * lane;
    return static_cast<float>(own[0] + own[1] + own[2] + own[3]);
  });
}

template <int kRows, int32_t kKind>
void product(const Pass& pass) {
  const uint8_t* tile = pass.tile;
  const uint8_t* panel = pass.panel;
  Lanes sums[kRows];
  for (int r = 0; r < kRows; ++r) sums[r] = set1(0.0f);
  for (int block = 0; block < pass.blocks; ++block) {
    const Lanes scale = load_half(reinterpret_cast<const uint16_t*>(tile));
    const Lanes minimum = kKind == kQ4_1
                              ? load_half(reinterpret_cast<const uint16_t*>(tile + 32))
                              : mul(scale, set1(kKind == kQ4_0 ? -8.0f : -128.0f));
    int16_t codes[8][64];
    expand<kKind>(tile + code_offset(kKind), codes);
    const bool has_fractions = pass.has_fractions(panel, kRows);
    for (int r = 0; r < kRows; ++r) {
      const uint8_t* activations = pass.codes(panel, r);
      Lanes dots = dot(codes, activations);
      if (has_fractions) dots = add(dots, mul(dot(codes, activations + kBlock), set1(kFraction)));
      sums[r] = fma(dots, mul(scale, set1(pass.scales(panel)[r])), sums[r]);
      sums[r] = fma(minimum, set1(pass.sums(panel)[r]), sums[r]);
    }
    tile += tile_bytes(kKind);
    panel += panel_block_bytes(pass.panel_rows);
  }
  for (int r = 0; r < kRows; ++r) {
    float* out = pass.out + r * pass.stride;
    store(out, pass.adds ? add(load(out), sums[r]) : sums[r]);
  }
}

#include "body.h"

}  // namespace

const Tier& tier_generic() {
  static constexpr Tier tier = make_tier("generic");
  return tier;
}

}  // namespace thermesh
