// Matrices in bfloat16 as the library multiplies them: by pairs of bfloat16 that lose next to nothing of float32 activations.

#include "inference/cuda/kernels.hpp"
#include "inference/sampler.hpp"
#include "tests/gpu/device/device.hpp"
#include "tests/support/catch.hpp"

#include <bit>
#include <cmath>
#include <cstdint>
#include <limits>
#include <vector>

using namespace kontor;
using namespace kontor::inference;

namespace {

float draw(std::uint64_t n) { return static_cast<float>(random_uniform(5, n) * 2 - 1); }

template <class T>
cuda::DeviceBuffer on(cuda::Device& device, const std::vector<T>& values) {
  auto buffer = device.allocate(values.size() * sizeof(T));
  if (!buffer) FAIL(buffer.error().message);
  device.copy_in(buffer->data(), values.data(), values.size() * sizeof(T));
  return std::move(*buffer);
}

}  // namespace

TEST_CASE("bfloat16 rounds to nearest even and keeps what is not finite", "[products]") {
  struct Case {
    std::uint32_t bits;
    std::uint16_t expected;
  };
  for (const Case& c : {Case{0x3f800000, 0x3f80}, {0x3f808000, 0x3f80}, {0x3f818000, 0x3f82}, {0x3f808001, 0x3f81}, {0xbf80ffff, 0xbf81}, {0x7f800000, 0x7f80},
                        {0xff800000, 0xff80}, {0x7f7fffff, 0x7f80}, {0x7f800001, 0x7fc0}, {0x00000001, 0x0000}, {0x80000000, 0x8000}})
    CHECK(cuda::bfloat_bits(std::bit_cast<float>(c.bits)) == c.expected);
  for (std::uint32_t bits = 0; bits < 65536; ++bits) {
    const float value = cuda::bfloat_value(static_cast<std::uint16_t>(bits));
    if (!std::isnan(value) && cuda::bfloat_bits(value) != bits) FAIL("pattern " << bits << " does not come back");
  }
  test::count_cases("gpu bfloat16", 2, 0);
}

TEST_CASE("a product with pairs of bfloat16 is that of float32 activations", "[products]") {
  const auto device = test::make_device();
  if (!device) return test::count_cases("gpu pairs", 0, 0, 1);
  constexpr std::int64_t kCount = 5, kRows = 48, kColumns = 320;
  std::vector<float> x, bias, out(kCount * kRows, 1.0f);
  std::vector<std::uint16_t> matrix;
  for (std::int64_t i = 0; i < kCount * kColumns; ++i) x.push_back(draw(static_cast<std::uint64_t>(i)) * (i % 7 == 0 ? 1000.0f : 0.01f));
  for (std::int64_t i = 0; i < kRows * kColumns; ++i) matrix.push_back(cuda::bfloat_bits(draw(static_cast<std::uint64_t>(100000 + i))));
  for (std::int64_t i = 0; i < kRows; ++i) bias.push_back(draw(static_cast<std::uint64_t>(900000 + i)));
  const auto activations = on(*device, x), weights = on(*device, matrix), biases = on(*device, bias), results = on(*device, out);
  const auto pairs = device->allocate(2 * kCount * kColumns * 2), products = device->allocate(2 * kCount * kRows * 4);
  REQUIRE((pairs && products));
  device->use();
  cuda::to_bfloats(activations.as<const float>(), kCount, kColumns, pairs->as<std::uint16_t>(), device->stream());
  cuda::MatrixProduct product;
  product.a = pairs->as<const std::uint16_t>();
  product.b = weights.as<const std::uint16_t>();
  product.c = products->as<float>();
  product.bfloat = true;
  product.count = 2 * kCount;
  product.rows = product.c_length = kRows;
  product.columns = product.a_length = product.b_length = kColumns;
  device->multiply(product);
  cuda::finish_product(products->as<const float>(), nullptr, biases.as<const float>(), kCount, kRows, results.as<float>(), kRows, true, true, device->stream());
  device->copy_out(out.data(), results.data(), out.size() * 4);
  REQUIRE(device->wait().has_value());
  int wrong = 0;
  for (std::int64_t t = 0; t < kCount; ++t)
    for (std::int64_t r = 0; r < kRows; ++r) {
      double exact = 1.0 + bias[static_cast<std::size_t>(r)], size = 0;
      for (std::int64_t c = 0; c < kColumns; ++c) {
        const double term = double{x[static_cast<std::size_t>(t * kColumns + c)]} * cuda::bfloat_value(matrix[static_cast<std::size_t>(r * kColumns + c)]);
        exact += term;
        size += std::fabs(term);
      }
      // What two roundings to 8 bits leave of each activation, and 2 * 320 sums in float32.
      if (!(std::fabs(out[static_cast<std::size_t>(t * kRows + r)] - exact) <= size * (0x1p-17 + 640 * 0x1p-24))) ++wrong;
    }
  CHECK(wrong == 0);
  test::count_cases("gpu pairs", 1, 0);
}

TEST_CASE("what is not finite stays so in a pair of bfloat16", "[products]") {
  const auto device = test::make_device();
  if (!device) return test::count_cases("gpu pairs not finite", 0, 0, 1);
  constexpr float kInfinity = std::numeric_limits<float>::infinity();
  const std::vector<float> x = {kInfinity, -kInfinity, std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::max()};
  const auto activations = on(*device, x);
  const auto pairs = device->allocate(2 * x.size() * 2);
  REQUIRE(pairs.has_value());
  device->use();
  cuda::to_bfloats(activations.as<const float>(), 1, static_cast<std::int64_t>(x.size()), pairs->as<std::uint16_t>(), device->stream());
  std::vector<std::uint16_t> bits(2 * x.size());
  device->copy_out(bits.data(), pairs->data(), bits.size() * 2);
  REQUIRE(device->wait().has_value());
  const auto sum = [&](std::size_t i) { return cuda::bfloat_value(bits[i]) + cuda::bfloat_value(bits[x.size() + i]); };
  CHECK(sum(0) == kInfinity);
  CHECK(sum(1) == -kInfinity);
  CHECK(std::isnan(sum(2)));
  CHECK(sum(3) == kInfinity);  // Rounds up to it, as every conversion to bfloat16 does.
  test::count_cases("gpu pairs not finite", 1, 0);
}
