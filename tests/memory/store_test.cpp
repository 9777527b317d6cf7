#include "tests/support/catch.hpp"

#include "memory/search.hpp"
#include "memory/store.hpp"

#include <nlohmann/json.hpp>
#include <sqlite3.h>

#include <cmath>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <thread>
#include <unistd.h>

namespace kontor::memory {
namespace {

struct Folder {
  Folder() {
    static int count = 0;
    path = std::filesystem::temp_directory_path() / ("kontor-memory-" + std::to_string(getpid()) + "-" + std::to_string(count++));
    std::filesystem::create_directories(path);
  }
  ~Folder() { std::filesystem::remove_all(path); }
  std::string file(const std::string& name) const { return (path / name).string(); }
  std::filesystem::path path;
};

/// Words become axes: texts that share words are near each other.
class WordEmbedder final : public Embedder {
 public:
  explicit WordEmbedder(std::string name = "words", std::size_t width = 64) : name_(std::move(name)), width_(width) {}
  std::string name() const override { return name_; }
  std::size_t width() const override { return width_; }
  Result<std::vector<float>> embed(std::string_view text) override {
    std::vector<float> vector(width_, 0.001f);
    std::size_t hash = 7;
    for (const char c : std::string(text) + " ") {
      if (c != ' ') hash = hash * 31 + static_cast<unsigned char>(c);
      else vector[hash % width_] += 1, hash = 7;
    }
    return vector;
  }

