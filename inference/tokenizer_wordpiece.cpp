// WordPiece as uncased BERT models use it: text is folded (no accents, lower case), cut at spaces and punctuation, and
// each word is spelled by the longest tokens from the left.

#include "inference/tokenizer_encoder.hpp"
#include "inference/unicode.hpp"

#include <algorithm>
#include <string>

namespace kontor::inference {
namespace {

constexpr std::size_t kMaxWordCharacters = 100;  // longer words are unknown, as in the original

bool is_ideograph(std::uint32_t c) {
  return (c >= 0x4e00 && c <= 0x9fff) || (c >= 0x3400 && c <= 0x4dbf) || (c >= 0x20000 && c <= 0x2a6df) || (c >= 0x2a700 && c <= 0x2b73f) ||
         (c >= 0x2b740 && c <= 0x2b81f) || (c >= 0x2b820 && c <= 0x2ceaf) || (c >= 0xf900 && c <= 0xfaff) || (c >= 0x2f800 && c <= 0x2fa1f);
}

class WordPieceEncoder final : public TextEncoder {
 public:
  WordPieceEncoder(const Vocabulary& vocabulary, TokenId unknown) : vocabulary_(vocabulary), unknown_(unknown) {}

  void encode(std::string_view text, bool, std::vector<TokenId>& out) const override {
    std::string word;
    for (std::size_t at = 0; at < text.size();) {
      const CodePoint point = decode_utf8(text, at);
      at += point.bytes;
      const std::uint8_t kind = character_class(point.value);
      if ((kind & kSpace) != 0) {
        flush(word, out);
        continue;
      }
      if (point.value == 0xfffd || is_control_or_format(point.value)) continue;
      // All of ASCII that is neither letter, digit nor control counts as punctuation.
      const bool alone = (kind & kPunctuation) != 0 || ((kind & kSymbol) != 0 && point.value < 0x80) || is_ideograph(point.value);
      if (alone) flush(word, out);
      append_folded(point.value, word);
      if (alone) flush(word, out);
    }
    flush(word, out);
  }

 private:
  void flush(std::string& word, std::vector<TokenId>& out) const {
    if (word.empty()) return;
    const std::size_t before = out.size();
    if (!spell(" " + word, out)) {
      out.resize(before);
      out.push_back(unknown_);
    }
    word.clear();
  }

  bool spell(const std::string& word, std::vector<TokenId>& out) const {
    std::size_t characters = 0;
    for (std::size_t at = 1; at < word.size(); at += decode_utf8(word, at).bytes) ++characters;
    if (characters > kMaxWordCharacters) return false;
    const std::string_view text = word;
    for (std::size_t at = 0; at < text.size();) {
      std::size_t length = std::min(text.size() - at, vocabulary_.longest());
      TokenId id = -1;
      for (; length > 0; --length)
        if ((id = vocabulary_.find_text(text.substr(at, length))) >= 0) break;
      if (id < 0) return false;
      out.push_back(id);
      at += length;
    }
    return true;
  }

  const Vocabulary& vocabulary_;
  TokenId unknown_;
};

}  // namespace

Result<std::unique_ptr<TextEncoder>> make_word_piece_encoder(const WeightFile& file, const Vocabulary& vocabulary, TokenId unknown) {
  if (unknown < 0) return fail(Errc::malformed, "'tokenizer.ggml.unknown_token_id' is missing", "bad_vocab", file.path());
  return std::unique_ptr<TextEncoder>(std::make_unique<WordPieceEncoder>(vocabulary, unknown));
}

}  // namespace kontor::inference
