// Experts and whole layers in the host's memory: the same bits, as many on the device as fit, refused with the numbers where both are
// too small.

#include "inference/cuda/decoder_cuda.hpp"
#include "tests/gpu/device/device.hpp"
#include "tests/gpu/small_models.hpp"
#include "tests/support/catch.hpp"

#include <memory>
#include <vector>

using namespace kontor;
using namespace kontor::inference;

namespace {

/// One dense layer, three with experts.
class Mixture {
 public:
  explicit Mixture(bool expert_tensors = false, std::uint32_t context = 4096) : bytes_(bytes(expert_tensors, context)) {
    auto file = WeightFile::parse(bytes_.span(), "mixture");
    if (!file) FAIL(file.error().message);
    file_ = std::make_unique<WeightFile>(std::move(*file));
  }
  Result<std::unique_ptr<Backend>> open(std::uint64_t expert_bytes, std::uint64_t memory, std::uint64_t host) const {
    BackendOptions options;
    options.expert_bytes = expert_bytes;
    return cuda::CudaDecoder::create(*file_, options, test::make_device(memory, host));
  }

 private:
  static std::string bytes(bool expert_tensors, std::uint32_t context) {
    test::LatentModel model;
    model.heads = 2;
    model.context = context;
    model.layers = 4;
    model.rank = model.rotary = model.plain = model.value = 32;
    model.experts = 8;
    model.expert_inner = 64;
    model.type = TensorType::q8_0;
    model.expert_tensors = expert_tensors;
    return test::SmallModel(model).bytes();
  }
  test::AlignedBytes bytes_;
  std::unique_ptr<WeightFile> file_;
};

constexpr std::uint64_t kMuch = std::uint64_t{1} << 30;

const cuda::MemoryPlan& plan_of(const Backend& backend) { return static_cast<const cuda::CudaDecoder&>(backend).plan(); }

/// Logits behind a prompt, a few tokens and one.
std::vector<float> logits_of(Backend& backend) {
  const auto sequence = backend.create_sequence();
  std::vector<float> all;
  for (const int count : {50, 5, 1}) {
    std::vector<TokenId> tokens;
    for (int i = 0; i < count; ++i) tokens.push_back((i * 31 + count) % 96);
    std::vector<float> logits(static_cast<std::size_t>(backend.config().vocabulary));
    const Extension extension{sequence.get(), tokens, Output::last_logits, logits.data()};
    REQUIRE(backend.forward(std::span(&extension, 1)).has_value());
    all.insert(all.end(), logits.begin(), logits.end());
  }
  return all;
}

bool absent(const char* corpus) {
  const auto device = test::make_device(1 << 20, 1 << 20);
  if (device && device->free_bytes() == 1 << 20) return false;
  test::count_cases(corpus, 0, 0, 1);  // A real device cannot be made smaller.
  return true;
}

}  // namespace

TEST_CASE("experts in the host's memory give the bits of experts on the device", "[offload]") {
  if (absent("gpu offload")) return;
  int passed = 0;
  for (const bool tensors : {false, true}) {
    const Mixture mixture(tensors);
    const auto whole = mixture.open(0, kMuch, 0);
    REQUIRE(whole.has_value());
    CHECK(plan_of(**whole).host_bytes == 0);
    CHECK(plan_of(**whole).stages[0].experts_from == 4);
    const std::vector<float> expected = logits_of(**whole);
    // 4,096 weights in eight experts' three matrices, 34 bytes for 32.
    const std::uint64_t layer = 8 * 3 * 4096 / 32 * 34;
    struct Case {
      std::uint64_t limit;
      std::int64_t experts_from;
    };
    for (const Case& c : {Case{1, 1}, {layer + layer / 2, 2}, {2 * layer + layer / 2, 3}, {100 * layer, 4}}) {
      const auto parted = mixture.open(c.limit, kMuch, kMuch);
      REQUIRE(parted.has_value());
      const cuda::MemoryPlan& plan = plan_of(**parted);
      CHECK(plan.stages[0].experts_from == c.experts_from);
      CHECK(plan.host_bytes == static_cast<std::uint64_t>(4 - c.experts_from) * layer);
      CHECK(plan.weight_bytes + plan.host_bytes == plan_of(**whole).weight_bytes);
      CHECK((*parted)->weight_bytes_per_token() == (*whole)->weight_bytes_per_token());
      const bool same = logits_of(**parted) == expected;
      CHECK(same);
      passed += same;
    }
  }
  test::count_cases("gpu offload", passed, 8 - passed);
}

