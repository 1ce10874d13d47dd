// Drawing tokens from logits: what `services/inference/sampler.py` means, a row at a
// time. A temperature that depends on the logits is found by the caller between two parts.
#pragma once

#include <cstdint>

#include "buffer.h"
#include "pool.h"
#include "tier.h"

extern "C" {

// One row; mirrored by native.py. A cut below 0 is none.
struct ThermeshRow {
  // What is asked.
  const float* logits;
  uint64_t seed;
  uint64_t token_index;
  double top_n_sigma;
  double below;  // how far under the best logit min_p lets one be
  double top_p;
  int32_t top_k;
  int32_t wants_spread;
  // What the survey finds: the guard keeps logits above `floor` and the first `ties` at it.
  double entropy;  // not finite where the logits are no distribution
  double log_total;
  double spread;  // entropy of what the guard keeps, untempered
  float highest;
  float floor;
  int32_t ties;
  int32_t kept;
  // What the caller says before, or where that is below 0 then; 0 is greedy.
  float temperature;
  // What is drawn.
  int32_t token;
  double log_probability;
  double model_log_probability;
};

}  // extern "C"

namespace thermesh {

// The number in [0, 1) that draws token `token_index` under `seed`.
double random_unit(uint64_t seed, uint64_t token_index);

// Both for `rows` rows of `size` logits. Throw std::bad_alloc. Rows whose temperature is known
// are drawn with the survey, while their logits are at hand.
void survey(ThermeshRow* rows, int count, int size, int threads, const Tier& tier,
            Buffer& memory, Pool& pool);
void draw(ThermeshRow* rows, int count, int size, int threads, const Tier& tier, Buffer& memory,
          Pool& pool);

}  // namespace thermesh
