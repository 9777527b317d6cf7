// The kernels of vectors.cu as fibers, and memory of the processor in place of a device's.
#include "memory/cuda/vectors.cu"

#include "base/cuda/emulation/emulation.hpp"
#include "tests/gpu/device/device.hpp"

#include <cstring>
#include <map>

namespace kontor::test {
namespace {

class EmulatedVectorDevice final : public memory::VectorDevice {
 public:
  explicit EmulatedVectorDevice(std::uint64_t memory) : free_(memory) {}
  std::uint64_t free_bytes() const override { return free_; }
  int processors() const override { return 5; }
  void* stream() const override { return nullptr; }
  Result<void*> allocate(std::uint64_t bytes) override {
    void* data = bytes <= free_ ? gpu::emulation::allocate_guarded(bytes) : nullptr;
    if (!data) return fail(Errc::memory, "no device memory left", "out_of_memory");
    sizes_[data] = bytes;
    free_ -= bytes;
    return data;
  }
  void release(void* data) override {
    const std::uint64_t bytes = sizes_.at(data);
    free_ += bytes;
    sizes_.erase(data);
    gpu::emulation::release_guarded(data, bytes);
  }
  void copy_in(void* to, const void* from, std::uint64_t bytes) override { std::memcpy(to, from, bytes); }
  void copy_out(void* to, const void* from, std::uint64_t bytes) override { std::memcpy(to, from, bytes); }
  Result<void> wait() override { return {}; }

 private:
  std::uint64_t free_;
  std::map<void*, std::uint64_t> sizes_;
};

}  // namespace

std::unique_ptr<memory::VectorDevice> make_vector_device(std::uint64_t memory_bytes) { return std::make_unique<EmulatedVectorDevice>(memory_bytes); }

}  // namespace kontor::test
