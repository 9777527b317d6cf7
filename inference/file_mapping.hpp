#pragma once
// A regular file mapped read-only into memory.

#include "base/error.hpp"

#include <cstddef>
#include <span>
#include <string>
#include <utility>

namespace kontor::inference {

/// Movable; the bytes stay where they are. Replacing or shortening the file while it is mapped is not survivable (the
/// kernel sends SIGBUS), renaming or unlinking it is harmless.
class FileMapping {
 public:
  /// An empty file gives an empty span. Never waits for FIFOs or devices. Errors carry a kind: not_found,
  /// permission_denied, not_regular_file, out_of_memory.
  static Result<FileMapping> open(const std::string& path);

  FileMapping() = default;
  FileMapping(FileMapping&& other) noexcept : start_(std::exchange(other.start_, nullptr)), bytes_(std::exchange(other.bytes_, 0)) {}
  FileMapping& operator=(FileMapping&& other) noexcept {
    std::swap(start_, other.start_);
    std::swap(bytes_, other.bytes_);
    return *this;
  }
  ~FileMapping();

  std::span<const std::byte> bytes() const { return {static_cast<const std::byte*>(start_), bytes_}; }

 private:
  void* start_ = nullptr;
  std::size_t bytes_ = 0;
};

enum class PageAdvice {
  read_ahead,  ///< They will be read soon: the system may begin now. Returns at once.
  release,     ///< This process needs them no more. They stay readable, from the system's cache or the disk.
};

/// Advice about bytes of a FileMapping. Bytes that lie elsewhere are left alone: releasing memory that no file stands
/// behind would lose it. Safe to use from any thread.
void advise(std::span<const std::byte> bytes, PageAdvice advice);

}  // namespace kontor::inference
