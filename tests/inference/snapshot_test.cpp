// Snapshots of KV pages: what was written comes back, and nothing else is ever taken for it.

#include "inference/snapshot.hpp"

#include "inference/engine_pool.hpp"
#include "inference/local_model.hpp"
#include "inference/sampler.hpp"
#include "tests/support/catch.hpp"

#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <sstream>

using namespace kontor;
using namespace kontor::inference;

namespace {

class BytesPage final : public KvPage {
 public:
  explicit BytesPage(std::vector<std::byte> bytes) : bytes(std::move(bytes)) {}
  void copy_to(std::span<std::byte> out) const override { std::copy_n(bytes.begin(), std::min(out.size(), bytes.size()), out.begin()); }
  std::vector<std::byte> bytes;
};

const SnapshotKey kKey{std::string(64, 'a'), "cpu scalar native", 24, 500};

Result<KvPageRef> make_page(std::span<const std::byte> content) {
  return KvPageRef(std::make_shared<BytesPage>(std::vector<std::byte>(content.begin(), content.end())));
}

std::vector<PrefixCache::Entry> entries() {
  std::vector<PrefixCache::Entry> list;
  for (int i = 0; i < 4; ++i) {
    PrefixCache::Entry entry;
    entry.parent = i == 3 ? 0 : i - 1;
    for (int t = 0; t < (i < 2 ? 64 : 10 + i); ++t) entry.tokens.push_back((i * 100 + t) % 500);
    entry.page = *make_page(std::vector<std::byte>(24, static_cast<std::byte>(i + 1)));
    list.push_back(std::move(entry));
  }
  return list;
}

std::string written() {
  std::ostringstream out;
  REQUIRE(write_snapshot(out, kKey, entries()).has_value());
  return out.str();
}

Result<std::vector<PrefixCache::Entry>> read(const std::string& bytes, const SnapshotKey& key = kKey, std::uint64_t most = 1 << 20) {
  std::istringstream in(bytes);
  return read_snapshot(in, bytes.size(), key, most, make_page);
}

struct Folder {
  Folder() : path(std::filesystem::temp_directory_path() / ("kontor-snapshot-" + std::to_string(::getpid()))) { std::filesystem::create_directories(path); }
  ~Folder() { std::filesystem::remove_all(path); }
  std::filesystem::path path;
};

std::vector<TokenId> ids(std::size_t n, int seed) {
  std::vector<TokenId> result;
  for (std::size_t i = 0; i < n; ++i) result.push_back(3 + static_cast<TokenId>(random_uniform(static_cast<std::uint64_t>(seed), i) * 490));
  return result;
}

GenerateRequest request_for(std::vector<TokenId> prompt) {
  GenerateRequest request;
  request.prompt.push_back({"", true, std::move(prompt)});
  request.sampling.temperature = 0.7f;
  request.sampling.seed = 5;
  request.max_tokens = 20;
  return request;
}

std::shared_ptr<Engine> open(const std::string& name, Compute compute = Compute::native, KvType kv = KvType::f16) {
  EngineOptions options;
  options.backend.device = "cpu";
  options.backend.threads = 1;
  options.backend.compute = compute;
  options.backend.kv = kv;
  const auto engine = Engine::open(test::shared_dir() + name, options);
  REQUIRE(engine.has_value());
  return *engine;
}

}  // namespace

TEST_CASE("a snapshot comes back as it was written") {
  const auto expected = entries();
  const auto got = read(written());
  REQUIRE(got.has_value());
  REQUIRE(got->size() == expected.size());
  for (std::size_t i = 0; i < expected.size(); ++i) {
    CHECK((*got)[i].parent == expected[i].parent);
    CHECK((*got)[i].tokens == expected[i].tokens);
    CHECK(static_cast<const BytesPage&>(*(*got)[i].page).bytes == static_cast<const BytesPage&>(*expected[i].page).bytes);
  }
}

TEST_CASE("no shortened, lengthened or altered snapshot is accepted, and none does harm") {
  const std::string good = written();
  for (std::size_t length = 0; length < good.size(); ++length) {
    const auto got = read(good.substr(0, length));
    REQUIRE(!got);
    REQUIRE(got.error().kind != "");
  }
  CHECK(read(good + "x").error().kind == "bad_snapshot");
  for (std::size_t at = 0; at < good.size(); ++at)
    for (const int bit : {0, 3, 7}) {
      std::string bad = good;
      bad[at] = static_cast<char>(bad[at] ^ (1 << bit));
      REQUIRE(!read(bad));
    }
}