TEST_CASE("without an option as many layers' experts stay on the device as leave room for the cache", "[offload]") {
  if (absent("gpu offload plan")) return;
  const Mixture mixture;
  const auto whole = mixture.open(0, kMuch, 0);
  REQUIRE(whole.has_value());
  const cuda::MemoryPlan all = plan_of(**whole);
  const std::uint64_t layer = 8 * 3 * 4096 / 32 * 34, fixed = all.weight_bytes - 3 * layer + all.workspace_bytes;
  const std::uint64_t least = 2048 / 64 * all.page_bytes;
  const auto memory_for = [](std::uint64_t bytes) { return (bytes + 18) / 19 * 20 + 20; };
  {
    // All of them beside the least cache: nothing goes to the host.
    const auto tight = mixture.open(0, memory_for(fixed + 3 * layer + least), kMuch);
    REQUIRE(tight.has_value());
    CHECK(plan_of(**tight).host_bytes == 0);
  }
  {
    const auto parted = mixture.open(0, memory_for(fixed + 2 * layer + layer / 2 + least), kMuch);
    REQUIRE(parted.has_value());
    CHECK(plan_of(**parted).host_bytes == layer);  // A comfortable cache does not fit at all.
    CHECK(plan_of(**parted).pages >= 32);
  }
  {
    const Mixture brief(false, 128);  // Sixteen timelines of this length are 2,048 positions: nobody wants more.
    const auto parted = brief.open(0, memory_for(fixed + 2 * layer + layer / 2 + least), kMuch);
    REQUIRE(parted.has_value());
    CHECK(plan_of(**parted).stages[0].experts_from == 3);
    CHECK(plan_of(**parted).host_bytes == layer);
    CHECK(plan_of(**parted).pages == 32);
  }
  for (const auto& [memory, host] : {std::pair{memory_for(fixed + 2 * layer + least), layer - 1}, {fixed / 19 * 20, kMuch}}) {
    const auto refused = mixture.open(0, memory, host);
    REQUIRE(!refused);
    CHECK(refused.error().kind == "out_of_memory");
    for (const char* words : {"free", "weights", "workspace", "KV cache", "experts", "host", "MiB", "--device cpu"}) {
      INFO(refused.error().message);
      CHECK(refused.error().message.find(words) != std::string::npos);
    }
  }
  test::count_cases("gpu offload plan", 5, 0);
}

TEST_CASE("layers in the host's memory give the bits of layers on the device, up to half of them", "[offload]") {
  if (absent("gpu layers")) return;
  const std::string shared = test::shared_dir();
  if (shared.empty()) return test::count_cases("gpu layers", 0, 0, 1);
  const auto memory_for = [](std::uint64_t bytes) { return (bytes + 18) / 19 * 20 + 20; };
  int passed = 0, failed = 0;
  for (const char* name : {"qwen2.f32", "ds-v3.q8_0"}) {
    const auto file = WeightFile::open(shared + "/golden/models/" + name + ".gguf");
    if (!file) FAIL(file.error().message);
    const auto whole = cuda::CudaDecoder::create(*file, {}, test::make_device(kMuch, 0));
    REQUIRE(whole.has_value());
    const cuda::MemoryPlan all = plan_of(**whole);
    REQUIRE(all.stages[0].layers_from == (*whole)->config().layers);
    const std::vector<float> expected = logits_of(**whole);
    // From just too little for everything downwards, until the half is reached.
    std::int64_t last = all.stages[0].layers_from;
    bool moved = false, refused = false;
    for (std::uint64_t less = 1; less < all.weight_bytes && !refused; less += all.weight_bytes / 24) {
      const std::uint64_t needed = all.weight_bytes + all.workspace_bytes + 2048 / 64 * all.page_bytes;
      const auto opened = cuda::CudaDecoder::create(*file, {}, test::make_device(memory_for(needed - less) - 40, kMuch));
      if (!opened) {
        refused = true;
        CHECK(opened.error().kind == "out_of_memory");
        CHECK(opened.error().message.find("the host can lend 1024 MiB") != std::string::npos);
        continue;
      }
      const cuda::MemoryPlan plan = plan_of(**opened);
      CHECK(plan.weight_bytes + plan.host_bytes == all.weight_bytes);
      CHECK(plan.stages[0].layers_from <= last);
      if (plan.stages[0].layers_from == last) continue;
      last = plan.stages[0].layers_from;
      moved = true;
      const bool same = logits_of(**opened) == expected;
      CHECK(same);
      same ? ++passed : ++failed;
    }
    CHECK(moved);
    CHECK(refused);
  }
  test::count_cases("gpu layers", passed, failed);
}
