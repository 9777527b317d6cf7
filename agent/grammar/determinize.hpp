#pragma once
// From the network of jumps and byte ranges that a pattern is read into to a deterministic automaton.

#include "agent/grammar/byte_dfa.hpp"
#include "base/error.hpp"

#include <cstdint>
#include <vector>

namespace kontor::agent {

inline constexpr std::uint32_t kNoNfaNode = ~std::uint32_t{0};

/// Reads a byte of [low, high] on the way to `a`; where low > high it jumps to `a` and `b`.
struct NfaNode {
  std::uint8_t low = 1, high = 0;
  std::uint32_t a = kNoNfaNode, b = kNoNfaNode;
  enum class Assert : std::uint8_t { none, begin, end } assertion = Assert::none;  ///< Of jumps: only there in the text.

  bool reads() const { return low <= high; }
};

/// A pattern that is looked for anywhere in a text.
struct Nfa {
  std::vector<NfaNode> nodes;
  std::uint32_t start = 0;   ///< Reads what stands before it, too.
  std::uint32_t behind = 0;  ///< Reads all that may stand behind it, and ends in `final`.
  std::uint32_t final = 0;
};

/// Errors: limit (kind dfa_size).
Result<ByteDfa> determinize(const Nfa& nfa);

}  // namespace kontor::agent
