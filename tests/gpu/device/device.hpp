#pragma once
// The device that the tests of the CUDA backend run on: emulated in test_gpu, a GPU in test_cuda.

#include "inference/cuda/device.hpp"
#include "memory/vector_device.hpp"

#include <memory>

namespace kontor::test {

/// Null where there is none. `memory_bytes`, and `host_bytes` for kernels: at most this much, where the device can be told. `index`: of several.
std::unique_ptr<inference::cuda::Device> make_device(std::uint64_t memory_bytes = std::uint64_t{1} << 30, std::uint64_t host_bytes = 0, int index = 0);

/// The same for vector search.
std::unique_ptr<memory::VectorDevice> make_vector_device(std::uint64_t memory_bytes = std::uint64_t{1} << 30);

}  // namespace kontor::test
