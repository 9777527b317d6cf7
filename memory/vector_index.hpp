#pragma once
// Vectors on a device, in half precision or as bytes. The device proposes, float32 on the host decides: results are those of
// nearest_rows over the float32 vectors, always.

#include "memory/vector_device.hpp"

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <utility>
#include <vector>

namespace kontor::memory {

enum class Precision { half, byte };

/// Used by one thread at a time.
class VectorIndex {
 public:
  using Ranking = std::vector<std::pair<std::size_t, float>>;

  /// `rows`: count * width floats. Errors: unsupported (vectors) for what the kernel does not compute: rows of more than 6,144
  /// values, values that binary16 does not hold; memory (out_of_memory) where they do not fit, with the numbers.
  static Result<std::unique_ptr<VectorIndex>> create(std::shared_ptr<VectorDevice> device, std::span<const float> rows, std::size_t width, Precision precision);
  ~VectorIndex();
  VectorIndex(const VectorIndex&) = delete;
  VectorIndex& operator=(const VectorIndex&) = delete;

  /// The best rows of each query (count * width floats, one behind the other) by their products with the values that the device
  /// holds: at most 256 each, best first, equal ones in order of the rows. Errors: those of the device.
  Result<std::vector<Ranking>> propose(std::span<const float> queries);

  /// What nearest_rows(rows, query, limit) gives; `rows` are those of create(). Where the device's values are too coarse to
  /// tell, it is nearest_rows that answers. Errors: those of the device.
  Result<Ranking> nearest(std::span<const float> rows, std::span<const float> query, std::size_t limit);

  /// Queries of nearest() that the host had to answer alone.
  std::int64_t left_to_host() const { return left_to_host_; }

 private:
  VectorIndex(std::shared_ptr<VectorDevice> device, std::size_t width, std::size_t count);
  Result<void*> room(std::uint64_t bytes);

  std::shared_ptr<VectorDevice> device_;
  std::size_t width_, count_;
  std::int64_t padded_ = 0, blocks_ = 1;
  double coarse_ = 0;   ///< The longest difference between a row and what the device holds of it.
  double longest_ = 0;  ///< Row.
  void* values_ = nullptr;
  void* scales_ = nullptr;
  void* queries_ = nullptr;
  void* lists_[2] = {};
  std::vector<void*> held_;
  std::int64_t left_to_host_ = 0;
};

}  // namespace kontor::memory
