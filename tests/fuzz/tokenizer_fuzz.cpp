// Text from strangers: the words must tile it, it must come back byte for byte, and none of it may become a control
// token. The first byte chooses the pre-tokenizer.

#include "inference/tokenizer.hpp"
#include "inference/tokenizer_words.hpp"
#include "inference/unicode.hpp"
#include "tests/support/gguf_builder.hpp"

#include <array>
#include <cstdlib>
#include <optional>
#include <string>
#include <vector>

using namespace kontor::inference;

namespace {

constexpr std::array<const char*, 6> kPre = {"gpt-2", "default", "llama-bpe", "qwen2", "deepseek-llm", "deepseek-v3"};

Tokenizer make(const std::string& pre) {
  std::vector<std::string> tokens;
  std::vector<std::int32_t> types(256, 1);
  std::uint32_t next = 0x100;
  for (unsigned b = 0; b < 256; ++b) {
    const bool printable = (b >= 0x21 && b <= 0x7e) || (b >= 0xa1 && b <= 0xac) || b >= 0xae;
    append_utf8(tokens.emplace_back(), printable ? b : next++);
  }
  for (const char* text : {"th", "the", "in", "aa", "aaaa"}) {
    tokens.push_back(text);
    types.push_back(1);
  }
  for (const char* text : {"<think>", "</think>", "<|end|>"}) {
    tokens.push_back(text);
    types.push_back(4);
  }
  kontor::test::GgufBuilder b;
  b.string("tokenizer.ggml.model", "gpt2");
  b.string("tokenizer.ggml.pre", pre);
  b.strings("tokenizer.ggml.tokens", tokens);
  b.i32s("tokenizer.ggml.token_type", types);
  b.strings("tokenizer.ggml.merges", {"t h", "th e", "i n", "a a", "aa aa"});
  const kontor::test::AlignedBytes bytes(b.bytes());
  return Tokenizer::create(WeightFile::parse(bytes.span(), "fuzz").value()).value();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static const std::vector<Tokenizer> tokenizers = [] {
    std::vector<Tokenizer> all;
    for (const char* pre : kPre) all.push_back(make(pre));
    return all;
  }();
  if (size == 0) return 0;
  const Tokenizer& tokenizer = tokenizers[data[0] % kPre.size()];
  const std::string_view text(reinterpret_cast<const char*>(data) + 1, size - 1);
  std::size_t before = 0;
  for (const std::size_t end : word_ends(*find_word_split(tokenizer.pre()), text)) {
    if (end <= before || end > text.size()) std::abort();
    before = end;
  }
  if (before != text.size()) std::abort();
  std::string expected;
  if (tokenizer.pre() != "qwen2" || !normalise_nfc(text, expected)) expected = text;
  std::string joined;
  for (const TokenId id : tokenizer.encode(text, false)) {
    if (tokenizer.is_control(id)) std::abort();
    joined += tokenizer.piece(id);
  }
  if (joined != expected) std::abort();
  (void)tokenizer.encode(text, true);
  return 0;
}
