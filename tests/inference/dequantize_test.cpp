#include "inference/dequantize.hpp"

#include "tests/support/archive.hpp"
#include "tests/support/catch.hpp"
#include "tests/support/npy.hpp"

#include <bit>
#include <cmath>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <limits>

using namespace kontor;
using namespace kontor::inference;

TEST_CASE("blocks expand to exactly the reference values") {
  const test::UnpackedArchive archive(test::corpus_path("blocks/blocks.tar.xz"));
  if (!archive.ok()) return test::count_cases("blocks (no tar or xz)", 0, 0, 1);
  int passed = 0, failed = 0, skipped = 0;
  for (const auto& entry : std::filesystem::directory_iterator(archive.folder())) {
    if (entry.path().extension() != ".bin") continue;
    const std::string name = entry.path().stem().string();
    const TensorTypeInfo* type = find_tensor_type(name);
    REQUIRE(type);
    std::ifstream in(entry.path(), std::ios::binary);
    const std::string bytes{std::istreambuf_iterator<char>(in), std::istreambuf_iterator<char>()};
    const auto expected = test::read_npy(entry.path().parent_path().string() + "/" + name + ".f32.npy");
    REQUIRE(expected.has_value());
    // The sizes of the corpus check the type table, for types without a dequantiser too.
    const auto count = static_cast<std::int64_t>(bytes.size()) / type->block_bytes * type->block_elements;
    CHECK(bytes.size() % static_cast<std::size_t>(type->block_bytes) == 0);
    REQUIRE(count == static_cast<std::int64_t>(expected->values.size()));
    const Dequantizer expand = find_dequantizer(type->type);
    if (!expand) {
      std::printf("blocks %s: not supported\n", name.c_str());
      ++skipped;
      continue;
    }
    std::vector<float> values(expected->values.size());
    expand(reinterpret_cast<const std::byte*>(bytes.data()), count, values.data());
    std::size_t wrong = 0, first = 0;
    for (std::size_t i = 0; i < values.size(); ++i)
      if (std::bit_cast<std::uint32_t>(values[i]) != std::bit_cast<std::uint32_t>(expected->values[i]) && wrong++ == 0) first = i;
    if (wrong > 0) std::printf("blocks %s: %zu differ, first %zu: %a instead of %a\n", name.c_str(), wrong, first, values[first], expected->values[first]);
    (wrong == 0 ? passed : failed) += 1;
  }
  test::count_cases("blocks", passed, failed, skipped);
  REQUIRE(failed == 0);
}

TEST_CASE("half precision converts both ways for every bit pattern") {
  for (std::uint32_t bits = 0; bits < 0x10000; ++bits) {
    const float value = half_to_float(static_cast<std::uint16_t>(bits));
    if (std::isnan(value)) {
      CHECK(std::isnan(half_to_float(float_to_half(value))));
      continue;
    }
    if (float_to_half(value) != bits) FAIL("pattern " << bits << " came back as " << float_to_half(value));
  }
  CHECK(half_to_float(0x3c00) == 1.0f);
  CHECK(half_to_float(0x0001) == 0x1p-24f);
  CHECK(half_to_float(0x7bff) == 65504.0f);
  CHECK(float_to_half(65519.9f) == 0x7bff);
  CHECK(float_to_half(65520.0f) == 0x7c00);
  CHECK(float_to_half(1.0f + 0x1p-11f) == 0x3c00);            // halfway: to even
  CHECK(float_to_half(1.0f + 0x1p-11f + 0x1p-20f) == 0x3c01);
  CHECK(float_to_half(0x1p-25f) == 0x0000);
  CHECK(float_to_half(0x1.8p-25f) == 0x0001);
  CHECK(std::isinf(half_to_float(float_to_half(std::numeric_limits<float>::infinity()))));
}

TEST_CASE("a row of an unsupported type is an error that names tensor and type") {
  Tensor tensor;
  tensor.name = "blk.0.x";
  tensor.type = TensorType::i32;
  float out = 0;
  const auto done = dequantize_row(tensor, 0, &out);
  REQUIRE(done.has_error());
  CHECK(done.error().kind == "bad_tensor_type");
  CHECK(done.error().message.find("blk.0.x") != std::string::npos);
  CHECK(done.error().message.find("I32") != std::string::npos);
}
