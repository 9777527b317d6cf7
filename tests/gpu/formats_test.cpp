// The planes of device memory hold exactly the weights of the file, and the per-thread arithmetic computes with them.

#include "inference/cuda/upload.hpp"
#include "inference/dequantize.hpp"
#include "tests/support/archive.hpp"
#include "tests/support/catch.hpp"

#include <bit>
#include <cmath>
#include <fstream>
#include <iterator>
#include <random>

using namespace kontor;
using namespace kontor::inference;

namespace {

/// A tensor over bytes that the caller keeps.
Tensor tensor_of(const TensorTypeInfo& type, const std::string& bytes, std::int64_t columns) {
  Tensor t;
  t.name = "w";
  t.type = type.type;
  t.rank = 2;
  t.elements = static_cast<std::int64_t>(bytes.size()) / type.block_bytes * type.block_elements;
  t.shape = {columns, t.elements / columns, 1, 1};
  t.data = reinterpret_cast<const std::byte*>(bytes.data());
  t.bytes = bytes.size();
  return t;
}

template <cuda::Format F>
float value_at(const cuda::MatrixView& m, std::int64_t row, std::int64_t column) {
  if constexpr (!cuda::takes_int8(F)) return cuda::plain_value(m, row * m.columns + column);
  else return cuda::span_value<F>(cuda::weight_span<F>(m, row, column / cuda::kSpan), static_cast<int>(column % cuda::kSpan));
}

template <cuda::Format F>
double dot(const cuda::MatrixView& m, std::int64_t row, const cuda::QuantizedToken& x) {
  double sum = 0;
  for (std::int64_t s = 0; s < m.columns / cuda::kSpan; ++s) {
    const auto weights = cuda::weight_span<F>(m, row, s);
    sum += static_cast<double>(cuda::span_dot<F>(weights, cuda::activation_span(x, s), x.scales[s], x.sums[s]));
  }
  return sum;
}

}  // namespace

TEST_CASE("weights in device planes have the reference values of their file blocks") {
  const test::UnpackedArchive archive(test::corpus_path("blocks/blocks.tar.xz"));
  if (!archive.ok()) return test::count_cases("gpu blocks (no tar or xz)", 0, 0, 1);
  int passed = 0, failed = 0;
  std::mt19937 random(7);
  for (const char* name : {"F16", "BF16", "Q8_0", "Q4_0", "Q4_K", "Q5_K", "Q6_K", "Q3_K", "IQ4_NL"}) {
    const TensorTypeInfo* type = find_tensor_type(std::string_view(name));
    std::ifstream in(archive.folder() / (std::string(name) + ".bin"), std::ios::binary);
    const std::string bytes{std::istreambuf_iterator<char>(in), std::istreambuf_iterator<char>()};
    REQUIRE(!bytes.empty());
    const Tensor tensor = tensor_of(*type, bytes, 1024 % type->block_elements ? 2048 : 1024);
    const auto layout = cuda::plane_layout(tensor, false);
    REQUIRE(layout.has_value());
    std::vector<std::byte> planes(layout->total + 256);
    void* base = planes.data() + (256 - reinterpret_cast<std::uintptr_t>(planes.data()) % 256) % 256;
    cuda::fill_planes(tensor, *layout, static_cast<std::byte*>(base));
    const cuda::MatrixView view = layout->view(base);
    std::vector<float> row(static_cast<std::size_t>(view.columns));
    std::vector<std::int8_t> codes(row.size());
    std::vector<float> scales(row.size() / cuda::kSpan), sums(scales.size());
    for (std::size_t s = 0; s < scales.size(); ++s) {
      int total = 0;
      for (std::size_t i = 0; i < cuda::kSpan; ++i) total += codes[s * cuda::kSpan + i] = static_cast<std::int8_t>(static_cast<int>(random() % 255) - 127);
      scales[s] = static_cast<float>(random() % 1000 + 1) * 1e-4f;
      sums[s] = scales[s] * static_cast<float>(total);
    }
    int wrong = 0;
    for (std::int64_t r = 0; r < view.rows; ++r) {
      REQUIRE(dequantize_row(tensor, r, row.data()).has_value());
      double expected = 0, size = 0, computed = 0;
      for (std::int64_t c = 0; c < view.columns; ++c) {
        const auto i = static_cast<std::size_t>(c);
        // Types without planes are held in binary16.
        const bool expanded = view.format == cuda::Format::f16;
        const float reference = expanded ? half_to_float(float_to_half(row[i])) : row[i];
        float value = 0;
        cuda::with_format(view.format, [&]<cuda::Format F>() { value = value_at<F>(view, r, c); });
        if (std::bit_cast<std::uint32_t>(value) != std::bit_cast<std::uint32_t>(reference) && !(value == 0 && reference == 0)) ++wrong;
        const double product = double{row[i]} * double{scales[i / cuda::kSpan]} * codes[i];
        expected += product;
        size += std::fabs(product);
      }
      if (!cuda::takes_int8(view.format)) continue;
      cuda::with_format(view.format, [&]<cuda::Format F>() {
        if constexpr (cuda::takes_int8(F)) computed = dot<F>(view, r, {codes.data(), scales.data(), sums.data()});
      });
      // Integer sums are exact; each span rounds a few times in float32.
      if (!(std::fabs(computed - expected) <= 1e-6 * size + 1e-30)) ++wrong;
    }
    if (wrong > 0) std::printf("gpu blocks %s: %d wrong\n", name, wrong);
    (wrong == 0 ? passed : failed) += 1;
  }
  test::count_cases("gpu blocks", passed, failed);
  CHECK(failed == 0);
}

TEST_CASE("portable half precision agrees with the reference for every bit pattern and at every rounding edge") {
  int wrong = 0;
  for (std::uint32_t bits = 0; bits < 0x10000; ++bits) {
    const auto h = static_cast<std::uint16_t>(bits);
    const float value = half_to_float(h), mine = cuda::half_value(h);
    if (std::isnan(value) ? !std::isnan(mine) : std::bit_cast<std::uint32_t>(value) != std::bit_cast<std::uint32_t>(mine)) ++wrong;
    if (std::isnan(value) || std::isinf(value)) continue;
    const float next = half_to_float(static_cast<std::uint16_t>(h + 1));
    for (const float probe : {value, (value + next) / 2, std::nextafter((value + next) / 2, 1e9f), std::nextafter((value + next) / 2, -1e9f)})
      if (!std::isnan(probe) && !std::isinf(probe) && float_to_half(probe) != cuda::half_bits(probe)) ++wrong;
  }
  for (const float probe : {65519.0f, 65520.0f, 65504.0f, 1e9f, -1e9f, 1e-9f, 5.9e-8f, 2.98e-8f, 2.9802322e-8f, 2.9802326e-8f})
    if (float_to_half(probe) != cuda::half_bits(probe)) ++wrong;
  CHECK(wrong == 0);
}
