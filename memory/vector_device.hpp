#pragma once
// A device that searches vectors: memory, copies, one stream. The tests have one without a GPU.

#include "base/error.hpp"

#include <cstdint>
#include <functional>
#include <memory>

namespace kontor::memory {

/// Used by one thread at a time. Work runs in the order of the calls.
class VectorDevice {
 public:
  virtual ~VectorDevice() = default;
  virtual std::uint64_t free_bytes() const = 0;
  virtual int processors() const = 0;
  virtual void* stream() const = 0;
  /// Errors: memory (out_of_memory).
  virtual Result<void*> allocate(std::uint64_t bytes) = 0;
  virtual void release(void* data) = 0;
  /// Host memory may be reused at once, that of copy_out after wait().
  virtual void copy_in(void* to, const void* from, std::uint64_t bytes) = 0;
  virtual void copy_out(void* to, const void* from, std::uint64_t bytes) = 0;
  /// Errors: internal (device_error); the device is unusable then.
  virtual Result<void> wait() = 0;
};

using VectorDeviceSource = std::function<Result<std::unique_ptr<VectorDevice>>()>;

/// The first GPU. Errors: unsupported (no_device) where this build or machine has none.
Result<std::unique_ptr<VectorDevice>> open_vector_device();

}  // namespace kontor::memory
