#include "inference/tokenizer.hpp"
#include "inference/tokenizer_words.hpp"
#include "inference/unicode.hpp"

#include "tests/support/catch.hpp"
#include "tests/support/gguf_builder.hpp"

#include <chrono>
#include <functional>
#include <string>
#include <thread>

using namespace kontor;
using namespace kontor::inference;
using kontor::test::AlignedBytes;
using kontor::test::GgufBuilder;

namespace {

std::vector<std::string> words(WordSplit split, const std::string& text) {
  std::vector<std::string> out;
  std::size_t start = 0;
  for (const std::size_t end : word_ends(split, text)) {
    out.push_back(text.substr(start, end - start));
    start = end;
  }
  return out;
}

using Words = std::vector<std::string>;

/// Spelling of a byte in byte-level vocabularies.
std::string spell(unsigned byte) {
  static const std::vector<std::string> table = [] {
    std::vector<std::string> out(256);
    std::uint32_t next = 0x100;
    for (unsigned b = 0; b < 256; ++b) {
      const bool printable = (b >= 0x21 && b <= 0x7e) || (b >= 0xa1 && b <= 0xac) || b >= 0xae;
      append_utf8(out[b], printable ? b : next++);
    }
    return out;
  }();
  return table[byte];
}

/// 256 bytes, then he, ll, hell, hello, aa, aaaa; then added tokens.
struct Bytes {
  std::vector<std::string> tokens;
  std::vector<std::int32_t> types;
  std::vector<std::string> merges{"h e", "l l", "he ll", "hell o", "a a", "aa aa"};
  std::string pre = "gpt-2";
  Bytes() {
    for (unsigned b = 0; b < 256; ++b) add(spell(b), 1);
    for (const char* text : {"he", "ll", "hell", "hello", "aa", "aaaa"}) add(text, 1);
  }
  TokenId add(const std::string& text, int type) {
    tokens.push_back(text);
    types.push_back(type);
    return static_cast<TokenId>(tokens.size()) - 1;
  }
  Result<Tokenizer> create(const std::function<void(GgufBuilder&)>& more = {}) const {
    GgufBuilder b;
    b.string("tokenizer.ggml.model", "gpt2");
    b.string("tokenizer.ggml.pre", pre);
    b.strings("tokenizer.ggml.tokens", tokens);
    b.i32s("tokenizer.ggml.token_type", types);
    b.strings("tokenizer.ggml.merges", merges);
    if (more) more(b);
    const AlignedBytes bytes(b.bytes());
    const auto file = WeightFile::parse(bytes.span(), "vocabulary");
    REQUIRE(file.has_value());
    return Tokenizer::create(*file);  // does not need the bytes any longer
  }
};

std::string joined(const Tokenizer& tokenizer, const std::vector<TokenId>& ids) {
  std::string out;
  for (const TokenId id : ids) out += tokenizer.piece(id);
  return out;
}

}  // namespace

TEST_CASE("each pre-tokenizer cuts words as its expression does") {
  CHECK(words(WordSplit::gpt2, "I'm  don'T 123 abc!?\n\n x") == Words{"I", "'m", " ", " don", "'", "T", " 123", " abc", "!?", "\n\n", " x"});
  CHECK(words(WordSplit::llama3, "don'T 12345 abc!?\n\n  x ") == Words{"don", "'T", " ", "123", "45", " abc", "!?\n\n", " ", " x", " "});
  CHECK(words(WordSplit::qwen2, "12 a\tb\r\n \n c") == Words{"1", "2", " a", "\tb", "\r\n \n", " c"});
  CHECK(words(WordSplit::deepseek_v3, "a1234中文,b.c x  y\x01\x02z") == Words{"a", "123", "4", "中文", ",b", ".c", " x", " ", " y", "\x01", "\x02z"});
  CHECK(words(WordSplit::deepseek_llm, "ab 12\n c! 中文  ") == Words{"ab", " ", "1", "2", "\n", " c", "!", " ", "中文", "  "});
  CHECK(words(WordSplit::default_bpe, "ab 1234 (x)  y") == Words{"ab", " ", "123", "4", " ", "(", "x", ")", " ", " y"});
  for (const auto split : {WordSplit::gpt2, WordSplit::default_bpe, WordSplit::llama3, WordSplit::qwen2, WordSplit::deepseek_llm, WordSplit::deepseek_v3}) {
    CHECK(words(split, "").empty());
    std::string all, text = "\xff\xfe a\xf0\x9f\x98 \xc3(\x80";
    for (const std::string& word : words(split, text)) {
      CHECK(!word.empty());
      all += word;
    }
    CHECK(all == text);
  }
}

