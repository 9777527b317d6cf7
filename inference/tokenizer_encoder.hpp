#pragma once
// The ways in which plain text (no added tokens in it) becomes tokens. Encoders are immutable and thread-safe.

#include "base/error.hpp"
#include "inference/tokenizer_vocabulary.hpp"

#include <memory>
#include <string_view>
#include <vector>

namespace kontor::inference {

class TextEncoder {
 public:
  virtual ~TextEncoder() = default;
  /// Appends the tokens of a stretch of text. `first` says that it stands at the start or behind an added token.
  virtual void encode(std::string_view text, bool first, std::vector<TokenId>& out) const = 0;
};

// `vocabulary` must outlive the encoder. Errors: missing_key, wrong_key_type, bad_vocab, unsupported_tokenizer.

/// Byte-level byte-pair encoding (tokenizer.ggml.model "gpt2").
Result<std::unique_ptr<TextEncoder>> make_byte_pair_encoder(const WeightFile& file, const Vocabulary& vocabulary);
/// SentencePiece byte-pair encoding by scores ("llama").
Result<std::unique_ptr<TextEncoder>> make_sentence_piece_encoder(const WeightFile& file, const Vocabulary& vocabulary, TokenId unknown);
/// WordPiece, uncased ("bert").
Result<std::unique_ptr<TextEncoder>> make_word_piece_encoder(const WeightFile& file, const Vocabulary& vocabulary, TokenId unknown);

}  // namespace kontor::inference
