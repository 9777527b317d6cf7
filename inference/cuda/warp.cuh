#pragma once
// Sums and maxima over the lanes of a warp, in an order that does not depend on anything else.

#include "inference/cuda/portable.hpp"

namespace kontor::inference::cuda {

inline constexpr int kWarp = 32;

__device__ inline float warp_sum(float value) {
  for (int mask = kWarp / 2; mask > 0; mask /= 2) value += __shfl_xor_sync(0xffffffffu, value, mask);
  return value;
}

__device__ inline float warp_max(float value) {
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

/// e^(x - top) for x <= top, as inference/sampler.cpp computes it, bit for bit.
__device__ inline float fast_exp(float x, float top) {
  const float below = add_rounded(x, -top), z = below > -80.0f ? below : -80.0f;
  const float y = multiply_rounded(z, 1.44269504f), rounded = add_rounded(add_rounded(y, 12582912.0f), -12582912.0f);
  const float r = multiply_rounded(add_rounded(y, -rounded), 0.69314718f);
  float p = 1.0f / 120;
  const float coefficients[] = {1.0f / 24, 1.0f / 6, 1.0f / 2, 1.0f, 1.0f};
#pragma unroll
  for (const float c : coefficients) p = add_rounded(c, multiply_rounded(r, p));
  return multiply_rounded(p, __builtin_bit_cast(float, (static_cast<std::int32_t>(rounded) + 127) << 23));
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

}  // namespace kontor::inference::cuda
