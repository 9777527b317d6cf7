#include "inference/json_scanner.hpp"
#include "inference/tokenizer.hpp"
#include "inference/tokenizer_regex.hpp"
#include "inference/tokenizer_words.hpp"
#include "tests/support/catch.hpp"

#include <nlohmann/json.hpp>

#include <chrono>
#include <random>
#include <string>

using namespace kontor;
using namespace kontor::inference;

namespace {

/// A tokenizer.json over a handful of characters.
Json small() {
  return Json::parse(R"({
    "added_tokens": [{"id": 5, "content": "<|end|>", "special": true}, {"id": 6, "content": "<think>", "special": false}],
    "pre_tokenizer": {"type": "WhitespaceSplit"},
    "model": {"type": "BPE", "unk_token": "?", "vocab": {"?": 0, "a": 1, "b": 2, "ab": 3, "abab": 4}, "merges": ["a b", ["ab", "ab"]]}})");
}

Result<Tokenizer> create(const Json& json, const Json& config = {}, const Json& generation = {}) {
  return Tokenizer::from_json(json.dump(), config, generation, "tokenizer.json");
}

std::string kind(const Result<Tokenizer>& result) { return result ? "ok" : result.error().kind; }

std::vector<std::string> cuts(const std::string& pattern, const std::string& text) {
  const auto regex = Regex::compile(pattern);
  REQUIRE(regex.has_value());
  RegexMatcher matcher(*regex);
  matcher.start(text);
  std::vector<std::string> out;
  for (std::size_t at = 0; at <= text.size();) {
    const auto match = matcher.find(at);
    if (!match) break;
    out.push_back(text.substr(match->start, match->end - match->start));
    at = match->end > match->start ? match->end : match->end + 1;
  }
  return out;
}

using Texts = std::vector<std::string>;

std::string regex_kind(const std::string& pattern) {
  const auto regex = Regex::compile(pattern);
  return regex ? "ok" : regex.error().kind;
}

}  // namespace

TEST_CASE("a tokenizer.json gives ids, pieces and end tokens") {
  const auto tokenizer = create(small(), Json{{"eos_token", {{"content", "<|end|>"}}}, {"bos_token", nullptr}, {"add_eos_token", true}}, Json{{"eos_token_id", Json::array({5, 6})}});
  REQUIRE(tokenizer.has_value());
  CHECK(tokenizer->encode("abab aab <|end|>", true) == std::vector<TokenId>{4, 1, 3, 5});
  CHECK(tokenizer->encode("xab", true) == std::vector<TokenId>{0, 3});
  CHECK(tokenizer->encode_with_ends("ab", true) == std::vector<TokenId>{3, 5});
  CHECK(tokenizer->eos() == 5);
  CHECK(tokenizer->is_end(6));
  CHECK(!tokenizer->bos());
  for (const TokenId id : tokenizer->encode("<|end|><think>", false)) CHECK((!tokenizer->is_control(id) || id == tokenizer->unknown()));
}

TEST_CASE("escapes and both spellings of merges are read") {
  const std::string text = R"({"model":{"type":"BPE","vocab":{"\u0061":0,"\ud83d\ude00":1,"a\ud83d\ude00":2},"merges":["a )" "\xf0\x9f\x98\x80" R"("]}})";
  const auto tokenizer = Tokenizer::from_json(text, {}, {}, "t");
  REQUIRE(tokenizer.has_value());
  CHECK(tokenizer->encode("a\xf0\x9f\x98\x80", false) == std::vector<TokenId>{2});
}

