#include "inference/cpu/matrix.hpp"

#include "inference/cpu/packed.hpp"
#include "inference/dequantize.hpp"

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstring>
#include <limits>
#include <vector>

namespace kontor::inference::cpu {
namespace {

Error no_memory(const Tensor& tensor) {
  return fail(Errc::memory, "no memory left for tensor " + std::string(tensor.name), "out_of_memory");
}

/// Rows of any expandable type as float32.
bool expand_f32(const Tensor& tensor, Buffer& out, ThreadPool& pool) {
  out = Buffer::allocate(static_cast<std::size_t>(tensor.elements) * sizeof(float));
  if (!out) return false;
  pool.parallel_for(tensor.rows(), 64, [&](std::int64_t begin, std::int64_t end, int) {
    for (std::int64_t r = begin; r < end; ++r) (void)dequantize_row(tensor, r, out.as<float>() + r * tensor.row_elements());
  });
  return true;
}

/// Rows as binary16. `fits` tells whether every finite value has a finite binary16.
bool expand_f16(const Tensor& tensor, Buffer& out, ThreadPool& pool, bool& fits) {
  out = Buffer::allocate(static_cast<std::size_t>(tensor.elements) * sizeof(std::uint16_t));
  if (!out) return false;
  std::atomic<bool> overflow{false};
  std::vector<std::vector<float>> rows(static_cast<std::size_t>(pool.threads()), std::vector<float>(static_cast<std::size_t>(tensor.row_elements())));
  pool.parallel_for(tensor.rows(), 64, [&](std::int64_t begin, std::int64_t end, int thread) {
    std::vector<float>& row = rows[static_cast<std::size_t>(thread)];
    for (std::int64_t r = begin; r < end; ++r) {
      (void)dequantize_row(tensor, r, row.data());
      auto* to = out.as<std::uint16_t>() + r * tensor.row_elements();
      for (std::size_t i = 0; i < row.size(); ++i) {
        if (std::fabs(row[i]) > 65504.0f) overflow = true;
        to[i] = float_to_half(row[i]);
      }
    }
  });
  fits = !overflow;
  return true;
}

}  // namespace

Result<Matrix> Matrix::create(const Tensor& tensor, bool expand_to_f32, ThreadPool& pool) {
  if (!can_expand(tensor.type))
    return fail(Errc::unsupported, std::string(tensor.name) + " has type " + std::string(to_string(tensor.type)) +
                ", which cannot be computed with", "bad_tensor_type");
  Matrix result;
  result.rows_ = tensor.rows();
  result.columns_ = tensor.row_elements();
  const auto format = packed_format(tensor.type, tensor.row_elements());
  if (tensor.type == TensorType::f32 || (!expand_to_f32 && !format && (tensor.type == TensorType::f16 || tensor.type == TensorType::bf16))) {
    result.form_ = tensor.type == TensorType::f32 ? Form::f32 : tensor.type == TensorType::f16 ? Form::f16 : Form::bf16;
    result.data_ = tensor.data;
    return result;
  }
  if (!expand_to_f32 && format) {
    result.form_ = Form::packed;
    result.format_ = *format;
    result.tile_bytes_ = cpu::tile_bytes(*format, result.columns_);
    const std::int64_t tiles = (result.rows_ + kTileRows - 1) / kTileRows;
    result.owned_ = Buffer::allocate(static_cast<std::size_t>(tiles * result.tile_bytes_));
    if (!result.owned_) return no_memory(tensor);
    std::byte* out = result.owned_.data();
    pool.parallel_for(tiles, 4, [&](std::int64_t begin, std::int64_t end, int) {
      for (std::int64_t t = begin; t < end; ++t) pack_tile(*format, tensor, t * kTileRows, out + t * result.tile_bytes_);
    });
    result.data_ = out;
    return result;
  }
  bool fits = false;
  if (!expand_to_f32) {
    if (!expand_f16(tensor, result.owned_, pool, fits)) return no_memory(tensor);
    result.form_ = Form::f16;
  }
  if (!fits) {
    if (!expand_f32(tensor, result.owned_, pool)) return no_memory(tensor);
    result.form_ = Form::f32;
  }
  result.data_ = result.owned_.data();
  return result;
}

std::uint64_t Matrix::bytes_in_memory(const Tensor& tensor, bool expand_to_f32) {
  const auto elements = static_cast<std::uint64_t>(tensor.elements);
  if (tensor.type == TensorType::f32) return 0;
  if (expand_to_f32) return elements * sizeof(float);
  const auto format = packed_format(tensor.type, tensor.row_elements());
  if (!format && (tensor.type == TensorType::f16 || tensor.type == TensorType::bf16)) return 0;
  if (!format) return elements * sizeof(std::uint16_t);
  return static_cast<std::uint64_t>((tensor.rows() + kTileRows - 1) / kTileRows * cpu::tile_bytes(*format, tensor.row_elements()));
}

Result<Matrix> Matrix::mapped(const Tensor& tensor, bool expand_to_f32) {
  if (!can_expand(tensor.type))
    return fail(Errc::unsupported, std::string(tensor.name) + " has type " + std::string(to_string(tensor.type)) +
                ", which cannot be computed with", "bad_tensor_type");
  Matrix result;
  result.rows_ = tensor.rows();
  result.columns_ = tensor.row_elements();
  result.data_ = tensor.data;
  result.form_ = Form::mapped;
  result.as_f32_ = expand_to_f32;
  if (tensor.type == TensorType::f32) result.form_ = Form::f32;
  const auto format = packed_format(tensor.type, result.columns_);
  if (!expand_to_f32 && !format && tensor.type == TensorType::f16) result.form_ = Form::f16;
  if (!expand_to_f32 && tensor.type == TensorType::bf16) result.form_ = Form::bf16;
  if (result.form_ != Form::mapped) return result;
  result.source_ = std::make_unique<const Tensor>(tensor);
  if (format && !expand_to_f32) {
    result.packs_ = true;
    result.format_ = *format;
    result.tile_bytes_ = cpu::tile_bytes(*format, result.columns_);
  }
  return result;
}

Result<Matrix> Matrix::of_values(std::span<const float> values, std::int64_t columns, bool as_f16) {
  Matrix result;
  result.columns_ = columns;
  result.rows_ = static_cast<std::int64_t>(values.size()) / columns;
  const bool half = as_f16 && std::all_of(values.begin(), values.end(), [](float x) { return !(std::fabs(x) > 65504.0f); });
  result.form_ = half ? Form::f16 : Form::f32;
  result.owned_ = Buffer::allocate(values.size() * (half ? sizeof(std::uint16_t) : sizeof(float)));
  if (!result.owned_) return fail(Errc::memory, "no memory left for a matrix", "out_of_memory");
  if (half) std::transform(values.begin(), values.end(), result.owned_.as<std::uint16_t>(), float_to_half);
  else std::copy(values.begin(), values.end(), result.owned_.as<float>());
  result.data_ = result.owned_.data();
  return result;
}

std::uint64_t Matrix::bytes() const {
  const auto elements = static_cast<std::uint64_t>(rows_ * columns_);
  switch (form_) {
    case Form::f32: return elements * 4;
    case Form::f16: case Form::bf16: return elements * 2;
    case Form::mapped: return source_->bytes;
    case Form::packed: return static_cast<std::uint64_t>((rows_ + kTileRows - 1) / kTileRows * tile_bytes_);
  }
  return 0;
}

void ConvertedRows::grow(std::int64_t values, ActivationForm form) {
  const auto resize = [](auto& vector, std::int64_t size) {
    if (static_cast<std::int64_t>(vector.size()) < size) vector.resize(static_cast<std::size_t>(size));
  };
  const std::int64_t blocks = values / kBlock + 1;
  if (form.int8) {
    resize(codes, values);
    resize(scales, blocks);
    resize(sums, blocks);
    resize(half_sums, 2 * blocks);
    resize(half_starts, 2 * blocks);
  }
  if (form.int16) {
    resize(wide, values);
    resize(wide_scales, blocks);
  }
  if (form.bf16) resize(narrow, values);
}

void ConvertedRows::lend(Activations& activations, std::int64_t columns, ActivationForm form) {
  QuantizedRows& q = activations.quantized;
  q = {};
  q.k = columns;
  if (form.int8) q.values = codes.data(), q.scales = scales.data(), q.sums = sums.data(), q.half_sums = half_sums.data(), q.half_starts = half_starts.data();
  if (form.int16) q.wide = wide.data(), q.wide_scales = wide_scales.data();
  activations.narrow = form.bf16 ? narrow.data() : nullptr;
}

void convert_rows_here(const Activations& activations, std::int64_t columns, ActivationForm form, std::int64_t begin, std::int64_t end, const KernelSet& kernels) {
  for (std::int64_t t = begin; t < end; ++t) {
    if (form.int8) kernels.quantize(activations.values + t * columns, t, activations.quantized);
    if (form.int16) kernels.quantize_wide(activations.values + t * columns, t, activations.quantized);
    if (form.bf16) kernels.narrow(activations.values + t * columns, columns, activations.narrow + t * columns);
  }
}

void convert_rows(const Activations& activations, std::int64_t columns, ActivationForm form, const KernelSet& kernels, ThreadPool& pool) {
  if (!form.int8 && !form.int16 && !form.bf16) return;
  pool.parallel_for(activations.count, 4, [&](std::int64_t begin, std::int64_t end, int) {
    convert_rows_here(activations, columns, form, begin, end, kernels);
  });
}

/// The inner loop of `multiply`: some tiles of 16 output rows of one product for all activations.
class MatrixProduct {
 public:
  using Bytes = std::span<const std::byte>;