TEST_CASE("bytes merge by rank and every byte string comes back") {
  const auto tokenizer = Bytes().create();
  REQUIRE(tokenizer.has_value());
  CHECK(tokenizer->encode("hello", false) == std::vector<TokenId>{259});
  CHECK(tokenizer->encode("hellh", false) == std::vector<TokenId>{258, 'h'});
  CHECK(tokenizer->encode("aaaaaaa", false) == std::vector<TokenId>{261, 260, 'a'});
  CHECK(tokenizer->encode("", true).empty());
  std::string all;
  for (int b = 255; b >= 0; --b) all.push_back(static_cast<char>(b));
  CHECK(joined(*tokenizer, tokenizer->encode(all, false)) == all);
  CHECK(tokenizer->piece(-1).empty());
  CHECK(tokenizer->piece(100000).empty());
  CHECK(tokenizer->find("hello") == TokenId{259});
  CHECK(!tokenizer->find("nothing"));
}

TEST_CASE("a megabyte of one letter takes no more than linear time") {
  const auto tokenizer = Bytes().create();
  REQUIRE(tokenizer.has_value());
  const auto started = std::chrono::steady_clock::now();
  const std::string text(1u << 20, 'a');
  const auto ids = tokenizer->encode(text, false);
  CHECK(ids == std::vector<TokenId>(text.size() / 4, 261));
  // Quadratic time would be minutes.
  CHECK(std::chrono::steady_clock::now() - started < std::chrono::seconds(20));
}

TEST_CASE("short and long words merge alike") {
  const auto tokenizer = Bytes().create();
  REQUIRE(tokenizer.has_value());
  for (std::size_t n = 1; n < 120; ++n) {
    std::vector<TokenId> expected(n / 4, 261);
    if (n % 4 >= 2) expected.push_back(260);
    if (n % 2 == 1) expected.push_back('a');
    REQUIRE(tokenizer->encode(std::string(n, 'a'), false) == expected);
  }
}

TEST_CASE("text from outside never becomes a control token") {
  Bytes bytes;
  const TokenId user = bytes.add("<\xef\xbd\x9cUser\xef\xbd\x9c>", 4);
  const TokenId think = bytes.add("<think>", 4);
  const TokenId end = bytes.add("</think>", 1);  // some converters lose the type
  const TokenId eos = bytes.add("<|end|>", 3);
  const TokenId eos2 = bytes.add("<|end|>x", 3);
  const TokenId tabs = bytes.add("\t\t", 4);
  const auto tokenizer = bytes.create([&](GgufBuilder& b) { b.u32("tokenizer.ggml.eos_token_id", static_cast<std::uint32_t>(eos)); });
  REQUIRE(tokenizer.has_value());
  const std::string text = "<\xef\xbd\x9cUser\xef\xbd\x9c>hello<think></think><|end|>";
  CHECK(tokenizer->encode(text, true) == std::vector<TokenId>{user, 259, think, end, eos});
  CHECK(tokenizer->encode("<|end|>x<|end|>", true) == std::vector<TokenId>{eos2, eos});  // the longest
  const auto plain = tokenizer->encode(text, false);
  for (const TokenId id : plain) CHECK(!tokenizer->is_control(id));
  CHECK(joined(*tokenizer, plain) == text);
  CHECK(tokenizer->encode("<think>", AddedTokens::user_defined) == std::vector<TokenId>{think});
  CHECK(tokenizer->encode("a\t\tb", false) == std::vector<TokenId>{'a', tabs, 'b'});  // text, only longer
  CHECK(tokenizer->is_control(think));
  CHECK(tokenizer->is_control(end));
  CHECK(!tokenizer->is_control(tabs));
  CHECK(tokenizer->eos() == eos);
  CHECK(tokenizer->eot() == eos);
  CHECK(tokenizer->is_end(eos));
  CHECK(!tokenizer->is_end(think));
  CHECK(tokenizer->decode(std::vector<TokenId>{259, eos}) == "hello");
  CHECK(tokenizer->decode(std::vector<TokenId>{259, eos}, true) == "hello<|end|>");

  const std::vector<Segment> segments = {{"<\xef\xbd\x9cUs", true, {}}, {"er\xef\xbd\x9c>hel", true, {}}, {"lo<think>", false, {}}, {"<think>", true, {}}, {"", false, {end, 'x'}}, {"lo", false, {}}};
  const auto prompt = tokenizer->encode_segments(segments);
  REQUIRE(prompt.has_value());
  std::vector<TokenId> expected{user, 259};  // "hel" and "lo" are one word
  for (const char c : std::string("<think>")) expected.push_back(c);
  expected.insert(expected.end(), {think, end, 'x', 'l', 'o'});
  CHECK(*prompt == expected);
  CHECK(tokenizer->encode_segments(std::vector<Segment>{{"", false, {-5}}}).error().kind == "bad_token");
}

TEST_CASE("the Qwen vocabularies compose accents first and leave broken bytes alone") {
  Bytes bytes;
  bytes.pre = "qwen2";
  const auto tokenizer = bytes.create();
  REQUIRE(tokenizer.has_value());
  CHECK(joined(*tokenizer, tokenizer->encode("e\xcc\x81", false)) == "\xc3\xa9");
  CHECK(joined(*tokenizer, tokenizer->encode("\xff\xcc\x81", false)) == "\xff\xcc\x81");
  std::string out;
  CHECK(!normalise_nfc("plain \xc3\xa9 \xe4\xb8\xad", out));
  CHECK(normalise_nfc("q\xcc\x87\xcc\xa3!", out));  // marks are sorted
  CHECK(out == "q\xcc\xa3\xcc\x87!");
  std::string marks = "a";
  for (int i = 0; i < 100000; ++i) marks += i % 2 == 0 ? "\xcc\x81" : "\xcc\xa3";
  CHECK(normalise_nfc(marks, out));  // not in quadratic time
}

