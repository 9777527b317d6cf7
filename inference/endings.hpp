#pragma once
// How many tokens a grammar still needs, at most, to get from any of its nodes to the end: what an output with a limit has
// to keep in reserve so that it is complete when the limit is reached.

#include "inference/grammar.hpp"
#include "inference/token_trie.hpp"

#include <algorithm>
#include <cstdint>
#include <memory>
#include <mutex>
#include <vector>

namespace kontor::inference {

/// A number of tokens; kTokensNever: there is no way, or none that any limit has room for.
using TokenCount = std::uint32_t;
inline constexpr TokenCount kTokensNever = 1u << 30;
constexpr TokenCount add_tokens(std::uint64_t a, std::uint64_t b) { return static_cast<TokenCount>(std::min<std::uint64_t>(a + b, kTokensNever)); }

/// For each node one way to the end of its call, short in bytes, and the tokens that spell it. Not always the shortest,
/// but one that can be gone: where `n` tokens are left, some token leads to where fewer are left. Immutable, thread-safe.
class Endings {
 public:
  /// After grammar.finish(). `trie` null: every byte is a token.
  Endings(std::shared_ptr<const Grammar> grammar, std::shared_ptr<const TokenTrie> trie);

  /// From `node`, where the register counts `count` and `depth` calls are in progress, to the end of its call. `copy`: what
  /// one verbatim string takes.
  TokenCount tokens(NodeId node, std::uint32_t count, std::uint32_t depth, TokenCount copy) const;
  /// Characters of a JSON string, whichever they are.
  TokenCount characters(std::uint32_t count) const { return count / run_ + count % run_; }
  /// From free text, behind that prefix of a marker. `steps`: bytes to the end of the character that is being written,
  /// for ways that do not complete the marker.
  TokenCount text(const Node& node, std::uint16_t prefix, TokenCount steps, std::uint32_t depth, TokenCount copy) const;

  /// A fresh name may need so many characters until it is one that was not used.
  static constexpr TokenCount kFreshCharacters = 3;

 private:
  friend class EndingsBuilder;
  static constexpr std::uint32_t kNoLoop = ~std::uint32_t{0};
  struct Cost {
    TokenCount tokens = kTokensNever;
    std::uint32_t copies = 0;     ///< Verbatim strings among it.
  };
  struct Way {
    Cost cost;                    ///< When no round is missing.
    std::uint32_t loop = kNoLoop; ///< The first node on the way that has to be passed several times.
    std::uint16_t height = 0xFFFF;  ///< Calls nested on the way.
  };
  struct Loop {
    NodeId node = kNoNode;
    std::uint32_t least = 0;
    NodeId item = kNoNode;        ///< Called in each round.
    std::uint32_t bytes = 0;      ///< Between two rounds ...
    TokenCount separator = 0;     ///< ... and in tokens.
  };
  /// One way of looking at all nodes.
  struct Table {
    std::vector<Way> ways;
    std::vector<Cost> rounds;     ///< By loop.
  };
  /// Where text can end: `bytes` and then `to`; kNoNode: at the end of the call.
  struct TextEnd {
    TokenCount bytes = kTokensNever;
    NodeId to = kNoNode;
  };
  struct TextEnds {
    TextEnd anywhere;
    std::vector<TextEnd> begun;   ///< By prefix: through the marker that it begins.
  };

  const Table& table(NodeId node, std::uint32_t depth) const {
    return depth + shortest_.ways[node].height <= kCallDepthMax ? shortest_ : flattest();
  }
  const Table& flattest() const;
  Cost whole(const Table& table, NodeId node, std::uint32_t count) const;
  static TokenCount sum(const Cost& cost, TokenCount copy) { return add_tokens(cost.tokens, std::uint64_t{cost.copies} * copy); }

  std::shared_ptr<const Grammar> grammar_;
  std::shared_ptr<const TokenTrie> trie_;
  std::uint32_t run_ = 1;               ///< Characters of the longest token that is good in any string.
  std::vector<Loop> loops_;
  std::vector<std::uint32_t> loop_of_;  ///< By node.
  Table shortest_;
  mutable Table flattest_;              ///< Where the first would nest too deeply: few schemas do, so it is made when it is asked for.
  mutable std::once_flag flattened_;
  std::vector<TextEnds> text_ends_;     ///< By the text's parameters.
};

}  // namespace kontor::inference
