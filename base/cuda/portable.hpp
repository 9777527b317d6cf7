#pragma once
// One source for kernels: nvcc compiles it for the device, a C++ compiler with KONTOR_CUDA_EMULATION for the tests, in
// which every thread of a block is a fiber (emulation/). Arithmetic that both need lives in functions marked KONTOR_HD.

#include <cstdint>

#if defined(__CUDACC__)
#include <array>
#include <atomic>
#include <cstdlib>
#include <cstring>
#endif

#if defined(KONTOR_CUDA_EMULATION)
#include "base/cuda/emulation/emulation.hpp"
#define KONTOR_HD inline
#define KONTOR_LAUNCH(kernel, grid, block, shared, stream, ...) \
  (static_cast<void>(stream), ::kontor::gpu::emulation::run_grid(grid, block, shared, [&] { kernel(__VA_ARGS__); }))
#define KONTOR_DYNAMIC_SHARED(type, name) type* name = reinterpret_cast<type*>(::kontor::gpu::emulation::dynamic_shared())
#elif defined(__CUDACC__)
#define KONTOR_HD __host__ __device__ __forceinline__
#define KONTOR_LAUNCH(kernel, grid, block, shared, stream, ...) \
  ::kontor::gpu::launch(kernel, grid, block, shared, static_cast<cudaStream_t>(stream), __VA_ARGS__)
#define KONTOR_DYNAMIC_SHARED(type, name) \
  extern __shared__ __align__(16) unsigned char kontor_dynamic_shared[]; \
  type* name = reinterpret_cast<type*>(kontor_dynamic_shared)
#else
#define KONTOR_HD inline
#endif

namespace kontor::gpu {

// A kernel's blocks may be brought to the device while the kernel before it on the stream ends: what is between the two costs more time
// than many a kernel. So every kernel begins with begin_kernel(), before it touches memory; the emulation ends the program otherwise.
#if defined(KONTOR_CUDA_EMULATION)
inline void begin_kernel() { emulation::begin_thread(); }
#elif defined(__CUDACC__)
/// Lets the next kernel come, then waits until all before it on the stream have ended and their results can be read.
__device__ __forceinline__ void begin_kernel() {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.launch_dependents;" ::: "memory");
  asm volatile("griddepcontrol.wait;" ::: "memory");
#endif
}

/// Whether the current device does that: from Hopper on, unless KONTOR_GPU_OVERLAP is 0.
inline bool kernels_overlap() {
  static const bool wanted = [] {
    const char* text = std::getenv("KONTOR_GPU_OVERLAP");
    return !text || std::strcmp(text, "0") != 0;
  }();
  constexpr int kDevices = 64;
  static std::array<std::atomic<signed char>, kDevices> known{};
  int device = 0, major = 0;
  if (!wanted || cudaGetDevice(&device) != cudaSuccess || device >= kDevices) return false;
  std::atomic<signed char>& answer = known[static_cast<std::size_t>(device)];
  if (answer == 0) answer = cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, device) == cudaSuccess && major >= 9 ? 1 : -1;
  return answer > 0;
}

/// Errors appear at cudaGetLastError().
template <class... Expected, class... Given>
void launch(void (*kernel)(Expected...), dim3 grid, dim3 block, std::size_t shared, cudaStream_t stream, Given&&... arguments) {
  cudaLaunchAttribute overlap{};
  overlap.id = cudaLaunchAttributeProgrammaticStreamSerialization;
  overlap.val.programmaticStreamSerializationAllowed = 1;
  cudaLaunchConfig_t config{};
  config.gridDim = grid;
  config.blockDim = block;
  config.dynamicSmemBytes = shared;
  config.stream = stream;
  config.attrs = &overlap;
  config.numAttrs = kernels_overlap() ? 1 : 0;
  (void)cudaLaunchKernelEx(&config, kernel, static_cast<Expected>(arguments)...);
}
#endif

