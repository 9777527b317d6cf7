#include "tests/gpu/device/device.hpp"

#include <cstdio>

namespace kontor::test {

std::unique_ptr<inference::cuda::Device> make_device(std::uint64_t, std::uint64_t, int index) {
  auto device = inference::cuda::open_device(index);
  if (device) return std::move(*device);
  std::printf("%s\n", device.error().message.c_str());
  return nullptr;
}

std::unique_ptr<memory::VectorDevice> make_vector_device(std::uint64_t) {
  auto device = memory::open_vector_device();
  return device ? std::move(*device) : nullptr;
}

}  // namespace kontor::test
