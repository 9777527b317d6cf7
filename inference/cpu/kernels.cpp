#include "inference/cpu/kernels.hpp"

#include <algorithm>
#include <vector>

#if defined(__x86_64__)
#include <cpuid.h>
#elif defined(__aarch64__) && defined(__linux__)
#include <asm/hwcap.h>
#include <sys/auxv.h>
#endif

namespace kontor::inference::cpu {
namespace {

#if defined(__x86_64__)
/// Half-precision conversions; clang 14 does not know the feature's name.
bool has_f16c() {
  unsigned a = 0, b = 0, c = 0, d = 0;
  return __get_cpuid(1, &a, &b, &c, &d) && (c & bit_F16C);
}
#endif

std::vector<const KernelSet*> detect() {
  std::vector<const KernelSet*> sets;
  const auto add = [&](const KernelSet* set) {
    if (set) sets.push_back(set);
  };
#if defined(__x86_64__)
  __builtin_cpu_init();
  if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl") &&
      __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vnni")) {
    if (__builtin_cpu_supports("avx512bf16")) add(avx512_bf16_kernels());
    add(avx512_kernels());
  }
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && has_f16c())
    add(avx2_kernels());
#elif defined(__aarch64__) && defined(__linux__)
  if (getauxval(AT_HWCAP) & HWCAP_ASIMDDP) add(neon_kernels());
#endif
  add(scalar_kernels());
  return sets;
}

const std::vector<const KernelSet*>& detected() {
  static const std::vector<const KernelSet*> sets = detect();
  return sets;
}

}  // namespace

std::span<const KernelSet* const> available_kernels() { return detected(); }

const KernelSet* find_kernels(std::string_view name) {
  const auto& sets = detected();
  const auto found = std::find_if(sets.begin(), sets.end(), [&](const KernelSet* set) { return set->name == name; });
  return found == sets.end() ? nullptr : *found;
}

}  // namespace kontor::inference::cpu
