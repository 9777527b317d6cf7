// Layers split over several devices: the bits of one device, as few devices as hold the model, refused with the numbers of all.

#include "inference/cuda/decoder_cuda.hpp"
#include "tests/gpu/device/device.hpp"
#include "tests/gpu/small_models.hpp"
#include "tests/gpu/watched_device.hpp"
#include "tests/support/catch.hpp"

#include <memory>
#include <string>
#include <vector>

using namespace kontor;
using namespace kontor::inference;

namespace {

constexpr std::uint64_t kMuch = std::uint64_t{1} << 30;

/// Latent attention, one dense layer, the others with experts.
class Model {
 public:
  explicit Model(std::uint32_t layers = 5) : bytes_(bytes(layers)) {
    auto file = WeightFile::parse(bytes_.span(), "mixture");
    if (!file) FAIL(file.error().message);
    file_ = std::make_unique<WeightFile>(std::move(*file));
  }
  const WeightFile& file() const { return *file_; }

 private:
  static std::string bytes(std::uint32_t layers) {
    test::LatentModel model;
    model.heads = 2;
    model.layers = layers;
    model.rank = model.rotary = model.plain = model.value = 32;
    model.experts = 8;
    model.expert_inner = 64;
    model.type = TensorType::q8_0;
    return test::SmallModel(model).bytes();
  }
  test::AlignedBytes bytes_;
  std::unique_ptr<WeightFile> file_;
};

/// Devices with this much memory each, watched.
struct Machine {
  explicit Machine(std::vector<std::uint64_t> sizes, bool every = false, std::uint64_t host = 0) : memory(std::move(sizes)), watches(memory.size()), host_bytes(host) {
    source.count = memory.size();
    source.all = every;
    source.open = [this](std::size_t i) -> Result<std::unique_ptr<cuda::Device>> {
      ++opened;
      return std::unique_ptr<cuda::Device>(
          std::make_unique<test::WatchedDevice>(test::make_device(memory[i], host_bytes, static_cast<int>(i)), watches[i]));
    };
  }
  Result<std::unique_ptr<Backend>> load(const WeightFile& file, const BackendOptions& options = {}) { return cuda::CudaDecoder::create(file, options, source); }

  std::vector<std::uint64_t> memory;
  std::vector<test::Watch> watches;
  std::uint64_t host_bytes;
  cuda::DeviceSource source;
  int opened = 0;
};

const cuda::MemoryPlan& plan_of(const Backend& backend) { return static_cast<const cuda::CudaDecoder&>(backend).plan(); }

std::vector<TokenId> tokens(int n, int seed) {
  std::vector<TokenId> ids;
  for (int i = 0; i < n; ++i) ids.push_back((i * 31 + seed * 17) % 96);
  return ids;
}

std::vector<float> append(Backend& backend, Sequence& sequence, const std::vector<TokenId>& ids, Output output = Output::last_logits) {
  std::vector<float> out(static_cast<std::size_t>(output == Output::all_hidden ? backend.config().width * static_cast<std::int64_t>(ids.size()) : backend.config().vocabulary));
  const Extension extension{&sequence, ids, output, out.data()};
  const auto done = backend.forward(std::span(&extension, 1));
  if (!done) FAIL(done.error().message);
  return out;
}

/// Logits behind a prompt, a few tokens, one, and one more; states of three.
std::vector<float> results(Backend& backend, int prompt = 50) {
  const auto sequence = backend.create_sequence();
  std::vector<float> all;
  for (const int count : {prompt, 5, 1, 1}) {
    const auto logits = append(backend, *sequence, tokens(count, count));
    all.insert(all.end(), logits.begin(), logits.end());
  }
  const auto hidden = append(backend, *sequence, tokens(3, 9), Output::all_hidden);
  all.insert(all.end(), hidden.begin(), hidden.end());
  return all;
}

bool there(std::size_t device) { return test::make_device(1 << 20, 0, static_cast<int>(device)) != nullptr; }

/// For what one GPU alone cannot show.
bool alone(const char* corpus) {
  if (there(1)) return false;
  test::count_cases(corpus, 0, 0, 1);
  return true;
}

bool absent(const char* corpus) {
  const auto device = test::make_device(1 << 20);
  if (device && device->free_bytes() == 1 << 20) return false;
  test::count_cases(corpus, 0, 0, 1);  // A real device cannot be made smaller.
  return true;
}

}  // namespace

