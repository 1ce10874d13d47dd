#include "upcoming.h"

#include <algorithm>

#include "pool.h"

namespace thermesh {
namespace {

// What a thread has fetched when attention begins: the rest of its second level cache, of 2 MB, is
// for weights on their way. 512 kB spared less, and 1 MB made products of 32 rows slower.
constexpr int kFetchedBytes = 768 << 10;
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
  const int most = kFetchedBytes / errand.unit_bytes;
  const int first = most * part / parts, last = most * (part + tenths) / parts;
  const int tasks = static_cast<int>(plan_.tasks.size());
  const int end = Pool::first_of(share + 1, shares, tasks);
  int place = 0;  // of a task's first page among those of the share
  for (int index = Pool::first_of(share, shares, tasks); index < end && place < last; ++index) {
    const Task& task = plan_.tasks[index];
    const Pages pages(task, batch_);
    for (int page = std::max(0, first - place); page < std::min(pages.count, last - place); ++page) {
      if (errand.count == Errand::kMost) break;
      errand.units[errand.count++] = pages_.unit(layer_, task.kv_head, pages.table[page]);
    }
    place += pages.count;
  }
  errand.step = ceil_div(errand.count * errand.unit_bytes, kLine * std::max(tiles, 1)) * kLine;
  return errand;
}

}  // namespace thermesh
