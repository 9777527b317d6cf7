#pragma once
// A device without a GPU: host memory, kernels as fibers, matrix products as loops. Only for tests.

#include "inference/cuda/device.hpp"

namespace kontor::inference::cuda::emulation {

/// `memory_bytes`: what free_bytes() starts with; allocations beyond it fail as they would on a device.
std::unique_ptr<Device> make_device(std::uint64_t memory_bytes);

}  // namespace kontor::inference::cuda::emulation
