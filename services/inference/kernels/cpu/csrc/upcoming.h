// What products read for the attention that follows them.
//
// With several rows products wait for arithmetic and leave memory idle, and attention waits for
// memory. So each chunk of the products between two attentions fetches pages that the next one
// begins with, into the cache of the thread that will read them: a share of the chunks and the
// share of the tasks at the same place have one thread.
#pragma once

#include "attention_cache.h"
#include "attention_plan.h"
#include "tier.h"

namespace thermesh {

// Which part of it a product does, in tenths.
struct Tenths {
  int first, last;
};

class Upcoming {
 public:
  // The attention of `layer`, by the plan of the layer before it: up to `bytes` a thread.
  Upcoming(const AttentionPlan& plan, const CachePages& pages, const ThermeshBatch& batch,
           int layer, int bytes, const Tenths& part)
      : plan_(plan), pages_(pages), batch_(batch), layer_(layer), bytes_(bytes), part_(part) {}

  // What chunk `chunk` of `chunks` fetches while `tiles` tiles are multiplied, where the pool has
  // so many shares: asked once, as a helper may leave at any time.
  Errand errand(int chunk, int chunks, int tiles, int shares) const;

 private:
  const AttentionPlan& plan_;
  const CachePages& pages_;
  const ThermeshBatch& batch_;
  int layer_, bytes_;
  Tenths part_;
};

}  // namespace thermesh
