#pragma once
// The text tokens of a vocabulary as a byte trie in depth-first order, and the sets of tokens that long stretches of free
// text allow as a whole.

#include "inference/text_model.hpp"
#include "inference/tokenizer.hpp"

#include <algorithm>
#include <array>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

namespace kontor::inference {

/// One bit for each token: bit `id % 32` of word `id / 32`.
using TokenSet = std::vector<std::uint32_t>;

inline void add_token(TokenSet& set, TokenId id) { set[static_cast<std::size_t>(id) >> 5] |= 1u << (id & 31); }
inline bool has_token(std::span<const std::uint32_t> set, TokenId id) {
  const auto word = static_cast<std::size_t>(id) >> 5;
  return id >= 0 && word < set.size() && (set[word] >> (id & 31) & 1u);
}

/// A trie node; its subtree is the `skip` nodes from it on. Node 0 is the root.
struct TrieNode {
  std::uint32_t skip = 1;
  TokenId token = -1;         ///< A token that ends here, or -1.
  std::uint16_t depth = 0;    ///< Bytes from the root.
  std::uint8_t byte = 0;
};

/// Longest run of characters that is told apart: free text with less room than this is looked at token by token.
inline constexpr std::size_t kSliceCharacters = 16;

/// Immutable, thread-safe. Control tokens, unknown tokens and tokens without bytes are in no trie. Building it for
/// 152,000 tokens takes some 50 ms.
class TokenTrie {
 public:
  explicit TokenTrie(const Tokenizer& tokenizer);

  std::size_t vocabulary() const { return vocabulary_; }
  std::size_t words() const { return (vocabulary_ + 31) / 32; }

  /// All text tokens.
  std::span<const TrieNode> all() const { return all_; }
  /// Text tokens that are not wholly inside a JSON string: with a quote, a backslash, a control character or a part of
  /// a character, and those of more than kSliceCharacters characters.
  std::span<const TrieNode> beside_string() const { return beside_string_; }
  /// The others of at most `characters` characters (at most kSliceCharacters).
  const TokenSet& inside_string(std::size_t characters) const { return inside_string_[std::min(characters, kSliceCharacters)]; }
  /// The same for runs of ASCII letters and digits, which patterns and formats are made of.
  std::span<const TrieNode> beside_alphanumeric() const { return beside_alphanumeric_; }
  const TokenSet& alphanumeric(std::size_t characters) const { return alphanumeric_[std::min(characters, kSliceCharacters)]; }
  /// Text tokens with '<' or a part of a character, and the others: whole characters in which no marker begins.
  std::span<const TrieNode> beside_text() const { return beside_text_; }
  const TokenSet& inside_text() const { return inside_text_; }
  /// The next token with the same bytes, or -1.
  TokenId twin(TokenId id) const { return twins_.empty() ? -1 : twins_[static_cast<std::size_t>(id)]; }
  std::size_t longest() const { return longest_; }

 private:
  std::size_t vocabulary_;
  std::size_t longest_ = 0;   ///< Bytes of a token.
  std::vector<TrieNode> all_, beside_string_, beside_text_, beside_alphanumeric_;
  std::array<TokenSet, kSliceCharacters + 1> inside_string_, alphanumeric_;
  TokenSet inside_text_;
  std::vector<TokenId> twins_;
};

}  // namespace kontor::inference
