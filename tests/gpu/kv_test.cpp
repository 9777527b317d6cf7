// The 8-bit KV cache on the device against that of the CPU, which holds the same codes and scales.

#include "inference/golden.hpp"
#include "tests/gpu/backends.hpp"
#include "tests/gpu/small_models.hpp"
#include "tests/support/catch.hpp"

#include <cmath>
#include <memory>
#include <utility>
#include <vector>

using namespace kontor;
using namespace kontor::inference;

namespace {

using Rows = std::vector<std::vector<float>>;

Result<std::unique_ptr<Backend>> on_device(const WeightFile& file, KvType kv, bool deterministic) {
  BackendOptions options;
  options.kv = kv;
  options.deterministic = deterministic;
  return cuda::CudaDecoder::create(file, options, test::make_device());
}

/// Logits behind a prompt of `first` tokens, and behind five more, one by one or together.
Rows logits_of(Backend& backend, int first, bool together) {
  const auto sequence = backend.create_sequence();
  Rows rows;
  std::vector<TokenId> ids;
  for (int i = 0; i < first + 5; ++i) ids.push_back((i * 31 + i * i % 29) % 96);
  for (std::size_t at = 0; at < ids.size();) {
    const std::size_t n = at == 0 ? static_cast<std::size_t>(first) : together ? ids.size() - at : 1;
    std::vector<float> logits(static_cast<std::size_t>(backend.config().vocabulary));
    const Extension extension{sequence.get(), std::span(ids).subspan(at, n), Output::last_logits, logits.data()};
    REQUIRE(backend.forward(std::span(&extension, 1)).has_value());
    at += n;
    if (at == static_cast<std::size_t>(first) || at == ids.size()) rows.push_back(std::move(logits));
  }
  return rows;
}

bool absent(const char* corpus, int cases) {
  if (test::make_device()) return false;
  test::count_cases(corpus, 0, 0, cases);
  return true;
}

}  // namespace

TEST_CASE("a KV cache of 8 bit on the device gives the logits of that of the CPU", "[kv]") {
  const std::string shared = test::shared_dir();
  if (shared.empty() || absent("gpu kv", 3)) return;
  int passed = 0, failed = 0;
  const auto count = [&](bool good) {
    CHECK(good);
    good ? ++passed : ++failed;
  };
  for (const char* name : {"qmix.q4_k_m", "qbase.q8_0", "qwen2.f32"}) {
    INFO(name);
    const auto file = WeightFile::open(shared + "/golden/models/" + name + ".gguf");
    REQUIRE(file.has_value());
    BackendOptions options{"cpu", 1, Compute::native, ""};
    options.kv = KvType::q8_0;
    const auto cpu = open_backend(*file, options);
    const auto coded = on_device(*file, KvType::q8_0, true), wide = on_device(*file, KvType::f16, true);
    REQUIRE((cpu && coded && wide));
    CHECK((*coded)->page_bytes() * 64 == (*wide)->page_bytes() * 34);  // 34 bytes for 32 values instead of 64.
    CHECK((*coded)->arithmetic() == "cuda deterministic kv q8_0");
    const Rows got = logits_of(**coded, 70, false), expected = logits_of(**cpu, 70, false), exact = logits_of(**wide, 70, false);
    // The CPU quantises queries as well: the tolerance of int8 activations.
    INFO(test::distance(got, expected) << " " << test::distance(got, exact));
    count(test::distance(got, expected) <= 3e-2);
    CHECK(test::distance(got, exact) > 0);
    CHECK(test::distance(got, exact) <= 3e-2);
    CHECK(logits_of(**coded, 70, true).back() == got.back());
  }
  test::count_cases("gpu kv", passed, failed);
}

TEST_CASE("a prefill reads a KV cache of 8 bit, and pages of it fork and come back", "[kv]") {
  if (absent("gpu kv prefill", 2)) return;
  int passed = 0, failed = 0;
  for (const bool wide : {false, true}) {  // The second with DeepSeek's widths: 512 values of each row, 576 keys.
    test::LatentModel model;
    model.heads = 2;
    if (!wide) model.rank = model.rotary = model.plain = model.value = 32;
    model.experts = 2;  // Both are always taken: no token can change its experts.
    const test::AlignedBytes bytes(test::SmallModel(model).bytes());
    const auto file = WeightFile::parse(bytes.span(), "small");
    REQUIRE(file.has_value());
    const auto tiled = on_device(*file, KvType::q8_0, false), plain = on_device(*file, KvType::q8_0, true);
    REQUIRE((tiled && plain));
    BackendOptions options{"cpu", 1, Compute::native, ""};
    options.kv = KvType::q8_0;
    const auto cpu = open_backend(*file, options);
    REQUIRE(cpu.has_value());
    const Rows decoded = logits_of(**plain, 100, false);
    const double d = test::distance(logits_of(**tiled, 100, false), decoded), from_cpu = test::distance(logits_of(**cpu, 100, false), decoded);
    INFO(d << " " << from_cpu);
    const bool close = d <= 1e-2 && from_cpu <= 3e-2;
    CHECK(close);
    close ? ++passed : ++failed;

    const auto sequence = (*plain)->create_sequence();
    const std::vector<TokenId> prompt(70, 7), next(1, 9);
    std::vector<float> logits(96), again(96);
    const Extension start{sequence.get(), prompt, Output::none};
    REQUIRE((*plain)->forward(std::span(&start, 1)).has_value());
    const auto fork = sequence->fork();
    const Extension go_on{sequence.get(), next, Output::last_logits, logits.data()};
    REQUIRE((*plain)->forward(std::span(&go_on, 1)).has_value());
    std::vector<KvPageRef> pages;
    for (const KvPageRef& page : fork->pages()) {
      std::vector<std::byte> content((*plain)->page_bytes());
      page->copy_to(content);
      auto loaded = (*plain)->load_page(content);
      REQUIRE(loaded.has_value());
      pages.push_back(std::move(*loaded));
    }
    const auto copy = (*plain)->create_sequence();
    copy->adopt(pages, 70);
    const Extension from_copy{copy.get(), next, Output::last_logits, again.data()};
    REQUIRE((*plain)->forward(std::span(&from_copy, 1)).has_value());
    CHECK(again == logits);
  }
  test::count_cases("gpu kv prefill", passed, failed);
}

TEST_CASE("heads that 8 bit cannot hold are refused by name", "[kv]") {
  if (absent("gpu kv refusals", 1)) return;
  test::LatentModel model;
  model.heads = 2;
  model.rank = 32;
  model.rotary = 16;
  model.plain = model.value = 32;
  const test::AlignedBytes bytes(test::SmallModel(model).bytes());
  const auto file = WeightFile::parse(bytes.span(), "small");
  REQUIRE(file.has_value());
  const auto refused = on_device(*file, KvType::q8_0, false);
  REQUIRE(!refused);
  CHECK(refused.error().kind == "kv_type");
  CHECK(refused.error().message.find("multiple of 32") != std::string::npos);
  test::count_cases("gpu kv refusals", 1, 0);
}
