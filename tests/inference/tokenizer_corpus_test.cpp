// Runs the tokenizer vectors: large vocabularies from the shared folder (third-party, not part of the project), and
// the small ones of the reference models.

#include "base/json.hpp"
#include "inference/tokenizer.hpp"
#include "tests/support/archive.hpp"
#include "tests/support/catch.hpp"
#include "tests/support/gguf_builder.hpp"

#include <nlohmann/json.hpp>

#include <cstdio>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <map>

using namespace kontor;
using namespace kontor::inference;

namespace {

std::string read_all(const std::filesystem::path& path) {
  std::ifstream in(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), std::istreambuf_iterator<char>()};
}

std::string show(const std::vector<TokenId>& ids) {
  std::string out;
  for (std::size_t i = 0; i < ids.size() && i < 24; ++i) out += std::to_string(ids[i]) + " ";
  return out;
}

/// Runs one file of vectors and returns the number of failures.
int run_vectors(const std::string& name, const std::string& lines, const Tokenizer& tokenizer) {
  int passed = 0, failed = 0;
  std::size_t start = 0;
  while (start < lines.size()) {
    const std::size_t end = std::min(lines.find('\n', start), lines.size());
    const std::string line = lines.substr(start, end - start);
    start = end + 1;
    if (line.empty()) continue;
    const auto item = parse_json(line);
    REQUIRE(item.has_value());
    const auto text = item->at("text").get<std::string>();
    const auto expected = item->at("ids").get<std::vector<TokenId>>();
    const auto ids = tokenizer.encode(text, true);
    std::string problem;
    if (ids != expected) problem = "got " + show(ids) + "expected " + show(expected);
    // Text that is neither normalised nor template comes back byte for byte, and no part of it is a control token.
    const auto plain = tokenizer.encode(text, false);
    std::string joined;
    for (const TokenId id : plain) {
      joined += tokenizer.piece(id);
      if (tokenizer.is_control(id)) problem = "outside text became control token " + std::to_string(id);
    }
    const bool qwen = tokenizer.pre() == "qwen2" || tokenizer.pre() == "deepseek-r1-qwen";
    if (joined != text && !qwen) problem = "does not come back";
    (problem.empty() ? passed : failed) += 1;
    if (!problem.empty()) std::printf("tokenizer %s %d: %s\n", name.c_str(), item->at("id").get<int>(), problem.c_str());
  }
  test::count_cases("tokenizer " + name, passed, failed);
  return failed;
}

/// A GGUF vocabulary from a tokenizer.json, as converters make it.
std::string vocabulary_from_json(const std::string& text, const std::string& pre) {
  // Not our Json: it keeps the order of members and so looks each of 150,000 keys up one by one.
  const auto json = nlohmann::json::parse(text);
  std::map<std::int32_t, std::pair<std::string, std::int32_t>> tokens;
  for (const auto& [token, id] : json.at("model").at("vocab").items()) tokens[id.get<std::int32_t>()] = {token, 1};
  for (const nlohmann::json& added : json.at("added_tokens"))
    tokens[added.at("id").get<std::int32_t>()] = {added.at("content").get<std::string>(), added.at("special").get<bool>() ? 3 : 4};
  std::vector<std::string> names, merges;
  std::vector<std::int32_t> types;
  for (std::int32_t id = 0; id <= tokens.rbegin()->first; ++id) {
    const auto found = tokens.find(id);
    names.push_back(found != tokens.end() ? found->second.first : "[PAD" + std::to_string(id) + "]");
    types.push_back(found != tokens.end() ? found->second.second : 5);
  }
  for (const nlohmann::json& merge : json.at("model").at("merges"))
    merges.push_back(merge.is_string() ? merge.get<std::string>() : merge.at(0).get<std::string>() + " " + merge.at(1).get<std::string>());
  test::GgufBuilder b;
  b.string("tokenizer.ggml.model", "gpt2");
  b.string("tokenizer.ggml.pre", pre);
  b.strings("tokenizer.ggml.tokens", names);
  b.i32s("tokenizer.ggml.token_type", types);
  b.strings("tokenizer.ggml.merges", merges);
  return b.bytes();
}

}  // namespace

