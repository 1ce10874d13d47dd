#include "narrow.h"

#include <algorithm>

namespace thermesh {

void narrow(const ThermeshBatch& batch, Narrowed& narrowed) {
  narrowed.spans.clear();
  narrowed.rows.clear();
  const int32_t* outputs = batch.output_rows;
  narrowed.output_rows.assign(outputs, outputs + batch.outputs);
  for (int i = 0; i < batch.span_count; ++i) {
    ThermeshSpan span = batch.spans[i];
    const int end = span.start + span.count, place = static_cast<int>(narrowed.rows.size());
    int first = end;
    for (int j = 0; j < batch.outputs; ++j) {
      if (outputs[j] >= span.start && outputs[j] < end) first = std::min(first, outputs[j]);
    }
    if (first == end) continue;
    for (int j = 0; j < batch.outputs; ++j) {
      if (outputs[j] < first || outputs[j] >= end) continue;
      narrowed.output_rows[j] = place + outputs[j] - first;
    }
    for (int row = first; row < end; ++row) narrowed.rows.push_back(row);
    span.start = place;
    span.count = end - first;
    narrowed.spans.push_back(span);
  }
  narrowed.batch = batch;
  narrowed.batch.spans = narrowed.spans.data();
  narrowed.batch.span_count = static_cast<int32_t>(narrowed.spans.size());
  narrowed.batch.output_rows = narrowed.output_rows.data();
  narrowed.batch.tokens = static_cast<int32_t>(narrowed.rows.size());
}

}  // namespace thermesh
