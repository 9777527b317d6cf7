// Latent attention with the widths of DeepSeek V3 and R1 (512 + 64), which no golden model has, against the CPU backend.

#include "tests/gpu/backends.hpp"
#include "tests/gpu/small_models.hpp"
#include "tests/support/catch.hpp"

#include <algorithm>
#include <iostream>
#include <memory>

using namespace kontor;
using namespace kontor::inference;
using test::distance;
using test::LatentModel;
using test::on_device;

namespace {

using Rows = std::vector<std::vector<float>>;

/// A model in memory.
class Loaded {
 public:
  explicit Loaded(const LatentModel& model) : bytes_(test::SmallModel(model).bytes()) {
    auto file = WeightFile::parse(bytes_.span(), "latent");
    if (!file) FAIL(file.error().message);
    file_ = std::make_unique<WeightFile>(std::move(*file));
  }
  const WeightFile& file() const { return *file_; }

 private:
  test::AlignedBytes bytes_;
  std::unique_ptr<WeightFile> file_;
};

std::vector<TokenId> tokens(int n, int seed) {
  std::vector<TokenId> ids;
  for (int i = 0; i < n; ++i) ids.push_back((i * 31 + seed * 17 + i * i % 29) % 96);
  return ids;
}

/// The kernels of a page's end and of several parts are behind this many tokens.
constexpr int kPrompt = 126, kDecoded = 4;

/// Logits behind a prompt of two pages, then behind each of a few tokens that reach into a third.
Rows follow(Backend& backend) {
  Rows rows;
  const auto sequence = backend.create_sequence();
  const auto ids = tokens(kPrompt + kDecoded, 3);
  for (int at = 0; at < kPrompt + kDecoded;) {
    const int n = at == 0 ? kPrompt : 1;
    rows.emplace_back(static_cast<std::size_t>(backend.config().vocabulary));
    const Extension extension{sequence.get(), std::span(ids).subspan(static_cast<std::size_t>(at), static_cast<std::size_t>(n)), Output::last_logits, rows.back().data()};
    const auto done = backend.forward(std::span(&extension, 1));
    if (!done) FAIL(done.error().message);
    at += n;
  }
  return rows;
}

std::unique_ptr<Backend> on_cpu(const WeightFile& file, Compute compute) {
  auto cpu = open_backend(file, {"cpu", 1, compute, ""});
  if (!cpu) FAIL(cpu.error().message);
  return std::move(*cpu);
}

/// Null (and a skipped case) where the tests run on a machine without a device.
std::unique_ptr<Backend> opened(const WeightFile& file, Compute compute, bool deterministic, const char* corpus) {
  auto gpu = on_device(file, compute, deterministic);
  if (gpu) return std::move(*gpu);
  if (gpu.error().kind != "no_device") FAIL(gpu.error().message);
  test::count_cases(corpus, 0, 0, 1);
  return nullptr;
}

/// Logits behind the last token of each sequence, all in one call.
Rows together(Backend& backend, std::vector<std::unique_ptr<Sequence>>& sequences, const std::vector<std::vector<TokenId>>& ids) {
  Rows rows(sequences.size(), std::vector<float>(static_cast<std::size_t>(backend.config().vocabulary)));
  std::vector<Extension> extensions;
  for (std::size_t i = 0; i < sequences.size(); ++i) extensions.push_back({sequences[i].get(), ids[i], Output::last_logits, rows[i].data()});
  const auto done = backend.forward(extensions);
  if (!done) FAIL(done.error().message);
  return rows;
}

}  // namespace

TEST_CASE("latent attention of 512 + 64 values gives the CPU's logits", "[latent]") {
  struct Case {
    const char* name;
    TensorType type;
    std::uint32_t heads, query_rank;
    Compute compute;
    bool deterministic;
    double limit;
  };
  // Tolerances as in decoder_test.cpp. One to five heads: every kernel variant, the last also with a block that is not full.
  const Case cases[] = {{"f32, five heads", TensorType::f32, 5, 32, Compute::f32, true, 1e-5},
                        {"f32, four heads, direct queries", TensorType::f32, 4, 0, Compute::f32, true, 1e-5},
                        {"f32, two heads", TensorType::f32, 2, 32, Compute::f32, true, 1e-5},
                        {"f32, one head", TensorType::f32, 1, 32, Compute::f32, true, 1e-5},
                        {"q8_0, decoding kernels", TensorType::q8_0, 5, 32, Compute::native, true, 3e-2},
                        {"f16, decoding kernels", TensorType::f16, 5, 0, Compute::native, true, 3e-2},
                        {"f16, prefill", TensorType::f16, 5, 32, Compute::native, false, 6.8e-2},
                        {"q8_0, prefill", TensorType::q8_0, 3, 0, Compute::native, false, 6.8e-2}};
  int passed = 0, failed = 0;
  for (const Case& c : cases) {
    LatentModel model;
    model.type = c.type;
    model.heads = c.heads;
    model.query_rank = c.query_rank;
    const Loaded loaded(model);
    auto gpu = opened(loaded.file(), c.compute, c.deterministic, "gpu latent");
    if (!gpu) return;
    const auto cpu = on_cpu(loaded.file(), c.compute);
    const double d = distance(follow(*gpu), follow(*cpu));
    const bool good = d <= c.limit;
    if (!good) std::cout << "gpu latent " << c.name << ": nrmse " << d << "\n";
    (good ? passed : failed) += 1;
  }
  test::count_cases("gpu latent", passed, failed);
  CHECK(failed == 0);
}

