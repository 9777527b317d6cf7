// Stands in for the kernels in builds without the CUDA Toolkit, where nobody has a device to call them with.

#include "memory/cuda/vector_kernels.hpp"

namespace kontor::memory {

std::int64_t search_blocks(std::int64_t, int) { return 1; }
const std::uint64_t* find_rows(const VectorRows&, const float*, std::int64_t, std::int64_t, std::uint64_t* const (&lists)[2], void*) { return lists[0]; }

}  // namespace kontor::memory