 private:
  std::string name_;
  std::size_t width_;
};

std::unique_ptr<Store> opened(const std::string& path) {
  auto store = Store::open(path);
  if (!store) FAIL(store.error().describe());
  return std::move(*store);
}

std::int64_t kept(Store& store, const std::string& space, const std::string& text, Embedder* embedder = nullptr, bool trusted = true) {
  Record record;
  record.space = space;
  record.text = text;
  record.source = "test";
  record.trusted = trusted;
  const auto id = store.add(record, embedder);
  if (!id) FAIL(id.error().describe());
  return *id;
}

std::string bytes_of(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  return std::string((std::istreambuf_iterator<char>(in)), std::istreambuf_iterator<char>());
}

}  // namespace

TEST_CASE("a fact is found again by its words after the store was closed", "[memory]") {
  const Folder folder;
  const auto path = folder.file("sub/memory.db");
  kept(*opened(path), "invoices", "Nordwind pays within 14 days");
  auto store = opened(path);
  const auto hits = store->search("invoices", "when does NORDWIND pay?", 5, nullptr);
  REQUIRE(hits.has_value());
  REQUIRE(hits->size() == 1);
  REQUIRE((*hits)[0].record.text == "Nordwind pays within 14 days");
  REQUIRE((*hits)[0].record.created_ms > 1'600'000'000'000);
  REQUIRE(store->search("other", "Nordwind", 5, nullptr)->empty());
  REQUIRE(store->verify().has_value());
}

TEST_CASE("the same text in a namespace is one fact, and trust is only ever gained", "[memory]") {
  const Folder folder;
  auto store = opened(folder.file("m.db"));
  const auto first = kept(*store, "a", "one fact", nullptr, false);
  REQUIRE(kept(*store, "a", "one fact", nullptr, true) == first);
  REQUIRE((*store->list("a", 10))[0].trusted);
  REQUIRE(kept(*store, "a", "one fact", nullptr, false) == first);
  REQUIRE((*store->list("a", 10))[0].trusted);
  REQUIRE(kept(*store, "b", "one fact") != first);
  REQUIRE(*store->spaces() == std::vector<std::string>{"a", "b"});
}

TEST_CASE("no text of a query is a syntax error", "[memory]") {
  const Folder folder;
  auto store = opened(folder.file("m.db"));
  kept(*store, "s", "don't panic: \"quotes\" AND (parentheses) NEAR* everything -- 'sql';");
  for (const std::string query : {"\"", "AND", "NOT OR NEAR(", "don't", "a*b^c:d", "text: -x", "", "   ", "\"unclosed", "'; DROP TABLE facts; --",
                                  "{}[]()", "\xff\xfe", "x AND y OR \"z", "col:value", "ünïcödé 日本語", "\0x"}) {
    const auto hits = store->search("s", query, 3, nullptr);
    REQUIRE(hits.has_value());
  }
  REQUIRE(store->search("s", std::string(100'000, '"') + " quotes", 3, nullptr)->size() == 1);
  REQUIRE(store->search("s", "PARENTHESES", 3, nullptr)->size() == 1);
  REQUIRE(store->list("s", 10)->size() == 1);
}

TEST_CASE("hybrid search fuses words and vectors, and vectors of embedders are kept apart", "[memory]") {
  const Folder folder;
  auto store = opened(folder.file("m.db"));
  WordEmbedder words;
  kept(*store, "s", "alpha beta gamma", &words);
  kept(*store, "s", "alpha delta", &words);
  const auto plain = kept(*store, "s", "alpha without a vector");
  auto hits = store->search("s", "alpha beta", 10, &words);
  REQUIRE(hits.has_value());
  REQUIRE(hits->size() == 3);
  REQUIRE((*hits)[0].record.text == "alpha beta gamma");
  REQUIRE((*hits)[0].similarity > 0.7);
  REQUIRE((*hits)[0].similarity < 1.0001);
  WordEmbedder other("other", 32);
  hits = store->search("s", "alpha beta", 10, &other);  // No vectors of this name: full text alone.
  REQUIRE(hits.has_value());
  REQUIRE(hits->size() == 3);
  REQUIRE((*hits)[0].similarity == 0);
  REQUIRE(*store->embed_missing("s", words) == 1);
  REQUIRE(*store->embed_missing("s", words) == 0);
  hits = store->search("s", "vector", 10, &words);
  REQUIRE((*hits)[0].record.id == plain);
  // A search after forgetting does not see the removed vector.
  REQUIRE(*store->forget("s", plain) == 1);
  REQUIRE(*store->forget("s", plain) == 0);
  for (const auto& hit : *store->search("s", "vector", 10, &words)) REQUIRE(hit.record.id != plain);
  REQUIRE(store->verify().has_value());
}

TEST_CASE("two connections see each other's facts and vectors", "[memory]") {
  const Folder folder;
  auto first = opened(folder.file("m.db")), second = opened(folder.file("m.db"));
  WordEmbedder words;
  kept(*first, "s", "red apple", &words);
  REQUIRE(second->search("s", "apple", 5, &words)->size() == 1);
  kept(*first, "s", "green apple", &words);
  REQUIRE(second->search("s", "apple", 5, &words)->size() == 2);
  REQUIRE(*second->forget_all("s") == 2);
  REQUIRE(first->search("s", "apple", 5, &words)->empty());
}

TEST_CASE("many threads add to one store and nothing is lost", "[memory]") {
  const Folder folder;
  auto store = opened(folder.file("m.db"));
  std::vector<std::thread> threads;
  std::atomic<int> failed{0};
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&, t] {
      for (int i = 0; i < 25; ++i) {
        Record record;
        record.space = "s";
        record.text = "fact " + std::to_string(t) + " " + std::to_string(i);
        if (!store->add(record, nullptr)) ++failed;
      }
    });
  }
  for (auto& thread : threads) thread.join();
  REQUIRE(failed == 0);
  REQUIRE(store->list("s", 1000)->size() == 100);
}

TEST_CASE("files that are not a memory are refused and left as they are", "[memory]") {
  const Folder folder;
  SECTION("text") {
    const auto path = folder.file("notes.txt");
    std::ofstream(path) << std::string(5000, 'x');
    const auto before = bytes_of(path);
    const auto store = Store::open(path);
    REQUIRE(!store);
    REQUIRE(store.error().code == Errc::malformed);
    REQUIRE(store.error().where == path);
    REQUIRE(bytes_of(path) == before);
  }
  SECTION("another database") {
    const auto path = folder.file("other.db");
    sqlite3* database = nullptr;
    sqlite3_open(path.c_str(), &database);
    sqlite3_exec(database, "CREATE TABLE important(x)", nullptr, nullptr, nullptr);
    sqlite3_close(database);
    const auto before = bytes_of(path);
    const auto store = Store::open(path);
    REQUIRE(!store);
    REQUIRE(store.error().kind == "not_a_memory");
    REQUIRE(bytes_of(path) == before);
  }
  SECTION("a later format") {
    const auto path = folder.file("m.db");
    opened(path).reset();
    sqlite3* database = nullptr;
    sqlite3_open(path.c_str(), &database);
    sqlite3_exec(database, "PRAGMA user_version=99", nullptr, nullptr, nullptr);
    sqlite3_close(database);
    const auto store = Store::open(path);
    REQUIRE(!store);
    REQUIRE(store.error().code == Errc::unsupported);
  }
}

TEST_CASE("a secret fact stays secret, and files of before that label are taken over", "[memory]") {
  const Folder folder;
  const auto path = folder.file("m.db");
  Record record;
  record.space = "a", record.text = "the balance is 100", record.source = "test", record.secret = true;
  {
    auto store = opened(path);
    REQUIRE(store->add(record, nullptr));
    kept(*store, "a", record.text);
    kept(*store, "a", "the balance is open");
    REQUIRE(store->list("a", 10)->at(0).secret == false);
    const auto hits = store->search("a", "100", 5, nullptr);
    REQUIRE(hits.has_value());
    REQUIRE(hits->size() == 1);
    REQUIRE(hits->at(0).record.secret);
  }
  sqlite3* database = nullptr;
  sqlite3_open(path.c_str(), &database);
  REQUIRE(sqlite3_exec(database, "ALTER TABLE facts DROP COLUMN secret; PRAGMA user_version=1", nullptr, nullptr, nullptr) == SQLITE_OK);
  sqlite3_close(database);
  auto store = opened(path);
  REQUIRE(store->verify());
  REQUIRE(store->list("a", 10)->size() == 2);
  REQUIRE(store->list("a", 10)->at(1).secret == false);
  REQUIRE(store->add(record, nullptr));
  REQUIRE(store->list("a", 10)->at(1).secret);
}

TEST_CASE("damage anywhere in the file is an error or harmless, never a crash", "[memory]") {
  const Folder folder;
  const auto path = folder.file("m.db");
  {
    auto store = opened(path);
    WordEmbedder words;
    for (int i = 0; i < 60; ++i) kept(*store, "s", "fact number " + std::to_string(i) + " about apples", &words);
  }
  const std::string whole = bytes_of(path);
  int errors = 0;
  for (std::size_t at = 100; at < whole.size(); at += 1511) {
    std::string broken = whole;
    for (std::size_t i = at; i < std::min(at + 64, broken.size()); ++i) broken[i] = static_cast<char>(broken[i] ^ 0x5a);
    const auto copy = folder.file("copy.db");
    std::filesystem::remove(copy + "-wal");
    std::filesystem::remove(copy + "-shm");
    std::ofstream(copy, std::ios::binary) << broken;
    auto store = Store::open(copy);
    if (!store) {
      ++errors;
      continue;
    }
    WordEmbedder words;
    const bool fine = (*store)->search("s", "apples number", 5, &words).has_value() && (*store)->list("s", 100).has_value() && (*store)->verify().has_value();
    if (!fine) ++errors;
  }
  REQUIRE(errors > 0);
}

TEST_CASE("facts out of bounds are refused", "[memory]") {
  const Folder folder;
  auto store = opened(folder.file("m.db"));
  Record record;
  record.space = "s";
  REQUIRE(store->add(record, nullptr).error().code == Errc::usage);
  record.text = std::string(70'000, 'x');
  REQUIRE(store->add(record, nullptr).error().code == Errc::usage);
  record.text = "bad \xff text";
  REQUIRE(store->add(record, nullptr).error().code == Errc::malformed);
  record.text = "ok";
  record.space = std::string(300, 'n');
  REQUIRE(store->add(record, nullptr).error().code == Errc::usage);
  REQUIRE(!store->search("", "x", 5, nullptr));
}

TEST_CASE("nearest rows are those of a full sort", "[memory][search]") {
  std::vector<float> rows;
  std::uint32_t state = 12345;
  const auto random = [&] {
    state = state * 1664525u + 1013904223u;
    return static_cast<float>(state >> 8) / 16777216.0f - 0.5f;
  };
  constexpr std::size_t kWidth = 37, kCount = 500;
  for (std::size_t i = 0; i < kCount * kWidth; ++i) rows.push_back(random());
  std::vector<float> query;
  for (std::size_t i = 0; i < kWidth; ++i) query.push_back(random());
  const auto best = nearest_rows(rows, query, 20);
  std::vector<std::pair<double, std::size_t>> all;
  for (std::size_t row = 0; row < kCount; ++row) {
    double sum = 0;
    for (std::size_t i = 0; i < kWidth; ++i) sum += static_cast<double>(rows[row * kWidth + i]) * query[i];
    all.emplace_back(-sum, row);
  }
  std::sort(all.begin(), all.end());
  REQUIRE(best.size() == 20);
  for (std::size_t i = 0; i < best.size(); ++i) {
    REQUIRE(best[i].first == all[i].second);
    // Sum of 37 products of at most 0.25 each: 37 * 0.25 * 2^-23 * 37 is the rounding bound.
    REQUIRE(std::fabs(best[i].second + all[i].first) < 37 * 37 * 0.25 / 8388608);
  }
  REQUIRE(nearest_rows({}, query, 5).empty());
}

TEST_CASE("fusion ranks what both rankings like first", "[memory][search]") {
  const auto fused = fuse({{1, 2, 3}, {3, 4}});
  REQUIRE(fused[0].first == 3);
  REQUIRE(fused.size() == 4);
  REQUIRE(std::fabs(fused[0].second - (1.0 / 63 + 1.0 / 61)) < 1e-12);
}

}  // namespace kontor::memory
