#pragma once
// The token list of a model file or tokenizer.json, checked, with raw bytes for every token; what the encoders share.

#include "base/error.hpp"
#include "inference/text_model.hpp"

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace kontor::inference {

/// Token types as tokenizer.ggml.token_type numbers them.
enum class TokenType : std::uint8_t { undefined = 0, normal = 1, unknown = 2, control = 3, user_defined = 4, unused = 5, byte = 6 };

/// How token texts in the file spell bytes.
enum class TokenSpelling {
  byte_alphabet,   ///< gpt2: each byte is a printable character; added tokens are verbatim.
  sentence_piece,  ///< U+2581 is a space, <0xNN> a byte: encoders look texts up as spelled, pieces show spaces and bytes.
  word_piece,      ///< A leading U+2581 starts a word.
};

/// Appends the bytes that a text in the alphabet of byte-level vocabularies stands for; other characters as they are.
void append_from_byte_alphabet(std::string_view text, std::string& out);

/// A hash of bytes, mixed with a seed so that nobody can prepare collisions.
std::uint64_t hash_bytes(std::string_view bytes, std::uint64_t seed);

inline constexpr std::size_t kMaxTokens = 1u << 22;
inline constexpr std::size_t kMaxTokenBytes = 4096;
inline constexpr std::size_t kMaxAddedBytes = 512;          ///< Of one added token.
inline constexpr std::size_t kMaxAddedTotalBytes = 4u << 20;

/// How an added token is cut out of text (tokenizer.json; GGUF has no such rules).
struct AddedRule {
  bool strip_left = false;   ///< Spaces before it belong to it.
  bool strip_right = false;  ///< Spaces behind it belong to it.
  bool single_word = false;  ///< Only where no letter, digit or underscore touches it.
};

/// What a vocabulary is made of, whichever file it came from. The views must live until `build` returns.
struct TokenList {
  std::string where;                    ///< For error messages.
  std::vector<std::string_view> texts;  ///< As the file spells them; the index is the id.
  std::vector<TokenType> types;         ///< One each.
  std::vector<double> scores;           ///< One each, or none.
  std::vector<std::pair<TokenId, AddedRule>> rules;
  bool unique = false;                  ///< Equal ordinary tokens are an error (else the first counts).
};

class Vocabulary {
 public:
  /// Errors: bad_vocab, limit_exceeded.
  static Result<Vocabulary> build(const TokenList& list, TokenSpelling spelling);

  std::size_t size() const { return types_.size(); }
  bool contains(TokenId id) const { return id >= 0 && static_cast<std::size_t>(id) < types_.size(); }
  /// Raw bytes that the token stands for; "" for ids outside.
  std::string_view piece(TokenId id) const { return part(shown_ends_.empty() ? bytes_ : shown_, shown_ends_.empty() ? ends_ : shown_ends_, id); }
  /// What encoders look the token up by: differs from piece() in SentencePiece spelling only.
  std::string_view text(TokenId id) const { return part(bytes_, ends_, id); }
  bool shows_spaces() const { return !shown_ends_.empty(); }
  TokenType type(TokenId id) const { return types_[static_cast<std::size_t>(id)]; }
  double score(TokenId id) const { return scores_.empty() ? 0.0 : scores_[static_cast<std::size_t>(id)]; }

  /// Matched as a whole in template text: control and user-defined tokens, and normal ones spelled like markers.
  bool is_added(TokenId id) const { return contains(id) && added_[static_cast<std::size_t>(id)] != 0; }
  /// Added, and spelled like a marker or typed control (unknown tokens too): text from outside must not become it.
  bool is_control(TokenId id) const { return contains(id) && added_[static_cast<std::size_t>(id)] == 2; }

  /// Tokens that encoders compose text of (normal and byte tokens), by raw bytes; -1 where there is none.
  TokenId find_text(std::string_view bytes) const { return find(text_slots_, bytes); }
  /// Added tokens, by their text; -1 where there is none.
  TokenId find_added(std::string_view bytes) const { return find(added_slots_, bytes); }
  /// The token of one byte, or -1.
  TokenId byte_token(unsigned char byte) const { return byte_tokens_[byte]; }
  /// Longest text of a text token, in bytes.
  std::size_t longest() const { return longest_; }
  /// Null for a token without rules.
  const AddedRule* rule(TokenId id) const;
  std::uint64_t seed() const { return seed_; }

  /// Longest added token at `at`, with its id; {-1, 0} where none starts there.
  struct AddedMatch {
    TokenId id = -1;
    std::size_t bytes = 0;
  };
  enum class Which { plain_user_defined, user_defined, all };
  AddedMatch match_added(std::string_view text, std::size_t at, Which which) const;
  /// False where no added token starts with this byte.
  bool may_start_added(unsigned char byte) const { return starts_added_[byte]; }

 private:
  std::string_view part(const std::string& bytes, const std::vector<std::uint32_t>& ends, TokenId id) const {
    if (!contains(id)) return {};
    const auto i = static_cast<std::size_t>(id);
    const std::size_t start = i == 0 ? 0 : ends[i - 1];
    return std::string_view(bytes).substr(start, ends[i] - start);
  }
  TokenId find(const std::vector<TokenId>& slots, std::string_view bytes) const;
  bool insert(std::vector<TokenId>& slots, TokenId id);
  Result<void> add_texts(const TokenList& list, TokenSpelling spelling);
  Result<void> index(const TokenList& list, TokenSpelling spelling);
  void add_to_trie(TokenId id);
  bool allowed(TokenId id, Which which) const;

  std::string bytes_;                    // all texts, one after the other
  std::vector<std::uint32_t> ends_;      // of the texts in bytes_
  std::string shown_;                    // the same for pieces, where they differ
  std::vector<std::uint32_t> shown_ends_;
  std::vector<std::pair<TokenId, AddedRule>> rules_;  // sorted
  std::vector<TokenType> types_;
  std::vector<std::uint8_t> added_;      // 0 no, 1 plain text, 2 control
  std::vector<double> scores_;
  std::vector<TokenId> text_slots_;      // open addressing, -1 empty
  std::vector<TokenId> added_slots_;
  std::vector<TokenId> byte_tokens_ = std::vector<TokenId>(256, -1);
  std::vector<bool> starts_added_ = std::vector<bool>(256, false);
  std::size_t longest_ = 0;
  std::uint64_t seed_ = 0;

  struct TrieNode {
    TokenId id = -1;
    std::vector<std::pair<unsigned char, std::uint32_t>> next;
  };
  std::vector<TrieNode> trie_ = std::vector<TrieNode>(1);
};

}  // namespace kontor::inference
