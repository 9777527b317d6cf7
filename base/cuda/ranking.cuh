#pragma once
// Sorting in shared memory.

#include "base/cuda/portable.hpp"

namespace kontor::gpu {

/// `Count` keys (a power of two), descending, by a block of `Threads`; waits for all of them before and after.
template <int Count, int Threads>
__device__ void sort_descending(std::uint64_t* keys) {
  __syncthreads();
  for (int size = 2; size <= Count; size *= 2)
    for (int step = size / 2; step > 0; step /= 2) {
      for (int i = static_cast<int>(threadIdx.x); i < Count / 2; i += Threads) {
        const int a = i / step * 2 * step + i % step, b = a + step;
        const bool descending = (a & size) == 0;
        const std::uint64_t x = keys[a], y = keys[b];
        if ((x < y) == descending) {
          keys[a] = y;
          keys[b] = x;
        }
      }
      __syncthreads();
    }
}

}  // namespace kontor::gpu
