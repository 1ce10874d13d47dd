// A segment of pages as tiles of bfloat16, for all query rows that attend to it; included
// inside an unnamed namespace, as is prompt_attention_body.h.
//
// Keys are tiles when channels are taken in pairs, [head_size / 2][16 tokens][2] a page, and
// values halves of tiles when tokens are, [head_size / 16][8][16][2]. Half precision has
// both neighbours of a pair in two vectors, codes have them in one.

constexpr int kSegmentTiles = kSegment / kTileInputs;
// Pages that are fetched into the second level cache before they are laid out.
constexpr int kPagesAhead = 8;

// One side of a product: tiles that are summed over lie `step` bytes apart, the two that
// are multiplied side by side `next` bytes.
struct Side {
  const void* tiles;
  size_t step, next;

  const uint8_t* at(int index) const { return static_cast<const uint8_t*>(tiles) + index * step; }
};

// What is read soon, and later.
struct Ahead {
  const uint8_t *near, *far;

  void fetch_at(int place) const {
    fetch(near + place, 64);
    fetch_far(far + place, 64);
  }
};

// Rows of 16 halves as tiles: rows 2i and 2i + 1 of `halves` become row i. With each the
// same of what is read later is fetched.
inline void pair_rows(const uint16_t* halves, int pairs, const Ahead& ahead, uint8_t* out) {
  for (int i = 0; i < pairs; ++i) {
    ahead.fetch_at(i * 64);
    const Lanes first = load_half(halves + 2 * i * kLanes);
    const Lanes second = load_half(halves + (2 * i + 1) * kLanes);
    _mm512_store_si512(out + i * 64, paired(first, second));
  }
}

// Pages in half precision: keys [head_size][16 tokens], values [head_size / 16][16][16].
struct HalfPages {
  const Attention& task;

  void lay_out(int index, uint8_t* keys, uint8_t* values) const {
    const int half = task.unit_bytes / 2, size = task.head_size;
    const uint8_t* unit = task.unit_at(index);
    const uint8_t *next = task.unit_at(index + 1), *later = task.unit_at(index + kPagesAhead);
    const auto* halves = reinterpret_cast<const uint16_t*>(unit);
    pair_rows(halves, size / 2, {unit + half, later}, keys);
    for (int block = 0; block < size / kLanes; ++block) {
      const int place = block * kLanes * kPageTokens * sizeof(uint16_t);
      pair_rows(halves + (size + block * kLanes) * kPageTokens, kPageTokens / 2,
                {next + place, later + half + place}, values + block * kSegmentTiles * kTileBytes);
    }
  }
};

// 16 lanes of four codes plus 128, each with a scale, as two rows of pairs.
inline void pair_codes(const uint8_t* codes, const Lanes* scales, uint8_t* out) {
  // Codes come into the uppermost byte, which makes them 2^24 times as great.
  const __m512i upper = _mm512_set1_epi32(static_cast<int32_t>(0xFF000000));
  const __m512i four = _mm512_xor_si512(load_codes(codes), _mm512_set1_epi8(-128));
  const auto scaled = [&](__m512i code, int index) {
    return mul(_mm512_cvtepi32_ps(code), scales[index]);
  };
  const Lanes first = scaled(_mm512_slli_epi32(four, 24), 0);
  const Lanes second = scaled(_mm512_and_si512(_mm512_slli_epi32(four, 16), upper), 1);
  const Lanes third = scaled(_mm512_and_si512(_mm512_slli_epi32(four, 8), upper), 2);
  const Lanes fourth = scaled(_mm512_and_si512(four, upper), 3);
  _mm512_store_si512(out, paired(first, second));
  _mm512_store_si512(out + 64, paired(third, fourth));
}

// The same of codes with fourths, `index` of those that `fourths` has.
inline void pair_fine_codes(const uint8_t* codes, const uint8_t* fourths, int index, Lanes scale,
                            uint8_t* out) {
  // Code and fourth become the upper 10 of 16 bits, of all even and of all odd channels.
  const __m512i four = _mm512_xor_si512(load_codes(codes), _mm512_set1_epi8(-128));
  const __m512i more = load_fourths(fourths, index);
  const __m512i high = _mm512_set1_epi16(static_cast<int16_t>(0xFF00));
  const auto joined = [&](__m512i codes, __m512i fourths) {
    return _mm512_or_si512(_mm512_and_si512(codes, high), _mm512_andnot_si512(high, fourths));
  };
  const __m512i even = joined(_mm512_slli_epi32(four, 8), more);
  const __m512i odd = joined(four, _mm512_srli_epi32(more, 8));
  const __m512i upper = _mm512_set1_epi32(static_cast<int32_t>(0xFFFF0000));
  const auto scaled = [&](__m512i code) { return mul(_mm512_cvtepi32_ps(code), scale); };
  const Lanes first = scaled(_mm512_slli_epi32(even, 16));
  const Lanes second = scaled(_mm512_slli_epi32(odd, 16));
  const Lanes third = scaled(_mm512_and_si512(even, upper));
  const Lanes fourth = scaled(_mm512_and_si512(odd, upper));
  _mm512_store_si512(out, paired(first, second));
  _mm512_store_si512(out + 64, paired(third, fourth));
}

