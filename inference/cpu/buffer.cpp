#include "inference/cpu/buffer.hpp"

#include <sys/mman.h>

#include <cstring>
#include <limits>

namespace kontor::inference::cpu {
namespace {

constexpr std::size_t kHugePage = std::size_t{2} << 20;
/// Large enough for whole huge pages, of which rounding up wastes at most a sixth.
bool huge(std::size_t bytes) {
  const std::size_t rounded = (bytes + kHugePage - 1) / kHugePage * kHugePage;
  return bytes > 0 && rounded - bytes <= rounded / 6;
}

}  // namespace

Buffer Buffer::allocate(std::size_t bytes) {
  Buffer result;
  if (bytes > std::numeric_limits<std::size_t>::max() / 2) return result;
  const std::size_t alignment = huge(bytes) ? kHugePage : 64;
  const std::size_t rounded = (bytes + alignment - 1) / alignment * alignment + (bytes == 0 ? alignment : 0);
  void* memory = std::aligned_alloc(alignment, rounded);
  if (!memory) return result;
#ifdef MADV_HUGEPAGE
  if (alignment == kHugePage) ::madvise(memory, rounded, MADV_HUGEPAGE);  // Advice: a refusal costs speed only.
#endif
  result.data_ = static_cast<std::byte*>(memory);
  result.size_ = bytes;
  return result;
}

Buffer Buffer::zeroed(std::size_t bytes) {
  Buffer result = allocate(bytes);
  if (result) std::memset(result.data_, 0, bytes);
  return result;
}

}  // namespace kontor::inference::cpu
