#pragma once
// Text to token ids and back, from the vocabulary in a GGUF file (tokenizer.ggml.*) or a tokenizer.json
// (tokenizer_json.hpp): byte-level BPE, SentencePiece BPE and unigram, WordPiece. The same vocabulary gives the same
// ids whichever file it comes from. Bytes that are not UTF-8 are encoded too and come back unchanged (byte-level BPE,
// SentencePiece with byte tokens).

#include "base/error.hpp"
#include "base/json.hpp"
#include "inference/text_model.hpp"
#include "inference/weight_file.hpp"

#include <cstddef>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace kontor::inference {

/// Which added tokens (those matched as a whole) text may become.
enum class AddedTokens {
  text_only,     ///< For text from outside: only user-defined tokens that are not spelled like markers.
  user_defined,  ///< User-defined tokens whatever their spelling, no control tokens: what llama.cpp does without
                 ///< special parsing. Unsafe for text from outside: "<think>" and "<｜User｜>" are often user-defined.
  all,           ///< For template text.
};

/// Immutable and safe to use from any number of threads; copies share one vocabulary. Independent of the WeightFile
/// once created.
class Tokenizer {
 public:
  /// Errors: missing_key, wrong_key_type, bad_vocab, unsupported_tokenizer (model or pre-tokenizer), limit_exceeded,
  /// out_of_memory.
  static Result<Tokenizer> create(const WeightFile& file);
  /// From a tokenizer.json or a folder that holds one, with the tokenizer_config.json and generation_config.json beside
  /// it where they exist. See tokenizer_json.hpp for what is understood. Errors: not_found, not_regular_file,
  /// json_syntax, bad_utf8, bad_vocab, bad_regex, unsupported_regex, unsupported_tokenizer, limit_exceeded,
  /// out_of_memory.
  static Result<Tokenizer> from_json_file(const std::string& path);
  /// The same from texts; `config` and `generation` may be null.
  static Result<Tokenizer> from_json(std::string_view tokenizer, const Json& config, const Json& generation, const std::string& where);

  /// Ids of the text. Without `parse_special` (AddedTokens::text_only) text never becomes a control token. No begin
  /// token is added.
  std::vector<TokenId> encode(std::string_view text, bool parse_special) const;
  std::vector<TokenId> encode(std::string_view text, AddedTokens added) const;
  /// As `encode`, with the begin and end tokens that the vocabulary asks for (BERT: [CLS] ... [SEP]).
  std::vector<TokenId> encode_with_ends(std::string_view text, bool parse_special) const;

  /// Ids of a prompt. Added tokens are recognised in template segments only; neighbouring plain text is encoded
  /// together, so benign prompts get the ids of their whole text. Segments with `tokens` are taken verbatim.
  /// No begin token is added: templates write their own. `more` follows as if it stood in the same list. Errors: usage
  /// (kind bad_token: an id outside the vocabulary).
  Result<std::vector<TokenId>> encode_segments(std::span<const Segment> segments, std::span<const Segment> more = {}) const;

  /// Raw bytes of a token ("" for ids outside the vocabulary). Pieces of a text joined give the text (WordPiece: its
  /// normalised form).
  std::string_view piece(TokenId id) const;
  /// Pieces joined; tokens typed control in the file are left out unless asked for ("<think>" usually is not).
  std::string decode(std::span<const TokenId> ids, bool with_control = false) const;

  /// Tokens that text from outside never becomes: control and unknown tokens, and user-defined or normal tokens that
  /// are spelled like markers ("<think>", "<｜tool▁calls▁begin｜>": vocabularies differ in the type they give them).
  bool is_control(TokenId id) const;
  /// Matched as a whole in template text: control tokens and all user-defined ones.
  bool is_added(TokenId id) const;
  /// The token whose raw bytes are `text`; added tokens win over normal ones.
  std::optional<TokenId> find(std::string_view text) const;

  std::optional<TokenId> bos() const;
  std::optional<TokenId> eos() const;
  std::optional<TokenId> eot() const;
  std::optional<TokenId> unknown() const;
  /// Every token that ends a generation: eos, eot, eom and the well-known end markers among the added tokens; sorted.
  std::span<const TokenId> end_tokens() const;
  bool is_end(TokenId id) const;

  bool add_bos() const;
  bool add_eos() const;
  std::size_t size() const;
  /// tokenizer.ggml.model and .pre as the file says.
  std::string_view model() const;
  std::string_view pre() const;

  struct State;  ///< What it is made of (tokenizer_state.hpp).

 private:
  explicit Tokenizer(std::shared_ptr<const State> state);
  std::shared_ptr<const State> state_;
};

}  // namespace kontor::inference
