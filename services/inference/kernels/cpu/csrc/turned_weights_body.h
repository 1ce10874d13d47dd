// Weights for products with rows of eight bits, whose columns are turned; included over the lanes
// of AVX-512 with VNNI, behind numbers_body.h.

// Columns are turned together whose numbers differ in these bits. The fifth is left: sums of
// 32 codes would not fit into eight bits.
constexpr int kTurned = 16;
constexpr int kStrides[] = {1, 4, 8, 16};
constexpr float kInverseTurned = 1.0f / kTurned;

// A row's scale is one of these times a power of two, by which a float is multiplied by adding
// to its exponent: any unit does that, while a product waits for those that multiply. A scale
// that is rounded up to three bits of mantissa loses a sixteenth of a bit in the mean.
constexpr int kScaleBits = 3, kScaleParts = 1 << kScaleBits;
// Sums of two exponents have to stay exponents. Smaller scales are zero, greater ones make
// a result no number.
constexpr float kSmallest = 0x1p-60f, kGreatest = 0x1p60f;

// Weights of 16 outputs: base + scale * code, where codes are turned.
struct Block {
  int8_t codes[kLanes * kBlock];  // [32 / 4][16 outputs][4 columns]
  int32_t start[kLanes];          // of sums of products: what 128 more in each row adds, less
  float base[kLanes];
  float scales[kScaleParts][kLanes];  // times 1, 1 + 1/8, ...

  void store_codes(int column, __m512i four) {
    _mm512_store_si512(codes + column * kLanes, four);
  }
  // Those of outputs that have one; codes of all others are zero.
  void set_scales(__mmask16 some, Lanes scale) {
    const Lanes own = _mm512_mask_mov_ps(set1(1.0f), some, scale);
    for (int i = 0; i < kScaleParts; ++i) {
      store(scales[i], mul(own, set1(1.0f + static_cast<float>(i) / kScaleParts)));
    }
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

inline __mmask16 has_scale(Lanes scale) {
  const Lanes size = absolute(scale);
  return _mm512_cmp_ps_mask(size, set1(kSmallest), _CMP_GE_OQ) &
         _mm512_cmp_ps_mask(size, set1(kGreatest), _CMP_LE_OQ);
}

// Codes of four bits, as they are stored.
inline void turn_four_bits(const uint8_t* stored, __mmask16 some, Block* block) {
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
  for (int i = 0; i < 8; ++i) {
    block->store_codes(4 * i, _mm512_maskz_mov_epi32(some, codes[i]));
  }
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
  const Lanes step = mul(largest, set1(1.0f / 127.0f)), scale = mul(step, set1(kInverseTurned));
  const __mmask16 some = has_scale(scale);
  const Lanes inverse = _mm512_maskz_div_ps(some, set1(1.0f), step);
  const __m512i byte = _mm512_set1_epi32(0xFF);
  for (int i = 0; i < kBlock; i += 4) {
    __m512i four = _mm512_setzero_si512();
    for (int j = 0; j < 4; ++j) {
      const __m512i code = _mm512_cvtps_epi32(mul(columns[i + j], inverse));
      four = _mm512_or_si512(four, _mm512_slli_epi32(_mm512_and_si512(code, byte), 8 * j));
    }
    block->store_codes(i, four);
  }
  block->set_scales(some, scale);
  const __mmask16 too_great = _mm512_cmp_ps_mask(scale, set1(kGreatest), _CMP_NLE_UQ);
  store(block->base, _mm512_maskz_mov_ps(too_great, set1(NAN)));
}

template <int32_t kKind>
inline void lay_out(const uint8_t* tile, Block* block) {
  fetch_far(tile + kFetchFarAhead, tile_bytes(kKind));
  if constexpr (kKind != kQ4_0 && kKind != kQ4_1) {
    lay_out_floats<kKind>(tile, block);
    return block->set_start();
  }
  const Lanes scale = load_half(reinterpret_cast<const uint16_t*>(tile));
  const Lanes minimum = load_half(reinterpret_cast<const uint16_t*>(tile + 32));
  const Lanes turned_scale = mul(scale, set1(kInverseTurned));
  const __mmask16 some = has_scale(turned_scale);
  turn_four_bits(tile + code_offset(kKind), some, block);
  block->set_start();
  block->set_scales(some, turned_scale);
  store(block->base, kKind == kQ4_1 ? fma(scale, set1(8.0f), minimum) : set1(0.0f));
}