TEST_CASE("word pieces, accents and scores are taken as the tokenizers library takes them") {
  // Ids as version 0.23 of the library gives them.
  const auto ids = [](const Json& json, const std::string& text) {
    const auto tokenizer = create(json);
    REQUIRE(tokenizer.has_value());
    return tokenizer->encode(text, false);
  };
  using Ids = std::vector<TokenId>;
  Json words = Json::parse(R"({"pre_tokenizer": {"type": "WhitespaceSplit"}, "model": {"type": "WordPiece", "unk_token": "[UNK]",
    "vocab": {"[UNK]": 0, "a": 1, "##b": 2, "#": 3, "###": 4, "the": 5}}})");
  CHECK(ids(words, "ab #b") == Ids{1, 2, 3, 2});
  CHECK(ids(words, "#### ##b ##bb ##c") == Ids{4, 4, 2, 2, 2, 0});  // A word may begin with a token's inner form.
  words["normalizer"] = {{"type", "BertNormalizer"}, {"clean_text", true}, {"handle_chinese_chars", true}, {"strip_accents", nullptr}, {"lowercase", true}};
  for (const char* cuts : {"BertPreTokenizer", "WhitespaceSplit"}) {
    words["pre_tokenizer"] = {{"type", cuts}};
    CHECK(ids(words, "a\vthe a\u0085b a\ttHe") == Ids{0, 1, 2, 1, 5});  // A vertical tab is a control, not a space.
    CHECK(ids(words, "a\uE000b a\u200Db a\U000E0FFF") == Ids{1, 2, 1, 2, 0});  // Private use and formats go, unassigned ones stay.
  }
  words["pre_tokenizer"] = {{"type", "Whitespace"}};
  CHECK(ids(words, "a\u24b6 a\u2460 a\u200Db") == Ids{0, 1, 0, 1, 2});  // A circled letter belongs to the word, a circled digit does not.
  Json pieces = Json::parse(R"({"normalizer": {"type": "StripAccents"},
    "model": {"type": "Unigram", "unk_id": 0, "vocab": [["?", 0], ["a", -1.0], ["b", -1.00000001], ["ab", -2.00000002]]}})");
  CHECK(ids(pieces, "a\u09BFb\u0301b\u20DD") == Ids{1, 2, 2});  // Marks of every kind; scores are more than float32 holds.
}

