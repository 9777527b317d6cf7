#pragma once
// The ways in which plain text (no added tokens in it) becomes tokens. Encoders are immutable and thread-safe; a
// vocabulary given to one must outlive it.

#include "base/error.hpp"
#include "inference/tokenizer_pairs.hpp"
#include "inference/tokenizer_vocabulary.hpp"
#include "inference/tokenizer_words.hpp"

#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace kontor::inference {

/// Where a stretch of text stands: some vocabularies put a space in front of the first word.
enum class Place { start, behind_added, middle };

class TextEncoder {
 public:
  virtual ~TextEncoder() = default;
  /// Appends the tokens of a stretch of text.
  virtual void encode(std::string_view text, Place place, std::vector<TokenId>& out) const = 0;
};

/// Turns one word into tokens; what remains when text has been normalised and cut.
class WordModel {
 public:
  virtual ~WordModel() = default;
  virtual void encode_word(std::string_view word, std::vector<TokenId>& out) const = 0;
};

/// Remembers where words of one text were encoded before. Texts shorter than a few pages repeat too few words to gain.
class WordCache {
 public:
  /// Words given to `encode` must be parts of `text`.
  WordCache(std::string_view text, std::uint64_t seed);

  template <class Encode>
  void encode(std::string_view word, std::vector<TokenId>& out, const Encode& encode_word) {
    if (slots_.empty()) return encode_word(word, out);
    const std::uint64_t hash = hash_bytes(word, seed_);
    Slot& slot = slots_[hash % slots_.size()];
    if (slot.hash == hash && text_.substr(slot.start, slot.bytes) == word) {
      const std::size_t count = slot.out_count, old = out.size();
      out.resize(old + count);
      for (std::size_t i = 0; i < count; ++i) out[old + i] = out[slot.out_start + i];
      return;
    }
    const std::size_t start = out.size();
    encode_word(word, out);
    slot = {hash, static_cast<std::size_t>(word.data() - text_.data()), word.size(), start, out.size() - start};
  }

 private:
  struct Slot {
    std::uint64_t hash = 0;
    std::size_t start = 0, bytes = 0, out_start = 0, out_count = 0;
  };
  std::string_view text_;
  std::uint64_t seed_;
  std::vector<Slot> slots_;
};

/// Byte pairs over bytes ("gpt2"). Errors: bad_vocab (a byte without a token).
Result<std::unique_ptr<WordModel>> make_byte_pair_model(const Vocabulary& vocabulary, MergeTable merges, bool ignore_merges, const std::string& where);

struct CharacterPairOptions {
  bool byte_fallback = false;  ///< Characters without a token are spelled in byte tokens.
  bool fuse_unknown = false;   ///< Neighbouring unknown characters become one token.
  bool ignore_merges = false;  ///< A word that is a token needs no merging.
  TokenId unknown = -1;        ///< -1: unknown characters are left out.
};
/// Byte pairs over characters, merged by rank (tokenizer.json of SentencePiece vocabularies).
std::unique_ptr<WordModel> make_character_pair_model(const Vocabulary& vocabulary, MergeTable merges, const CharacterPairOptions& options);
/// Byte pairs over characters, merged by the score of the result (SentencePiece, GGUF "llama"). Errors: bad_vocab.
Result<std::unique_ptr<WordModel>> make_scored_pair_model(const Vocabulary& vocabulary, TokenId unknown, const std::string& where);
/// Most likely segmentation by a unigram model (SentencePiece, GGUF "t5"). Errors: bad_vocab.
Result<std::unique_ptr<WordModel>> make_unigram_model(const Vocabulary& vocabulary, TokenId unknown, bool byte_fallback, const std::string& where);

/// The encoder of byte-level vocabularies whose word cuts have a scanner of their own. `nfc`: normalise first.
std::unique_ptr<TextEncoder> make_byte_pair_encoder(const Vocabulary& vocabulary, std::unique_ptr<WordModel> model, WordSplit split, bool nfc);

/// SentencePiece text: spaces become U+2581.
struct MarkedTextOptions {
  bool space_first = true;          ///< A space in front of text at the start and behind an added token.
  bool one_space = false;           ///< Runs of spaces become one, none at either end.
  std::string character_map;        ///< Precompiled normalisation, empty for none (see tokenizer_normalizer.hpp).
};
/// Errors: bad_vocab (a damaged character map).
Result<std::unique_ptr<TextEncoder>> make_marked_text_encoder(const Vocabulary& vocabulary, std::unique_ptr<WordModel> model, MarkedTextOptions options, const std::string& where);

struct WordPieceOptions {
  bool lower_case = true;
  bool strip_accents = true;
  bool clean_text = true;          ///< Controls are dropped.
  bool ideographs_alone = true;    ///< Spaces around Chinese characters.
  std::size_t longest_word = 100;  ///< Characters; longer words are unknown.
  std::string inner_prefix;        ///< What a tokenizer.json writes before tokens inside a word ("##"); a word may begin with it too.
};
/// WordPiece as BERT models use it. Tokens that start a word carry a leading space. Errors: bad_vocab.
Result<std::unique_ptr<TextEncoder>> make_word_piece_encoder(const Vocabulary& vocabulary, TokenId unknown, const WordPieceOptions& options, const std::string& where);
/// Its inner part alone: longest tokens from the left.
Result<std::unique_ptr<WordModel>> make_word_piece_model(const Vocabulary& vocabulary, TokenId unknown, std::size_t longest_word, std::string inner_prefix, const std::string& where);

/// True where no token holds U+2581 behind another character: text can then be cut before each such mark without
/// changing its tokens.
bool marks_start_words(const Vocabulary& vocabulary);
/// Calls on_word for the stretches of `text` that start with marks, in order.
template <class OnWord>
void for_each_marked_word(std::string_view text, const OnWord& on_word) {
  constexpr std::string_view kMark = "\xe2\x96\x81";
  std::size_t start = 0;
  bool behind_mark = true;
  for (std::size_t at = 0; at < text.size();) {
    const bool mark = text[at] == kMark[0] && text.substr(at, 3) == kMark;
    if (mark && !behind_mark) {
      on_word(text.substr(start, at - start));
      start = at;
    }
    behind_mark = mark;
    at += mark ? 3 : 1;
  }
  if (start < text.size()) on_word(text.substr(start));
}

}  // namespace kontor::inference
