// Memory that steps reuse.
#pragma once

#include <cstddef>
#include <cstdlib>
#include <new>

namespace thermesh {

// Memory that grows and is never cleared, on cache lines.
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
  void* reserve(size_t bytes) {
    if (bytes > bytes_) {
      const size_t rounded = (bytes + 63) / 64 * 64;
      std::free(start_);
      start_ = std::aligned_alloc(64, rounded);
      bytes_ = start_ ? rounded : 0;
      if (!start_) throw std::bad_alloc();
    }
    return start_;
  }

  void* start_ = nullptr;
  size_t bytes_ = 0;
};

}  // namespace thermesh
