#include "runs.h"

namespace thermesh {
namespace {

// Rows of one kind that follow each other, appended to what is there.
void add_run(std::vector<Run>& runs, int count, bool is_prompt) {
  if (count <= 0) return;
  if (!runs.empty() && runs.back().is_prompt == is_prompt) {
    runs.back().count += count;
    return;
  }
  const Run before = runs.empty() ? Run{} : runs.back();
  runs.push_back({before.first + before.count, count, is_prompt,
                  before.first_panel + before.panels()});
}

}  // namespace

void find_runs(const ThermeshBatch& batch, const Tier& tier, std::vector<Run>& runs) {
  runs.clear();
  for (int i = 0; i < batch.span_count; ++i) {
    const ThermeshSpan& span = batch.spans[i];
    const int first = span.context_length - span.count;
    const int prompt = tier.prompts ? std::clamp(span.prompt_end - first, 0, span.count) : 0;
    add_run(runs, prompt, true);
    add_run(runs, span.count - prompt, false);
  }
}

}  // namespace thermesh
