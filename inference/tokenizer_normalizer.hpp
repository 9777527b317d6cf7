#pragma once
// Text normalisation before words are cut: the normalizers of tokenizer.json, and the character map that SentencePiece
// models carry.

#include "base/error.hpp"
#include "base/json.hpp"
#include "inference/tokenizer_regex.hpp"

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace kontor::inference {

/// SentencePiece's precompiled character map: a double-array trie (Darts) from texts to their replacements. Of several
/// texts that start at a character the longest is replaced.
class CharacterMap {
 public:
  /// Bytes as the model file holds them: length of the trie, trie, replacements. Errors: bad_vocab.
  static Result<CharacterMap> create(std::string_view bytes, const std::string& where);
  /// Appends the normalised text.
  void append(std::string_view text, std::string& out) const;

 private:
  std::vector<std::uint32_t> units_;
  std::string replacements_;  // each ends in a NUL
};

/// The "normalizer" of a tokenizer.json.
class TextNormalizer {
 public:
  /// Errors: bad_vocab, bad_regex, unsupported_regex, unsupported_tokenizer, limit_exceeded.
  static Result<TextNormalizer> create(const Json& json, const std::string& where);
  /// The normalised text.
  std::string apply(std::string_view text) const;
  bool empty() const { return steps_.empty(); }
  /// Nothing but Unicode form C.
  bool only_nfc() const { return steps_.size() == 1 && steps_[0].kind == Kind::nfc; }
  /// What a BERT model's normalizer does, where it is the only one.
  struct Bert {
    bool clean_text = true, ideographs_alone = true, strip_accents = true, lower_case = true;
  };
  std::optional<Bert> only_bert() const { return steps_.size() == 1 && steps_[0].kind == Kind::bert ? std::optional(steps_[0].bert) : std::nullopt; }

 private:
  enum class Kind { nfc, nfd, nfkc, nfkd, lower_case, strip, strip_accents, prepend, replace_text, replace_regex, bert, map };
  struct Step {
    Kind kind = Kind::nfc;
    std::string pattern, content;
    std::shared_ptr<const Regex> regex;
    std::shared_ptr<const CharacterMap> map;
    bool left = true, right = true;
    Bert bert;
  };
  Result<void> add(const Json& json, const std::string& where, int depth);
  static std::string apply(const Step& step, std::string_view text);

  std::vector<Step> steps_;
};

/// Replaces every match of the expression.
std::string replace_matches(const Regex& regex, std::string_view text, std::string_view content);

/// Chinese characters, as BERT sets them apart.
bool is_bert_ideograph(std::uint32_t value);
/// Punctuation as BERT sees it: all of ASCII that is neither letter nor digit nor space counts.
bool is_bert_punctuation(std::uint32_t value);
/// Controls that BERT drops, such as the vertical tab, which other rules take for a space.
bool is_bert_control(std::uint32_t value);

// Members of one JSON object of a tokenizer.json, checked. Errors: bad_vocab, naming the key.

Result<bool> json_flag(const Json& json, std::string_view key, bool fallback, const std::string& where);
Result<std::string> json_text(const Json& json, std::string_view key, const std::string& where);
/// {"Regex": "..."} or {"String": "..."}: a compiled expression, or a literal text.
struct JsonPattern {
  std::shared_ptr<const Regex> regex;  ///< Null for a literal text.
  std::string text;                    ///< The expression or the text.
};
Result<JsonPattern> json_pattern(const Json& json, const std::string& where);
/// "type" of an object.
Result<std::string> json_type(const Json& json, std::string_view what, const std::string& where);

}  // namespace kontor::inference