TEST_CASE("a snapshot of another model, other arithmetic or too much is refused by name") {
  const std::string good = written();
  SnapshotKey key = kKey;
  key.model_sha256[5] = 'b';
  CHECK(read(good, key).error().kind == "other_model");
  key = kKey;
  key.arithmetic = "cpu avx2 native";
  CHECK(read(good, key).error().kind == "other_arithmetic");
  CHECK(read(good, kKey, 95).error().kind == "snapshot_size");
  CHECK(read(good, kKey, 96).has_value());
}

TEST_CASE("a parked conversation goes on in another process without computing what it knew, token for token") {
  if (test::shared_dir().empty()) return test::count_cases("park", 0, 0, 1);
  const Folder folder;
  const std::string file = folder.path / "state.kv";
  for (const auto& [compute, kv] : {std::pair{Compute::native, KvType::f16}, std::pair{Compute::f32, KvType::f16}, std::pair{Compute::native, KvType::q8_0}}) {
    const char* name = "/golden/models/qmix.q4_k_m.gguf";
    const auto first_prompt = ids(150, 1), other_prompt = ids(90, 2), result = ids(33, 3);
    std::vector<TokenId> next;
    Generation expected;
    {
      LocalModel model(open(name, compute, kv));
      const auto made = model.generate(request_for(first_prompt), nullptr);
      REQUIRE(made.has_value());
      REQUIRE(model.generate(request_for(other_prompt), nullptr).has_value());  // Another item of the same run.
      REQUIRE(model.save_state(file).has_value());
      CHECK((std::filesystem::status(file).permissions() & std::filesystem::perms::all) == (std::filesystem::perms::owner_read | std::filesystem::perms::owner_write));
      next = first_prompt;
      next.insert(next.end(), made->tokens.begin(), made->tokens.end());
      next.insert(next.end(), result.begin(), result.end());
      const auto went_on = model.generate(request_for(next), nullptr);
      REQUIRE(went_on.has_value());
      expected = *went_on;
    }
    LocalModel model(open(name, compute, kv));
    REQUIRE(model.load_state(file).has_value());
    REQUIRE(model.engine()->prefix_cache("")->check_integrity().has_value());
    const auto resumed = model.generate(request_for(next), nullptr);
    REQUIRE(resumed.has_value());
    CHECK(resumed->tokens == expected.tokens);
    CHECK(resumed->usage.prompt_tokens_new == expected.usage.prompt_tokens_new);
    CHECK(resumed->usage.prompt_tokens_new <= 34);
    CHECK(model.generate(request_for(other_prompt), nullptr)->usage.prompt_tokens_new == 1);
    LocalModel other(open("/golden/models/qbase.q8_0.gguf", compute, kv));
    CHECK(!other.load_state(file));
    LocalModel reference(open(name, compute == Compute::f32 ? Compute::native : Compute::f32));
    CHECK(!reference.load_state(file));
    if (compute == Compute::native) {
      LocalModel other_cache(open(name, compute, kv == KvType::f16 ? KvType::q8_0 : KvType::f16));
      CHECK(other_cache.load_state(file).error().kind == "other_arithmetic");
    }
    CHECK(reference.load_state((folder.path / "none.kv").string()).error().code == Errc::not_found);
  }
}

TEST_CASE("a pool gives a second run the engine of the first, and a rewritten file an engine of its own") {
  if (test::shared_dir().empty()) return test::count_cases("pool", 0, 0, 1);
  const Folder folder;
  const auto file = folder.path / "model.gguf";
  std::filesystem::copy_file(test::shared_dir() + "/models/stories260K/stories260K.f16.gguf", file);
  EnginePool pool;
  EngineOptions options;
  options.backend.device = "cpu";
  const auto first = pool.open(file.string(), options), second = pool.open(file.string(), options);
  REQUIRE(first.has_value());
  CHECK(*first == *second);
  options.context = 100;
  CHECK(*pool.open(file.string(), options) != *first);
  options.context = 0;
  std::filesystem::last_write_time(file, std::filesystem::file_time_type::clock::now() + std::chrono::hours(1));
  CHECK(*pool.open(file.string(), options) != *first);
  CHECK(!pool.open((folder.path / "none.gguf").string(), options));
}