  static std::int64_t tiles(const Matrix& matrix) { return (matrix.rows_ + kTileRows - 1) / kTileRows; }

  /// Tiles [begin, end); `later` is wanted then.
  static void run(const Product& product, std::int64_t begin, std::int64_t end, Bytes later, const Activations& a, const KernelSet& kernels) {
    // Many activations pass over as many weights at a time as stay in the second-level cache meanwhile, and fetch the next.
    // Few pass over them once, from memory.
    const std::int64_t step = a.count <= kFewActivations ? end - begin : cached_tiles(*product.matrix);
    for (std::int64_t i = begin; i < end; i += step) {
      const std::int64_t next = i + step;
      run_cached(product, i, std::min(end, next), next < end ? bytes_of(*product.matrix, next, step) : later, a, kernels);
    }
  }

  /// Tiles that stay in the second-level cache beside as many that come next: an even number.
  static std::int64_t cached_tiles(const Matrix& m) {
    const std::int64_t bytes = static_cast<std::int64_t>(m.bytes()) / tiles(m);
    return std::max<std::int64_t>(2, kCachedBytes / std::max<std::int64_t>(1, bytes) / 2 * 2);
  }

  /// The bytes of up to `count` tiles from `first` on; none where a matrix has no tiles.
  static Bytes bytes_of(const Matrix& m, std::int64_t first, std::int64_t count) {
    if (m.form_ != Matrix::Form::packed || first >= tiles(m)) return {};
    return Bytes{m.data_ + first * m.tile_bytes_, static_cast<std::size_t>(std::min({count * m.tile_bytes_, (tiles(m) - first) * m.tile_bytes_, kCachedBytes}))};
  }

