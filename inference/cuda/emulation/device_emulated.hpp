#pragma once
// A device without a GPU: host memory, kernels as fibers, matrix products as loops. Only for tests.

#include "inference/cuda/device.hpp"

namespace kontor::inference::cuda::emulation {

/// `memory_bytes`, `host_bytes`: what free_bytes() and host_free_bytes() start with; allocations beyond fail as they would on a device.
std::unique_ptr<Device> make_device(std::uint64_t memory_bytes, std::uint64_t host_bytes = 0);

}  // namespace kontor::inference::cuda::emulation
