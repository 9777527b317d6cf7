#pragma once
// A grammar at work: sets of places (node and stack) as states, made deterministic while they are visited.

#include "inference/endings.hpp"
#include "inference/grammar.hpp"
#include "inference/verbatim.hpp"

#include <array>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string_view>
#include <unordered_map>
#include <vector>

namespace kontor::inference {

/// One place: what is to be read next, where to go on behind it, and the frame's register.
struct Place {
  NodeId node = 0;
  std::uint32_t stack = 0;
  std::uint64_t data = 0;
  friend bool operator==(const Place&, const Place&) = default;
};

using StateId = std::uint32_t;
inline constexpr StateId kDeadState = 0, kUnknownState = ~StateId{0};

/// What has to come next.
struct OnlySymbol {
  enum class Kind { none, byte, token, end } kind = Kind::none;
  std::uint8_t byte = 0;
  TokenId token = -1;
};

/// Used by one thread at a time. Memory grows with what is visited; compact() gives it back.
class Automaton {
 public:
  /// `verbatim` may be null where the grammar has no verbatim nodes. `endings` may be null where nobody asks left().
  Automaton(std::shared_ptr<const Grammar> grammar, std::shared_ptr<const VerbatimText> verbatim, std::shared_ptr<const Endings> endings = nullptr);
  Automaton(const Automaton&) = delete;
  Automaton& operator=(const Automaton&) = delete;

  StateId start();
  /// The state of one place at the outermost level.
  StateId at(NodeId node);
  StateId step(StateId state, std::uint8_t byte);
  /// Steps of a state by byte, kUnknownState where step() was not asked yet. Valid until compact().
  const StateId* row(StateId state);
  StateId step_token(StateId state, TokenId token);
  StateId step_all(StateId state, std::string_view bytes);
  /// The state for looking at what tokens would do: names that cannot meet a used one are not told apart, so there are
  /// few states. What it accepts, the state itself accepts.
  StateId ahead(StateId state);

  /// The output may end here.
  bool may_end(StateId state) const { return states_[state].may_end; }
  bool thinking(StateId state) const { return states_[state].thinking; }
  /// Tokens, at most, from here to the end of the output, with the end-of-turn token: where it is not 0, some token leads
  /// to a state where less is left. 0 in free text that may be cut anywhere, and without endings.
  TokenCount left(StateId state) const { return states_[state].left; }
  /// The same for one place.
  TokenCount left(const Place& place) const;
  /// No character of free text is half written.
  bool between_characters(StateId state) const;
  std::span<const Place> places(StateId state) const { return states_[state].places; }
  const Grammar& grammar() const { return *grammar_; }
  OnlySymbol only(StateId state) const;
  /// Control tokens that may come next.
  void tokens(StateId state, std::vector<TokenId>& out) const;

  /// Characters that a string body still has room for, and whether the place is between two of them; nullopt for other
  /// nodes. Fresh keys have kNoLimit.
  std::optional<std::uint32_t> string_room(const Place& place) const;
  /// Free text outside of any marker.
  bool plain_text(const Place& place) const;

  /// A key for the state that is the same in every automaton of the grammar, whatever was visited before. Counts beyond
  /// `horizon` characters count as equal: no token is longer. Not for grammars with verbatim nodes.
  struct Key {
    std::uint64_t high, low;
    friend bool operator==(const Key&, const Key&) = default;
  };
  Key key(StateId state, std::uint32_t horizon) const;

  /// Forgets all states but this one; returns its new id. Cheap enough to be called whenever size() is large.
  StateId compact(StateId keep);
  std::size_t size() const { return states_.size(); }
  /// An independent automaton that knows this one state. `id` receives its name there.
  std::unique_ptr<Automaton> fork(StateId state, StateId& id) const;

 private:
  struct Frame {
    NodeId back;
    std::uint32_t parent;
    std::uint64_t data;
    std::uint32_t depth;
    std::uint64_t hash_high, hash_low;
    TokenCount left;                ///< From where the call is over to the end of the output.
  };
  struct State {
    std::vector<Place> places;
    std::unique_ptr<std::array<StateId, 256>> next;
    TokenCount left = 0;
    bool may_end = false;
    bool thinking = false;
  };
  /// Names used in one object so far (linked lists), and names being written (a trie of bytes).
  struct Used {
    std::uint32_t before;
    std::uint32_t name;
    std::uint64_t hash;
  };
  struct Name {
    std::uint32_t before;
    std::uint8_t byte;
    std::uint64_t hash;
  };

  void advance(const Place& place, std::uint8_t byte);
  void advance_string(const Place& place, const Node& node, std::uint8_t byte);
  void advance_key(const Place& place, const Node& node, std::uint8_t byte);
  void advance_verbatim(const Place& place, const Node& node, std::uint8_t byte);
  void advance_text(const Place& place, const Node& node, std::uint8_t byte);
  /// Adds a place and everything that can be reached from it without reading.
  void arrive(NodeId node, std::uint32_t stack, std::uint64_t data);
  void enter(NodeId node, std::uint32_t stack, std::uint64_t data);
  StateId intern();
  std::uint32_t push(NodeId back, std::uint32_t parent, std::uint64_t data);
  std::uint32_t extend_name(std::uint32_t name, std::uint8_t byte);
  std::uint32_t extend_ahead(std::uint32_t name, std::uint8_t byte) const;
  void know_declared(const FreshKey& parameters);
  bool is_used(std::uint32_t used, std::uint32_t name, const FreshKey& parameters) const;
  TokenCount left_behind(NodeId back, std::uint32_t parent, std::uint64_t data) const;
  TokenCount left_of(const State& state) const;
  TokenCount left_in_call(const Place& place) const;
  TokenCount left_in_name(const Place& place, const Node& node) const;
  TokenCount left_in_copy(const Place& place, const Node& node) const;
  std::uint64_t data_hash(const Place& place, std::uint32_t horizon) const;
  std::uint64_t frame_data_hash(NodeId node, std::uint64_t data) const;

  std::shared_ptr<const Grammar> grammar_;
  std::shared_ptr<const VerbatimText> verbatim_;
  std::shared_ptr<const Endings> endings_;
  TokenCount copy_ = kTokensNever;  ///< The shortest verbatim string.
  std::vector<Frame> frames_;
  std::unordered_multimap<std::uint64_t, std::uint32_t> frame_ids_;
  std::vector<Used> used_;
  std::vector<Name> names_;
  std::unordered_map<std::uint64_t, std::uint32_t> name_ids_;
  std::unordered_map<std::uint64_t, std::uint32_t> used_ids_;
  std::vector<State> states_;
  std::unordered_multimap<std::uint64_t, StateId> state_ids_;
  std::vector<Place> work_;       ///< Places that arrived, in order; the first `done_` are expanded.
  std::vector<const FreshKey*> declared_;  ///< Whose names are in names_.
  bool ends_ = false;
  bool overflow_ = false;
};

/// Places one state may have; more is a grammar that cannot be followed in bounded time, and its state is dead.
inline constexpr std::size_t kPlacesMax = 4096;

}  // namespace kontor::inference