TEST_CASE("layers split over devices give the bits of one device", "[split]") {
  if (alone("gpu split")) return;
  int passed = 0, failed = 0;
  const Model model;
  const std::string shared = test::shared_dir();
  for (const char* name : {"", "qmix.q4_k_m", "qwen3.f32", "ds-lite-old.q4_0"}) {
    if (*name && shared.empty()) continue;
    const auto golden = *name ? WeightFile::open(shared + "/golden/models/" + name + ".gguf") : Result<WeightFile>(model.file());
    REQUIRE(golden.has_value());
    for (const bool deterministic : {false, true}) {
      if (deterministic && *name) continue;  // The same kernels as decoding.
      BackendOptions options;
      options.deterministic = deterministic;
      Machine one({kMuch});
      const auto whole = one.load(*golden, options);
      REQUIRE(whole.has_value());
      const auto expected = results(**whole);
      const auto layers = static_cast<std::size_t>((*whole)->config().layers);
      for (std::size_t count = 2; count <= std::min<std::size_t>(3, layers) && there(count - 1); ++count) {
        Machine several(std::vector<std::uint64_t>(count, kMuch), true);
        const auto split = several.load(*golden, options);
        if (!split) FAIL(split.error().message);
        const cuda::MemoryPlan& plan = plan_of(**split);
        REQUIRE(plan.stages.size() == count);
        CHECK(plan.stages.front().first == 0);
        CHECK(plan.stages.back().end == static_cast<std::int64_t>(layers));
        for (std::size_t i = 0; i < count; ++i) {
          CHECK(plan.stages[i].first < plan.stages[i].end);
          if (i > 0) CHECK(plan.stages[i].first == plan.stages[i - 1].end);
        }
        CHECK(plan.page_bytes == plan_of(**whole).page_bytes);
        const bool same = results(**split) == expected;
        CHECK(same);
        same ? ++passed : ++failed;
        // Five passes over one batch each.
        CHECK(several.watches[0].handed_over == 0);
        CHECK(several.watches[1].handed_over == 5);
      }
    }
  }
  test::count_cases("gpu split", passed, failed);
}

TEST_CASE("a prefill in several batches goes from device to device", "[split]") {
  if (alone("gpu split prefill")) return;
  const Model model(2);
  Machine one({kMuch}), two({kMuch, kMuch}, true);
  const auto whole = one.load(model.file()), split = two.load(model.file());
  REQUIRE((whole && split));
  CHECK(results(**split, 520) == results(**whole, 520));
  CHECK(two.watches[1].handed_over == 6);
  test::count_cases("gpu split prefill", 1, 0);
}

TEST_CASE("pages of a split model fork, are copied on write, and move between splits", "[split]") {
  if (alone("gpu split pages")) return;
  const Model model;
  Machine one({kMuch}), three(std::vector<std::uint64_t>(there(2) ? 3 : 2, kMuch), true);
  const auto whole = one.load(model.file()), split = three.load(model.file());
  REQUIRE((whole && split));
  const auto prefix = tokens(70, 1), a = tokens(20, 2), b = tokens(20, 3);
  const auto first = (*split)->create_sequence();
  append(**split, *first, prefix);
  const auto second = first->fork();
  const auto after_a = append(**split, *first, a), after_b = append(**split, *second, b);
  first->truncate(70);
  CHECK(append(**split, *first, a) == after_a);

  const auto copy_to = [](const Sequence& from, Backend& to) {
    std::vector<KvPageRef> pages;
    for (const KvPageRef& page : from.pages()) {
      std::vector<std::byte> content(to.page_bytes());
      page->copy_to(content);
      const auto loaded = to.load_page(content);
      REQUIRE(loaded.has_value());
      pages.push_back(*loaded);
    }
    auto copy = to.create_sequence();
    copy->adopt(pages, from.length());
    return copy;
  };
  const auto here = copy_to(*second, **whole), back = copy_to(*here, **split);
  const auto expected = append(**split, *second, {7});
  CHECK(append(**whole, *here, {7}) == expected);
  CHECK(append(**split, *back, {7}) == expected);
  test::count_cases("gpu split pages", 3, 0);
}