 private:
  static constexpr std::int64_t kActivations = 12;
  static constexpr std::int64_t kFewActivations = 24;   ///< So many meet a pair of tiles while the next comes from memory.
  static constexpr std::int64_t kPairedActivations = 2;  ///< Fewer gain nothing by two tiles at once.
  static constexpr std::int64_t kCachedBytes = 420 << 10;

  static void run_cached(const Product& product, std::int64_t begin, std::int64_t end, Bytes later, const Activations& a, const KernelSet& kernels) {
    const Matrix& m = *product.matrix;
    if (m.form_ == Matrix::Form::mapped) {
      for (std::int64_t i = begin; i < end; ++i) run_mapped(product, i, a, kernels);
      return;
    }
    if (m.form_ != Matrix::Form::packed) {
      const std::int64_t first = begin * kTileRows, rows = std::min(m.rows_, end * kTileRows) - first;
      const int element = m.form_ == Matrix::Form::f32 ? 4 : 2;
      return run_dense(m.form_, m.data_ + first * m.columns_ * element, rows, m.columns_, a, product.out + first, product.out_stride, kernels);
    }
    const TilePairKernel pair = a.count >= kPairedActivations ? kernels.tile_pair[static_cast<int>(m.format_)] : nullptr;
    const std::int64_t most = a.count <= kFewActivations ? kFewActivations : kActivations;
    const std::int64_t pairs = pair ? std::min(end - begin, m.rows_ / kTileRows - begin) / 2 : 0;
    // The first pass fetches the next pair, the others all that comes later, a little each.
    const std::int64_t calls = pairs * ((a.count - 1) / most), bytes = static_cast<std::int64_t>(later.size());
    std::int64_t call = 0;
    for (std::int64_t t = 0; t < a.count; t += most) {
      const std::int64_t count = std::min(most, a.count - t);
      std::int64_t i = begin;
      for (std::int64_t p = 0; p < pairs; ++p, i += 2) {
        const std::byte* data = m.data_ + i * m.tile_bytes_;
        Prefetch prefetch;
        if (t > 0) {
          const std::int64_t from = bytes * call / calls, to = bytes * (call + 1) / calls;
          prefetch = {false, later.data() + from, to - from};
          ++call;
        } else if (i + 4 <= end) {
          prefetch = {true, data + 2 * m.tile_bytes_, 2 * m.tile_bytes_};
        } else if (calls == 0 && !later.empty()) {
          prefetch = {true, later.data(), std::min(bytes, 2 * m.tile_bytes_)};
        }
        pair(data, data + m.tile_bytes_, prefetch, a.quantized, t, count, product.out + t * product.out_stride + i * kTileRows, product.out_stride);
      }
      for (; i < end; ++i) tile(product, i, m.data_ + i * m.tile_bytes_, t, count, a, kernels);
    }
  }

