// Attention of prompts with the tile unit of AMX.
#include "attention_amx.h"

#include <immintrin.h>
#include <math.h>

#include "amx_bfloat16.h"
#include "lanes_avx512.h"

namespace thermesh {
namespace {

#include "numbers_body.h"
#include "segment_tiles_body.h"

// The tile unit, configured.
struct Unit {
  static constexpr int kRows = 32;
  static constexpr bool kWaits = true;
  Unit() {
    const WholeTiles tiles;
    asm volatile("" ::: "memory");
    _tile_loadconfig(&tiles);
  }
  // Without it every switch of threads would save 8 kB of tiles.
  ~Unit() { _tile_release(); }
};

inline void multiply(const Side& rows, const Side& columns, int count, float* out,
                     size_t stride) {
  // GCC's intrinsics do not say that they read memory.
  asm volatile("" ::: "memory");
  _tile_zero(0);
  _tile_zero(1);
  _tile_zero(2);
  _tile_zero(3);
  for (int i = 0; i < count; ++i) {
    _tile_loadd(4, rows.at(i), 64);
    _tile_loadd(6, columns.at(i), 64);
    _tile_loadd(7, columns.at(i) + columns.next, 64);
    _tile_loadd(5, rows.at(i) + rows.next, 64);
    _tile_dpbf16ps(0, 4, 6);
    _tile_dpbf16ps(1, 4, 7);
    _tile_dpbf16ps(2, 5, 6);
    _tile_dpbf16ps(3, 5, 7);
  }
  const size_t bytes = stride * sizeof(float);
  _tile_stored(0, out, bytes);
  _tile_stored(1, out + kLanes, bytes);
  _tile_stored(2, out + 16 * stride, bytes);
  _tile_stored(3, out + 16 * stride + kLanes, bytes);
  asm volatile("" ::: "memory");
}

#include "prompt_attention_body.h"

}  // namespace

void attend_prompt_half(const Attention& task, const Attended& result) {
  PromptAttention<HalfPages>(task, result).run();
}

void attend_prompt_int8(const Attention& task, const Attended& result) {
  PromptAttention<Int8Pages>(task, result).run();
}

void attend_prompt_int10(const Attention& task, const Attended& result) {
  PromptAttention<Int10Pages>(task, result).run();
}

}  // namespace thermesh
