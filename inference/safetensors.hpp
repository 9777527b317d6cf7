#pragma once
// Reads the header of a safetensors file: a length, a JSON object of tensors, then their data without gaps. Follows the
// format description of the safetensors project; every length, shape and offset comes from a stranger.

#include "base/error.hpp"
#include "inference/tensor.hpp"

#include <cstddef>
#include <span>
#include <string>
#include <vector>

namespace kontor::inference {

/// The largest published single file has about 100,000 tensors of some 130 bytes each.
inline constexpr std::uint64_t kMaxSafetensorsHeaderBytes = 16u << 20;

struct SafetensorsEntry {
  std::string name;
  /// `data` points into the bytes that were read. The shape is in our order, row length first; a scalar has shape {1}.
  /// Types that nothing computes with have the enumerator of an integer type of their size. `name` is not set.
  Tensor tensor;
};

/// Tensors in the order of their data; tensors without elements are left out. `name` goes into Error::where. Errors:
/// truncated, bad_magic (no header), limit_exceeded, bad_header (no JSON, or other members than the format has),
/// duplicate_tensor, bad_tensor_name, bad_tensor_type, bad_ndims, bad_dims, size_overflow, bad_offset, bad_alignment,
/// overlap, data_out_of_range.
Result<std::vector<SafetensorsEntry>> read_safetensors(std::span<const std::byte> bytes, const std::string& name);

}  // namespace kontor::inference
