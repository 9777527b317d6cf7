#pragma once
// A GPU as the decoder uses it: memory, one stream, copies, matrix products of the library. The emulation for tests
// implements the same.

#include "base/error.hpp"
#include "inference/cuda/kernels.hpp"

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>

namespace kontor::inference::cuda {

class Device;

/// Memory that kernels read, of the device or of the host, given back when the object dies (before the device does).
class DeviceBuffer {
 public:
  DeviceBuffer() = default;
  DeviceBuffer(Device* device, void* data, std::uint64_t bytes, bool host = false) : device_(device), data_(data), bytes_(bytes), host_(host) {}
  DeviceBuffer(DeviceBuffer&& other) noexcept;
  DeviceBuffer& operator=(DeviceBuffer&& other) noexcept;
  ~DeviceBuffer();

  void* data() const { return data_; }
  template <class T>
  T* as() const {
    return static_cast<T*>(data_);
  }
  std::uint64_t bytes() const { return bytes_; }
  /// The host writes and reads it in place.
  bool host() const { return host_; }

 private:
  Device* device_ = nullptr;
  void* data_ = nullptr;
  std::uint64_t bytes_ = 0;
  bool host_ = false;
};

/// C (count, rows) = A (count, columns) * B^T, for `batch` independent products at fixed distances in elements; A and B in
/// binary16 or both in bfloat16, sums in float32. B lies as (rows, columns), or with `b_turned` as (columns, rows).
struct MatrixProduct {
  const std::uint16_t* a = nullptr;
  const std::uint16_t* b = nullptr;
  float* c = nullptr;
  bool b_turned = false;
  bool bfloat = false;
  std::int64_t count = 0, rows = 0, columns = 0;
  std::int64_t a_length = 0, b_length = 0, c_length = 0;  ///< Elements from one row to the next.
  std::int64_t a_step = 0, b_step = 0, c_step = 0;        ///< Elements from one product of the batch to the next.
  std::int64_t batch = 1;
};

/// Used by one thread at a time. Work is put onto one stream and runs in order; errors of the device appear in wait().
class Device {
 public:
  virtual ~Device() = default;
  virtual std::string name() const = 0;   ///< "cuda:0".
  virtual int index() const = 0;
  /// Makes it the device that the calling thread launches kernels on.
  virtual void use() = 0;
  virtual Stream stream() const = 0;
  virtual int processors() const = 0;     ///< Streaming multiprocessors.
  virtual std::uint64_t free_bytes() const = 0;

  /// Errors: memory (out_of_memory).
  virtual Result<DeviceBuffer> allocate(std::uint64_t bytes) = 0;
  virtual void release(void* data) = 0;

  /// Page-locked memory of the host, at the same address for kernels, which read it over the bus. Errors: memory (out_of_memory).
  virtual Result<DeviceBuffer> allocate_host(std::uint64_t bytes) = 0;
  virtual void release_host(void* data) = 0;
  /// That allocate_host() could give.
  virtual std::uint64_t host_free_bytes() const = 0;

  /// In stream order. Host memory of copy_in may be reused at once, that of copy_out after wait().
  virtual void copy_in(void* to, const void* from, std::uint64_t bytes) = 0;
  virtual void copy_out(void* to, const void* from, std::uint64_t bytes) = 0;
  virtual void copy_within(void* to, const void* from, std::uint64_t bytes) = 0;
  virtual void multiply(const MatrixProduct& product) = 0;

  // Between two devices; see hand_over().
  /// Notes this place of the stream, until the next mark().
  virtual void* mark() = 0;
  /// What is put onto the stream from now on waits for a place of another's.
  virtual void follow(void* mark) = 0;
  virtual void copy_from(const Device& other, void* to, const void* from, std::uint64_t bytes) = 0;

  /// Until the stream is empty. Errors: internal (device_error) with the driver's words; the device is unusable then.
  virtual Result<void> wait() = 0;

  /// From start to stop the stream works on kernels alone; busy_seconds() adds up the stretches that wait() saw the end of.
  virtual void start_clock() {}
  virtual void stop_clock() {}
  virtual double busy_seconds() const { return 0; }

  /// Runs `work`, or what was recorded the last time under the same key (CUDA graphs): `work` must put the same kernels with
  /// the same arguments onto the stream each time and copy nothing from or to the host.
  virtual void replay(std::uint64_t key, const std::function<void()>& work) { (void)key, work(); }
};

/// Copies from one device's memory to another's: behind the work that is on the first one's stream, before what is put onto either stream later.
void hand_over(Device& from, const void* data, Device& to, void* out, std::uint64_t bytes);

/// Errors: unsupported (no_device) with what is missing.
Result<std::unique_ptr<Device>> open_device(int index);

}  // namespace kontor::inference::cuda
