#include "inference/cuda/emulation/device_emulated.hpp"
#include "tests/gpu/device/device.hpp"

namespace kontor::test {

std::unique_ptr<inference::cuda::Device> make_device(std::uint64_t memory_bytes, std::uint64_t host_bytes, int index) {
  return inference::cuda::emulation::make_device(memory_bytes, host_bytes, index);
}

}  // namespace kontor::test
