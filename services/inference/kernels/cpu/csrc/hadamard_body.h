// Keys and queries on their way to a cache in eight bits; included by body.h, whose rules
// hold here too.

// The Walsh-Hadamard transform of each part of the greatest power of two that divides
// `size`, a multiple of 16. It is orthogonal, so products of two vectors stay what they
// were, and spreads what lies in one channel over all of them.
void hadamard(float* x, int size) {
  const int part = size & -size;
  for (int i = 0; i < size; i += kLanes) {
    const Lanes pairs = butterfly<2>(butterfly<1>(load(x + i)));
    store(x + i, butterfly<8>(butterfly<4>(pairs)));
  }
  for (int stride = kLanes; stride < part; stride *= 2) {
    for (int i = 0; i < size; i += kLanes) {
      if (i & stride) continue;
      const Lanes first = load(x + i), second = load(x + i + stride);
      store(x + i, add(first, second));
      store(x + i + stride, subtract(first, second));
    }
  }
  const Lanes scale = set1(1.0f / sqrtf(static_cast<float>(part)));
  for (int i = 0; i < size; i += kLanes) store(x + i, mul(load(x + i), scale));
}