  /// Rows that lie one behind the other.
  static void run_dense(Matrix::Form form, const void* weights, std::int64_t rows, std::int64_t k, const Activations& a, float* out,
                        std::int64_t out_stride, const KernelSet& kernels) {
    if (form == Matrix::Form::bf16 && a.narrow) return kernels.bf16_pairs(weights, rows, k, a.narrow, k, a.count, out, out_stride);
    const DenseKernel kernel = form == Matrix::Form::f32   ? kernels.dense_f32
                               : form == Matrix::Form::f16 ? kernels.dense_f16
                                                           : kernels.dense_bf16;
    kernel(weights, rows, k, a.values, k, a.count, out, out_stride);
  }

  /// Converts one tile into memory of this thread and multiplies by it.
  static void run_mapped(const Product& product, std::int64_t index, const Activations& a, const KernelSet& kernels) {
    const Matrix& m = *product.matrix;
    const std::int64_t k = m.columns_, first = index * kTileRows, rows = std::min<std::int64_t>(kTileRows, m.rows_ - first);
    static thread_local Buffer scratch;
    const auto needed = static_cast<std::size_t>(std::max(m.tile_bytes_, kTileRows * k * 6));
    if (scratch.size() < needed) scratch = Buffer::allocate(needed);
    if (!scratch) {
      // Bodies of loops must not throw; what is not a number is reported by whoever reads the result.
      for (std::int64_t t = 0; t < a.count; ++t) std::fill_n(product.out + t * product.out_stride + first, rows, std::numeric_limits<float>::quiet_NaN());
      return;
    }
    if (m.packs_) {
      pack_tile(m.format_, *m.source_, first, scratch.data());
      for (std::int64_t t = 0; t < a.count; t += kActivations)
        tile(product, index, scratch.data(), t, std::min(kActivations, a.count - t), a, kernels);
      return;
    }
    auto* expanded = scratch.as<float>();
    for (std::int64_t r = 0; r < rows; ++r) (void)dequantize_row(*m.source_, first + r, expanded + r * k);
    float* out = product.out + first;
    auto* halves = reinterpret_cast<std::uint16_t*>(expanded + kTileRows * k);
    bool fits = !m.as_f32_;
    for (std::int64_t i = 0; i < rows * k && fits; ++i) {
      fits = !(std::fabs(expanded[i]) > 65504.0f);
      halves[i] = float_to_half(expanded[i]);
    }
    if (fits) run_dense(Matrix::Form::f16, halves, rows, k, a, out, product.out_stride, kernels);
    else run_dense(Matrix::Form::f32, expanded, rows, k, a, out, product.out_stride, kernels);
  }