TEST_CASE("large vocabularies encode as their published tokenizers do") {
  const test::UnpackedArchive archive(test::corpus_path("tokenizer/vectors.tar.xz"));
  if (!archive.ok()) return test::count_cases("tokenizer (no tar or xz)", 0, 0, 1);
  const std::string shared = test::shared_dir();
  int failed = 0;
  for (const std::string name : {"deepseek-r1-distill-qwen", "deepseek-v3", "llama3.1", "qwen2.5"}) {
    const std::string path = shared + "/cases/tokenizer/vocab/ggml-vocab-" + name + ".gguf";
    if (shared.empty() || !std::filesystem::exists(path)) {
      test::count_cases("tokenizer " + name + " (no vocabulary here)", 0, 0, 266);
      continue;
    }
    const auto file = WeightFile::open(path);
    REQUIRE(file.has_value());
    const auto tokenizer = Tokenizer::create(*file);
    REQUIRE(tokenizer.has_value());
    failed += run_vectors(name, read_all(archive.folder() / (name + ".jsonl")), *tokenizer);
  }
  const std::string json = shared + "/cases/tokenizer/json/qwen3/tokenizer.json";
  if (shared.empty() || !std::filesystem::exists(json)) {
    test::count_cases("tokenizer qwen3 (no vocabulary here)", 0, 0, 266);
  } else {
    const test::AlignedBytes bytes(vocabulary_from_json(read_all(json), "qwen2"));
    const auto file = WeightFile::parse(bytes.span(), "qwen3");
    REQUIRE(file.has_value());
    const auto tokenizer = Tokenizer::create(*file);
    REQUIRE(tokenizer.has_value());
    failed += run_vectors("qwen3", read_all(archive.folder() / "qwen3.jsonl"), *tokenizer);
  }
  REQUIRE(failed == 0);
}

TEST_CASE("the reference models' vocabularies encode as the reference vectors say") {
  const test::UnpackedArchive archive(test::corpus_path("tokenizer/vectors.tar.xz"));
  if (!archive.ok()) return test::count_cases("tokenizer (no tar or xz)", 0, 0, 1);
  const auto vectors = parse_json(read_all(archive.folder() / "vectors.json"));
  REQUIRE(vectors.has_value());
  std::map<std::string, Tokenizer> tokenizers;
  int passed = 0, failed = 0;
  for (const Json& item : vectors->at("cases")) {
    const auto model = item.at("model").get<std::string>();
    if (tokenizers.count(model) == 0) {
      const auto file = WeightFile::open((archive.folder() / model).string());
      REQUIRE(file.has_value());
      const auto created = Tokenizer::create(*file);
      REQUIRE(created.has_value());
      tokenizers.emplace(model, *created);
    }
    const Tokenizer& tokenizer = tokenizers.at(model);
    const auto text = item.at("text").get<std::string>();
    // The Qwen tokenizers normalise to NFC, which the vectors give beside the ids without it.
    const auto expected = item.at(item.contains("ids_with_nfc") ? "ids_with_nfc" : "ids").get<std::vector<TokenId>>();
    const bool special = item.at("parse_special").get<bool>();
    REQUIRE(special == item.at("add_special").get<bool>());
    const auto ids = special ? tokenizer.encode_with_ends(text, true) : tokenizer.encode(text, AddedTokens::user_defined);
    bool good = ids == expected;
    for (const TokenId id : tokenizer.encode(text, AddedTokens::text_only)) good = good && (!tokenizer.is_control(id) || tokenizer.unknown() == id);
    (good ? passed : failed) += 1;
    if (!good) std::printf("tokenizer %s \"%s\": got %s expected %s\n", model.c_str(), text.c_str(), show(ids).c_str(), show(expected).c_str());
  }
  test::count_cases("tokenizer reference vectors", passed, failed);
  REQUIRE(failed == 0);
}