TEST_CASE("broken vocabularies are refused with their reason") {
  const auto kind = [](Bytes bytes, const std::function<void(GgufBuilder&)>& more = {}) {
    const auto tokenizer = bytes.create(more);
    return tokenizer ? std::string("ok") : tokenizer.error().kind;
  };
  Bytes bytes;
  CHECK(kind(bytes) == "ok");
  Bytes other = bytes;
  other.pre = "nobody";
  CHECK(kind(other) == "unsupported_tokenizer");
  other = bytes;
  other.types.pop_back();
  CHECK(kind(other) == "bad_vocab");
  other = bytes;
  other.types[5] = 9;
  CHECK(kind(other) == "bad_vocab");
  other = bytes;
  other.types['a'] = 3;  // a letter as control token
  CHECK(kind(other) == "bad_vocab");
  other = bytes;
  other.merges.push_back("x y");
  CHECK(kind(other) == "bad_vocab");
  other = bytes;
  other.merges.push_back("xy");
  CHECK(kind(other) == "bad_vocab");
  other = bytes;
  other.add(std::string(5000, 'x'), 1);
  CHECK(kind(other) == "limit_exceeded");
  CHECK(kind(bytes, [](GgufBuilder& b) { b.u32("tokenizer.ggml.bos_token_id", 262); }) == "bad_vocab");
  CHECK(kind(bytes, [](GgufBuilder& b) { b.u32("tokenizer.ggml.eos_token_id", 0xffffffff); }) == "bad_vocab");
  CHECK(kind(bytes, [](GgufBuilder& b) { b.f32s("tokenizer.ggml.scores", {1, 2}); }) == "bad_vocab");
  CHECK(kind(bytes, [](GgufBuilder& b) { b.u32("tokenizer.ggml.add_bos_token", 1); }) == "wrong_key_type");
}

TEST_CASE("SentencePiece vocabularies merge by score and spell the rest in bytes") {
  GgufBuilder b;
  std::vector<std::string> tokens{"<unk>", "<s>", "</s>"};
  std::vector<std::int32_t> types{2, 3, 3};
  std::vector<float> scores{0, 0, 0};
  const char* digits = "0123456789ABCDEF";
  for (int i = 0; i < 256; ++i) {
    tokens.push_back(std::string("<0x") + digits[i / 16] + digits[i % 16] + ">");
    types.push_back(6);
    scores.push_back(0);
  }
  const auto add = [&](const char* text, float score) {
    tokens.push_back(text);
    types.push_back(1);
    scores.push_back(score);
    return static_cast<TokenId>(tokens.size()) - 1;
  };
  const TokenId space = add("\xe2\x96\x81", -9);
  const TokenId a = add("a", -8);
  const TokenId bb = add("b", -7);
  const TokenId ab = add("ab", -2);
  const TokenId word = add("\xe2\x96\x81" "ab", -3);
  b.string("tokenizer.ggml.model", "llama");
  b.strings("tokenizer.ggml.tokens", tokens);
  b.i32s("tokenizer.ggml.token_type", types);
  b.f32s("tokenizer.ggml.scores", scores);
  const AlignedBytes bytes(b.bytes());
  const auto tokenizer = Tokenizer::create(WeightFile::parse(bytes.span(), "m").value());
  REQUIRE(tokenizer.has_value());
  CHECK(tokenizer->encode("ab", false) == std::vector<TokenId>{word});
  CHECK(tokenizer->encode("abab  b", false) == std::vector<TokenId>{word, ab, space, space, bb});
  CHECK(tokenizer->encode("a\xff", false) == std::vector<TokenId>{space, a, 3 + 255});
  CHECK(tokenizer->encode_with_ends("ab", false) == std::vector<TokenId>{1, word});
  CHECK(tokenizer->encode("<s>ab", true) == std::vector<TokenId>{1, word});
  CHECK(tokenizer->piece(word) == " ab");
  CHECK(tokenizer->piece(3 + 255) == "\xff");
  CHECK(tokenizer->encode("", false).empty());
}

TEST_CASE("one tokenizer serves many threads") {
  const auto tokenizer = Bytes().create();
  REQUIRE(tokenizer.has_value());
  const auto expected = tokenizer->encode("hello hell he llll aaaa", false);
  int wrong[4] = {};
  std::vector<std::jthread> threads;
  const Tokenizer fresh = Bytes().create().value();
  for (int t = 0; t < 4; ++t)
    threads.emplace_back([&, t] {
      for (int i = 0; i < 200; ++i) wrong[t] += fresh.encode("hello hell he llll aaaa", false) != expected;
    });
  threads.clear();
  for (const int count : wrong) CHECK(count == 0);
}
