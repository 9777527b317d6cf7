// What happens where memory ends: refused before anything is loaded, typed errors behind that, and everyone else goes on.

#include "inference/cuda/decoder_cuda.hpp"
#include "tests/gpu/device/device.hpp"
#include "tests/gpu/small_models.hpp"
#include "tests/gpu/watched_device.hpp"
#include "tests/support/catch.hpp"

#include <memory>
#include <vector>

using namespace kontor;
using namespace kontor::inference;
using test::Watch;
using test::WatchedDevice;

namespace {

/// A model with experts and latent attention, small in every respect.
class Small {
 public:
  explicit Small(std::uint32_t context = 4096) : bytes_(bytes(context)) {
    auto file = WeightFile::parse(bytes_.span(), "small");
    if (!file) FAIL(file.error().message);
    file_ = std::make_unique<WeightFile>(std::move(*file));
  }
  const WeightFile& file() const { return *file_; }

  /// `memory` of 0: as much as there is.
  Result<std::unique_ptr<Backend>> open(Watch& watch, std::uint64_t memory = 0, bool deterministic = false) const {
    auto device = memory > 0 ? test::make_device(memory) : test::make_device();
    if (!device) return fail(Errc::unsupported, "no device", "no_device");
    BackendOptions options;
    options.deterministic = deterministic;
    return cuda::CudaDecoder::create(*file_, options, std::make_unique<WatchedDevice>(std::move(device), watch));
  }

 private:
  static std::string bytes(std::uint32_t context) {
    test::LatentModel model;
    model.heads = 2;
    model.rank = model.rotary = model.plain = model.value = 32;
    model.context = context;
    model.type = TensorType::q8_0;
    return test::SmallModel(model).bytes();
  }
  test::AlignedBytes bytes_;
  std::unique_ptr<WeightFile> file_;
};

std::vector<TokenId> tokens(int n, int seed) {
  std::vector<TokenId> ids;
  for (int i = 0; i < n; ++i) ids.push_back((i * 31 + seed * 17) % 96);
  return ids;
}

Result<std::vector<float>> append(Backend& backend, Sequence& sequence, const std::vector<TokenId>& ids) {
  std::vector<float> logits(static_cast<std::size_t>(backend.config().vocabulary));
  const Extension extension{&sequence, ids, Output::last_logits, logits.data()};
  if (const auto done = backend.forward(std::span(&extension, 1)); !done) return done.error();
  return logits;
}

bool absent(const char* corpus) {
  if (test::make_device()) return false;
  test::count_cases(corpus, 0, 0, 1);
  return true;
}

const cuda::MemoryPlan& plan_of(const Backend& backend) { return static_cast<const cuda::CudaDecoder&>(backend).plan(); }

}  // namespace

TEST_CASE("the plan holds: what it asks for is enough, and less is refused before anything is loaded", "[memory]") {
  if (absent("gpu plan")) return;
  const Small small;
  for (const bool deterministic : {false, true}) {
    Watch watch;
    const auto roomy = small.open(watch, 0, deterministic);
    REQUIRE(roomy.has_value());
    const cuda::MemoryPlan plan = plan_of(**roomy);
    const std::uint64_t pages = static_cast<std::uint64_t>(plan.pages) * plan.page_bytes;
    constexpr std::uint64_t kTables = 64 << 10;  // Page numbers and frequencies.
    CHECK(watch.bytes <= plan.weight_bytes + plan.workspace_bytes + pages + kTables);
    CHECK(watch.bytes + plan.workspace_bytes >= plan.weight_bytes + pages);  // Nor is it asked for much that nobody uses.

    // 2,048 tokens at least; a twentieth is left free.
    const std::uint64_t least = plan.weight_bytes + plan.workspace_bytes + 2048 / 64 * plan.page_bytes;
    if (test::make_device(1 << 20)->free_bytes() > 1 << 20) return test::count_cases("gpu plan", 1, 0, 1);  // A real device cannot be made smaller.
    Watch enough, less;
    const auto loaded = small.open(enough, (least + 18) / 19 * 20 + 20, deterministic);
    REQUIRE(loaded.has_value());
    const auto sequence = (*loaded)->create_sequence();
    CHECK(append(**loaded, *sequence, tokens(100, 1)).has_value());
    const auto refused = small.open(less, least / 19 * 20 - 20, deterministic);
    REQUIRE(!refused);
    CHECK(refused.error().code == Errc::memory);
    CHECK(refused.error().kind == "out_of_memory");
    for (const char* words : {"free", "needs", "weights", "workspace", "KV cache", "MiB", "--device cpu"}) {
      INFO(refused.error().message);
      CHECK(refused.error().message.find(words) != std::string::npos);
    }
    CHECK(less.allocations == 0);
    CHECK(less.copies == 0);
  }
  test::count_cases("gpu plan", 2, 0);
}