  static void tile(const Product& product, std::int64_t index, const std::byte* data, std::int64_t first, std::int64_t count,
                   const Activations& a, const KernelSet& kernels) {
    const Matrix& m = *product.matrix;
    const std::int64_t first_row = index * kTileRows, rows = std::min<std::int64_t>(kTileRows, m.rows_ - first_row);
    const TileKernel kernel = kernels.tile[static_cast<int>(m.format_)];
    float* out = product.out + first * product.out_stride + first_row;
    if (rows == kTileRows) return kernel(data, a.quantized, first, count, out, product.out_stride);
    // The last tile has fewer rows than the kernel writes.
    float part[kFewActivations * kTileRows];
    kernel(data, a.quantized, first, count, part, kTileRows);
    for (std::int64_t t = 0; t < count; ++t)
      std::memcpy(out + t * product.out_stride, part + t * kTileRows, static_cast<std::size_t>(rows) * sizeof(float));
  }
};

/// Multiply-adds that one thread does in the time it takes to hand work to another (about 20 microseconds).
constexpr std::int64_t kOperationsAlone = 300'000;

/// Activations from which on arithmetic takes its time, and the fewest tiles of a piece then.
constexpr std::int64_t kMany = 32, kTilesOfMany = 4;

/// Where pieces begin, and the end of the last. Those of `most` tiles come first; towards the end they become smaller, so
/// that threads end together.
void cut(std::int64_t total, std::int64_t least, std::int64_t most, int threads, std::vector<std::int64_t>& starts) {
  starts.assign(1, 0);
  while (starts.back() < total) {
    const std::int64_t left = total - starts.back();
    starts.push_back(std::min(total, starts.back() + std::clamp(left / (2 * threads) / 2 * 2, least, std::max(least, most))));
  }
}

void multiply(std::span<const Product> products, const Activations& activations, const KernelSet& kernels, ThreadPool& pool) {
  std::int64_t total = 0, operations = 0;
  for (const Product& product : products) {
    total += MatrixProduct::tiles(*product.matrix);
    operations += product.matrix->rows() * product.matrix->columns() * activations.count;
  }
  std::int64_t least = total, most = total;
  if (operations >= kOperationsAlone && activations.count >= kMany) {
    // A piece passes over all activations, from memory mostly: the more tiles it has, the less often.
    least = kTilesOfMany;
    for (const Product& product : products) most = std::min(most, MatrixProduct::cached_tiles(*product.matrix));
  } else if (operations >= kOperationsAlone) {
    // Large enough to stream, small enough that a thread that is held up does not hold up the others.
    least = std::max<std::int64_t>(1, total / (std::int64_t{pool.threads()} * 6));
    if (activations.count > 1) least += least % 2;  // Pairs of tiles are faster than single ones.
    most = least;
  }
  thread_local std::vector<std::int64_t> starts;
  cut(total, least, most, pool.threads(), starts);
  const std::span<const std::int64_t> starts_of_pieces = starts;  // Of this thread: the others have a `starts` of their own.
  const auto pieces = static_cast<std::int64_t>(starts.size()) - 1;
  const auto at = [starts_of_pieces](std::int64_t piece) { return starts_of_pieces[static_cast<std::size_t>(piece)]; };
  const auto bytes_of = [&](std::int64_t from, std::int64_t to) {
    const std::int64_t count = to - from;
    for (const Product& product : products) {
      if (from < MatrixProduct::tiles(*product.matrix)) return MatrixProduct::bytes_of(*product.matrix, from, count);
      from -= MatrixProduct::tiles(*product.matrix);
    }
    return MatrixProduct::Bytes{};
  };
  pool.parallel_for(pieces, 1, [&](std::int64_t from, std::int64_t to, int) {
    const std::int64_t begin = at(from), end = at(to);
    // Where threads keep pace, this one comes to that piece next.
    const std::int64_t next = to + pool.threads() - 1;
    std::int64_t base = 0;
    for (const Product& product : products) {
      const std::int64_t tiles = MatrixProduct::tiles(*product.matrix);
      const std::int64_t first = std::max(begin, base), last = std::min(end, base + tiles);
      if (first < last) {
        const auto later = last < end ? bytes_of(last, end) : next < pieces ? bytes_of(at(next), at(next + 1)) : MatrixProduct::Bytes{};
        MatrixProduct::run(product, first - base, last - base, later, activations, kernels);
      }
      base += tiles;
    }
  });
}

void multiply_here(const Product& product, const Activations& activations, const KernelSet& kernels) {
  MatrixProduct::run(product, 0, MatrixProduct::tiles(*product.matrix), {}, activations, kernels);
}

void multiply_page(const void* page, const void* next, const QuantizedRows& rows, std::int64_t count, float* out, std::int64_t out_stride, const KernelSet& kernels) {
  constexpr int kFormat = static_cast<int>(PackedFormat::q8_0);
  const auto* tiles = static_cast<const std::byte*>(page);
  const auto* ahead = static_cast<const std::byte*>(next);
  const std::int64_t bytes = tile_bytes(PackedFormat::q8_0, rows.k);
  for (int i = 0; i < kPage / kTileRows; i += 2, tiles += 2 * bytes, out += 2 * kTileRows) {
    if (kernels.tile_pair[kFormat]) {
      kernels.tile_pair[kFormat](tiles, tiles + bytes, {true, ahead, 2 * bytes}, rows, 0, count, out, out_stride);
      if (ahead) ahead += 2 * bytes;
      continue;
    }
    kernels.tile[kFormat](tiles, rows, 0, count, out, out_stride);
    kernels.tile[kFormat](tiles + bytes, rows, 0, count, out + kTileRows, out_stride);
  }
}

}  // namespace kontor::inference::cpu
