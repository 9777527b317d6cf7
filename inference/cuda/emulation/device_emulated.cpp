#include "inference/cuda/emulation/device_emulated.hpp"

#include "base/cuda/emulation/emulation.hpp"

#include <cstring>
#include <map>

namespace kontor::inference::cuda::emulation {
namespace {

class EmulatedDevice final : public Device {
 public:
  EmulatedDevice(std::uint64_t memory, std::uint64_t host) : free_(memory), host_free_(host) {}
  std::string name() const override { return "cuda:emulated"; }
  Stream stream() const override { return nullptr; }
  int processors() const override { return 3; }
  std::uint64_t free_bytes() const override { return free_; }

  Result<DeviceBuffer> allocate(std::uint64_t bytes) override { return take(bytes, free_, false); }
  void release(void* data) override { give_back(data, free_); }
  Result<DeviceBuffer> allocate_host(std::uint64_t bytes) override { return take(bytes, host_free_, true); }
  void release_host(void* data) override { give_back(data, host_free_); }
  std::uint64_t host_free_bytes() const override { return host_free_; }
  void copy_in(void* to, const void* from, std::uint64_t bytes) override { std::memcpy(to, from, bytes); }
  void copy_out(void* to, const void* from, std::uint64_t bytes) override { std::memcpy(to, from, bytes); }
  void copy_within(void* to, const void* from, std::uint64_t bytes) override { std::memmove(to, from, bytes); }
  Result<void> wait() override { return {}; }

  void multiply(const MatrixProduct& p) override {
    for (std::int64_t n = 0; n < p.batch; ++n)
      for (std::int64_t t = 0; t < p.count; ++t)
        for (std::int64_t r = 0; r < p.rows; ++r) {
          float sum = 0;
          for (std::int64_t c = 0; c < p.columns; ++c)
            sum += half_value(p.a[n * p.a_step + t * p.a_length + c]) *
                   half_value(p.b[n * p.b_step + (p.b_turned ? c * p.b_length + r : r * p.b_length + c)]);
          p.c[n * p.c_step + t * p.c_length + r] = sum;
        }
  }

 private:
  Result<DeviceBuffer> take(std::uint64_t bytes, std::uint64_t& free, bool host) {
    if (bytes > free) return fail(Errc::memory, "no memory left for " + std::to_string(bytes) + " bytes", "out_of_memory");
    void* data = gpu::emulation::allocate_guarded(bytes);
    if (!data) return fail(Errc::memory, "no memory left", "out_of_memory");
    sizes_[data] = bytes;
    free -= bytes;
    return DeviceBuffer(this, data, bytes, host);
  }
  void give_back(void* data, std::uint64_t& free) {
    const std::uint64_t bytes = sizes_.at(data);
    free += bytes;
    sizes_.erase(data);
    gpu::emulation::release_guarded(data, bytes);
  }

  std::uint64_t free_, host_free_;
  std::map<void*, std::uint64_t> sizes_;
};

}  // namespace

std::unique_ptr<Device> make_device(std::uint64_t memory_bytes, std::uint64_t host_bytes) {
  return std::make_unique<EmulatedDevice>(memory_bytes, host_bytes);
}

}  // namespace kontor::inference::cuda::emulation