TEST_CASE("sequences of different lengths decode together as they do alone", "[latent]") {
  LatentModel model;
  model.heads = 3;
  const Loaded loaded(model);
  auto gpu = opened(loaded.file(), Compute::f32, true, "gpu latent batch");
  if (!gpu) return;
  const auto cpu = on_cpu(loaded.file(), Compute::f32);
  const std::vector<std::vector<TokenId>> prompts = {tokens(66, 1), tokens(1, 2), tokens(129, 3), tokens(64, 4), tokens(5, 5)};
  Rows alone, reference;
  for (const auto& prompt : prompts)
    for (auto [backend, rows] : {std::pair{gpu.get(), &alone}, {cpu.get(), &reference}}) {
      std::vector<std::unique_ptr<Sequence>> one;
      one.push_back(backend->create_sequence());
      (void)together(*backend, one, {prompt});
      for (const TokenId token : {9, 70, 41}) rows->push_back(together(*backend, one, {{token}}).front());
    }
  std::vector<std::unique_ptr<Sequence>> all;
  for (std::size_t i = 0; i < prompts.size(); ++i) all.push_back(gpu->create_sequence());
  (void)together(*gpu, all, prompts);
  Rows batch(alone.size());
  std::size_t step = 0;
  for (const TokenId token : {9, 70, 41}) {
    const Rows rows = together(*gpu, all, std::vector<std::vector<TokenId>>(all.size(), {token}));
    for (std::size_t i = 0; i < all.size(); ++i) batch[i * 3 + step] = rows[i];
    ++step;
  }
  CHECK(batch == alone);
  const double d = distance(batch, reference);
  INFO(d);
  CHECK(d <= 1e-5);
  test::count_cases("gpu latent batch", 1, 0);
}

TEST_CASE("one tensor for each expert gives the bits of one for all", "[latent]") {
  LatentModel model;
  model.heads = 1;
  model.rank = 64;
  model.experts = 6;
  model.used = 3;
  for (const TensorType type : {TensorType::f32, TensorType::q8_0, TensorType::q4_0}) {
    model.type = type;
    Rows rows[2];
    for (const bool apart : {false, true}) {
      model.expert_tensors = apart;
      const Loaded loaded(model);
      auto gpu = opened(loaded.file(), Compute::native, true, "gpu expert tensors");
      if (!gpu) return;
      rows[apart] = follow(*gpu);
    }
    CHECK(rows[0] == rows[1]);
    CHECK(distance(rows[0], rows[1]) == 0);  // Not where there are values that are not numbers.
  }
  test::count_cases("gpu expert tensors", 3, 0);
}

TEST_CASE("what the kernels do not compute is refused by name", "[latent]") {
  const auto refusal = [](const LatentModel& model) {
    const Loaded loaded(model);
    const auto gpu = on_device(loaded.file(), Compute::native, true);
    return gpu ? Error{} : gpu.error();
  };
  const auto check = [&](const LatentModel& model, const char* words) {
    const Error error = refusal(model);
    if (error.kind == "no_device") return;
    INFO(error.message);
    CHECK(error.code == Errc::unsupported);
    CHECK(error.kind == "unsupported_arch");
    CHECK(error.message.find(words) != std::string::npos);
    CHECK(error.message.find("--device cpu") != std::string::npos);
  };
  LatentModel m;
  m.heads = 1;
  m.rank = 544;
  check(m, "544 + 64");
  m.rank = 64;
  m.rotary = 12;
  check(m, "64 + 12");
  m.rotary = 64;
  m.experts = 1056;
  m.expert_inner = 32;
  check(m, "1056 experts");
  m.experts = 4;
  m.width = 80;
  m.type = TensorType::f16;
  check(m, "multiples of 32");
  m.width = 64;
  m.expert_tensors = true;
  m.type = TensorType::q8_0;
  m.type_of = [](const std::string& name) { return name == "blk.1.ffn_up.2.weight" ? TensorType::f16 : TensorType::q8_0; };
  check(m, "blk.1.ffn_up.2.weight");
  m.type_of = nullptr;
  CHECK((refusal(m).code == Errc::none || refusal(m).kind == "no_device"));  // What is left is computed.
}
