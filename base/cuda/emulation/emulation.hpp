#pragma once
// CUDA's execution model on one processor core, for tests of kernels on machines without a GPU: the threads of a block are
// fibers that take turns at barriers and shuffles, blocks run one after the other. Only what Kontor's kernels use.

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <functional>

struct dim3 {
  unsigned x = 1, y = 1, z = 1;
  constexpr dim3(unsigned a = 1, unsigned b = 1, unsigned c = 1) : x(a), y(b), z(c) {}
};

namespace kontor::gpu::emulation {

/// Of the running fiber.
struct Place {
  dim3 thread, block, block_size, grid;
};
const Place& place();
/// Runs `body` once for every thread of every block. Ends the program with a message when the threads of a block do not all
/// reach a barrier.
void run_grid(dim3 grid, dim3 block, std::size_t shared_bytes, const std::function<void()>& body);
void block_barrier();
void warp_barrier();
/// Leaves a word for the warp's other lanes and takes that of `lane`. All lanes of the warp take part.
std::uint32_t exchange(std::uint32_t word, unsigned lane);
void* dynamic_shared();

inline float exchange_float(float value, unsigned lane) {
  return __builtin_bit_cast(float, exchange(__builtin_bit_cast(std::uint32_t, value), lane));
}
inline unsigned lane() { return place().thread.x % 32; }

}  // namespace kontor::gpu::emulation

#define __global__
#define __device__
#define __host__
#define __forceinline__ inline
#define __restrict__
#define __shared__ static
#define __launch_bounds__(...)
#define threadIdx (::kontor::gpu::emulation::place().thread)
#define blockIdx (::kontor::gpu::emulation::place().block)
#define blockDim (::kontor::gpu::emulation::place().block_size)
#define gridDim (::kontor::gpu::emulation::place().grid)
#define __syncthreads() ::kontor::gpu::emulation::block_barrier()
#define __syncwarp() ::kontor::gpu::emulation::warp_barrier()

inline float __shfl_xor_sync(unsigned, float value, int mask) {
  namespace e = kontor::gpu::emulation;
  return e::exchange_float(value, e::lane() ^ static_cast<unsigned>(mask));
}
inline float __shfl_sync(unsigned, float value, int lane) {
  return kontor::gpu::emulation::exchange_float(value, static_cast<unsigned>(lane));
}
inline int __shfl_xor_sync(unsigned, int value, int mask) {
  namespace e = kontor::gpu::emulation;
  return static_cast<int>(e::exchange(static_cast<std::uint32_t>(value), e::lane() ^ static_cast<unsigned>(mask)));
}
inline double __shfl_xor_sync(unsigned, double value, int mask) {
  namespace e = kontor::gpu::emulation;
  const auto bits = __builtin_bit_cast(std::uint64_t, value);
  const unsigned from = e::lane() ^ static_cast<unsigned>(mask);
  const std::uint64_t low = e::exchange(static_cast<std::uint32_t>(bits), from), high = e::exchange(static_cast<std::uint32_t>(bits >> 32), from);
  return __builtin_bit_cast(double, high << 32 | low);
}
inline float __expf(float x) { return std::exp(x); }
