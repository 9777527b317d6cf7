#pragma once
// Memory of an emulated device: a kernel that reads or writes behind it, or in it after its release, ends the program.

#include <cstdint>

namespace kontor::gpu::emulation {

/// Aligned to 256 bytes as on a device, between pages that nobody may touch, full of NaN in every format so that what is read
/// before it is written shows. Null where there is no memory.
void* allocate_guarded(std::uint64_t bytes);
/// Ends the program where a byte was changed between the end and the guard page. `bytes`: as allocated.
void release_guarded(void* data, std::uint64_t bytes);

}  // namespace kontor::gpu::emulation