TEST_CASE("a broken tokenizer.json is refused with its reason") {
  const auto broken = [](const std::string& pointer, const Json& value) {
    Json json = small();
    json[Json::json_pointer(pointer)] = value;
    return kind(create(json));
  };
  CHECK(kind(create(small())) == "ok");
  CHECK(broken("/model/type", "WordLevel") == "unsupported_tokenizer");
  CHECK(broken("/model/vocab/abab", 3) == "bad_vocab");
  CHECK(broken("/model/vocab/abab", -1) == "limit_exceeded");
  CHECK(broken("/model/vocab/abab", 1 << 22) == "limit_exceeded");
  CHECK(broken("/model/vocab/abab", 1 << 20) == "bad_vocab");
  CHECK(broken("/model/vocab/abab", 1.5) == "json_syntax");
  CHECK(broken("/model/vocab/abab", 1e300) == "json_syntax");
  CHECK(broken("/model/vocab", Json::array({Json::array({"a", "x"})})) == "json_syntax");
  CHECK(broken("/model/vocab", "no") == "json_syntax");
  CHECK(broken("/model/merges/0", "a c") == "bad_vocab");
  CHECK(broken("/model/merges/0", "ab") == "json_syntax");
  CHECK(broken("/model/merges/0", Json::array({"a"})) == "json_syntax");
  CHECK(broken("/model/unk_token", "<none>") == "bad_vocab");
  CHECK(broken("/model/dropout", 0.1) == "unsupported_tokenizer");
  CHECK(broken("/model/end_of_word_suffix", "</w>") == "unsupported_tokenizer");
  CHECK(broken("/added_tokens/0/id", 1) == "bad_vocab");
  CHECK(broken("/added_tokens/0/id", "1") == "bad_vocab");
  CHECK(broken("/added_tokens/0/content", std::string(600, 'x')) == "limit_exceeded");
  CHECK(broken("/pre_tokenizer/type", "UnicodeScripts") == "unsupported_tokenizer");
  CHECK(broken("/pre_tokenizer", 5) == "bad_vocab");
  CHECK(broken("/pre_tokenizer", Json{{"type", "Split"}, {"pattern", {{"Regex", "(a"}}}, {"behavior", "Isolated"}}) == "bad_regex");
  CHECK(broken("/pre_tokenizer", Json{{"type", "Split"}, {"pattern", {{"Regex", "(?>a)"}}}, {"behavior", "Isolated"}}) == "unsupported_regex");
  CHECK(broken("/pre_tokenizer", Json{{"type", "Split"}, {"pattern", {{"Regex", "((a{200}){200}){200}"}}}, {"behavior", "Isolated"}}) == "limit_exceeded");
  CHECK(broken("/pre_tokenizer", Json{{"type", "Split"}, {"pattern", "a"}, {"behavior", "Sideways"}}) == "bad_vocab");
  CHECK(broken("/normalizer", Json{{"type", "Nmt"}}) == "unsupported_tokenizer");
  CHECK(broken("/normalizer", Json{{"type", "Precompiled"}, {"precompiled_charsmap", "!"}}) == "bad_vocab");
  CHECK(broken("/normalizer", Json{{"type", "Precompiled"}, {"precompiled_charsmap", "/////w=="}}) == "bad_vocab");
  CHECK(broken("/post_processor", Json{{"type", "TemplateProcessing"}, {"single", Json::array({Json{{"SpecialToken", {{"id", "x"}}}}})}}) == "bad_vocab");
  CHECK(broken("/pre_tokenizer", Json{{"type", "ByteLevel"}}) == "bad_vocab");  // no token for most bytes
  Json nested = Json{{"type", "NFC"}};
  for (int i = 0; i < 20; ++i) nested = Json{{"type", "Sequence"}, {"normalizers", Json::array({nested})}};
  CHECK(broken("/normalizer", nested) == "limit_exceeded");
  CHECK(kind(Tokenizer::from_json("", {}, {}, "t")) == "json_syntax");
  CHECK(kind(Tokenizer::from_json("{}", {}, {}, "t")) == "bad_vocab");
  CHECK(kind(Tokenizer::from_json("{\"model\":", {}, {}, "t")) == "json_syntax");
  CHECK(kind(Tokenizer::from_json("{\"x\":\"\xff\"}", {}, {}, "t")) == "bad_utf8");
  CHECK(kind(Tokenizer::from_json("{\"x\":" + std::string(100000, '['), {}, {}, "t")) == "json_syntax");
  const std::string whole = small().dump();
  for (std::size_t n = 0; n < whole.size(); ++n) CHECK(!Tokenizer::from_json(whole.substr(0, n), {}, {}, "t").has_value());
  CHECK(kind(Tokenizer::from_json_file("/nonexistent/tokenizer.json")) == "not_found");
}

TEST_CASE("a syntax error in a tokenizer.json names its line and column") {
  const auto error = Tokenizer::from_json("{\n  \"model\": {\"vocab\": {\"a\": x}}\n}", {}, {}, "t.json").error();
  CHECK(error.where == "t.json:2:28");
}

