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
#include <vector>

namespace kontor::inference::cpu {

/// Forms of activations beside float32; sets of matrices that share activations join theirs.
struct ActivationForm {
  bool int8 = false;
  bool int16 = false;
  bool bf16 = false;
};
inline ActivationForm operator|(ActivationForm a, ActivationForm b) { return {a.int8 || b.int8, a.int16 || b.int16, a.bf16 || b.bf16}; }

/// Maps `columns` inputs to `rows` outputs. Stored as the file has it (F32, BF16: a view of the mapping), packed
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
  /// What it takes activations in: codes of 8 or 16 bit where it is packed, bfloat16 where its weights are (and the kernels can).
  ActivationForm activations() const {
    const bool packed = form_ == Form::packed || (form_ == Form::mapped && packs_), half = format_ == PackedFormat::half;
    return {packed && !half, packed && half, form_ == Form::bf16};
  }
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

/// Rows of activations for multiplications: float32, and what matrices ask for beside it.
struct Activations {
  const float* values = nullptr;      ///< (count, columns)
  QuantizedRows quantized;            ///< For packed matrices.
  std::uint16_t* narrow = nullptr;    ///< (count, columns) in bfloat16, for BF16 weights; null: they are multiplied in float32.
  std::int64_t count = 0;
};

/// Memory for the forms of activations beside float32.
struct ConvertedRows {
  std::vector<std::int8_t> codes;
  std::vector<std::int16_t> wide;
  std::vector<std::uint16_t> narrow;
  std::vector<float> scales, sums, wide_scales;
  std::vector<std::int32_t> half_sums, half_starts;

  /// Room for so many values in these forms; never shrinks. Throws bad_alloc.
  void grow(std::int64_t values, ActivationForm form);
  /// Points `activations` at the forms, whose rows begin at the start of the memory.
  void lend(Activations& activations, std::int64_t columns, ActivationForm form);
};

/// `form` without what the kernels do not multiply by.
inline ActivationForm usable(ActivationForm form, const KernelSet& kernels) { return {form.int8, form.int16, form.bf16 && kernels.narrow}; }

/// Fills `activations.quantized` and `activations.narrow` from `activations.values` as far as `form` has them; their
/// buffers have room. Bfloat16 needs a kernel set that has it.
void convert_rows(const Activations& activations, std::int64_t columns, ActivationForm form, const KernelSet& kernels, ThreadPool& pool);
/// The same for rows [begin, end) on the calling thread.
void convert_rows_here(const Activations& activations, std::int64_t columns, ActivationForm form, std::int64_t begin, std::int64_t end, const KernelSet& kernels);

/// One product of a set that is computed in one parallel loop: out (count, rows) = activations * matrix^T.
struct Product {
  const Matrix* matrix;
  float* out;
  std::int64_t out_stride;
};

void multiply(std::span<const Product> products, const Activations& activations, const KernelSet& kernels, ThreadPool& pool);

/// One product on the calling thread: for many small matrices that are shared out among threads whole.
void multiply_here(const Product& product, const Activations& activations, const KernelSet& kernels);

/// out (count, 64) with rows `out_stride` apart = products of the first `count` rows with a page of coded keys, which are
/// four tiles of q8_0. `next`: what is read then (as many bytes are fetched meanwhile), or null.
void multiply_page(const void* page, const void* next, const QuantizedRows& rows, std::int64_t count, float* out, std::int64_t out_stride, const KernelSet& kernels);

}  // namespace kontor::inference::cpu
