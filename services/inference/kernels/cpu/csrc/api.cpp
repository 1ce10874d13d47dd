// The C interface. Every function checks what it is given and returns a
// sentence for a person, or null where all went well; none throws.
#include <unistd.h>

#include <atomic>
#include <memory>
#include <mutex>
#include <new>

#include "draw.h"
#include "network.h"
#include "pack.h"
#include "step.h"
#include "tier.h"

#ifndef THERMESH_SOURCES
#define THERMESH_SOURCES "unknown"
#endif

#define THERMESH_API extern "C" __attribute__((visibility("default")))

using namespace thermesh;

namespace {

// What one process computes steps with, one at a time whoever asks.
struct Bench {
  const pid_t process = getpid();
  std::mutex mutex;
  Workspace workspace;
};

}  // namespace

// A fork has none of the threads of its parent, and the lock and the memory in
// whatever state a step had them in: it gets a bench of its own, and leaves the
// old one alone, even when it frees the engine.
struct ThermeshEngine {
  const Tier* tier;
  std::atomic<Bench*> bench{new Bench};

  ~ThermeshEngine() {
    Bench* found = bench.load();
    if (found->process == getpid()) delete found;
  }

  // Throws std::bad_alloc.
  Bench& own() {
    Bench* found = bench.load();
    while (found->process != getpid()) {
      auto fresh = std::make_unique<Bench>();
      if (bench.compare_exchange_strong(found, fresh.get())) return *fresh.release();
    }
    return *found;
  }
};

namespace {

template <typename Part>
const char* draw_part(const Part& part, ThermeshEngine* engine, ThermeshRow* rows, int32_t count,
                      int32_t size, int32_t threads) {
  if (!engine || !rows || count < 1 || size < 1 || size > 1 << 28) return "a part is missing";
  if (threads < 1 || threads > 1024) return "the number of threads is impossible";
  for (int32_t row = 0; row < count; ++row) {
    if (!rows[row].logits || rows[row].top_k == 0) return "a row is impossible";
  }
  try {
    Bench& bench = engine->own();
    const std::lock_guard<std::mutex> lock(bench.mutex);
    Workspace& workspace = bench.workspace;
    part(rows, count, size, threads, *engine->tier, workspace.drawn, workspace.pool);
  } catch (const std::bad_alloc&) {
    return "not enough memory to draw";
  }
  return nullptr;
}

}  // namespace

// The hash of the sources this library was built from.
THERMESH_API const char* thermesh_sources() { return THERMESH_SOURCES; }

// Sizes of the structures, in the order of native.py.
THERMESH_API void thermesh_layout(int32_t sizes[6]) {
  sizes[0] = sizeof(ThermeshMatrix);
  sizes[1] = sizeof(ThermeshLayer);
  sizes[2] = sizeof(ThermeshNetwork);
  sizes[3] = sizeof(ThermeshSpan);
  sizes[4] = sizeof(ThermeshBatch);
  sizes[5] = sizeof(ThermeshRow);
}

// The name of the tier called `name`, or of the best one for ""; null where
// there is none such.
THERMESH_API const char* thermesh_tier(const char* name) {
  const Tier* tier = name ? find_tier(name) : nullptr;
  return tier ? tier->name : nullptr;
}

// Whether that tier computes rows of prompts, or some of it, in an arithmetic of their own.
THERMESH_API int32_t thermesh_tells_prompts(const char* name) {
  const Tier* tier = name ? find_tier(name) : nullptr;
  return tier && tier->tells_prompts();
}

THERMESH_API ThermeshEngine* thermesh_engine_new(const char* tier_name) {
  const Tier* tier = tier_name ? find_tier(tier_name) : nullptr;
  if (!tier) return nullptr;
  try {
    return new ThermeshEngine{tier};
  } catch (const std::bad_alloc&) {
    return nullptr;
  }
}

THERMESH_API void thermesh_engine_free(ThermeshEngine* engine) { delete engine; }

// Bytes of a packed matrix; 0 where it cannot be packed.
THERMESH_API uint64_t thermesh_packed_bytes(int32_t kind, int64_t rows, int64_t columns) {
  if (!is_known(kind) || rows < 1 || rows > 1 << 28 || columns < kBlock || columns % kBlock ||
      columns > 1 << 28) {
    return 0;
  }
  const uint64_t tiles = static_cast<uint64_t>((rows + kLanes - 1) / kLanes) * (columns / kBlock);
  return tiles * tile_bytes(kind);
}