// Pages of codes: keys [head_size / 4][16 tokens][4], values [head_size / 16][4][16][4 tokens],
// then the scales of both, and fourths of keys.
template <bool kHasFourths>
struct CodedPages {
  const Attention& task;

  void lay_out(int index, uint8_t* keys, uint8_t* values) const {
    const int half = task.head_size * kPageTokens, behind = task.unit_bytes - 2 * half;
    const uint8_t* unit = task.unit_at(index);
    const uint8_t *next = task.unit_at(index + 1), *later = task.unit_at(index + kPagesAhead);
    fetch(next + 2 * half, behind);
    fetch_far(later + 2 * half, behind);
    const auto* scales = reinterpret_cast<const uint16_t*>(unit + unit_scales(task.head_size));
    const Lanes factor = set1(kOfUppermost);
    lay_out_keys(unit, mul(load_half(scales), factor), {unit + half, later}, keys);
    alignas(64) float of_values[kPageTokens];
    store(of_values, mul(load_half(scales + kPageTokens), factor));
    lay_out_values(unit + half, of_values, {next, later + half}, values);
  }

 private:
  static constexpr float kOfUppermost = 1.0f / (1 << 24);

  void lay_out_keys(const uint8_t* codes, Lanes scale, const Ahead& ahead, uint8_t* keys) const {
    const Lanes scales[] = {scale, scale, scale, scale};
    const uint8_t* fourths = codes + unit_fourths(task.head_size);
    for (int i = 0; i < task.head_size / 4; ++i) {
      ahead.fetch_at(i * 64);
      if constexpr (kHasFourths) {
        pair_fine_codes(codes + i * 64, fourths + i / 4 * 64, i % 4, scale, keys + i * 128);
      } else {
        pair_codes(codes + i * 64, scales, keys + i * 128);
      }
    }
  }

  void lay_out_values(const uint8_t* codes, const float* of_tokens, const Ahead& ahead,
                      uint8_t* values) const {
    for (int t = 0; t < kPageTokens; t += 4) {
      const Lanes scales[] = {set1(of_tokens[t]), set1(of_tokens[t + 1]), set1(of_tokens[t + 2]),
                              set1(of_tokens[t + 3])};
      for (int block = 0; block < task.head_size / kLanes; ++block) {
        const int place = block * kLanes * kPageTokens + t * kLanes;
        ahead.fetch_at(place);
        pair_codes(codes + place, scales, values + block * kSegmentTiles * kTileBytes + t * 32);
      }
    }
  }
};

using Int8Pages = CodedPages<false>;
using Int10Pages = CodedPages<true>;

// `Pages` lays out a page.
template <class Pages>
class SegmentTiles {
 public:
  explicit SegmentTiles(const Attention& task)
      : pages_{task}, size_(task.head_size),
        key_bytes_(static_cast<size_t>(task.head_size / kTileInputs) * kTileBytes) {}

  // Tokens [begin, begin + seen). What is beyond them is zeros up to a whole tile of values.
  void lay_out(int begin, int seen) {
    const int first = begin / kPageTokens, pages = pages_for(seen);
    for (int page = 0; page < 2 * ceil_div(seen, kTileInputs); ++page) {
      uint8_t* keys = keys_ + page * key_bytes_;
      uint8_t* values = values_ + page / 2 * kTileBytes + page % 2 * (kTileBytes / 2);
      if (page < pages) {
        pages_.lay_out(first + page, keys, values);
      } else {
        clear(keys, values);
      }
    }
  }

  // The keys of 32 tokens, and the values of all tokens of 32 channels.
  Side keys(int pair) const { return {keys_ + 2 * pair * key_bytes_, kTileBytes, key_bytes_}; }
  Side values(int channel) const {
    const size_t place = static_cast<size_t>(channel) / kLanes * kSegmentTiles * kTileBytes;
    return {values_ + place, kTileBytes, kSegmentTiles * kTileBytes};
  }

 private:
  void clear(uint8_t* keys, uint8_t* values) {
    const __m512i zero = _mm512_setzero_si512();
    for (int i = 0; i < size_ / 2; ++i) _mm512_store_si512(keys + i * 64, zero);
    for (int block = 0; block < size_ / kLanes; ++block) {
      uint8_t* half = values + block * kSegmentTiles * kTileBytes;
      for (int i = 0; i < kPageTokens / 2; ++i) _mm512_store_si512(half + i * 64, zero);
    }
  }

  const Pages pages_;
  const int size_;
  const size_t key_bytes_;
  // [page][head_size / 32] tiles, and [head_size / 16][pair of pages].
  alignas(64) uint8_t keys_[kSegment * kMaxHeadSize * sizeof(uint16_t)];
  alignas(64) uint8_t values_[kSegment * kMaxHeadSize * sizeof(uint16_t)];
};
