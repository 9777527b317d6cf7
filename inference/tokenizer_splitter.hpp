#pragma once
// Cuts normalised text into words: the pre-tokenizers of tokenizer.json. Common byte-level cuts have faster scanners of
// their own (tokenizer_words.hpp).

#include "base/error.hpp"
#include "base/json.hpp"
#include "inference/tokenizer_encoder.hpp"
#include "inference/tokenizer_regex.hpp"

#include <memory>
#include <optional>
#include <string>
#include <vector>

namespace kontor::inference {

class TextSplitter {
 public:
  /// Errors: bad_vocab, bad_regex, unsupported_regex, unsupported_tokenizer, limit_exceeded.
  static Result<TextSplitter> create(const Json& json, const std::string& where);

  struct Word {
    std::size_t begin, end;
  };
  /// Cuts `text`, which may get spaces or marks on the way, and appends the words.
  void split(std::string& text, Place place, std::vector<Word>& words) const;

  /// Text becomes bytes in the end: the vocabulary is byte-level.
  bool byte_level() const { return byte_level_; }
  /// The scanner that cuts alike, for byte-level vocabularies that have one.
  std::optional<WordSplit> known_split() const;
  /// BertPreTokenizer and nothing else.
  bool only_bert() const { return steps_.size() == 1 && steps_[0].kind == Kind::bert; }

 private:
  enum class Kind { split, gpt2, prefix_space, digits, metaspace, bert, words, spaces, punctuation, character };
  enum class Behaviour { removed, isolated, with_previous, with_next, contiguous };
  struct Step {
    Kind kind = Kind::split;
    Behaviour behaviour = Behaviour::isolated;
    bool invert = false;
    std::shared_ptr<const Regex> regex;
    std::string text;               // the expression, the literal text, the delimiter or the mark
    bool single = false;            // digits: each alone; metaspace: cut at marks
    enum class Prepend { never, first, always } prepend = Prepend::never;
  };
  struct Piece {
    std::size_t begin, end;
    bool match;
  };
  Result<void> add(const Json& json, const std::string& where, int depth);
  Result<Step> metaspace(const Json& json, const std::string& where) const;
  static void apply(const Step& step, std::string& text, Place place, std::vector<Word>& words);
  static void insert_marks(const Step& step, std::string& text, Place place, std::vector<Word>& words);
  static void join(const std::vector<Piece>& pieces, Behaviour behaviour, std::vector<Word>& words);

  std::vector<Step> steps_;
  bool byte_level_ = false;
};

}  // namespace kontor::inference