THERMESH_API const char* thermesh_pack(int32_t kind, const uint8_t* source, uint64_t source_bytes,
                                       int64_t rows, int64_t columns, uint8_t* tiles,
                                       uint64_t bytes) {
  const uint64_t needed = thermesh_packed_bytes(kind, rows, columns);
  if (!source || !tiles || needed == 0) return "a matrix of these sizes cannot be packed";
  if (bytes != needed) return "the place for the packed matrix has the wrong size";
  if (source_bytes != static_cast<uint64_t>(rows * (columns / kBlock)) * block_bytes(kind)) {
    return "the matrix has the wrong size";
  }
  if (!pack(kind, source, rows, columns, tiles)) return "a matrix holds scales that are not finite";
  return nullptr;
}

// Makes memory resident, zeros where nobody wrote yet, whatever others write to it meanwhile.
THERMESH_API void thermesh_take(uint8_t* memory, uint64_t bytes) {
  constexpr uint64_t kPageBytes = 4096;  // smaller than a system's own costs little
  for (uint64_t i = 0; memory && i < bytes; i += kPageBytes) {
    __atomic_fetch_or(memory + i, uint8_t{0}, __ATOMIC_RELAXED);
  }
}

THERMESH_API const char* thermesh_check(const ThermeshNetwork* network) {
  return network ? problem_of(*network) : "no network";
}

// `network` has passed `thermesh_check`.
THERMESH_API const char* thermesh_step(ThermeshEngine* engine, const ThermeshNetwork* network,
                                       const ThermeshBatch* batch) {
  if (!engine || !network || !batch) return "no engine, network or batch";
  if (const char* problem = problem_of(*network, *batch)) return problem;
  try {
    Bench& bench = engine->own();
    const std::lock_guard<std::mutex> lock(bench.mutex);
    run_step(*network, *batch, *engine->tier, bench.workspace);
  } catch (const std::bad_alloc&) {
    return "not enough memory for the step";
  }
  return nullptr;
}

// Both parts of drawing, for `count` rows of `size` logits.
THERMESH_API const char* thermesh_survey(ThermeshEngine* engine, ThermeshRow* rows, int32_t count,
                                         int32_t size, int32_t threads) {
  return draw_part(survey, engine, rows, count, size, threads);
}

THERMESH_API const char* thermesh_draw(ThermeshEngine* engine, ThermeshRow* rows, int32_t count,
                                       int32_t size, int32_t threads) {
  return draw_part(draw, engine, rows, count, size, threads);
}

// One product, for tests: out[rows][matrix->rows] from x[rows][matrix->columns].
THERMESH_API const char* thermesh_linear(ThermeshEngine* engine, const ThermeshMatrix* matrix,
                                         const float* x, int32_t rows, float outlier,
                                         int32_t is_prompt, float* out) {
  if (!engine || !matrix || !matrix->tiles || !x || !out) return "a part is missing";
  if (rows < 1 || thermesh_packed_bytes(matrix->kind, matrix->rows, matrix->columns) == 0) {
    return "the sizes are impossible";
  }
  try {
    Bench& bench = engine->own();
    const std::lock_guard<std::mutex> lock(bench.mutex);
    multiply(*matrix, x, rows, outlier, is_prompt != 0, out, *engine->tier, bench.workspace);
  } catch (const std::bad_alloc&) {
    return "not enough memory for the product";
  }
  return nullptr;
}

// One row of a packed matrix, for tests: out[matrix->columns].
THERMESH_API const char* thermesh_row(const ThermeshMatrix* matrix, int64_t row, float* out) {
  if (!matrix || !matrix->tiles || !out) return "a part is missing";
  if (thermesh_packed_bytes(matrix->kind, matrix->rows, matrix->columns) == 0 || row < 0 ||
      row >= matrix->rows) {
    return "the sizes are impossible";
  }
  unpack_row(matrix->kind, matrix->tiles, row, matrix->columns, out);
  return nullptr;
}
