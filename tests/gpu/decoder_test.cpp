// The CUDA backend against the CPU backend, which is itself checked against independent references.

#include "inference/golden.hpp"
#include "tests/gpu/backends.hpp"
#include "tests/support/catch.hpp"

#include <cmath>
#include <initializer_list>
#include <iostream>

using namespace kontor;
using namespace kontor::inference;
using test::distance;
using test::on_device;

namespace {

std::string models() {
  const std::string shared = test::shared_dir();
  return shared.empty() ? "" : shared + "/golden/models/";
}

std::vector<TokenId> tokens(int n, int seed) {
  std::vector<TokenId> ids;
  for (int i = 0; i < n; ++i) ids.push_back((i * 37 + seed * 101 + i * i % 53) % 500);
  return ids;
}

GoldenInput input() {
  GoldenInput in;
  in.one = tokens(1, 1);
  in.some = tokens(9, 2);
  in.many = tokens(80, 3);  // Two pages; the chunk of 40 goes through matrix products, the others do not.
  in.chunks = {40, 27, 13};
  in.positions = {39, 66, 79};
  in.greedy_steps = 2;
  return in;
}

void compare(const char* name, std::initializer_list<const char*> files, Compute compute, bool deterministic, double limit) {
  const std::string folder = models();
  int passed = 0, failed = 0;
  if (folder.empty()) return test::count_cases(name, 0, 0, static_cast<int>(files.size()));
  for (const char* model : files) {
    const auto file = WeightFile::open(folder + model + ".gguf");
    REQUIRE(file.has_value());
    auto gpu = on_device(*file, compute, deterministic);
    if (!gpu) {
      std::cout << name << " " << model << ": " << gpu.error().message << "\n";
      const bool absent = gpu.error().kind == "no_device";
      REQUIRE(absent);
      return test::count_cases(name, 0, 0, static_cast<int>(files.size()));
    }
    BackendOptions options{"cpu", 1, compute, ""};
    const auto cpu = open_backend(*file, options);
    REQUIRE(cpu.has_value());
    const auto expected = run_golden(**cpu, input()), got = run_golden(**gpu, input());
    REQUIRE(expected.has_value());
    REQUIRE(got.has_value());
    const double d = distance(got->rows, expected->rows);
    const bool good = d <= limit && (!deterministic || got->differences.empty());
    if (!good) std::cout << name << " " << model << ": nrmse " << d << ", " << got->differences.size() << " differences\n";
    (good ? passed : failed) += 1;
  }
  test::count_cases(name, passed, failed);
  CHECK(failed == 0);
}

}  // namespace

TEST_CASE("float32 on the device gives the logits of float32 on the CPU, bit for bit whatever the batch") {
  compare("gpu f32", {"llama-rope3.f32", "qwen2-yarn.f32", "qwen3.f32", "qwen3moe.f32", "ds-v3.f32", "ds-v3-old.f16", "ds-lite.f32", "ds-lite-old.f32"}, Compute::f32, true, 1e-5);
}

// Both quantise activations alike; what differs is the order of float32 sums, which can move a code by one. Half of the
// tolerance that int8 has against the reference.
TEST_CASE("int8 on the device gives the logits of int8 on the CPU, bit for bit whatever the batch") {
  compare("gpu int8", {"qmix.q4_k_m", "qbase.q8_0", "qbase.q4_0", "qbase.q5_k", "qbase.q3_k", "qbase.bf16", "qwen3moe.q5_1", "ds-v3.q8_0", "ds-v3-old.f16", "ds-lite-old.q4_0"}, Compute::native, true, 3e-2);
}

// Half precision inputs of the library against int8 activations: the sum of both tolerances.
TEST_CASE("prefill through matrix products stays within the tolerance of its precision") {
  compare("gpu prefill", {"qmix.q4_k_m", "qbase.f16", "qbase.bf16", "qwen2.f32", "qwen3moe.f32", "ds-v3.f32", "ds-lite.f32"}, Compute::native, false, 6.8e-2);
}

TEST_CASE("sequences on the device fork, share pages, and come back from a copy") {
  if (models().empty()) return test::count_cases("gpu pages", 0, 0, 1);
  const auto file = WeightFile::open(models() + "qbase.q8_0.gguf");
  REQUIRE(file.has_value());
  auto opened = on_device(*file, Compute::native, true);
  if (!opened) return test::count_cases("gpu pages", 0, 0, 1);
  Backend& backend = **opened;
  const auto vocabulary = static_cast<std::size_t>(backend.config().vocabulary);
  const auto run = [&](Sequence& sequence, const std::vector<TokenId>& ids) {
    std::vector<float> logits(vocabulary);
    const Extension extension{&sequence, ids, Output::last_logits, logits.data()};
    REQUIRE(backend.forward(std::span(&extension, 1)).has_value());
    return logits;
  };
  const auto prefix = tokens(70, 1), a = tokens(20, 2), b = tokens(20, 3);
  auto first = backend.create_sequence();
  run(*first, prefix);
  auto second = first->fork();
  const auto after_a = run(*first, a), after_b = run(*second, b);
  auto clean = backend.create_sequence();
  auto whole = prefix;
  whole.insert(whole.end(), b.begin(), b.end());
  CHECK(run(*clean, whole) == after_b);
  first->truncate(70);
  CHECK(run(*first, a) == after_a);

  auto copy = backend.create_sequence();
  std::vector<KvPageRef> pages;
  for (const KvPageRef& page : second->pages()) {
    std::vector<std::byte> content(backend.page_bytes());
    page->copy_to(content);
    const auto loaded = backend.load_page(content);
    REQUIRE(loaded.has_value());
    pages.push_back(*loaded);
  }
  copy->adopt(pages, second->length());
  CHECK(run(*copy, {7}) == run(*second, {7}));
  test::count_cases("gpu pages", 3, 0);
}

TEST_CASE("a model that does not fit is refused with the numbers before anything is loaded") {
  if (models().empty()) return test::count_cases("gpu memory", 0, 0, 1);
  const auto file = WeightFile::open(models() + "qbase.q8_0.gguf");
  REQUIRE(file.has_value());
  auto small = test::make_device(1 << 20);
  if (!small) return test::count_cases("gpu memory", 0, 0, 1);
  const auto device = cuda::CudaDecoder::create(*file, {}, std::move(small));
  if (device) return test::count_cases("gpu memory", 0, 0, 1);  // A real device cannot be made smaller.
  CHECK(device.error().kind == "out_of_memory");
  CHECK(device.error().message.find("weights") != std::string::npos);
  test::count_cases("gpu memory", 1, 0);
}

TEST_CASE("an architecture that only the CPU computes is refused by name") {
  if (models().empty()) return test::count_cases("gpu architectures", 0, 0, 1);
  const auto file = WeightFile::open(models() + "bert-cls.f32.gguf");
  REQUIRE(file.has_value());
  const auto gpu = on_device(*file, Compute::native, true);
  REQUIRE(!gpu);
  CHECK(gpu.error().code == Errc::unsupported);
  test::count_cases("gpu architectures", 1, 0);
}