/// IEEE binary16 bits to float, exactly.
KONTOR_HD float half_value(std::uint16_t bits) {
#if defined(__CUDA_ARCH__)
  float value;
  asm("cvt.f32.f16 %0, %1;" : "=f"(value) : "h"(bits));
  return value;
#else
  const std::uint32_t sign = static_cast<std::uint32_t>(bits & 0x8000u) << 16, exponent = bits >> 10 & 31u, fraction = bits & 0x3ffu;
  if (exponent == 31) return __builtin_bit_cast(float, sign | 0x7f800000u | fraction << 13);
  if (exponent == 0) {
    const float small = static_cast<float>(fraction) * 0x1p-24f;
    return sign ? -small : small;
  }
  return __builtin_bit_cast(float, sign | (exponent + 112) << 23 | fraction << 13);
#endif
}

/// Round to nearest even; too large becomes infinity.
KONTOR_HD std::uint16_t half_bits(float value) {
#if defined(__CUDA_ARCH__)
  std::uint16_t bits;
  asm("cvt.rn.f16.f32 %0, %1;" : "=h"(bits) : "f"(value));
  return bits;
#else
  const std::uint32_t bits = __builtin_bit_cast(std::uint32_t, value), sign = bits >> 16 & 0x8000u, magnitude = bits & 0x7fffffffu;
  if (magnitude > 0x7f800000u) return static_cast<std::uint16_t>(sign | 0x7e00u);
  if (magnitude >= 0x477ff000u) return static_cast<std::uint16_t>(sign | 0x7c00u);
  if (magnitude < 0x38800000u) {  // Subnormal: adding this shifts the fraction into place and rounds it.
    const float shifted = __builtin_bit_cast(float, magnitude) + 0.5f;
    return static_cast<std::uint16_t>(sign | (__builtin_bit_cast(std::uint32_t, shifted) - 0x3f000000u));
  }
  return static_cast<std::uint16_t>(sign | ((magnitude + 0xfffu + (magnitude >> 13 & 1u)) - 0x38000000u) >> 13);
#endif
}

KONTOR_HD float bfloat_value(std::uint16_t bits) {
#if defined(__CUDA_ARCH__)
  return __uint_as_float(static_cast<std::uint32_t>(bits) << 16);
#else
  return __builtin_bit_cast(float, static_cast<std::uint32_t>(bits) << 16);
#endif
}

/// Round to nearest even.
KONTOR_HD std::uint16_t bfloat_bits(float value) {
  const std::uint32_t bits = __builtin_bit_cast(std::uint32_t, value);
  if ((bits & 0x7fffffffu) > 0x7f800000u) return static_cast<std::uint16_t>(bits >> 16 | 0x40u);  // Stays NaN.
  return static_cast<std::uint16_t>((bits + 0x7fffu + (bits >> 16 & 1u)) >> 16);
}

/// sum + the dot product of four signed bytes with four signed bytes.
KONTOR_HD int dot4(int a, int b, int sum) {
#if defined(__CUDA_ARCH__)
  return __dp4a(a, b, sum);
#else
  for (int i = 0; i < 4; ++i)
    sum += static_cast<std::int8_t>(static_cast<unsigned>(a) >> 8 * i) * static_cast<std::int8_t>(static_cast<unsigned>(b) >> 8 * i);
  return sum;
#endif
}

/// A value and its number as one integer that sorts: larger value first, smaller number among equals.
/// 0 stands for nothing; no finite value has it.
KONTOR_HD std::uint64_t rank_key(float value, std::int64_t number) {
  const std::uint32_t bits = __builtin_bit_cast(std::uint32_t, value + 0.0f);  // No negative zero: it equals the other.
  const std::uint32_t ordered = bits & 0x80000000u ? ~bits : bits | 0x80000000u;
  return static_cast<std::uint64_t>(ordered) << 32 | (0xffffffffu - static_cast<std::uint32_t>(number));
}
KONTOR_HD float key_value(std::uint64_t key) {
  const auto ordered = static_cast<std::uint32_t>(key >> 32);
  return __builtin_bit_cast(float, ordered & 0x80000000u ? ordered & 0x7fffffffu : ~ordered);
}
KONTOR_HD std::uint32_t key_number(std::uint64_t key) { return 0xffffffffu - static_cast<std::uint32_t>(key); }

}  // namespace kontor::gpu