TEST_CASE("expressions match as Oniguruma matches them") {
  CHECK(cuts("a|ab", "ab") == Texts{"a"});
  CHECK(cuts("a+?", "aaa") == Texts{"a", "a", "a"});
  CHECK(cuts("(?:ab){2,3}", "abababab") == Texts{"ababab"});
  CHECK(cuts("[^a-c\\d]+", "xaz1y") == Texts{"x", "z", "y"});
  CHECK(cuts("[\\p{L}&&[^\\p{Lu}b]]+", "aBbcD") == Texts{"a", "c"});
  CHECK(cuts("(?i)s|ss", "S\xc5\xbf") == Texts{"S", "\xc5\xbf"});
  CHECK(cuts("(?i:k)k", "KkKK") == Texts{"Kk"});
  CHECK(cuts("\\s+(?!\\S)|\\s+", "a   b  ") == Texts{"  ", " ", "  "});
  CHECK(cuts("a(?=.*c)", "abac\nac") == Texts{"a", "a", "a"});
  CHECK(cuts("(?<!a)b", "abb") == Texts{"b"});
  CHECK(cuts("x{,2}y", "xxxy") == Texts{"xxy"});
  CHECK(cuts("\\w+", "a\u24b6\u00b2\U0001f170-b\u00bc\u2460") == Texts{"a\u24b6\u00b2\U0001f170", "b\u00bc"});  // Enclosed letters, numbers of Latin-1.
  CHECK(cuts("\\b\\w", "\u24b6\u00b2 a") == Texts{"\u24b6", "a"});
  CHECK(cuts("x{a}", "x{a}") == Texts{"x{a}"});
  CHECK(cuts("^a$", "a\na") == Texts{"a", "a"});
  CHECK(cuts("\\Aa|a\\z", "aaa") == Texts{"a", "a"});
  CHECK(cuts("a++b|a", "aac") == Texts{"a", "a"});
  CHECK(cuts("[\\]\\-x]", "]-xy") == Texts{"]", "-", "x"});
  CHECK(cuts("\\p{Han}+|\\P{Han}", "a\xe4\xb8\xad\xe6\x96\x87") == Texts{"a", "\xe4\xb8\xad\xe6\x96\x87"});
  for (const char* bad : {"(", ")", "[a", "a**b)", "*a", "a{3,2}", "[b-a]", "\\", "\\p{", "(?i", "\\x{110000}"}) CHECK(regex_kind(bad) == "bad_regex");
  for (const char* bad : {"(?>a)", "(?<n>a)", "\\1", "(?<=ab)c", "(?:ab)++", "[[:alpha:]]", "\\p{Klingon}", "(?x)a"}) CHECK(regex_kind(bad) == "unsupported_regex");
  CHECK(regex_kind(std::string(20000, 'a')) == "limit_exceeded");
  CHECK(regex_kind("a{1000}") == "limit_exceeded");
  CHECK(regex_kind(std::string(100, '(') + std::string(100, ')')) == "limit_exceeded");
}

TEST_CASE("expressions that explode in other engines take linear time") {
  const std::string text(1u << 18, 'a');
  const auto started = std::chrono::steady_clock::now();
  for (const char* pattern : {"(a*)*b", "(a|a)*b", "(a|aa)+$b", "(?:a+a+)+b", "(?=.*b)a", "a(?=.*b)", "(?:(?=a*b)a)+c", "a++b", "(?:a?){50}b"}) CHECK(cuts(pattern, text).size() <= 1);
  CHECK(std::chrono::steady_clock::now() - started < std::chrono::seconds(60));
}

TEST_CASE("the scanners written by hand cut as the published expressions do") {
  const std::pair<const char*, WordSplit> expressions[] = {
      {"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1,3}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+", WordSplit::llama3},
      {"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+", WordSplit::qwen2},
      {"'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+", WordSplit::gpt2}};
  const char* atoms[] = {" ", "  ", "\n", "\r", "'s", "'T", "'\xc5\xbf", "abc", "\xc3\xa9", "\xe4\xb8\xad", "1", "23", "!", "?", "\xff", "\xe2\x80", "\t", "\xc2\xa0", "e\xcc\x81", "_", "\xf0\x9f\x98\x80", "\xe2\x80\xa8"};
  std::mt19937 random(1);
  for (const auto& [pattern, split] : expressions)
    for (int i = 0; i < 3000; ++i) {
      std::string text;
      for (auto n = random() % 12; n > 0; --n) text += atoms[random() % std::size(atoms)];
      Texts expected;
      std::size_t start = 0;
      for (const std::size_t end : word_ends(split, text)) {
        expected.push_back(text.substr(start, end - start));
        start = end;
      }
      REQUIRE(cuts(pattern, text) == expected);
    }
}

TEST_CASE("text without a place to cut takes no more than n log n") {
  Json json = small();
  json["pre_tokenizer"] = nullptr;
  const auto tokenizer = create(json);
  REQUIRE(tokenizer.has_value());
  const auto started = std::chrono::steady_clock::now();
  std::string text;
  std::mt19937 random(1);
  while (text.size() < 1u << 20) text += random() % 2 == 0 ? 'a' : 'b';
  CHECK(tokenizer->encode(text, false).size() > 1000);
  CHECK(tokenizer->encode(std::string(1u << 20, 'a'), false).size() == 1u << 20);
  CHECK(std::chrono::steady_clock::now() - started < std::chrono::seconds(30));
}
