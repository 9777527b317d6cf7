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
/// reach the same barrier, and for a launch that CUDA would refuse.
void run_grid(dim3 grid, dim3 block, std::size_t shared_bytes, const std::function<void()>& body);
/// How the fibers of the calling thread's kernels take turns: 0, in the order of the threads; else as the seed has it, each warp
/// as far ahead of the others as barriers let it, so that a missing barrier shows. At first what KONTOR_EMULATION_ORDER says. Returns
/// the order until now.
std::uint64_t set_order(std::uint64_t seed);
/// What a kernel calls first; one that ends without it ends the program.
void begin_thread();
/// `line`: of the source. All that meet must come from the same one.
void block_barrier(int line);
void warp_barrier(int line);
/// Leaves a word for the warp's other lanes and takes that of `lane`. All lanes of the warp take part.
std::uint32_t exchange(unsigned mask, std::uint32_t word, unsigned lane, int line);
/// Whether threads take turns in their own order. Then sums over a warp, or its largest values, are found at one meeting instead of five for
/// each of `count` values, which all lanes get.
bool in_order();
void reduce(float* values, int count, bool sum, int line);
void* dynamic_shared();

/// Memory of an emulated device: a kernel that touches what lies behind it, or it after its release, ends the program. Aligned to 256
/// bytes, between pages that nobody may touch, full of NaN in every format. Null where there is no memory.
void* allocate_guarded(std::uint64_t bytes);
/// Whether it may be touched now: of several devices only the memory of the one whose kernels run.
void allow_guarded(void* data, std::uint64_t bytes, bool allowed);
/// Ends the program where a byte was changed between the end and the guard page. `bytes`: as allocated.
void release_guarded(void* data, std::uint64_t bytes);

inline float exchange_float(unsigned mask, float value, unsigned lane, int line) {
  return __builtin_bit_cast(float, exchange(mask, __builtin_bit_cast(std::uint32_t, value), lane, line));
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
#define __syncthreads() ::kontor::gpu::emulation::block_barrier(__LINE__)
#define __syncwarp() ::kontor::gpu::emulation::warp_barrier(__LINE__)

inline float __shfl_xor_sync(unsigned lanes, float value, int mask, int line = __builtin_LINE()) {
  namespace e = kontor::gpu::emulation;
  return e::exchange_float(lanes, value, e::lane() ^ static_cast<unsigned>(mask), line);
}
inline int __shfl_xor_sync(unsigned lanes, int value, int mask, int line = __builtin_LINE()) {
  namespace e = kontor::gpu::emulation;
  return static_cast<int>(e::exchange(lanes, static_cast<std::uint32_t>(value), e::lane() ^ static_cast<unsigned>(mask), line));
}
inline double __shfl_xor_sync(unsigned lanes, double value, int mask, int line = __builtin_LINE()) {
  namespace e = kontor::gpu::emulation;
  const auto bits = __builtin_bit_cast(std::uint64_t, value);
  const unsigned from = e::lane() ^ static_cast<unsigned>(mask);
  const std::uint32_t low = e::exchange(lanes, static_cast<std::uint32_t>(bits), from, line);
  const std::uint32_t high = e::exchange(lanes, static_cast<std::uint32_t>(bits >> 32), from, line);
  return __builtin_bit_cast(double, std::uint64_t{high} << 32 | low);
}
