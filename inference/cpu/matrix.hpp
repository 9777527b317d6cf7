#pragma once
// A weight matrix in the form in which the CPU multiplies by it, and the multiplication itself.

#include "base/error.hpp"
#include "inference/cpu/buffer.hpp"
#include "inference/cpu/kernels.hpp"
#include "inference/cpu/thread_pool.hpp"
#include "inference/tensor.hpp"

#include <cstdint>
#include <memory>
#include <span>

namespace kontor::inference::cpu {

/// Maps `columns` inputs to `rows` outputs. Stored as the file has it (F32, F16, BF16: a view of the mapping), packed
/// into tiles (see packed.hpp), or expanded: to float32 on request, and to F16 where a type has no packed form.
class Matrix {
 public:
  /// The tensor has rank 1 or 2 and a type that can be expanded. Errors: memory (out_of_memory), unsupported
  /// (bad_tensor_type).
  static Result<Matrix> create(const Tensor& tensor, bool expand_to_f32, ThreadPool& pool);

  /// The same without a copy: the tensor is converted tile by tile whenever it is multiplied by, with the same results.
  static Result<Matrix> mapped(const Tensor& tensor, bool expand_to_f32);

  /// From values in memory, row by row: held as float32, or as F16 where that is asked for and every value fits.
  /// Errors: memory (out_of_memory).
  static Result<Matrix> of_values(std::span<const float> values, std::int64_t columns, bool as_f16);

  /// Bytes of memory that `create` would take for the tensor; 0 where it would be a view.
  static std::uint64_t bytes_in_memory(const Tensor& tensor, bool expand_to_f32);

  std::int64_t rows() const { return rows_; }
  std::int64_t columns() const { return columns_; }
  /// Whether it takes activations in 8 bit.
  bool packed() const { return form_ == Form::packed || (form_ == Form::mapped && packs_); }
  /// Bytes that a mapped matrix would take in its packed form; 0 where it has none or needs none.
  std::uint64_t packed_bytes() const { return form_ == Form::mapped && packs_ ? tiles() * static_cast<std::uint64_t>(tile_bytes_) : 0; }
  /// Bytes that one multiplication reads.
  std::uint64_t bytes() const;

 private:
  enum class Form : std::uint8_t { f32, f16, bf16, packed, mapped };
  friend class MatrixProduct;

  std::uint64_t tiles() const { return static_cast<std::uint64_t>((rows_ + kTileRows - 1) / kTileRows); }

  Form form_ = Form::f32;
  PackedFormat format_ = PackedFormat::q8_0;
  std::int64_t rows_ = 0;
  std::int64_t columns_ = 0;
  std::int64_t tile_bytes_ = 0;
  const std::byte* data_ = nullptr;  ///< Into the mapping or `owned_`.
  Buffer owned_;
  std::unique_ptr<const Tensor> source_;  ///< Of a mapped matrix.
  bool packs_ = false;                    ///< A mapped matrix is converted to packed tiles, else to F16 or float32.
  bool as_f32_ = false;
};

/// Rows of activations for multiplications: float32, and int8 blocks where a packed matrix asks for them.
struct Activations {
  const float* values = nullptr;  ///< (count, columns)
  QuantizedRows quantized;        ///< Filled by quantize_rows.
  std::int64_t count = 0;
};

/// Fills `activations.quantized`, whose buffers have room, from `activations.values`.
void quantize_rows(const Activations& activations, const KernelSet& kernels, ThreadPool& pool);

/// One product of a set that is computed in one parallel loop: out (count, rows) = activations * matrix^T.
struct Product {
  const Matrix* matrix;
  float* out;
  std::int64_t out_stride;
};

void multiply(std::span<const Product> products, const Activations& activations, const KernelSet& kernels, ThreadPool& pool);

/// One product on the calling thread: for many small matrices that are shared out among threads whole.
void multiply_here(const Product& product, const Activations& activations, const KernelSet& kernels);

}  // namespace kontor::inference::cpu
