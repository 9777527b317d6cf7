#pragma once
// From blocks of a model file to the planes of formats.hpp, on the host.

#include "base/error.hpp"
#include "inference/cuda/formats.hpp"
#include "inference/tensor.hpp"

#include <cstddef>
#include <cstdint>
#include <vector>

namespace kontor::inference::cuda {

/// Where the planes of a matrix lie in one allocation, each aligned to 256 bytes. Absent planes have no bytes.
struct PlaneLayout {
  Format format = Format::f32;
  std::int64_t rows = 0, columns = 0;
  std::uint64_t codes_bytes = 0, high_bytes = 0, scales_bytes = 0, super_bytes = 0;
  std::uint64_t high_at = 0, scales_at = 0, super_at = 0;
  std::uint64_t total = 0;

  /// With the planes below `base`, which is in device memory.
  MatrixView view(const void* base) const;
};

/// The device format of a tensor: its own where formats.hpp has it, else F16 (values rounded once, as on the CPU); with
/// `exact`, float32. Errors: unsupported (bad_tensor_type) for types that cannot be expanded.
Result<PlaneLayout> plane_layout(const Tensor& tensor, bool exact);

/// Writes all planes to `out` (layout.total bytes), large tensors with as many threads as there are processors.
void fill_planes(const Tensor& tensor, const PlaneLayout& layout, std::byte* out);

}  // namespace kontor::inference::cuda
