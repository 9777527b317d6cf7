#pragma once
// A device without a GPU: host memory, kernels as fibers, matrix products as loops. Only for tests.

#include "inference/cuda/device.hpp"

namespace kontor::inference::cuda::emulation {

/// `memory_bytes`, `host_bytes`: what free_bytes() and host_free_bytes() start with; allocations beyond fail as they would on a device. From
/// the first use() of one of several on, a kernel that touches another one's memory ends the program. All devices of a process are used by
/// one thread at a time.
std::unique_ptr<Device> make_device(std::uint64_t memory_bytes, std::uint64_t host_bytes = 0, int index = 0);

}  // namespace kontor::inference::cuda::emulation
