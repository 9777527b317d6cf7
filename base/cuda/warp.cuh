#pragma once
// Sums and maxima over the lanes of a warp, in an order that does not depend on anything else.

#include "base/cuda/portable.hpp"

namespace kontor::gpu {

inline constexpr int kWarp = 32;

/// The sum of each of N values; every lane gets all of them.
template <int N>
__device__ __forceinline__ void warp_sums(float* values) {
#if defined(KONTOR_CUDA_EMULATION)
  if (emulation::in_order()) return emulation::reduce(values, N, true, __LINE__);  // Tests in other orders take the way of the device.
#endif
#pragma unroll
  for (int i = 0; i < N; ++i)
    for (int mask = kWarp / 2; mask > 0; mask /= 2) values[i] += __shfl_xor_sync(0xffffffffu, values[i], mask);
}

__device__ inline float warp_sum(float value) {
  warp_sums<1>(&value);
  return value;
}

__device__ inline float warp_max(float value) {
#if defined(KONTOR_CUDA_EMULATION)
  if (emulation::in_order()) {
    emulation::reduce(&value, 1, false, __LINE__);
    return value;
  }
#endif
  for (int mask = kWarp / 2; mask > 0; mask /= 2) value = fmaxf(value, __shfl_xor_sync(0xffffffffu, value, mask));
  return value;
}

/// Never fused with what stands beside it, so that the processor's values come out.
__device__ inline float add_rounded(float a, float b) {
#if defined(__CUDA_ARCH__)
  return __fadd_rn(a, b);
#else
  return a + b;
#endif
}
__device__ inline float multiply_rounded(float a, float b) {
#if defined(__CUDA_ARCH__)
  return __fmul_rn(a, b);
#else
  return a * b;
#endif
}

/// Over a block of up to 1024 threads; every thread gets the sum.
__device__ inline float block_sum(float value) {
  __shared__ float parts[kWarp];
  const int warp = static_cast<int>(threadIdx.x) / kWarp, lane = static_cast<int>(threadIdx.x) % kWarp;
  const int warps = (static_cast<int>(blockDim.x) + kWarp - 1) / kWarp;
  value = warp_sum(value);
  __syncthreads();
  if (lane == 0) parts[warp] = value;
  __syncthreads();
  float total = 0;
  for (int w = 0; w < warps; ++w) total += parts[w];
  return total;
}

__device__ inline float block_max(float value) {
  __shared__ float parts[kWarp];
  const int warp = static_cast<int>(threadIdx.x) / kWarp, lane = static_cast<int>(threadIdx.x) % kWarp;
  const int warps = (static_cast<int>(blockDim.x) + kWarp - 1) / kWarp;
  value = warp_max(value);
  __syncthreads();
  if (lane == 0) parts[warp] = value;
  __syncthreads();
  float most = parts[0];
  for (int w = 1; w < warps; ++w) most = fmaxf(most, parts[w]);
  return most;
}

}  // namespace kontor::gpu
