// Attention with the tile unit of AMX.
#pragma once

#include "tier.h"

namespace thermesh {

// As Tier::attend[kInt8] of tier_avx512, with the same bits. Only where
// `allows_amx` has said yes, for head sizes that `fits_tiles` says fit.
void attend_tiles(const Attention& task, const Attended& result);

constexpr int kTileChannels = 64;
static constexpr bool fits_tiles(int head_size) { return head_size % kTileChannels == 0; }

// Of tokens that are only read, as Tier::attend_prompt, in bfloat16.
void attend_prompt_half(const Attention& task, const Attended& result);
void attend_prompt_int8(const Attention& task, const Attended& result);
void attend_prompt_int10(const Attention& task, const Attended& result);

}  // namespace thermesh
