// Where keys, values and means of keys lie, and how they get there.
#pragma once

#include "network.h"
#include "tier.h"

namespace thermesh {

class CachePages {
 public:
  CachePages(const ThermeshNetwork& network, const ThermeshBatch& batch, const Tier& tier)
      : network_(network), batch_(batch), tier_(tier),
        unit_bytes_(unit_bytes(batch.cache_kind, network.head_size)) {}

  int bytes_of_unit() const { return unit_bytes_; }
  // Bytes from one slab to the next.
  size_t slab_stride() const {
    return static_cast<size_t>(unit_bytes_) * network_.kv_heads * network_.layers * kSlabPages;
  }
  // Those of page 0; `unit_offset` tells where another page's are.
  uint8_t* units(int layer, int head) const {
    const size_t place = static_cast<size_t>(layer) * network_.kv_heads + head;
    return batch_.cache + place * kSlabPages * unit_bytes_;
  }
  uint8_t* unit(int layer, int head, int32_t page) const {
    return units(layer, head) + unit_offset(page, slab_stride(), unit_bytes_);
  }

  // Writes one row's keys and values, [kv_heads][head_size] each, as token `slot`.
  void store(int layer, int32_t page, int slot, const float* keys, const float* values) const;

  // Bounds of page 0; those of page p are p * kv_heads records further.
  uint8_t* means(int layer, int head) const {
    return batch_.means + record(layer, head) * 2 * mean_size(network_.head_size);
  }
  float* mean_scales(int layer, int head) const {
    return batch_.mean_scales + record(layer, head);
  }
  // Computes the means of a page of one head from its keys.
  void summarise(int layer, int head, int32_t page) const;

 private:
  size_t record(int layer, int head) const {
    return static_cast<size_t>(layer) * batch_.cache_pages * network_.kv_heads + head;
  }
  void store_half(uint8_t* unit, int slot, const float* keys, const float* values) const;
  void store_codes(uint8_t* unit, int slot, const float* keys, const float* values) const;

  const ThermeshNetwork& network_;
  const ThermeshBatch& batch_;
  const Tier& tier_;
  int unit_bytes_;
};

}  // namespace thermesh
