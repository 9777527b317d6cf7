#include "base/cuda/emulation/emulation.hpp"

#include <sys/mman.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>

namespace kontor::gpu::emulation {
namespace {

constexpr std::uint64_t kAlignment = 256;

std::uint64_t rounded(std::uint64_t bytes, std::uint64_t unit) { return (bytes + unit - 1) / unit * unit; }

/// A guard page, the data up against the next guard page.
struct Guarded {
  explicit Guarded(std::uint64_t bytes)
      : page(static_cast<std::uint64_t>(sysconf(_SC_PAGESIZE))), room(rounded(bytes > 0 ? bytes : 1, kAlignment)), inner(rounded(room, page)) {}
  std::uint64_t page, room, inner;
  std::uint64_t total() const { return inner + 2 * page; }
  std::uint64_t data_at() const { return page + inner - room; }
};

}  // namespace

void* allocate_guarded(std::uint64_t bytes) {
  const Guarded place(bytes);
  void* mapped = mmap(nullptr, place.total(), PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (mapped == MAP_FAILED) return nullptr;
  auto* base = static_cast<unsigned char*>(mapped);
  if (mprotect(base + place.page, place.inner, PROT_READ | PROT_WRITE) != 0) {
    munmap(mapped, place.total());
    return nullptr;
  }
  std::memset(base + place.data_at(), 0xff, place.room);
  return base + place.data_at();
}

void allow_guarded(void* data, std::uint64_t bytes, bool allowed) {
  const Guarded place(bytes);
  auto* base = static_cast<unsigned char*>(data) - place.data_at();
  if (mprotect(base + place.page, place.inner, allowed ? PROT_READ | PROT_WRITE : PROT_NONE) == 0) return;
  std::fprintf(stderr, "emulated memory: the access to an allocation cannot be changed\n");
  std::abort();
}

void release_guarded(void* data, std::uint64_t bytes) {
  const Guarded place(bytes);
  auto* at = static_cast<unsigned char*>(data);
  for (std::uint64_t i = bytes; i < place.room; ++i)
    if (at[i] != 0xff) {
      std::fprintf(stderr, "emulated kernel: byte %llu behind an allocation of %llu was written\n", static_cast<unsigned long long>(i - bytes),
                   static_cast<unsigned long long>(bytes));
      std::abort();
    }
  munmap(at - place.data_at(), place.total());
}

}  // namespace kontor::gpu::emulation
