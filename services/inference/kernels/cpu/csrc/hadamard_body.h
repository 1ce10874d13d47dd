// What a cache of codes keeps, and queries, on their way to it; included by body.h, whose
// rules hold here too.

// The Walsh-Hadamard transform of each 16 * kVectors numbers, a power of two, up to `end`.
template <int kVectors>
void turn(float* x, const float* end) {
  const Lanes scale = set1(1.0f / sqrtf(static_cast<float>(kVectors * kLanes)));
  for (; x < end; x += kVectors * kLanes) {
    Lanes all[kVectors];
    // Unrolled, or the compiler keeps vectors in memory.
#pragma GCC unroll 16
    for (int i = 0; i < kVectors; ++i) {
      const Lanes pairs = butterfly<2>(butterfly<1>(load(x + i * kLanes)));
      all[i] = butterfly<8>(butterfly<4>(pairs));
    }
#pragma GCC unroll 4
    for (int stride = 1; stride < kVectors; stride *= 2) {
#pragma GCC unroll 16
      for (int i = 0; i < kVectors; ++i) {
        if (i & stride) continue;
        const Lanes first = all[i], second = all[i + stride];
        all[i] = add(first, second);
        all[i + stride] = subtract(first, second);
      }
    }
#pragma GCC unroll 16
    for (int i = 0; i < kVectors; ++i) store(x + i * kLanes, mul(all[i], scale));
  }
}

// That of each part of the greatest power of two that divides `size`, a multiple of 16, of
// `count` vectors: together they wait less for each other's sums than one by one. It is
// orthogonal, so products of two vectors stay what they were, and spreads what lies in one
// channel over all of them; a second time gives what there was before.
void hadamard(float* x, int size, int count) {
  const float* end = x + size * count;
  switch ((size & -size) / kLanes) {
    case 1: return turn<1>(x, end);
    case 2: return turn<2>(x, end);
    case 4: return turn<4>(x, end);
    case 8: return turn<8>(x, end);
    default: return turn<16>(x, end);
  }
}
