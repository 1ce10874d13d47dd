// The rows of a batch that something is asked of.
//
// Of tokens that are only read nobody wants more than keys and values, and those of the last
// layer are known before its attention. What follows is for the other rows alone.
#pragma once

#include <vector>

#include "network.h"

namespace thermesh {

struct Narrowed {
  std::vector<ThermeshSpan> spans;
  std::vector<int32_t> rows, output_rows;
  ThermeshBatch batch;  // of the above and of what the whole one has
};

// Row i of the narrowed batch is row rows[i] of `batch`: of each span those from its first
// output on. Spans without any are left out.
void narrow(const ThermeshBatch& batch, Narrowed& narrowed);

}  // namespace thermesh
