#pragma once
// Keys and values of one sequence in host memory, in pages of 64 positions. Memory is taken page by page as the
// sequence grows: a file's claim about its context costs nothing. Sequences share pages and copy one before they write
// to it.

#include "base/error.hpp"
#include "inference/backend.hpp"
#include "inference/cpu/buffer.hpp"
#include "inference/cpu/kernels.hpp"

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <utility>
#include <vector>

namespace kontor::inference {

enum class KvElement : std::uint8_t { f32, f16, q8_0 };

struct KvShape {
  std::int64_t layers = 0;
  std::int64_t kv_heads = 0;
  std::int64_t key_length = 0;
  std::int64_t value_length = 0;
  KvElement element = KvElement::f16;
};

/// A page in host memory.
class HostPage final : public KvPage {
 public:
  /// Null where the system has no memory left. Zeroed: kernels read whole pages, and a stray NaN times weight zero would
  /// not be zero.
  static std::shared_ptr<HostPage> create(std::size_t bytes);
  void copy_to(std::span<std::byte> out) const override;
  std::byte* data() { return buffer_.data(); }
  const std::byte* data() const { return buffer_.data(); }

 private:
  explicit HostPage(cpu::Buffer buffer) : buffer_(std::move(buffer)) {}
  cpu::Buffer buffer_;
};

/// A page holds for each layer the keys of all heads, then the values of all heads. Keys lie transposed so that a vector of
/// scores is a sum of vectors, without sums across lanes. A copy shares all pages.
///   f32, f16   keys (key_length, 64) elements; values (64, value_length) elements
///   q8_0       keys: four tiles of 16 positions as packed.hpp has them for q8_0; values: for each 32 of value_length
///              64 binary16 scales (one for each position), then (64, 32) codes. Lengths are multiples of 32.
class KvCache {
 public:
  explicit KvCache(const KvShape& shape);

  /// Makes positions [begin, end) writable: shared pages among them are copied, missing ones are made. Errors: memory
  /// (out_of_memory); the content is what it was.
  Result<void> reserve(std::int64_t begin, std::int64_t end);
  /// Gives back the pages behind `positions`.
  void shrink(std::int64_t positions);

  /// Keys of a head in a page.
  const void* keys(std::int64_t layer, std::int64_t page, std::int64_t head) const;
  /// Values of a head in a page.
  const void* values(std::int64_t layer, std::int64_t page, std::int64_t head) const;

  /// Stores a position's keys (kv_heads * key_length floats) and values (kv_heads * value_length floats).
  void store(std::int64_t layer, std::int64_t position, const float* keys, const float* values, const cpu::KernelSet& kernels);

  KvElement element() const { return shape_.element; }
  const std::vector<std::shared_ptr<HostPage>>& pages() const { return pages_; }
  void adopt(std::vector<std::shared_ptr<HostPage>> pages) { pages_ = std::move(pages); }
  std::size_t page_bytes() const { return page_bytes_; }
  std::uint64_t bytes() const { return pages_.size() * page_bytes_; }

 private:
  std::size_t key_offset(std::int64_t layer, std::int64_t head) const;
  std::size_t value_offset(std::int64_t layer, std::int64_t head) const;

  KvShape shape_;
  std::size_t key_bytes_, value_bytes_;  ///< Of a head in a page.
  std::size_t layer_bytes_;
  std::size_t page_bytes_;
  std::vector<std::shared_ptr<HostPage>> pages_;
};

}  // namespace kontor::inference
