// Runs the corpus of hostile model files against what the file layer and the vocabulary decide. What belongs to the
// model loader (hyperparameters, shapes, templates) is checked through the binary elsewhere.

#include "base/json.hpp"
#include "inference/tokenizer.hpp"
#include "inference/weight_file.hpp"
#include "tests/support/archive.hpp"
#include "tests/support/catch.hpp"

#include <nlohmann/json.hpp>
#include <sys/resource.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <iterator>

using namespace kontor;
using namespace kontor::inference;

namespace {

std::string read_all(const std::filesystem::path& path) {
  std::ifstream in(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), std::istreambuf_iterator<char>()};
}

long peak_kib() {
  rusage usage{};
  ::getrusage(RUSAGE_SELF, &usage);
  return usage.ru_maxrss;
}

/// "" when the outcome (an error kind, or "" for accepted) is one the case allows.
std::string judge(const std::string& expected, const std::vector<std::string>& kinds, const std::string& outcome) {
  if (outcome.empty()) return expected == "reject" ? "accepted, should be refused" : "";
  if (expected == "accept") return "refused with " + outcome + ", should be accepted";
  return std::find(kinds.begin(), kinds.end(), outcome) != kinds.end() ? "" : "refused with unexpected kind " + outcome;
}

}  // namespace

TEST_CASE("hostile model files are accepted or refused as the corpus says") {
  const test::UnpackedArchive archive(test::corpus_path("gguf/public.tar.xz"));
  if (!archive.ok()) return test::count_cases("gguf (no tar or xz)", 0, 0, 1);
  const auto folder = archive.folder() / "public";
  const auto manifest = parse_json(read_all(folder / "manifest.json"));
  REQUIRE(manifest.has_value());
  int passed = 0, failed = 0, skipped = 0, vocabularies = 0;
  for (const Json& item : manifest->at("cases")) {
    if (!item.contains("file")) {  // needs a prepared machine; the ones that do not are in gguf_test.cpp
      ++skipped;
      continue;
    }
    const auto id = item.at("id").get<std::string>();
    const auto kinds = item.at("kinds").get<std::vector<std::string>>();
    const auto started = std::chrono::steady_clock::now();
    const long before = peak_kib();
    const auto file = WeightFile::open((folder / item.at("file").get<std::string>()).string());
    std::string problem = judge(item.at("expect_meta").get<std::string>(), kinds, file ? "" : file.error().kind);
    const std::string category = item.at("category").get<std::string>();
    if (problem.empty() && file && (category == "vocab" || category == "control")) {
      const auto tokenizer = Tokenizer::create(*file);
      problem = judge(item.at("expect_model").get<std::string>(), kinds, tokenizer ? "" : tokenizer.error().kind);
      ++vocabularies;
      if (tokenizer) {
        const std::string text = "a he ll o\xff</think> \xe2\x82\xac";
        std::string joined;
        for (const TokenId token : tokenizer->encode(text, true)) joined += tokenizer->piece(token);
        if (joined.empty()) problem = "an accepted vocabulary encodes nothing";
      }
    }
    const auto ms = std::chrono::duration_cast<std::chrono::milliseconds>(std::chrono::steady_clock::now() - started).count();
    if (problem.empty() && ms > item.at("limits").at("max_ms").get<long>()) problem = "took " + std::to_string(ms) + " ms";
    if (problem.empty() && peak_kib() - before > 1024 * item.at("limits").at("max_extra_mb").get<long>()) problem = "used too much memory";
    (problem.empty() ? passed : failed) += 1;
    if (!problem.empty()) std::printf("gguf %s: %s\n", id.c_str(), problem.c_str());
  }
  test::count_cases("gguf", passed, failed, skipped);
  CHECK(vocabularies > 20);
  REQUIRE(failed == 0);
}
