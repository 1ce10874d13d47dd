// The product of up to eight rows of a panel with one row of tiles, by VNNI of AVX-512.
//
// Included by translation units inside an unnamed namespace, behind `WeightsAhead`: how they
// ask for weights ahead of the sums.

// Four consecutive activations in every lane.
inline __m512i four(const uint8_t* codes) {
  int32_t together;
  __builtin_memcpy(&together, codes, sizeof together);
  return _mm512_set1_epi32(together);
}

// Codes 8i to 8i + 3 and 8i + 4 to 8i + 7 of every lane.
template <int32_t kKind>
inline void expand(const uint8_t* stored, int i, __m512i* low, __m512i* high) {
  if constexpr (kKind == kQ8_0) {
    *low = load_codes(stored + 128 * i);
    *high = load_codes(stored + 128 * i + 64);
  } else {
    const __m512i nibble = _mm512_set1_epi8(0x0F);
    const __m512i both = load_codes(stored + 64 * i);
    *low = _mm512_and_si512(both, nibble);
    *high = _mm512_and_si512(_mm512_srli_epi16(both, 4), nibble);
  }
}

// Adds one block of every row. Columns in the outer loop and rows in the inner
// one: a sum waits five cycles for its last product, the rows fill them.
//
// Dots are in 16ths where there are fractions; scaling by a power of two is
// exact, so a row without any gets the same bits.
template <int kRows, int32_t kKind, bool kHasFractions>
inline void add_block(const Pass& pass, const uint8_t* tile, const uint8_t* panel, Lanes* sums) {
  Lanes scale = load_half(reinterpret_cast<const uint16_t*>(tile));
  const Lanes minimum = kKind == kQ4_1 ? load_half(reinterpret_cast<const uint16_t*>(tile + 32))
                                       : mul(scale, set1(kKind == kQ4_0 ? -8.0f : -128.0f));
  if (kHasFractions) scale = mul(scale, set1(kFraction));
  __m512i whole[kRows], rest[kRows];
  for (int r = 0; r < kRows; ++r) whole[r] = rest[r] = _mm512_setzero_si512();
  for (int i = 0; i < 4; ++i) {
    __m512i low, high;
    expand<kKind>(tile + code_offset(kKind), i, &low, &high);
    for (int r = 0; r < kRows; ++r) {
      const uint8_t* codes = pass.codes(panel, r) + 8 * i;
      whole[r] = _mm512_dpbusd_epi32(whole[r], low, four(codes));
      if (kHasFractions) rest[r] = _mm512_dpbusd_epi32(rest[r], low, four(codes + kBlock));
    }
    for (int r = 0; r < kRows; ++r) {
      const uint8_t* codes = pass.codes(panel, r) + 8 * i + 4;
      whole[r] = _mm512_dpbusd_epi32(whole[r], high, four(codes));
      if (kHasFractions) rest[r] = _mm512_dpbusd_epi32(rest[r], high, four(codes + kBlock));
    }
  }
  for (int r = 0; r < kRows; ++r) {
    if (kHasFractions) whole[r] = _mm512_add_epi32(_mm512_slli_epi32(whole[r], 4), rest[r]);
    sums[r] = fma(_mm512_cvtepi32_ps(whole[r]), mul(scale, set1(pass.scales(panel)[r])), sums[r]);
    sums[r] = fma(minimum, set1(pass.sums(panel)[r]), sums[r]);
  }
}

template <int kRows, int32_t kKind>
void product(const Pass& pass) {
  const uint8_t* tile = pass.tile;
  const uint8_t* panel = pass.panel;
  Lanes sums[kRows];
  for (int r = 0; r < kRows; ++r) sums[r] = set1(0.0f);
  for (int block = 0; block < pass.blocks; ++block) {
    WeightsAhead::fetch(tile, tile_bytes(kKind));
    if (pass.has_fractions(panel, kRows)) {
      add_block<kRows, kKind, true>(pass, tile, panel, sums);
    } else {
      add_block<kRows, kKind, false>(pass, tile, panel, sums);
    }
    tile += tile_bytes(kKind);
    panel += panel_block_bytes(pass.panel_rows);
  }
  for (int r = 0; r < kRows; ++r) {
    float* out = pass.out + r * pass.stride;
    store(out, pass.adds ? add(load(out), sums[r]) : sums[r]);
  }
}
