#include "agent/cli/memory_bench.hpp"

#include "agent/cli/command.hpp"
#include "agent/cli/terminal.hpp"
#include "base/json.hpp"
#include "memory/search.hpp"
#include "memory/store.hpp"

#include <nlohmann/json.hpp>

#include <stdlib.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <filesystem>
#include <random>
#include <string>
#include <vector>

namespace kontor::agent::cli {
namespace {

constexpr const char* kSpace = "bench";
constexpr std::size_t kVocabulary = 20'000, kWordsOfFact = 12, kWordsOfQuery = 4;

/// A folder that is gone afterwards.
struct Folder {
  std::string path = (std::filesystem::temp_directory_path() / "kontor-memory-bench-XXXXXX").string();
  bool made = ::mkdtemp(path.data()) != nullptr;
  ~Folder() {
    std::error_code ignored;
    if (made) std::filesystem::remove_all(path, ignored);
  }
};

/// Each word is a direction of its own: texts that share words are near each other, as with a model.
class WordVectors final : public memory::Embedder {
 public:
  explicit WordVectors(std::size_t width) : width_(width) {}
  std::string name() const override { return "words " + std::to_string(width_); }
  std::size_t width() const override { return width_; }
  Result<std::vector<float>> embed(std::string_view text) override {
    std::vector<float> vector(width_, 1e-6f);
    for (std::size_t at = 0; at < text.size();) {
      const auto blank = std::min(text.find(' ', at), text.size());
      std::minstd_rand random(static_cast<unsigned>(std::hash<std::string_view>()(text.substr(at, blank - at))) | 1u);
      for (float& x : vector) x += static_cast<float>(random()) / static_cast<float>(std::minstd_rand::max()) - 0.5f;
      at = blank + 1;
    }
    return vector;
  }

 private:
  std::size_t width_;
};

/// Sentences in which some words are much more frequent than others; the same on every machine.
class Texts {
 public:
  std::string next(std::size_t words) {
    std::string text;
    for (std::size_t i = 0; i < words; ++i) {
      const double place = static_cast<double>(random_()) / 18446744073709551616.0;
      text += (i ? " w" : "w") + std::to_string(static_cast<std::size_t>(place * place * place * static_cast<double>(kVocabulary)));
    }
    return text;
  }

 private:
  std::mt19937_64 random_{7};
};

double milliseconds(std::chrono::steady_clock::time_point from) { return std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - from).count(); }

Json spread(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return Json{{"median", values[values.size() / 2]}, {"min", values.front()}, {"max", values.back()}};
}

struct Bench {
  const MemoryBenchOptions& options;
  memory::Embedder& embedder;
  memory::Store& store;
  Json rows = Json::array();

  Json& row(const char* test) {
    rows.push_back(Json{{"test", test}, {"facts", options.facts}, {"width", embedder.width()}});
    return rows.back();
  }

  Result<void> add(Texts& texts) {
    const auto begin = std::chrono::steady_clock::now();
    std::vector<double> times;
    for (std::size_t i = 0; i < options.facts; ++i) {
      memory::Record record;
      record.space = kSpace;
      record.text = texts.next(kWordsOfFact) + " " + std::to_string(i);
      const auto one = std::chrono::steady_clock::now();
      if (auto id = store.add(record, &embedder); !id) return id.error();
      times.push_back(milliseconds(one));
    }
    const double all = milliseconds(begin);
    Json& result = row("add");
    result["milliseconds"] = spread(std::move(times));
    result["per_second"] = static_cast<double>(options.facts) * 1000 / all;
    return {};
  }

  /// `ask`: what a search looks for.
  Result<void> search(const char* test, const std::vector<std::string>& queries, memory::Embedder* with) {
    std::vector<double> times;
    for (std::size_t i = 0; i <= queries.size(); ++i) {  // The first reads what later ones find in memory.
      const auto begin = std::chrono::steady_clock::now();
      const auto hits = store.search(kSpace, queries[i % queries.size()], options.limit, with);
      if (!hits) return hits.error();
      if (i > 0) times.push_back(milliseconds(begin));
    }
    Json& result = row(test);
    result["queries"] = queries.size();
    result["limit"] = options.limit;
    result["milliseconds"] = spread(std::move(times));
    return {};
  }

  Result<void> embed(const std::vector<std::string>& queries) {
    std::vector<double> times;
    for (const auto& query : queries) {
      const auto begin = std::chrono::steady_clock::now();
      if (auto vector = embedder.embed_query(query); !vector) return vector.error();
      times.push_back(milliseconds(begin));
    }
    Json& result = row("embed");
    result["queries"] = queries.size();
    result["milliseconds"] = spread(std::move(times));
    return {};
  }
};

}  // namespace

int bench_memory(const MemoryBenchOptions& options, memory::Embedder* given) {
  const Folder folder;
  if (!folder.made) {
    print_error("no folder can be made in " + std::filesystem::temp_directory_path().string());
    return kFailed;
  }
  auto store = memory::Store::open(folder.path + "/memory.db");
  if (!store) {
    print_error(store.error().describe());
    return kFailed;
  }
  WordVectors words(options.width);
  Bench bench{options, given ? *given : words, **store};
  Texts texts;
  Result<void> done = bench.add(texts);
  std::vector<std::string> queries;
  for (std::size_t i = 0; i < options.queries; ++i) queries.push_back(texts.next(kWordsOfQuery));
  if (done) done = bench.search("full_text", queries, nullptr);
  if (done) done = bench.embed(queries);
  if (done) done = bench.search("hybrid", queries, &bench.embedder);
  if (!done) {
    print_error(done.error().describe());
    return kFailed;
  }
  if (options.json) {
    print_json(Json{{"embedder", bench.embedder.name()}, {"rows", std::move(bench.rows)}}.dump(-1, ' ', false, Json::error_handler_t::replace));
    return kDone;
  }
  std::vector<std::vector<std::string>> table = {{"TEST", "FACTS", "MEDIAN", "MIN", "MAX"}};
  const auto shown = [](const Json& value) {
    char text[32];
    std::snprintf(text, sizeof text, "%.3f ms", value.get<double>());
    return std::string(text);
  };
  for (const auto& row : bench.rows) {
    const Json& times = row.at("milliseconds");
    table.push_back({row.at("test").get<std::string>(), std::to_string(options.facts), shown(times.at("median")), shown(times.at("min")), shown(times.at("max"))});
  }
  std::fputs(text_table(table, 60).c_str(), stdout);
  return kDone;
}

}  // namespace kontor::agent::cli
