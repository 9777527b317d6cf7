// WordPiece as BERT models use it: text is cleaned and folded as the vocabulary asks for, cut at spaces and
// punctuation, and each word is spelled by the longest tokens from the left.

#include "inference/tokenizer_encoder.hpp"
#include "inference/tokenizer_normalizer.hpp"
#include "inference/unicode.hpp"

#include <algorithm>
#include <string>
#include <utility>

namespace kontor::inference {
namespace {

class WordPieceModel final : public WordModel {
 public:
  WordPieceModel(const Vocabulary& vocabulary, TokenId unknown, std::size_t longest_word, std::string inner_prefix)
      : vocabulary_(vocabulary), unknown_(unknown), longest_word_(longest_word), inner_prefix_(std::move(inner_prefix)) {}

  void encode_word(std::string_view word, std::vector<TokenId>& out) const override {
    if (word.empty()) return;
    const std::size_t before = out.size();
    thread_local std::string spaced;
    spaced.assign(1, ' ');
    spaced += word;
    if (spell(spaced, out)) return;
    out.resize(before);
    out.push_back(unknown_);
  }

 private:
  bool spell(std::string_view text, std::vector<TokenId>& out) const {
    std::size_t characters = 0;
    for (std::size_t at = 1; at < text.size(); at += decode_utf8(text, at).bytes)
      if (++characters > longest_word_) return false;
    for (std::size_t at = 0; at < text.size();) {
      Match match = longest(text.substr(at));
      if (at == 0 && !inner_prefix_.empty() && text.substr(1).starts_with(inner_prefix_)) {
        // A word that is spelled like a token's inner form is begun by that token.
        Match inner = longest(text.substr(1 + inner_prefix_.size()));
        inner.bytes += 1 + inner_prefix_.size();
        if (inner.id >= 0 && inner.bytes > match.bytes) match = inner;
      }
      if (match.id < 0) return false;
      out.push_back(match.id);
      at += match.bytes;
    }
    return true;
  }

  struct Match {
    TokenId id = -1;
    std::size_t bytes = 0;
  };
  /// The longest token that `text` begins with.
  Match longest(std::string_view text) const {
    for (std::size_t bytes = std::min(text.size(), vocabulary_.longest()); bytes > 0; --bytes)
      if (const TokenId id = vocabulary_.find_text(text.substr(0, bytes)); id >= 0) return {id, bytes};
    return {};
  }

  const Vocabulary& vocabulary_;
  TokenId unknown_;
  std::size_t longest_word_;
  std::string inner_prefix_;
};

class WordPieceEncoder final : public TextEncoder {
 public:
  WordPieceEncoder(const Vocabulary& vocabulary, TokenId unknown, const WordPieceOptions& options) : model_(vocabulary, unknown, options.longest_word, options.inner_prefix), options_(options) {}

  void encode(std::string_view text, Place, std::vector<TokenId>& out) const override {
    std::string word;
    const auto flush = [&] {
      model_.encode_word(word, out);
      word.clear();
    };
    for (std::size_t at = 0; at < text.size();) {
      const CodePoint point = decode_utf8(text, at);
      at += point.bytes;
      if (point.value == kBadByte || (options_.clean_text && is_bert_control(point.value))) continue;
      if ((character_class(point.value) & kSpace) != 0) {
        flush();
        continue;
      }
      const bool alone = is_bert_punctuation(point.value) || (options_.ideographs_alone && is_bert_ideograph(point.value));
      if (alone) flush();
      append(point.value, word);
      if (alone) flush();
    }
    flush();
  }

 private:
  void append(std::uint32_t value, std::string& word) const {
    if (options_.strip_accents && options_.lower_case) append_folded(value, word);
    else if (options_.strip_accents) append_without_accents(value, word);
    else if (options_.lower_case) append_lower(value, word);
    else append_utf8(word, value);
  }

  WordPieceModel model_;
  WordPieceOptions options_;
};

Error no_unknown(const std::string& where) { return fail(Errc::malformed, "the vocabulary names no unknown token", "bad_vocab", where); }

}  // namespace

Result<std::unique_ptr<TextEncoder>> make_word_piece_encoder(const Vocabulary& vocabulary, TokenId unknown, const WordPieceOptions& options, const std::string& where) {
  if (unknown < 0) return no_unknown(where);
  return std::unique_ptr<TextEncoder>(std::make_unique<WordPieceEncoder>(vocabulary, unknown, options));
}

Result<std::unique_ptr<WordModel>> make_word_piece_model(const Vocabulary& vocabulary, TokenId unknown, std::size_t longest_word, std::string inner_prefix, const std::string& where) {
  if (unknown < 0) return no_unknown(where);
  return std::unique_ptr<WordModel>(std::make_unique<WordPieceModel>(vocabulary, unknown, longest_word, std::move(inner_prefix)));
}

}  // namespace kontor::inference
