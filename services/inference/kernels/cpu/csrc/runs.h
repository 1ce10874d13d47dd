// What of a batch is computed alike.
#pragma once

#include <vector>

#include "linear.h"
#include "network.h"
#include "tier.h"

namespace thermesh {

// Rows of prompts, where a tier has an arithmetic of its own for them, and all others.
void find_runs(const ThermeshBatch& batch, const Tier& tier, std::vector<Run>& runs);

}  // namespace thermesh
