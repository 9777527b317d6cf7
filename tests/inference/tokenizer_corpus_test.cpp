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
#include <optional>
#include <utility>

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

std::string from_base64(const std::string& text) {
  const std::string letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  std::string out;
  unsigned bits = 0;
  int count = 0;
  for (const char c : text) {
    if (c == '=') break;
    bits = (bits << 6 | static_cast<unsigned>(letters.find(c))) & 0xffff;
    if ((count += 6) >= 8) out.push_back(static_cast<char>(bits >> (count -= 8)));
  }
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
std::string gguf_from_json(const nlohmann::json& json, const std::string& model, const std::string& pre) {
  // Not our Json: it keeps the order of members and so looks each of 150,000 keys up one by one.
  std::map<std::int32_t, std::pair<std::string, std::int32_t>> tokens;
  std::map<std::int32_t, float> scores;
  const auto& vocabulary = json.at("model").at("vocab");
  if (vocabulary.is_object()) {
    for (const auto& [token, id] : vocabulary.items()) tokens[id.get<std::int32_t>()] = {token, 1};
  } else {
    for (std::int32_t id = 0; id < static_cast<std::int32_t>(vocabulary.size()); ++id) {
      tokens[id] = {vocabulary.at(static_cast<std::size_t>(id)).at(0).get<std::string>(), 1};
      scores[id] = vocabulary.at(static_cast<std::size_t>(id)).at(1).get<float>();
    }
  }
  std::vector<std::string> names, merges;
  for (const nlohmann::json& merge : json.at("model").value("merges", nlohmann::json::array()))
    merges.push_back(merge.is_string() ? merge.get<std::string>() : merge.at(0).get<std::string>() + " " + merge.at(1).get<std::string>());
  if (model == "llama") {
    // SentencePiece numbers the pieces of its byte pairs in the order of their scores.
    for (auto& [id, token] : tokens) {
      scores[id] = -static_cast<float>(id);
      if (token.first.size() == 6 && token.first.starts_with("<0x")) token.second = 6;
    }
  }
  if (model == "bert")
    for (auto& [id, token] : tokens) token.first = token.first.starts_with("##") && token.first.size() > 2 ? token.first.substr(2) : "\xe2\x96\x81" + token.first;
  for (const nlohmann::json& added : json.at("added_tokens"))
    tokens[added.at("id").get<std::int32_t>()] = {added.at("content").get<std::string>(), added.at("special").get<bool>() ? 3 : 4};
  std::vector<std::int32_t> types;
  std::vector<float> all_scores;
  for (std::int32_t id = 0; id <= tokens.rbegin()->first; ++id) {
    const auto found = tokens.find(id);
    names.push_back(found != tokens.end() ? found->second.first : "[PAD" + std::to_string(id) + "]");
    types.push_back(found != tokens.end() ? found->second.second : 5);
    all_scores.push_back(scores[id]);
  }
  test::GgufBuilder b;
  b.string("tokenizer.ggml.model", model);
  b.string("tokenizer.ggml.pre", pre);
  b.strings("tokenizer.ggml.tokens", names);
  b.i32s("tokenizer.ggml.token_type", types);
  if (!scores.empty()) b.f32s("tokenizer.ggml.scores", all_scores);
  if (model == "gpt2") b.strings("tokenizer.ggml.merges", merges);
  if (model == "bert") b.u32("tokenizer.ggml.unknown_token_id", 1);
  if (model == "t5") {
    b.boolean("tokenizer.ggml.remove_extra_whitespaces", true);
    const std::string map = from_base64(json.at("normalizer").at("precompiled_charsmap").get<std::string>());
    std::vector<std::int32_t> bytes;
    for (const char c : map) bytes.push_back(static_cast<unsigned char>(c));
    b.i32s("tokenizer.ggml.precompiled_charsmap", bytes);
  }
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
  for (const std::string name : {"deepseek-r1-distill-qwen", "deepseek-v3", "llama3.1", "qwen3"}) {
    const std::string folder = shared + "/cases/tokenizer/json/" + name;
    if (shared.empty() || !std::filesystem::exists(folder)) {
      test::count_cases("tokenizer.json of " + name + " (not here)", 0, 0, 266);
      continue;
    }
    const auto tokenizer = Tokenizer::from_json_file(folder);
    REQUIRE(tokenizer.has_value());
    failed += run_vectors(name + " (json)", read_all(archive.folder() / (name + ".jsonl")), *tokenizer);
    if (name != "qwen3") continue;
    const test::AlignedBytes bytes(gguf_from_json(nlohmann::json::parse(read_all(folder + "/tokenizer.json")), "gpt2", "qwen2"));
    failed += run_vectors("qwen3", read_all(archive.folder() / "qwen3.jsonl"), Tokenizer::create(WeightFile::parse(bytes.span(), name).value()).value());
  }
  REQUIRE(failed == 0);
}

TEST_CASE("small tokenizer.json files encode as the tokenizers library does, and so do GGUF files made of them") {
  const test::UnpackedArchive archive(test::corpus_path("tokenizer/json_vectors.tar.xz"));
  if (!archive.ok()) return test::count_cases("tokenizer.json (no tar or xz)", 0, 0, 1);
  // The kinds for which GGUF can say the same.
  const std::map<std::string, std::pair<const char*, const char*>> as_gguf = {
      {"bytes-gpt2", {"gpt2", "gpt-2"}},   {"bytes-llama3", {"gpt2", "llama-bpe"}}, {"bytes-deepseek-llm", {"gpt2", "deepseek-llm"}}, {"unigram-t5", {"t5", "default"}},
      {"bpe-llama2", {"llama", "default"}}, {"wordpiece-uncased", {"bert", "default"}}, {"wordpiece-cased", {"bert", "default"}}};
  std::map<std::string, std::pair<Tokenizer, std::optional<Tokenizer>>> tokenizers;
  int passed = 0, failed = 0;
  const std::string lines = read_all(archive.folder() / "vectors.jsonl");
  for (std::size_t start = 0; start < lines.size();) {
    const std::size_t end = std::min(lines.find('\n', start), lines.size());
    const auto item = nlohmann::json::parse(lines.substr(start, end - start));
    start = end + 1;
    const auto name = item.at("file").get<std::string>(), text = item.at("text").get<std::string>();
    if (tokenizers.count(name) == 0) {
      const std::string path = (archive.folder() / (name + ".json")).string();
      auto made = Tokenizer::from_json_file(path);
      REQUIRE(made.has_value());
      std::optional<Tokenizer> gguf;
      if (const auto found = as_gguf.find(name); found != as_gguf.end()) {
        const test::AlignedBytes bytes(gguf_from_json(nlohmann::json::parse(read_all(path)), found->second.first, found->second.second));
        gguf = Tokenizer::create(WeightFile::parse(bytes.span(), name).value()).value();
      }
      tokenizers.emplace(name, std::pair(*made, gguf));
    }
    const auto& [tokenizer, gguf] = tokenizers.at(name);
    const auto expected = item.at("ids").get<std::vector<TokenId>>();
    const auto ids = tokenizer.encode(text, true);
    std::string problem;
    if (ids != expected) problem = "got " + show(ids) + "expected " + show(expected);
    if (tokenizer.encode_with_ends(text, true) != item.at("ends").get<std::vector<TokenId>>()) problem += " begin or end token is wrong";
    // GGUF has no rules for added tokens.
    const bool rules = text.find("mask") != std::string::npos || text.find("MASK") != std::string::npos || text.find("word") != std::string::npos || text.find("extra_id") != std::string::npos;
    if (gguf && !rules && gguf->encode(text, true) != expected) problem += " GGUF: got " + show(gguf->encode(text, true)) + "expected " + show(expected);
    for (const TokenId id : tokenizer.encode(text, false))
      if (tokenizer.is_control(id) && tokenizer.unknown() != id) problem += " outside text became control token " + std::to_string(id);
    (problem.empty() ? passed : failed) += 1;
    if (!problem.empty()) std::printf("tokenizer %s %s: %s\n", name.c_str(), item.at("text").dump().c_str(), problem.c_str());
  }
  test::count_cases("tokenizer.json vectors", passed, failed);
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
