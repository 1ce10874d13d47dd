#include "attention_cache.h"

#include <cstring>

namespace thermesh {

void CachePages::store(int layer, int32_t page, int slot, const float* keys,
                       const float* values) const {
  const int size = network_.head_size;
  for (int head = 0; head < network_.kv_heads; ++head) {
    uint8_t* unit = this->unit(layer, head, page);
    if (batch_.cache_kind == kHalf) {
      store_half(unit, slot, keys + head * size, values + head * size);
    } else {
      store_codes(unit, slot, keys + head * size, values + head * size);
    }
  }
}

void CachePages::store_half(uint8_t* unit, int slot, const float* keys,
                            const float* values) const {
  const int size = network_.head_size;
  uint16_t* key_unit = reinterpret_cast<uint16_t*>(unit);
  uint16_t* value_unit = key_unit + size * kPageTokens;
  uint16_t halves[kMaxHeadSize];
  tier_.to_half(keys, size, halves);
  for (int i = 0; i < size; ++i) key_unit[i * kPageTokens + slot] = halves[i];
  tier_.to_half(values, size, halves);
  for (int i = 0; i < size; i += kLanes) {
    std::memcpy(value_unit + (i + slot) * kLanes, halves + i, kLanes * sizeof(uint16_t));
  }
}

void CachePages::store_codes(uint8_t* unit, int slot, const float* keys,
                             const float* values) const {
  const int size = network_.head_size;
  uint8_t* value_unit = unit + size * kPageTokens;
  uint16_t* scales = reinterpret_cast<uint16_t*>(unit + unit_scales(size));
  alignas(64) uint8_t codes[kMaxHeadSize];
  if (batch_.cache_kind == kInt10) {
    uint8_t fourths[kMaxHeadSize / 4];
    scales[slot] = tier_.to_int10(keys, size, codes, fourths);
    uint8_t* plane = unit + unit_fourths(size) + 4 * slot;
    for (int i = 0; i < size / 4; i += 4) std::memcpy(plane + i * kPageTokens, fourths + i, 4);
  } else {
    scales[slot] = tier_.to_int8(keys, size, codes);
  }
  for (int i = 0; i < size; i += 4) std::memcpy(unit + i * kPageTokens + 4 * slot, codes + i, 4);
  scales[kPageTokens + slot] = tier_.to_int8(values, size, codes);
  uint8_t* four = value_unit + slot / 4 * 4 * kLanes + slot % 4;
  for (int i = 0; i < size; ++i) {
    four[i / kLanes * kLanes * kPageTokens + i % kLanes * 4] = codes[i];
  }
}

void CachePages::summarise(int layer, int head, int32_t page) const {
  alignas(64) float keys[kMaxHeadSize * kPageTokens];
  const size_t place = static_cast<size_t>(page) * network_.kv_heads;
  tier_.unpack_keys[batch_.cache_kind](unit(layer, head, page), network_.head_size, keys);
  mean_scales(layer, head)[place] =
      tier_.summarise(keys, network_.head_size,
                      means(layer, head) + place * 2 * mean_size(network_.head_size));
}

}  // namespace thermesh
