#pragma once
// Tensors as they lie in a model file: an element type, a shape and a pointer into the mapping.

#include <array>
#include <cstddef>
#include <cstdint>
#include <string_view>

namespace kontor::inference {

/// Element types with the numbers that GGUF gives them. Numbers 4, 5, 31-33 and 36-38 belonged to removed types. Types
/// from 0x10000 on have no GGUF number; they come from safetensors files.
enum class TensorType : std::uint32_t {
  f32 = 0, f16 = 1, q4_0 = 2, q4_1 = 3, q5_0 = 6, q5_1 = 7, q8_0 = 8, q8_1 = 9,
  q2_k = 10, q3_k = 11, q4_k = 12, q5_k = 13, q6_k = 14, q8_k = 15,
  iq2_xxs = 16, iq2_xs = 17, iq3_xxs = 18, iq1_s = 19, iq4_nl = 20, iq3_s = 21, iq2_s = 22, iq4_xs = 23,
  i8 = 24, i16 = 25, i32 = 26, i64 = 27, f64 = 28, iq1_m = 29, bf16 = 30, tq1_0 = 34, tq2_0 = 35,
  mxfp4 = 39, nvfp4 = 40, f8_e4m3 = 0x10000,
};

/// A type stores `block_elements` consecutive values of a row in `block_bytes` bytes.
struct TensorTypeInfo {
  TensorType type;
  std::string_view name;  ///< As people write it: "Q4_K".
  std::int32_t block_elements;
  std::int32_t block_bytes;
};

/// Null where the number is not a type of GGUF.
const TensorTypeInfo* find_tensor_type(std::uint32_t number);
/// Null where no type has this name (upper case, "Q4_K").
const TensorTypeInfo* find_tensor_type(std::string_view name);
/// The type must be one of the enumerators.
const TensorTypeInfo& info(TensorType type);
std::string_view to_string(TensorType type);

/// A tensor of a WeightFile; valid as long as the file is open. Shapes are in file order: shape[0] is the length of a
/// contiguous row, so a matrix that maps n inputs to m outputs has shape {n, m}. Unused dimensions are 1.
struct Tensor {
  std::string_view name;
  TensorType type = TensorType::f32;
  int rank = 0;                                   ///< 1 to 4, as written in the file.
  std::array<std::int64_t, 4> shape{1, 1, 1, 1};  ///< All positive; their product fits into 62 bits.
  const std::byte* data = nullptr;                ///< `bytes` readable bytes, aligned to the file's alignment (power of two >= 8) or at least to 8.
  std::uint64_t bytes = 0;
  std::uint64_t offset = 0;                       ///< Of `data` from the start of the file.
  std::int64_t elements = 0;
  /// F8_E4M3 only: a factor for each block of 128 rows and 128 columns, in rows of ceil(row_elements / 128).
  const float* scales = nullptr;
  std::int64_t first_row = 0;                     ///< Of this tensor among the rows that `scales` belongs to.

  std::int64_t row_elements() const { return shape[0]; }
  std::int64_t rows() const { return elements / shape[0]; }
  /// Bytes from one row to the next; rows are contiguous and hold whole blocks.
  std::uint64_t row_bytes() const { return bytes / static_cast<std::uint64_t>(rows()); }
  const std::byte* row(std::int64_t index) const { return data + row_bytes() * static_cast<std::uint64_t>(index); }
};

inline constexpr std::int64_t kScaleBlock = 128;

/// Rows [first, first + count) of a tensor as a matrix of its own: one of several that lie in one tensor. The range lies
/// inside the tensor.
Tensor rows_of(const Tensor& tensor, std::int64_t first, std::int64_t count);

}  // namespace kontor::inference
