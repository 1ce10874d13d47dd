// Which pages of a long context a query reads: means of the pages' keys, and the
// choice by them; included by body.h, whose rules hold here too. What a choice
// means, and why it is made like this, tells sparsity.py.

// A page's keys as numbers, [head_size][16 tokens].
void unpack_keys_half(const uint8_t* unit, int head_size, float* keys) {
  const uint16_t* halves = reinterpret_cast<const uint16_t*>(unit);
  for (int i = 0; i < head_size; ++i) {
    store(keys + i * kPageTokens, load_half(halves + i * kPageTokens));
  }
}

void unpack_keys_int8(const uint8_t* unit, int head_size, float* keys) {
  alignas(64) float scales[kPageTokens];
  store(scales, load_half(reinterpret_cast<const uint16_t*>(unit + unit_scales(head_size))));
  for (int i = 0; i < head_size; ++i) {
    const uint8_t* codes = unit + i / 4 * 4 * kPageTokens + i % 4;
    for (int t = 0; t < kPageTokens; ++t) {
      keys[i * kPageTokens + t] = static_cast<float>(codes[4 * t] - 128) * scales[t];
    }
  }
}

void unpack_keys_int10(const uint8_t* unit, int head_size, float* keys) {
  unpack_keys_int8(unit, head_size, keys);
  alignas(64) float scales[kPageTokens];
  store(scales, load_half(reinterpret_cast<const uint16_t*>(unit + unit_scales(head_size))));
  const uint8_t* plane = unit + unit_fourths(head_size);
  for (int i = 0; i < head_size; ++i) {
    const uint8_t* fourths = plane + i / kLanes * 4 * kPageTokens + i % 4;
    const int shift = 6 - i % kLanes / 4 * 2;
    for (int t = 0; t < kPageTokens; ++t) {
      const int own = fourths[4 * t] >> shift & 3;
      keys[i * kPageTokens + t] += 0.25f * static_cast<float>(own) * scales[t];
    }
  }
}

// Writes the means of both halves of keys [head_size][16] as codes plus 128 of
// one scale, which is returned.
float summarise(const float* keys, int head_size, uint8_t* record) {
  const int size = mean_size(head_size);
  alignas(64) float means[2 * kMaxHeadSize];
  for (int i = 0; i < 2 * size; i += kLanes) store(means + i, set1(0.0f));
  for (int i = 0; i < head_size; ++i) {
    const Lanes channel = load(keys + i * kPageTokens);
    const float first = reduce_add(keep_below(channel, kPageTokens / 2, 0.0f));
    means[i] = first * (2.0f / kPageTokens);
    means[size + i] = (reduce_add(channel) - first) * (2.0f / kPageTokens);
  }
  const float largest = largest_of(means, 2 * size);
  const Lanes inverse = set1(largest > 0 ? 127.0f / largest : 0.0f);
  for (int i = 0; i < 2 * size; i += kLanes) {
    store_int8(record + i, round(mul(load(means + i), inverse)));
  }
  for (int i = 0; i < 2 * size; ++i) record[i] ^= 0x80;
  return largest / 127.0f;
}

// A query as codes of one scale.
struct CodedQuery {
  alignas(64) uint8_t codes[kMaxHeadSize];
  float scale;
  int32_t sum;

  CodedQuery(const float* query, int head_size) {
    for (int i = 0; i < mean_size(head_size); ++i) codes[i] = 0;
    const float largest = largest_of(query, head_size);
    const Lanes inverse = set1(largest > 0 ? 127.0f / largest : 0.0f);
    Lanes total = set1(0.0f);
    for (int i = 0; i < head_size; i += kLanes) {
      const Lanes code = round(mul(load(query + i), inverse));
      store_int8(codes + i, code);
      total = add(total, code);
    }
    scale = largest / 127.0f;
    sum = static_cast<int32_t>(reduce_add(total));
  }

  float score(const uint8_t* means, int size) const {
    IntLanes dots = zero_int();
    for (int c = 0; c < size; c += 4 * kLanes) {
      dots = dot4(dots, load_stored(means + c), activations(codes + c));
    }
    return static_cast<float>(reduce(dots, sum)) * scale;
  }
};

// Adds to shares[count] what each page has of a query's attention to the means.
void add_shares(const PageChoice& choice, const float* vector, float* scores, float* shares) {
  const CodedQuery query(vector, choice.head_size);
  const int size = mean_size(choice.head_size), width = choice_width(choice.count);
  for (int i = 0; i < 2 * width; i += kLanes) store(scores + i, set1(-INFINITY));
  for (int i = 0; i < choice.count; ++i) {
    const size_t page = static_cast<size_t>(choice.pages[i]) * choice.stride;
    const uint8_t* record = choice.means + page * 2 * size;
    scores[i] = query.score(record, size) * choice.scales[page];
    scores[width + i] = query.score(record + size, size) * choice.scales[page];
  }
  Lanes largest = set1(-INFINITY);
  for (int i = 0; i < 2 * width; i += kLanes) largest = max(largest, load(scores + i));
  const Lanes top = set1(reduce_max(largest));
  Lanes sum = set1(0.0f);
  for (int i = 0; i < width; i += kLanes) {
    const Lanes both = add(exponential(subtract(load(scores + i), top)),
                           exponential(subtract(load(scores + width + i), top)));
    store(scores + i, both);
    sum = add(sum, both);
  }
  const Lanes factor = set1(1.0f / reduce_add(sum));
  for (int i = 0; i < width; i += kLanes) {
    store(shares + i, fma(load(scores + i), factor, load(shares + i)));
  }
}

inline int count_from(const float* shares, int count, float least) {
  int found = 0;
  for (int i = 0; i < count; ++i) found += shares[i] >= least;
  return found;
}

// The greatest share that at least `chosen` pages reach. Shares are not negative,
// so their bits order like them.
inline float threshold(const float* shares, int count, int chosen) {
  int32_t low = 0, high = 0x7F7FFFFF;
  float share;
  while (low < high) {
    const int32_t middle = low + (high - low + 1) / 2;
    __builtin_memcpy(&share, &middle, sizeof share);
    if (count_from(shares, count, share) >= chosen) low = middle; else high = middle - 1;
  }
  __builtin_memcpy(&share, &low, sizeof share);
  return share;
}

void choose(const PageChoice& choice, float* scratch, int32_t* chosen) {
  float* shares = scratch + 2 * choice_width(choice.count);
  for (int i = 0; i < choice.count; i += kLanes) store(shares + i, set1(0.0f));
  for (int r = 0; r < choice.rows; ++r) {
    add_shares(choice, choice.queries + r * kMaxHeadSize, scratch, shares);
  }
  const float least = threshold(shares, choice.count, choice.chosen);
  int equal = choice.chosen;
  for (int i = 0; i < choice.count; ++i) equal -= shares[i] > least;
  for (int i = 0, next = 0; i < choice.count; ++i) {
    const bool is_tie = shares[i] == least && equal > 0;
    if (shares[i] > least || is_tie) chosen[next++] = choice.pages[i];
    equal -= is_tie;
  }
}
