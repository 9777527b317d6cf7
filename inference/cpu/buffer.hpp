#pragma once
// Uninitialised memory for weights and activations, aligned for vector loads and on huge pages where it is large.

#include <cstddef>
#include <cstdlib>
#include <utility>

namespace kontor::inference::cpu {

/// Owns `size()` bytes aligned to 64, to 2 MiB where huge pages are asked for. Movable. Empty after a failed allocation.
class Buffer {
 public:
  Buffer() = default;
  Buffer(Buffer&& other) noexcept : data_(std::exchange(other.data_, nullptr)), size_(std::exchange(other.size_, 0)) {}
  Buffer& operator=(Buffer&& other) noexcept {
    std::swap(data_, other.data_);
    std::swap(size_, other.size_);
    return *this;
  }
  ~Buffer() { std::free(data_); }

  /// Null data() where the system has no memory left.
  static Buffer allocate(std::size_t bytes);
  static Buffer zeroed(std::size_t bytes);

  std::byte* data() { return data_; }
  const std::byte* data() const { return data_; }
  std::size_t size() const { return size_; }
  explicit operator bool() const { return data_ != nullptr; }

  template <class T>
  T* as() {
    return reinterpret_cast<T*>(data_);
  }
  template <class T>
  const T* as() const {
    return reinterpret_cast<const T*>(data_);
  }

 private:
  std::byte* data_ = nullptr;
  std::size_t size_ = 0;
};

}  // namespace kontor::inference::cpu