TEST_CASE("memory that ends while loading is a typed error, whichever allocation it is", "[memory]") {
  if (absent("gpu load failures")) return;
  const Small small;
  Watch all;
  REQUIRE(small.open(all).has_value());
  int passed = 0;
  for (int n = 0; n < all.allocations; ++n) {
    Watch watch;
    watch.fails_at = n;
    const auto opened = small.open(watch);
    const bool good = !opened && opened.error().code == Errc::memory && opened.error().kind == "out_of_memory";
    CHECK(good);
    passed += good;
  }
  CHECK(all.allocations > 30);
  test::count_cases("gpu load failures", passed, all.allocations - passed);
}

TEST_CASE("memory that ends in a prefill ends that run alone, and the same prefill succeeds later", "[memory]") {
  if (absent("gpu prefill failures")) return;
  const Small small;
  const auto prompt = tokens(90, 1), beside = tokens(9, 2);
  Watch calm;
  auto undisturbed = small.open(calm);
  REQUIRE(undisturbed.has_value());
  const int loaded = calm.allocations;
  const auto whole = (*undisturbed)->create_sequence(), other = (*undisturbed)->create_sequence();
  const auto expected_beside = append(**undisturbed, *other, beside);
  const auto expected = append(**undisturbed, *whole, prompt), expected_next = append(**undisturbed, *other, {5});
  REQUIRE((expected && expected_beside && expected_next));
  const int grown = calm.allocations - loaded;
  REQUIRE(grown >= 5);
  int passed = 0;
  for (int n = 0; n < grown; ++n) {
    Watch watch;
    auto backend = small.open(watch);
    REQUIRE(backend.has_value());
    const auto first = (*backend)->create_sequence(), second = (*backend)->create_sequence();
    CHECK(append(**backend, *second, beside).value() == *expected_beside);
    watch.fails_at = watch.allocations + n;
    const auto failed = append(**backend, *first, prompt);
    REQUIRE(!failed);
    CHECK(failed.error().kind == "out_of_memory");
    CHECK(first->length() == 0);
    const auto next = append(**backend, *second, {5});
    REQUIRE(next.has_value());
    CHECK(*next == *expected_next);
    const auto again = append(**backend, *first, prompt);
    REQUIRE(again.has_value());
    CHECK(*again == *expected);
    ++passed;
  }
  test::count_cases("gpu prefill failures", passed, grown - passed);
}

TEST_CASE("where all pages are in use, runs that hold theirs go on", "[memory]") {
  if (absent("gpu pages in use")) return;
  const Small small(64);  // Sixteen timelines of one page.
  Watch watch;
  auto backend = small.open(watch);
  REQUIRE(backend.has_value());
  const auto count = static_cast<std::size_t>(plan_of(**backend).pages);
  REQUIRE(count == 16);
  std::vector<std::unique_ptr<Sequence>> sequences;
  for (std::size_t i = 0; i < count; ++i) {
    sequences.push_back((*backend)->create_sequence());
    REQUIRE(append(**backend, *sequences.back(), tokens(3, static_cast<int>(i))).has_value());
  }
  const int allocations = watch.allocations;
  const auto late = (*backend)->create_sequence();
  const auto refused = append(**backend, *late, {1});
  REQUIRE(!refused);
  CHECK(refused.error().kind == "out_of_memory");
  CHECK(refused.error().message.find("16 KV pages") != std::string::npos);
  CHECK(late->length() == 0);
  for (const auto& sequence : sequences) CHECK(append(**backend, *sequence, {7}).has_value());
  sequences.pop_back();
  CHECK(append(**backend, *late, {1}).has_value());
  CHECK(watch.allocations == allocations);  // Decoding allocates nothing.
  const auto full = append(**backend, *sequences.front(), tokens(61, 1));
  REQUIRE(!full);
  CHECK(full.error().kind == "context_full");
  test::count_cases("gpu pages in use", 1, 0);
}
