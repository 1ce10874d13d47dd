// Memory that steps reuse.
#pragma once

#include <cstddef>
#include <cstdlib>
#include <new>

#ifdef __linux__
#include <sys/mman.h>
#endif

namespace thermesh {

// Memory that grows and is never cleared, on cache lines; much of it in huge pages, as
// tiles of sums are stored to 16 rows at once, each in a page of its own.
class Buffer {
 public:
  Buffer() = default;
  ~Buffer() { std::free(start_); }
  Buffer(const Buffer&) = delete;
  Buffer& operator=(const Buffer&) = delete;

  // Room for `count` of T; what was there is lost. Throws std::bad_alloc.
  template <typename T>
  T* room(size_t count) {
    return static_cast<T*>(reserve(count * sizeof(T)));
  }

 private:
  static constexpr size_t kHugePage = size_t{2} << 20;

  void* reserve(size_t bytes) {
    if (bytes > bytes_) {
      const size_t line = bytes < kHugePage / 2 ? 64 : kHugePage;
      const size_t rounded = (bytes + line - 1) / line * line;
      std::free(start_);
      start_ = std::aligned_alloc(line, rounded);
      bytes_ = start_ ? rounded : 0;
      if (!start_) throw std::bad_alloc();
#ifdef MADV_HUGEPAGE
      if (line == kHugePage) madvise(start_, rounded, MADV_HUGEPAGE);  // may refuse
#endif
    }
    return start_;
  }

  void* start_ = nullptr;
  size_t bytes_ = 0;
};

}  // namespace thermesh
