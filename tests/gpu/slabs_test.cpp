// Experts and heads of many tokens through matrix products of the library, against the kernels that decode.

#include "inference/cuda/decoder_cuda.hpp"
#include "tests/gpu/backends.hpp"
#include "tests/gpu/small_models.hpp"
#include "tests/gpu/watched_device.hpp"
#include "tests/support/catch.hpp"

#include <algorithm>
#include <memory>
#include <vector>

using namespace kontor;
using namespace kontor::inference;

namespace {

using Rows = std::vector<std::vector<float>>;

/// Logits behind each token of a prompt.
Rows logits_of(Backend& backend, int count) {
  const auto sequence = backend.create_sequence();
  std::vector<TokenId> tokens;
  for (int i = 0; i < count; ++i) tokens.push_back((i * 31 + i * i % 7) % 96);
  std::vector<float> logits(tokens.size() * 96);
  const Extension extension{sequence.get(), tokens, Output::all_logits, logits.data()};
  REQUIRE(backend.forward(std::span(&extension, 1)).has_value());
  Rows rows;
  for (std::size_t i = 0; i < tokens.size(); ++i) rows.emplace_back(logits.begin() + static_cast<std::ptrdiff_t>(i * 96), logits.begin() + static_cast<std::ptrdiff_t>((i + 1) * 96));
  return rows;
}

}  // namespace

TEST_CASE("experts and heads through the library's products stay within the tolerance of binary16", "[slabs]") {
  if (!test::make_device()) return test::count_cases("gpu slabs", 0, 0, 1);
  struct Case {
    TensorType type;
    bool on_host;
    int tokens;
    double limit;
  };
  int passed = 0, failed = 0;
  // Float32 weights: what binary16 rounds away (2^-11 a value, through a few products each layer). Quantised: the other side has int8
  // activations, so the sum of both tolerances as in decoder_test.
  for (const Case& c : {Case{TensorType::f32, false, 260, 1e-2}, {TensorType::q8_0, false, 130, 6.8e-2}, {TensorType::q4_0, true, 70, 6.8e-2}}) {
    test::LatentModel model;
    model.heads = 3;
    model.layers = 3;
    model.rank = model.rotary = model.plain = 32;
    model.value = 64;
    model.experts = 12;
    model.used = 4;
    model.expert_inner = 96;
    model.type = c.type;
    const test::AlignedBytes bytes(test::SmallModel(model).bytes());
    const auto file = WeightFile::parse(bytes.span(), "small");
    REQUIRE(file.has_value());
    test::Watch watch;
    BackendOptions options;
    options.expert_bytes = c.on_host ? 1 : 0;
    const std::uint64_t much = std::uint64_t{1} << 30;
    auto tiled = cuda::CudaDecoder::create(*file, options, std::make_unique<test::WatchedDevice>(test::make_device(much, much), watch));
    REQUIRE(tiled.has_value());
    CHECK((static_cast<const cuda::CudaDecoder&>(**tiled).plan().host_bytes > 0) == c.on_host);
    const auto plain = test::on_device(*file, Compute::native, true);
    REQUIRE(plain.has_value());
    const Rows got = logits_of(**tiled, c.tokens);
    // Heads in one product each time, experts of two layers, gate, up and down, at least.
    CHECK(std::count(watch.batches.begin(), watch.batches.end(), 3) >= 6);
    CHECK(std::count_if(watch.batches.begin(), watch.batches.end(), [](std::int64_t n) { return n > 1; }) >= 12);
    if (c.tokens == 260) CHECK(std::count(watch.batches.begin(), watch.batches.end(), 12) == 0);  // Their results do not fit into the workspace together.
    // Where two experts are all but equal, rounding may choose the other one: such a row differs, few do.
    const Rows expected = logits_of(**plain, c.tokens);
    std::vector<double> distances;
    for (std::size_t i = 0; i < got.size(); ++i) distances.push_back(test::distance({got[i]}, {expected[i]}));
    std::sort(distances.begin(), distances.end());
    const double d = distances[distances.size() * 9 / 10];
    INFO(d);
    const bool close = d <= c.limit;
    CHECK(close);
    close ? ++passed : ++failed;
  }
  test::count_cases("gpu slabs", passed, failed);
}
