#include "draw.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

namespace thermesh {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();

// Tokens of one row that may be drawn, in the order of the vocabulary.
struct Candidates {
  int32_t* ids;
  float* logits;
  float* weights;
  int32_t* order;
  int count = 0;

  static size_t bytes_for(int size) { return static_cast<size_t>(size) * 4 * sizeof(float); }
  static Candidates at(uint8_t* memory, int size) {
    float* floats = reinterpret_cast<float*>(memory);
    return {reinterpret_cast<int32_t*>(floats), floats + size, floats + 2 * size,
            reinterpret_cast<int32_t*>(floats + 3 * size)};
  }
};

// The lowest float that is not below `bound`.
float at_least(double bound) {
  const float near = static_cast<float>(bound);
  return near < bound ? std::nextafter(near, kInfinity) : near;
}

void collect(const ThermeshRow& row, int size, const Tier& tier, Candidates* found) {
  found->count = tier.collect(row.logits, size, row.floor, found->ids, found->logits);
}

// Drops what is at the floor beyond the first `ties`.
void drop_ties(const ThermeshRow& row, Candidates* found) {
  int kept = 0, ties = 0;
  for (int i = 0; i < found->count; ++i) {
    if (found->logits[i] == row.floor && ties++ >= row.ties) continue;
    found->ids[kept] = found->ids[i];
    found->logits[kept++] = found->logits[i];
  }
  found->count = kept;
}

// Leaves the first `count` of `order`, best first and of equal ones the earlier: the
// floor is the last of them, and of those at it as many stay as are among them.
void keep_first(int count, const Candidates& from, ThermeshRow* row) {
  row->floor = from.logits[from.order[count - 1]];
  row->ties = 0;
  for (int i = count; i-- > 0 && from.logits[from.order[i]] == row->floor;) ++row->ties;
}

// Puts the first `count` of the candidates that are `lowest` or more in order; returns
// how many there are.
int rank(int count, float lowest, const Candidates& of) {
  int32_t* end = of.order;
  for (int32_t i = 0; i < of.count; ++i) {
    if (of.logits[i] >= lowest) *end++ = i;
  }
  const int near = static_cast<int>(end - of.order);
  std::partial_sort(of.order, of.order + std::min(count, near), end, [&](int32_t a, int32_t b) {
    return of.logits[a] != of.logits[b] ? of.logits[a] > of.logits[b] : a < b;
  });
  return near;
}

void cut_by_rank(int size, const Tier& tier, Candidates* found, ThermeshRow* row) {
  if (row->top_k < 0 || row->top_k >= size) return;
  collect(*row, size, tier, found);
  rank(row->top_k, -kInfinity, *found);
  keep_first(row->top_k, *found, row);
}

// The smallest set that reaches `top_p`. What is far below the best is ranked only
// where it is needed.
void cut_by_mass(int size, const Tier& tier, Candidates* found, ThermeshRow* row) {
  if (row->top_p < 0 || row->top_p >= 1) return;
  collect(*row, size, tier, found);
  drop_ties(*row, found);
  tier.weights(found->logits, found->count, row->highest, 1.0f, found->weights);
  const double total = std::accumulate(found->weights, found->weights + found->count, 0.0);
  for (const float reach : {4.0f, 8.0f, 16.0f, kInfinity}) {
    const int near = rank(found->count, row->highest - reach, *found);
    double before = 0.0;
    for (int i = 0; i < near; ++i) {
      before += found->weights[found->order[i]];
      if (before < row->top_p * total && i + 1 < found->count) continue;
      return keep_first(i + 1, *found, row);
    }
  }
}

void cut_by_distance(double deviation, ThermeshRow* row) {
  double below = std::numeric_limits<double>::infinity();
  if (row->below >= 0) below = row->below;
  if (row->top_n_sigma >= 0) below = std::min(below, row->top_n_sigma * deviation);
  const float floor = at_least(row->highest - below);
  if (floor <= row->floor) return;
  row->floor = floor;
  row->ties = std::numeric_limits<int32_t>::max();
}

// Entropy of softmax over the candidates, nats.
double entropy_of(const ThermeshRow& row, const Tier& tier, const Candidates& found) {
  tier.weights(found.logits, found.count, row.highest, 1.0f, found.weights);
  double total = 0.0, moment = 0.0;
  for (int i = 0; i < found.count; ++i) {
    const double weight = found.weights[i];
    total += weight;
    moment += weight * (found.logits[i] - row.highest);
  }
  return std::log(total) - moment / total;
}

void survey(int size, const Tier& tier, Candidates found, ThermeshRow* row) {
  Extent extent{};
  tier.extent(row->logits, size, &extent);
  row->entropy = std::numeric_limits<double>::quiet_NaN();
  if (!extent.is_finite) return;
  Moments moments{};
  tier.moments(row->logits, size, extent.highest, static_cast<float>(extent.sum / size), &moments);
  row->highest = extent.highest;
  row->log_total = std::log(moments.total);
  row->entropy = std::max(0.0, row->log_total - moments.moment / moments.total);
  row->floor = -kInfinity;
  row->ties = std::numeric_limits<int32_t>::max();
  cut_by_rank(size, tier, &found, row);
  cut_by_mass(size, tier, &found, row);
  cut_by_distance(std::sqrt(moments.squares / size), row);
  if (!row->wants_spread) return;
  collect(*row, size, tier, &found);
  drop_ties(*row, &found);
  row->kept = found.count;
  row->spread = entropy_of(*row, tier, found);
}

void take(const ThermeshRow& from, int32_t token, double log_probability, ThermeshRow* row) {
  row->token = token;
  row->log_probability = log_probability;
  row->model_log_probability =
      static_cast<double>(from.logits[token]) - from.highest - from.log_total;
}

void draw(int size, const Tier& tier, Candidates found, ThermeshRow* row) {
  if (row->temperature == 0.0f) {
    row->floor = row->highest;
    collect(*row, size, tier, &found);
    return take(*row, found.count ? found.ids[0] : 0, 0.0, row);
  }
  collect(*row, size, tier, &found);
  drop_ties(*row, &found);
  tier.weights(found.logits, found.count, row->highest, row->temperature, found.weights);
  // Only where a caller has changed what the survey found.
  if (found.count == 0) return take(*row, 0, 0.0, row);
  const double total = std::accumulate(found.weights, found.weights + found.count, 0.0);
  const double target = random_unit(row->seed, row->token_index) * total;
  int place = 0;
  for (double sum = found.weights[0]; sum <= target && place + 1 < found.count;) {
    sum += found.weights[++place];
  }
  const double tempered = (found.logits[place] - row->highest) / row->temperature;
  take(*row, found.ids[place], tempered - std::log(total), row);
}

// A row is not worth waking anybody for.
template <typename Work>
void each_row(ThermeshRow* rows, int count, int size, int threads, Buffer& memory, Pool& pool,
              const Work& work) {
  const size_t bytes = Candidates::bytes_for(size);
  uint8_t* scratch = memory.room<uint8_t>(bytes * count);
  const auto one = [&](int row) { work(Candidates::at(scratch + bytes * row, size), rows + row); };
  if (count == 1) return one(0);
  pool.begin(threads);
  pool.run(count, one);
  pool.end();
}

}  // namespace