TEST_CASE("as few devices are opened as hold the model, and the host's memory comes last", "[split]") {
  if (absent("gpu split plan")) return;
  const Model model;
  Machine roomy({kMuch, kMuch, kMuch}, false, kMuch);
  const auto whole = roomy.load(model.file());
  REQUIRE(whole.has_value());
  CHECK(roomy.opened == 1);
  CHECK((*whole)->device() == "cuda:emulated");
  const auto expected = results(**whole);
  const cuda::MemoryPlan all = plan_of(**whole);
  const std::uint64_t least = 2048 / 64 * all.page_bytes, work = all.workspace_bytes;
  const auto memory_for = [](std::uint64_t bytes) { return bytes / 19 * 20 + 40; };
  // Each holds the workspace and a little more than half of the rest.
  const std::uint64_t half = memory_for(work + (all.weight_bytes + least) * 5 / 8);
  {
    Machine two({half, half, half}, false, kMuch);
    const auto split = two.load(model.file());
    REQUIRE(split.has_value());
    CHECK(two.opened == 2);
    CHECK(plan_of(**split).host_bytes == 0);
    CHECK((*split)->device() == "cuda:emulated,emulated 1");
    CHECK((*split)->weight_bytes_per_token() == (*whole)->weight_bytes_per_token());
    CHECK(results(**split) == expected);
    for (std::size_t i = 0; i < 2; ++i) {
      const cuda::StagePlan& stage = plan_of(**split).stages[i];
      const std::uint64_t pages = static_cast<std::uint64_t>(plan_of(**split).pages) * stage.page_bytes;
      CHECK(two.watches[i].bytes <= stage.weight_bytes + stage.workspace_bytes + pages + (64 << 10));
      CHECK(two.watches[i].bytes + stage.workspace_bytes >= stage.weight_bytes + pages);
      CHECK(stage.weight_bytes + stage.workspace_bytes + pages <= half);
    }
  }
  {
    // Unlike devices: the small one has fewer layers.
    Machine unlike({half, kMuch}, true);
    const auto split = unlike.load(model.file());
    REQUIRE(split.has_value());
    const auto& stages = plan_of(**split).stages;
    CHECK(stages[0].end - stages[0].first < stages[1].end - stages[1].first);
    CHECK(results(**split) == expected);
  }
  // Two devices that hold what every token reads, but not all experts.
  const std::uint64_t little = memory_for(work + (all.weight_bytes + least) * 2 / 5);
  {
    Machine lent({little, little}, false, kMuch);
    const auto split = lent.load(model.file());
    REQUIRE(split.has_value());
    CHECK(lent.opened == 2);
    CHECK(plan_of(**split).host_bytes > 0);
    CHECK(lent.watches[0].host_bytes + lent.watches[1].host_bytes == plan_of(**split).host_bytes);
    CHECK(results(**split) == expected);
  }
  {
    Machine none({little, little});
    const auto refused = none.load(model.file());
    REQUIRE(!refused);
    CHECK(refused.error().kind == "out_of_memory");
    for (const char* words : {"cuda:emulated has", "cuda:emulated 1 has", "free", "weights", "workspace", "KV cache", "experts", "MiB", "--device cpu"}) {
      INFO(refused.error().message);
      CHECK(refused.error().message.find(words) != std::string::npos);
    }
    for (const test::Watch& watch : none.watches) CHECK(watch.allocations + watch.copies == 0);
  }
  {
    Machine many(std::vector<std::uint64_t>(6, kMuch), true);
    const auto refused = many.load(model.file());
    REQUIRE(!refused);
    CHECK(refused.error().kind == "bad_device");
    CHECK(refused.error().message.find("6 devices are more than the 5 layers") != std::string::npos);
  }
  test::count_cases("gpu split plan", 6, 0);
}

TEST_CASE("memory that ends while a split model is loaded is a typed error, on whichever device", "[split]") {
  if (absent("gpu split failures")) return;
  const Model model;
  Machine calm({kMuch, kMuch}, true);
  REQUIRE(calm.load(model.file()).has_value());
  int passed = 0;
  for (std::size_t device = 0; device < 2; ++device)
    for (int n = 0; n < calm.watches[device].allocations; n += 7) {
      Machine two({kMuch, kMuch}, true);
      two.watches[device].fails_at = n;
      const auto opened = two.load(model.file());
      const bool good = !opened && opened.error().kind == "out_of_memory";
      CHECK(good);
      passed += good;
    }
  CHECK(passed > 10);
  test::count_cases("gpu split failures", passed, 0);
}
