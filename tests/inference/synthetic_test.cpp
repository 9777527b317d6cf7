#include "inference/backend.hpp"
#include "inference/synthetic.hpp"
#include "tests/support/catch.hpp"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <vector>

using namespace kontor;
using namespace kontor::inference;

TEST_CASE("synthetic models have the published shapes and types that fit their rows") {
  for (const std::string_view shape : SyntheticModel::shapes()) {
    const auto model = SyntheticModel::create(shape, "q4_k_m");
    INFO(shape);
    REQUIRE(model.has_value());
    const auto config = read_model_config(model->file());
    REQUIRE(config.has_value());
    double parameters = 0;
    for (const Tensor& t : model->file().tensors()) parameters += static_cast<double>(t.elements);
    CHECK(parameters > 1.5e9);
    CHECK(config->name == std::string(shape) + " q4_k_m (synthetic)");
  }
}

TEST_CASE("large unquantised weights are filled completely") {
  const auto model = SyntheticModel::create("1.5b", "bf16");
  REQUIRE(model.has_value());
  const Tensor* t = model->file().find_tensor("blk.0.ffn_gate.weight");
  REQUIRE(t);
  std::uint64_t zeros = 0;
  for (std::uint64_t i = 0; i + 8 <= t->bytes; i += 8) {
    std::uint64_t word = 0;
    std::memcpy(&word, t->data + i, 8);
    zeros += word == 0;
  }
  CHECK(zeros == 0);
}

TEST_CASE("a shape may be named by the end of its name, but not by one that several share") {
  CHECK(SyntheticModel::create("qwen-7b", "q8_0").has_value());
  CHECK(SyntheticModel::create("70b", "q4_k").has_value());
  for (const char* name : {"", "b", "9b", "distill"}) CHECK(SyntheticModel::create(name, "q8_0").error().kind == "bad_shape");
  CHECK(SyntheticModel::create("7b", "q9").error().kind == "bad_quant");
}