// Philox 4x64 with ten rounds (Salmon et al., 2011), as numpy keys and counts it.
double random_unit(uint64_t seed, uint64_t token_index) {
  const auto product = [](uint64_t a, uint64_t b) { return static_cast<unsigned __int128>(a) * b; };
  uint64_t key[2] = {seed, 0};
  uint64_t at[4] = {token_index + 1, token_index + 1 == 0, 0, 0};
  for (int round = 0; round < 10; ++round) {
    const unsigned __int128 first = product(0xD2E7470EE14C6C93u, at[0]);
    const unsigned __int128 second = product(0xCA5A826395121157u, at[2]);
    const uint64_t next[4] = {static_cast<uint64_t>(second >> 64) ^ at[1] ^ key[0],
                              static_cast<uint64_t>(second),
                              static_cast<uint64_t>(first >> 64) ^ at[3] ^ key[1],
                              static_cast<uint64_t>(first)};
    std::copy(next, next + 4, at);
    key[0] += 0x9E3779B97F4A7C15u;
    key[1] += 0xBB67AE8584CAA73Bu;
  }
  return static_cast<double>(at[0] >> 11) * 0x1p-53;
}

void survey(ThermeshRow* rows, int count, int size, int threads, const Tier& tier, Buffer& memory,
            Pool& pool) {
  each_row(rows, count, size, threads, memory, pool,
           [&](const Candidates& found, ThermeshRow* row) {
             survey(size, tier, found, row);
             if (row->temperature >= 0 && std::isfinite(row->entropy)) draw(size, tier, found, row);
           });
}

void draw(ThermeshRow* rows, int count, int size, int threads, const Tier& tier, Buffer& memory,
          Pool& pool) {
  each_row(rows, count, size, threads, memory, pool,
           [&](const Candidates& found, ThermeshRow* row) { draw(size, tier, found, row); });
}

}  // namespace thermesh
