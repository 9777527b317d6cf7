#pragma once
// Deterministic automata over bytes: what patterns, formats and number ranges become before they join a grammar.

#include "base/error.hpp"
#include "inference/grammar.hpp"

#include <cstdint>
#include <string_view>
#include <vector>

namespace kontor::agent {

inline constexpr std::size_t kDfaStatesMax = 20'000;

/// State 0 is the first one. Every state can reach an accepting one (after reduce); ranges are sorted and disjoint.
struct ByteDfa {
  struct Range {
    std::uint8_t low = 0, high = 0;
    std::uint32_t to = 0;
  };
  struct State {
    bool accepts = false;
    std::vector<Range> ranges;
  };
  std::vector<State> states;

  bool empty() const { return states.empty(); }
};

/// Removes what cannot be finished, and what is there twice; an automaton that accepts nothing becomes empty().
void reduce(ByteDfa& dfa);

/// Both at once. Errors: limit (kind dfa_size).
Result<ByteDfa> intersect(const ByteDfa& a, const ByteDfa& b);

/// Only texts of `least` to `most` characters (UTF-8). Errors: limit (kind dfa_size).
Result<ByteDfa> with_length(const ByteDfa& dfa, std::uint32_t least, std::uint32_t most);

bool accepts(const ByteDfa& dfa, std::string_view text);

/// Adds the automaton to the grammar as the body of a JSON string, in its canonical spelling, with the quote that closes
/// it: from the node returned to `next`.
inference::NodeId add_string(inference::Grammar& grammar, const ByteDfa& dfa, inference::NodeId next);

/// Adds the automaton as it is; it ends by returning.
inference::NodeId add_plain(inference::Grammar& grammar, const ByteDfa& dfa);

}  // namespace kontor::agent
