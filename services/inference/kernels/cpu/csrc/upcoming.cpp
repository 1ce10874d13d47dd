#include "upcoming.h"

#include <algorithm>

#include "pool.h"

namespace thermesh {
namespace {

constexpr int kLine = 64;

// The pages of one task, in the order of the sequence.
struct Pages {
  const int32_t* table;
  int count;

  Pages(const Task& task, const ThermeshBatch& batch) {
    const int first = task.piece(task.first_piece).begin / kPageTokens;
    table = batch.pages + batch.spans[task.span].first_page + first;
    count = pages_for(task.piece(task.first_piece + task.pieces - 1).end) - first;
  }
};

}  // namespace

Errand Upcoming::errand(int chunk, int chunks, int tiles, int shares) const {
  Errand errand;
  errand.unit_bytes = pages_.bytes_of_unit();
  const int share = chunk * shares / chunks, begin = Pool::first_of(share, shares, chunks);
  const int own = Pool::first_of(share + 1, shares, chunks) - begin;
  const int tenths = part_.last - part_.first;
  const int parts = 10 * own, part = part_.first * own + tenths * (chunk - begin);
  const int tasks = static_cast<int>(plan_.tasks.size());
  const int start = Pool::first_of(share, shares, tasks);
  const int end = Pool::first_of(share + 1, shares, tasks);
  int most = 0;
  for (int index = start; index < end; ++index) most += Pages(plan_.tasks[index], batch_).count;
  most = std::min(most, bytes_ / errand.unit_bytes);
  const int first = most * part / parts, last = most * (part + tenths) / parts;
  int place = 0;  // of a task's first page among those of the share
  for (int index = start; index < end && place < last; ++index) {
    const Task& task = plan_.tasks[index];
    const Pages pages(task, batch_);
    for (int page = std::max(0, first - place); page < std::min(pages.count, last - place); ++page) {
      if (errand.count == Errand::kMost) break;
      errand.units[errand.count++] = pages_.unit(layer_, task.kv_head, pages.table[page]);
    }
    place += pages.count;
  }
  const int steps = std::max(tiles / std::max(errand.count, 1), 1);  // for a page
  errand.step = ceil_div(errand.unit_bytes, kLine * steps) * kLine;
  return errand;
}

}  // namespace thermesh
