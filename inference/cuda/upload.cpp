#include "inference/cuda/upload.hpp"

#include "inference/dequantize.hpp"
#include "inference/dequantize_blocks.hpp"

#include <algorithm>
#include <cstring>
#include <thread>
#include <vector>

namespace kontor::inference::cuda {
namespace {

using blocks::byte_at;
using blocks::load;

/// Pointers to the planes while a matrix is filled span by span.
struct Planes {
  std::uint8_t* codes;
  std::uint8_t* high;
  std::uint8_t* scales;
  std::uint8_t* super;
};

/// 32 four-bit codes in order to 16 bytes: value i low, value i + 16 high.
void pack_nibbles(const std::uint8_t* values, std::uint8_t* out) {
  for (int i = 0; i < 16; ++i) out[i] = static_cast<std::uint8_t>((values[i] & 15) | values[i + 16] << 4);
}

void fill_q8_0(const std::byte* block, std::int64_t span, const Planes& to) {
  std::memcpy(to.scales + span * 2, block, 2);
  std::memcpy(to.codes + span * kSpan, block + 2, kSpan);
}

void fill_q4_0(const std::byte* block, std::int64_t span, const Planes& to) {
  std::memcpy(to.scales + span * 2, block, 2);
  std::memcpy(to.codes + span * 16, block + 2, 16);
}

/// Q4_K and Q5_K: d, dmin, 12 bytes of scales, (32 bytes of high bits,) 128 bytes of codes in groups of 64 values.
template <bool Five>
void fill_k(const std::byte* block, std::int64_t super, const Planes& to) {
  std::memcpy(to.super + super * 4, block, 4);
  const std::byte* high = block + 16;
  const std::byte* codes = block + (Five ? 48 : 16);
  for (int j = 0; j < 8; ++j) {
    const std::int64_t span = super * 8 + j;
    const auto [scale, minimum] = blocks::scale_min_at(block + 4, j);
    to.scales[span * 2] = static_cast<std::uint8_t>(scale);
    to.scales[span * 2 + 1] = static_cast<std::uint8_t>(minimum);
    std::uint8_t values[kSpan];
    std::uint32_t bits = 0;
    for (int i = 0; i < kSpan; ++i) {
      values[i] = static_cast<std::uint8_t>(byte_at(codes + j / 2 * 32 + i) >> 4 * (j % 2) & 15);
      if constexpr (Five) bits |= (byte_at(high + i) >> j & 1u) << i;
    }
    pack_nibbles(values, to.codes + span * 16);
    if constexpr (Five) std::memcpy(to.high + span * 4, &bits, 4);
  }
}

/// Q6_K: 128 bytes of low bits, 64 of high bits, 16 scales, d. Codes come in two halves of 128 values.
void fill_q6_k(const std::byte* block, std::int64_t super, const Planes& to) {
  std::memcpy(to.super + super * 2, block + 208, 2);
  std::memcpy(to.scales + super * 16, block + 192, 16);
  for (int j = 0; j < 8; ++j) {
    const std::int64_t span = super * 8 + j;
    const std::byte* low = block + j / 4 * 64 + (j % 2) * 32;
    const std::byte* high = block + 128 + j / 4 * 32;
    std::uint8_t values[kSpan];
    std::uint32_t words[2] = {0, 0};
    for (int i = 0; i < kSpan; ++i) {
      values[i] = static_cast<std::uint8_t>(byte_at(low + i) >> (j % 4 < 2 ? 0 : 4) & 15);
      const std::uint32_t two = byte_at(high + i) >> 2 * (j % 4) & 3u;
      words[i / 16] |= two << (8 * (i % 4) + 2 * (i % 16 / 4));
    }
    pack_nibbles(values, to.codes + span * 16);
    std::memcpy(to.high + span * 8, words, 8);
  }
}

void expand(const Tensor& tensor, const PlaneLayout& layout, std::int64_t first, std::int64_t last, std::byte* out) {
  std::vector<float> row(static_cast<std::size_t>(layout.columns));
  for (std::int64_t r = first; r < last; ++r) {
    (void)dequantize_row(tensor, r, row.data());
    for (std::int64_t c = 0; c < layout.columns; ++c) {
      const std::int64_t at = r * layout.columns + c;
      if (layout.format == Format::f32) {
        std::memcpy(out + at * 4, &row[static_cast<std::size_t>(c)], 4);
      } else {
        const std::uint16_t bits = half_bits(row[static_cast<std::size_t>(c)]);
        std::memcpy(out + at * 2, &bits, 2);
      }
    }
  }
}

std::uint64_t aligned(std::uint64_t bytes) { return (bytes + 255) / 256 * 256; }

Format device_format(TensorType type) {
  switch (type) {
    case TensorType::f32: return Format::f32;
    case TensorType::bf16: return Format::bf16;
    case TensorType::q8_0: return Format::q8_0;
    case TensorType::q4_0: return Format::q4_0;
    case TensorType::q4_k: return Format::q4_k;
    case TensorType::q5_k: return Format::q5_k;
    case TensorType::q6_k: return Format::q6_k;
    default: return Format::f16;
  }
}

bool stored_as_is(TensorType type) { return type == TensorType::f32 || type == TensorType::f16 || type == TensorType::bf16; }

}  // namespace

MatrixView PlaneLayout::view(const void* base) const {
  const auto* at = static_cast<const std::byte*>(base);
  MatrixView m{format, rows, columns, at, nullptr, nullptr, nullptr};
  if (high_bytes) m.high = at + high_at;
  if (scales_bytes) m.scales = at + scales_at;
  if (super_bytes) m.super = at + super_at;
  return m;
}

Result<PlaneLayout> plane_layout(const Tensor& tensor, bool exact) {
  if (!find_dequantizer(tensor.type))
    return fail(Errc::unsupported, std::string(tensor.name) + " has type " + std::string(to_string(tensor.type)) +
                ", which this build cannot expand", "bad_tensor_type");
  PlaneLayout l;
  l.format = exact ? Format::f32 : device_format(tensor.type);
  l.rows = tensor.rows();
  l.columns = tensor.row_elements();
  const auto spans = static_cast<std::uint64_t>(tensor.elements / kSpan), elements = static_cast<std::uint64_t>(tensor.elements);
  switch (l.format) {
    case Format::f32: l.codes_bytes = elements * 4; break;
    case Format::f16:
    case Format::bf16: l.codes_bytes = elements * 2; break;
    case Format::q8_0: l.codes_bytes = elements; l.scales_bytes = spans * 2; break;
    case Format::q4_0: l.codes_bytes = spans * 16; l.scales_bytes = spans * 2; break;
    case Format::q4_k: l.codes_bytes = spans * 16; l.scales_bytes = spans * 2; l.super_bytes = spans / 8 * 4; break;
    case Format::q5_k:
      l.codes_bytes = spans * 16; l.high_bytes = spans * 4; l.scales_bytes = spans * 2; l.super_bytes = spans / 8 * 4;
      break;
    case Format::q6_k:
      l.codes_bytes = spans * 16; l.high_bytes = spans * 8; l.scales_bytes = spans * 2; l.super_bytes = spans / 8 * 2;
      break;
  }
  l.high_at = aligned(l.codes_bytes);
  l.scales_at = l.high_at + aligned(l.high_bytes);
  l.super_at = l.scales_at + aligned(l.scales_bytes);
  l.total = l.super_at + aligned(l.super_bytes);
  return l;
}

namespace {

/// The planes of rows [first, last).
void fill_rows(const Tensor& tensor, const PlaneLayout& layout, std::int64_t first, std::int64_t last, std::byte* out) {
  const bool native = layout.format == device_format(tensor.type);
  if (native && stored_as_is(tensor.type)) {
    const std::uint64_t step = tensor.row_bytes(), from = step * static_cast<std::uint64_t>(first);
    std::memcpy(out + from, tensor.data + from, step * static_cast<std::uint64_t>(last - first));
    return;
  }
  if (!native || layout.format == Format::f16) return expand(tensor, layout, first, last, out);
  auto* base = reinterpret_cast<std::uint8_t*>(out);
  const Planes to{base, base + layout.high_at, base + layout.scales_at, base + layout.super_at};
  const TensorTypeInfo& type = info(tensor.type);
  const std::int64_t row_blocks = layout.columns / type.block_elements;
  for (std::int64_t b = first * row_blocks; b < last * row_blocks; ++b) {
    const std::byte* block = tensor.data + b * type.block_bytes;
    switch (layout.format) {
      case Format::q8_0: fill_q8_0(block, b, to); break;
      case Format::q4_0: fill_q4_0(block, b, to); break;
      case Format::q4_k: fill_k<false>(block, b, to); break;
      case Format::q5_k: fill_k<true>(block, b, to); break;
      case Format::q6_k: fill_q6_k(block, b, to); break;
      default: break;
    }
  }
}

}  // namespace

void fill_planes(const Tensor& tensor, const PlaneLayout& layout, std::byte* out) {
  constexpr std::uint64_t kPieceBytes = 4 << 20;  // Less is not worth a thread.
  const auto most = static_cast<std::int64_t>(std::min<std::uint64_t>(layout.total / kPieceBytes + 1, std::max(1u, std::thread::hardware_concurrency())));
  const std::int64_t share = (layout.rows + most - 1) / most;
  std::vector<std::jthread> threads;
  for (std::int64_t first = share; first < layout.rows; first += share)
    threads.emplace_back([&, first] { fill_rows(tensor, layout, first, std::min(first + share, layout.rows), out); });
  fill_rows(tensor, layout, 0, std::min(share, layout.rows), out);
}

}  // namespace kontor::inference::cuda
