#pragma once
// A grammar over bytes and tokens, as a network of nodes: edges read bytes or control tokens, calls descend into other
// parts of the network and come back (a pushdown automaton), and a few kinds of nodes read free text of which there is
// too much to spell out. Built once (agent/grammar from JSON Schemas), then immutable and shared.

#include "base/error.hpp"
#include "inference/text_model.hpp"

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace kontor::inference {

using NodeId = std::uint32_t;
inline constexpr NodeId kNoNode = ~NodeId{0};
inline constexpr std::uint32_t kNoLimit = ~std::uint32_t{0};
/// Calls in progress at once; what can only be finished deeper down cannot begin.
inline constexpr std::uint32_t kCallDepthMax = 96;
inline constexpr std::size_t kGrammarNodesMax = 400'000;

/// Every call opens a frame with one register of 64 bits, 0 at first: counters and the states of the free kinds.
enum class NodeKind : std::uint8_t {
  plain,
  string_body,  ///< Behind the quote that opens a JSON string, up to and with the one that closes it.
  fresh_key,    ///< The same for a member name that is none of the declared ones and none used before in this object.
  verbatim,     ///< A string body that occurs verbatim in the texts of the conversation.
  text,         ///< Free text with markers in it.
};

struct ByteEdge {
  std::uint8_t low = 0, high = 0;
  NodeId to = kNoNode;
};
/// Taken without reading anything, where the register lies in [least, most].
struct Jump {
  NodeId to = kNoNode;
  std::uint32_t least = 0, most = kNoLimit;
};
struct Call {
  NodeId start = kNoNode;
  NodeId back = kNoNode;
};
struct TokenEdge {
  TokenId token = -1;
  NodeId to = kNoNode;
};

struct Node {
  NodeKind kind = NodeKind::plain;
  bool returns = false;             ///< The call may end here; at the outermost level: the output.
  bool thinking = false;            ///< The model is thinking here.
  std::uint32_t count_to = 0;       ///< Not 0: arriving adds one to the register, up to this.
  std::uint32_t parameters = 0;     ///< Of the free kinds: index into their list.
  NodeId next = kNoNode;            ///< Of strings: behind the closing quote.
  std::uint32_t height = 0;         ///< Calls that have to be nested, at least, to get to the end of this one.
  std::vector<ByteEdge> bytes;
  std::vector<Jump> jumps;
  std::vector<Call> calls;
  std::vector<TokenEdge> tokens;
};

/// Lengths in characters.
struct StringBody {
  std::uint32_t least = 0, most = kNoLimit;
};

struct FreshKey {
  std::vector<std::string> declared;  ///< As spelled between the quotes.
};

struct VerbatimBody {
  bool may_be_empty = false;
};

/// A marker in free text.
struct TextMarker {
  std::string bytes;          ///< Begins with '<', and has no other.
  NodeId to = kNoNode;        ///< kNoNode: must not be written.
  bool literal_in_code = false;  ///< Behind a backtick or an open Markdown fence it is text.
};

struct FreeText {
  std::vector<TextMarker> markers;
  bool visible = false;       ///< May not end before something else than white space was written.
  /// One state for each prefix of a marker; 0 is the empty one. Made by finish().
  struct Prefix {
    std::int32_t marker = -1;  ///< Complete.
    std::vector<std::pair<std::uint8_t, std::uint16_t>> next;
  };
  std::vector<Prefix> prefixes;
};

class Grammar {
 public:
  NodeId add() { return add(Node{}); }
  NodeId add(Node node);
  Node& at(NodeId id) { return nodes_[id]; }
  const Node& at(NodeId id) const { return nodes_[id]; }
  std::size_t size() const { return nodes_.size(); }

  /// Reads `bytes` from `from`; returns the node behind them.
  NodeId literal(NodeId from, std::string_view bytes);
  void edge(NodeId from, std::uint8_t low, std::uint8_t high, NodeId to) { nodes_[from].bytes.push_back({low, high, to}); }
  void jump(NodeId from, NodeId to, std::uint32_t least = 0, std::uint32_t most = kNoLimit) { nodes_[from].jumps.push_back({to, least, most}); }
  void call(NodeId from, NodeId start, NodeId back) { nodes_[from].calls.push_back({start, back}); }
  void token(NodeId from, TokenId token, NodeId to) { nodes_[from].tokens.push_back({token, to}); }

  NodeId string_body(StringBody parameters, NodeId next);
  NodeId fresh_key(FreshKey parameters, NodeId next);
  NodeId verbatim(VerbatimBody parameters, NodeId next);
  NodeId text(FreeText parameters);

  void set_start(NodeId id) { start_ = id; }
  NodeId start() const { return start_; }
  /// Where a generation goes on whose reasoning is ended from outside.
  void set_think_close(NodeId id) { think_close_ = id; }
  NodeId think_close() const { return think_close_; }

  const StringBody& string_parameters(const Node& node) const { return strings_[node.parameters]; }
  const FreshKey& key_parameters(const Node& node) const { return keys_[node.parameters]; }
  const VerbatimBody& verbatim_parameters(const Node& node) const { return verbatims_[node.parameters]; }
  const FreeText& text_parameters(const Node& node) const { return texts_[node.parameters]; }
  bool uses_verbatim() const { return !verbatims_.empty(); }

  /// Removes what cannot be finished within kCallDepthMax calls, so that no generation can get stuck. Call once, before
  /// use. Errors: malformed (kind unsatisfiable) where nothing is left, limit (kind grammar_size).
  Result<void> finish();
  /// Whether the call that begins at `id` can be finished. After finish().
  bool satisfiable(NodeId id) const { return nodes_[id].height <= kCallDepthMax; }

 private:
  void measure();
  void prune();

  std::vector<Node> nodes_;
  std::vector<StringBody> strings_;
  std::vector<FreshKey> keys_;
  std::vector<VerbatimBody> verbatims_;
  std::vector<FreeText> texts_;
  NodeId start_ = kNoNode, think_close_ = kNoNode;
};

}  // namespace kontor::inference
