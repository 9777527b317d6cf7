#include "inference/cuda/emulation/device_emulated.hpp"

#include "base/cuda/emulation/emulation.hpp"

#include <algorithm>
#include <cstring>
#include <iterator>
#include <map>
#include <string>
#include <vector>

namespace kontor::inference::cuda::emulation {
namespace {

class EmulatedDevice final : public Device {
 public:
  EmulatedDevice(std::uint64_t memory, std::uint64_t host, int index) : free_(memory), host_free_(host), index_(index) {}
  ~EmulatedDevice() override {
    if (current == this) current = nullptr;
  }
  std::string name() const override { return index_ == 0 ? "cuda:emulated" : "cuda:emulated " + std::to_string(index_); }
  int index() const override { return index_; }
  /// From here on kernels reach this device's memory alone.
  void use() override {
    if (current == this) return;
    if (current) current->allow(false);
    allow(true);
    current = this;
  }
  Stream stream() const override { return nullptr; }
  int processors() const override { return 3; }
  std::uint64_t free_bytes() const override { return free_; }

  Result<DeviceBuffer> allocate(std::uint64_t bytes) override { return take(bytes, free_, false); }
  void release(void* data) override { give_back(data, free_); }
  Result<DeviceBuffer> allocate_host(std::uint64_t bytes) override { return take(bytes, host_free_, true); }
  void release_host(void* data) override { give_back(data, host_free_); }
  std::uint64_t host_free_bytes() const override { return host_free_; }
  // Copies do not ask which device is in use.
  void copy_in(void* to, const void* from, std::uint64_t bytes) override {
    const Open mine(this);
    std::memcpy(to, from, bytes);
  }
  void copy_out(void* to, const void* from, std::uint64_t bytes) override {
    const Open mine(this);
    std::memcpy(to, from, bytes);
  }
  void copy_within(void* to, const void* from, std::uint64_t bytes) override {
    const Open mine(this);
    std::memmove(to, from, bytes);
  }
  /// Work is done when it is put onto the stream, so that nothing has to wait.
  void* mark() override { return this; }
  void follow(void*) override {}
  void copy_from(const Device&, void* to, const void* from, std::uint64_t bytes) override {
    std::vector<std::byte> carried(bytes);
    owner(from).copy_out(carried.data(), from, bytes);
    copy_in(to, carried.data(), bytes);
  }
  Result<void> wait() override { return {}; }

  void multiply(const MatrixProduct& p) override {
    const Open mine(this);
    const auto value = [&](std::uint16_t bits) { return p.bfloat ? bfloat_value(bits) : half_value(bits); };
    // Columns first, so that the sums of many tokens go on together; each adds up column by column.
    const auto count = static_cast<std::size_t>(p.count), columns = static_cast<std::size_t>(p.columns);
    std::vector<float> a(count * columns), sums(count);
    for (std::int64_t n = 0; n < p.batch; ++n) {
      for (std::int64_t t = 0; t < p.count; ++t)
        for (std::int64_t c = 0; c < p.columns; ++c) a[static_cast<std::size_t>(c * p.count + t)] = value(p.a[n * p.a_step + t * p.a_length + c]);
      for (std::int64_t r = 0; r < p.rows; ++r) {
        std::fill(sums.begin(), sums.end(), 0.0f);
        for (std::int64_t c = 0; c < p.columns; ++c) {
          const float b = value(p.b[n * p.b_step + (p.b_turned ? c * p.b_length + r : r * p.b_length + c)]);
          const float* of_column = a.data() + static_cast<std::size_t>(c * p.count);
          for (std::size_t t = 0; t < count; ++t) sums[t] += of_column[t] * b;
        }
        for (std::int64_t t = 0; t < p.count; ++t) p.c[n * p.c_step + t * p.c_length + r] = sums[static_cast<std::size_t>(t)];
      }
    }
  }

 private:
  struct Allocation {
    std::uint64_t bytes = 0;
    EmulatedDevice* device = nullptr;
    bool host = false;
  };
  /// While it lives the device's memory may be touched, whichever is in use.
  class Open {
   public:
    explicit Open(EmulatedDevice* device) : device_(current && current != device ? device : nullptr) {
      if (device_) device_->allow(true);
    }
    ~Open() {
      if (device_) device_->allow(false);
    }
    Open(const Open&) = delete;
    Open& operator=(const Open&) = delete;

   private:
    EmulatedDevice* device_;
  };

  void allow(bool allowed) {
    for (const auto& [data, a] : allocations)
      if (a.device == this && !a.host) gpu::emulation::allow_guarded(data, a.bytes, allowed);
  }
  static EmulatedDevice& owner(const void* data) { return *std::prev(allocations.upper_bound(const_cast<void*>(data)))->second.device; }

  Result<DeviceBuffer> take(std::uint64_t bytes, std::uint64_t& free, bool host) {
    if (bytes > free) return fail(Errc::memory, "no memory left for " + std::to_string(bytes) + " bytes", "out_of_memory");
    void* data = gpu::emulation::allocate_guarded(bytes);
    if (!data) return fail(Errc::memory, "no memory left", "out_of_memory");
    allocations[data] = {bytes, this, host};
    if (!host && current && current != this) gpu::emulation::allow_guarded(data, bytes, false);
    free -= bytes;
    return DeviceBuffer(this, data, bytes, host);
  }
  void give_back(void* data, std::uint64_t& free) {
    const auto found = allocations.find(data);
    const std::uint64_t bytes = found->second.bytes;
    free += bytes;
    allocations.erase(found);
    gpu::emulation::allow_guarded(data, bytes, true);
    gpu::emulation::release_guarded(data, bytes);
  }

  static inline EmulatedDevice* current = nullptr;
  static inline std::map<void*, Allocation> allocations;  ///< Of all devices.
  std::uint64_t free_, host_free_;
  int index_;
};

}  // namespace

std::unique_ptr<Device> make_device(std::uint64_t memory_bytes, std::uint64_t host_bytes, int index) {
  return std::make_unique<EmulatedDevice>(memory_bytes, host_bytes, index);
}

}  // namespace kontor::inference::cuda::emulation
