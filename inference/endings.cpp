#include "inference/endings.hpp"

#include <array>
#include <functional>
#include <optional>
#include <queue>
#include <string>
#include <string_view>
#include <utility>

namespace kontor::inference {
namespace {

using Bytes = std::uint64_t;
constexpr Bytes kFar = Bytes{1} << 40;

/// Which texts are tokens, byte by byte.
class Spelling {
 public:
  explicit Spelling(const TokenTrie* trie) {
    if (trie == nullptr) return;
    nodes_ = trie->all();
    for (std::size_t at = 1; at < nodes_.size(); at += nodes_[at].skip) first_[nodes_[at].byte] = static_cast<std::uint32_t>(at);
  }
  /// The trie's node behind one more byte, 0 where there is none. Node 0 is the empty text.
  std::uint32_t step(std::uint32_t at, std::uint8_t byte) const {
    if (nodes_.empty()) return 0;
    if (at == 0) return first_[byte];
    const std::size_t end = at + nodes_[at].skip;
    for (std::size_t child = at + 1; child < end && nodes_[child].byte <= byte; child += nodes_[child].skip)
      if (nodes_[child].byte == byte) return static_cast<std::uint32_t>(child);
    return 0;
  }
  bool is_token(std::uint32_t at) const { return at != 0 && nodes_[at].token >= 0; }
  bool has_byte(std::uint8_t byte) const { return nodes_.empty() || is_token(first_[byte]); }

  /// The fewest tokens that spell a text.
  TokenCount tokens(std::string_view text) const {
    std::vector<TokenCount> left(text.size() + 1, kTokensNever);
    left.back() = 0;
    for (std::size_t i = text.size(); i-- > 0;) {
      if (has_byte(static_cast<std::uint8_t>(text[i]))) left[i] = add_tokens(left[i + 1], 1);
      std::uint32_t at = 0;
      for (std::size_t j = i; j < text.size(); ++j) {
        at = step(at, static_cast<std::uint8_t>(text[j]));
        if (at == 0) break;
        if (is_token(at)) left[i] = std::min(left[i], add_tokens(left[j + 1], 1));
      }
    }
    return left.front();
  }

 private:
  std::span<const TrieNode> nodes_;
  std::array<std::uint32_t, 256> first_{};
};

}  // namespace

/// Shortest ways of all nodes at once, from the ends backwards (Knuth's generalisation of Dijkstra's algorithm): first in
/// bytes, then the tokens along the way that was found.
class EndingsBuilder {
 public:
  EndingsBuilder(const Grammar& grammar, const Endings& owner, const Spelling& spelling) : grammar_(grammar), owner_(owner), spelling_(spelling) {
    for (NodeId id = 0; id < grammar.size(); ++id) collect(id);
    into_.resize(grammar.size() + 1);
    for (const Step& step : steps_)
      for (const NodeId to : {step.to, step.start})
        if (to != kNoNode) ++into_[to + 1];
    for (std::size_t i = 1; i < into_.size(); ++i) into_[i] += into_[i - 1];
    order_.resize(into_.back());
    std::vector<std::uint32_t> at(into_.begin(), into_.end() - 1);
    for (std::uint32_t i = 0; i < steps_.size(); ++i)
      for (const NodeId to : {steps_[i].to, steps_[i].start})
        if (to != kNoNode) order_[at[to]++] = i;
  }

  /// `flat`: as few nested calls as possible before as few bytes as possible.
  Endings::Table build(bool flat) {
    table_ = {};
    table_.ways.resize(grammar_.size());
    found_.assign(grammar_.size(), {});
    taken_.assign(grammar_.size(), kEnd);
    // Key, node, step.
    using Entry = std::pair<std::uint64_t, std::uint64_t>;
    std::priority_queue<Entry, std::vector<Entry>, std::greater<>> queue;
    const auto offer = [&](std::uint64_t key, NodeId id, std::uint32_t step) { queue.emplace(key, std::uint64_t{id} << 32 | step); };
    for (NodeId id = 0; id < grammar_.size(); ++id)
      if (grammar_.at(id).returns) offer(0, id, kEnd);
    while (!queue.empty()) {
      const auto [key, what] = queue.top();
      queue.pop();
      const auto id = static_cast<NodeId>(what >> 32);
      if (found_[id]) continue;
      found_[id] = flat ? Found{key & kBytesMask, key >> kBytesBits} : Found{key >> kHeightBits, key & kHeightMask};
      taken_[id] = static_cast<std::uint32_t>(what);
      settle(id);
      for (std::uint32_t i = into_[id]; i < into_[id + 1]; ++i) {
        const Step& from = steps_[order_[i]];
        if (found_[from.from]) continue;
        if (const auto reached = through(from)) {
          offer(flat ? reached->height << kBytesBits | reached->bytes : reached->bytes << kHeightBits | reached->height, from.from, order_[i]);
        }
      }
    }
    for (const auto& loop : owner_.loops_) {
      Endings::Cost round;
      if (found_[loop.item]) {
        round = whole(loop.item);
        round.tokens = add_tokens(round.tokens, loop.separator);
        auto& height = table_.ways[loop.node].height;
        height = std::max<std::uint16_t>(height, static_cast<std::uint16_t>(found_[loop.item]->height + 1));
      }
      table_.rounds.push_back(round);
    }
    return std::move(table_);
  }

 private:
  static constexpr int kBytesBits = 41, kHeightBits = 8;
  static constexpr Bytes kBytesMask = (Bytes{1} << kBytesBits) - 1, kHeightMask = (Bytes{1} << kHeightBits) - 1;
  static_assert(kFar <= kBytesMask && kCallDepthMax <= kHeightMask);
  static constexpr std::uint32_t kEnd = ~std::uint32_t{0};
  struct Step {
    NodeId from, to;
    NodeId start = kNoNode;      ///< Of a call.
    std::uint32_t bytes = 0;     ///< Read by a special node; 1 for a byte or a token.
    std::int16_t byte = -1;      ///< The byte, of those that an edge reads.
    TokenCount tokens = 0;       ///< That spell the bytes.
    std::uint32_t copies = 0;
  };
  struct Found {
    Bytes bytes = 0;             ///< With all rounds that are missing at first.
    Bytes height = 0;
  };

  void collect(NodeId id) {
    const Node& node = grammar_.at(id);
    const auto add = [&](NodeId to, std::uint32_t bytes, TokenCount tokens) -> Step& { return steps_.emplace_back(Step{id, to, kNoNode, bytes, -1, tokens, 0}); };
    for (const ByteEdge& edge : node.bytes) {
      for (int byte = edge.low; byte <= edge.high; ++byte) {
        if (!spelling_.has_byte(static_cast<std::uint8_t>(byte))) continue;
        add(edge.to, 1, 1).byte = static_cast<std::int16_t>(byte);
        break;
      }
    }
    const bool text = node.kind == NodeKind::text;
    const std::uint32_t visible = text && grammar_.text_parameters(node).visible;
    for (const Jump& jump : node.jumps) {
      // Where counting might not let it through it is no way out.
      if (jump.most == kNoLimit && (jump.least == 0 || owner_.loop_of_[id] != Endings::kNoLoop)) add(jump.to, visible, visible);
    }
    for (const TokenEdge& edge : node.tokens) add(edge.to, 1, 1);
    for (const Call& call : node.calls) add(call.back, 0, 0).start = call.start;
    switch (node.kind) {
      case NodeKind::string_body: {
        const std::uint32_t least = grammar_.string_parameters(node).least;
        add(node.next, least + 1, add_tokens(owner_.characters(least), 1));
        break;
      }
      case NodeKind::fresh_key: add(node.next, Endings::kFreshCharacters + 1, Endings::kFreshCharacters + 1); break;
      case NodeKind::verbatim: add(node.next, 1, 1).copies = 1; break;
      case NodeKind::text:
        for (const TextMarker& marker : grammar_.text_parameters(node).markers) {
          const auto size = static_cast<std::uint32_t>(marker.bytes.size());
          if (marker.to != kNoNode && !marker.literal_in_code) add(marker.to, size, size);
        }
        break;
      case NodeKind::plain: break;
    }
  }

  /// How far the end is by this step; nothing while that is not known.
  std::optional<Found> through(const Step& step) const {
    if (!found_[step.to]) return std::nullopt;
    Found out = *found_[step.to];
    out.bytes += step.bytes;
    const std::uint32_t loop = step.to == step.from ? Endings::kNoLoop : owner_.loop_of_[step.to];
    if (step.start != kNoNode) {
      if (!found_[step.start]) return std::nullopt;
      out.bytes += found_[step.start]->bytes;
      out.height = std::max(out.height, found_[step.start]->height + 1);
      if (loop != Endings::kNoLoop) {
        if (owner_.loops_[loop].item != step.start) return std::nullopt;
        out.bytes += (found_[step.start]->bytes + owner_.loops_[loop].bytes) * (owner_.loops_[loop].least - 1);
      }
    } else if (loop != Endings::kNoLoop) {
      return std::nullopt;
    }
    if (out.height > kCallDepthMax) return std::nullopt;
    out.bytes = std::min(out.bytes, kFar);
    return out;
  }

  /// The tokens of the way that was chosen.
  void settle(NodeId id) {
    Endings::Way& way = table_.ways[id];
    way.height = static_cast<std::uint16_t>(found_[id]->height);
    if (taken_[id] == kEnd) {
      way.cost = {0, 0};
      return;
    }
    const Step& step = steps_[taken_[id]];
    const Endings::Way& next = table_.ways[step.to];
    way.loop = owner_.loop_of_[step.to] != Endings::kNoLoop ? owner_.loop_of_[step.to] : next.loop;
    way.cost = next.cost;
    way.cost.tokens = add_tokens(way.cost.tokens, step.tokens);
    way.cost.copies += step.copies;
    if (step.start != kNoNode) {
      const auto inner = whole(step.start);
      way.cost.tokens = add_tokens(way.cost.tokens, inner.tokens);
      way.cost.copies = add_tokens(way.cost.copies, inner.copies);
    }
    if (step.byte >= 0) way.cost.tokens = std::min(way.cost.tokens, by_longer_tokens(id));
  }

  /// Tokens of several bytes, where the way goes through bytes only.
  TokenCount by_longer_tokens(NodeId id) const {
    TokenCount best = kTokensNever;
    std::uint32_t at = 0;
    for (NodeId here = id; taken_[here] != kEnd;) {
      const Step& step = steps_[taken_[here]];
      if (here != id && owner_.loop_of_[here] != Endings::kNoLoop) break;
      if (step.start != kNoNode || (step.byte < 0 && step.bytes > 0)) break;
      here = step.to;
      if (step.byte < 0) continue;
      at = spelling_.step(at, static_cast<std::uint8_t>(step.byte));
      if (at == 0) break;
      if (spelling_.is_token(at)) best = std::min(best, add_tokens(table_.ways[here].cost.tokens, 1));
    }
    return best;
  }

  /// Of a call from its beginning.
  Endings::Cost whole(NodeId start) const {
    const Endings::Way& way = table_.ways[start];
    Endings::Cost out = way.cost;
    if (way.loop == Endings::kNoLoop) return out;
    const auto& loop = owner_.loops_[way.loop];
    const auto item = whole(loop.item);
    const std::uint64_t rounds = loop.least - 1;
    out.tokens = add_tokens(out.tokens, rounds * add_tokens(item.tokens, loop.separator));
    out.copies = add_tokens(out.copies, rounds * item.copies);
    return out;
  }

  const Grammar& grammar_;
  const Endings& owner_;
  const Spelling& spelling_;
  std::vector<Step> steps_;
  std::vector<std::uint32_t> into_, order_;  ///< Steps that need a node, by node.
  Endings::Table table_;
  std::vector<std::optional<Found>> found_;
  std::vector<std::uint32_t> taken_;
};

Endings::Endings(std::shared_ptr<const Grammar> of, std::shared_ptr<const TokenTrie> vocabulary) : grammar_(std::move(of)), trie_(std::move(vocabulary)) {
  const Grammar& grammar = *grammar_;
  const TokenTrie* const trie = trie_.get();
  const Spelling spelling(trie);
  if (trie != nullptr) {
    // A token of exactly so many characters.
    for (std::uint32_t n = kSliceCharacters; n > 1 && run_ == 1; --n)
      if (trie->inside_string(n) != trie->inside_string(n - 1)) run_ = n;
  }
  loop_of_.assign(grammar.size(), kNoLoop);
  for (NodeId id = 0; id < grammar.size(); ++id) {
    const Node& node = grammar.at(id);
    if (node.count_to == 0) continue;
    Loop loop{id, 0, kNoNode, 0, 0};
    NodeId more = kNoNode;
    for (const Jump& jump : node.jumps) {
      loop.least = std::max(loop.least, jump.least);
      if (jump.least == 0) more = jump.to;
    }
    if (loop.least == 0 || more == kNoNode) continue;
    std::string between;
    while (grammar.at(more).bytes.size() == 1) {
      between += static_cast<char>(grammar.at(more).bytes.front().low);
      more = grammar.at(more).bytes.front().to;
    }
    for (const Call& call : grammar.at(more).calls)
      if (call.back == id) loop.item = call.start;
    if (loop.item == kNoNode) continue;
    loop.bytes = static_cast<std::uint32_t>(between.size());
    loop.separator = spelling.tokens(between);
    loop_of_[id] = static_cast<std::uint32_t>(loops_.size());
    loops_.push_back(loop);
  }
  shortest_ = EndingsBuilder(grammar, *this, spelling).build(false);

  for (NodeId id = 0; id < grammar.size(); ++id) {
    const Node& node = grammar.at(id);
    if (node.kind != NodeKind::text) continue;
    const FreeText& text = grammar.text_parameters(node);
    if (text_ends_.size() <= node.parameters) text_ends_.resize(node.parameters + 1);
    auto& ends = text_ends_[node.parameters];
    ends.begun.resize(text.prefixes.size());
    const auto offer = [&](TextEnd& end, TokenCount bytes, NodeId to) {
      const auto total = [&](TokenCount b, NodeId n) { return add_tokens(b, n == kNoNode ? 0 : shortest_.ways[n].cost.tokens); };
      if (end.bytes == kTokensNever || total(bytes, to) < total(end.bytes, end.to)) end = {bytes, to};
    };
    TextEnd& anywhere = ends.anywhere;
    if (node.returns) offer(anywhere, 0, kNoNode);
    for (const TokenEdge& edge : node.tokens) offer(anywhere, 1, edge.to);
    for (const Jump& jump : node.jumps) offer(anywhere, text.visible, jump.to);
    for (const TextMarker& marker : text.markers)
      if (marker.to != kNoNode && !marker.literal_in_code) offer(anywhere, static_cast<TokenCount>(marker.bytes.size()), marker.to);
    for (const TextMarker& marker : text.markers) {
      if (marker.to == kNoNode || marker.literal_in_code) continue;
      std::uint16_t at = 0;
      for (std::size_t i = 0; i < marker.bytes.size(); ++i) {
        for (const auto& [byte, to] : text.prefixes[at].next)
          if (byte == static_cast<std::uint8_t>(marker.bytes[i])) {
            at = to;
            break;
          }
        offer(ends.begun[at], static_cast<TokenCount>(marker.bytes.size() - 1 - i), marker.to);
      }
    }
  }
}

const Endings::Table& Endings::flattest() const {
  std::call_once(flattened_, [&] { flattest_ = EndingsBuilder(*grammar_, *this, Spelling(trie_.get())).build(true); });
  return flattest_;
}

Endings::Cost Endings::whole(const Table& table, NodeId node, std::uint32_t count) const {
  const Way& way = table.ways[node];
  Cost out = way.cost;
  const auto missing = [&](const Loop& loop, std::uint64_t passed, const Cost& round) {
    if (passed >= loop.least) return;
    out.tokens = add_tokens(out.tokens, (loop.least - passed) * round.tokens);
    out.copies = add_tokens(out.copies, (loop.least - passed) * round.copies);
  };
  if (way.loop != kNoLoop) missing(loops_[way.loop], std::uint64_t{count} + 1, table.rounds[way.loop]);
  if (const auto own = loop_of_[node]; own != kNoLoop) missing(loops_[own], count, table.rounds[own]);
  return out;
}

TokenCount Endings::tokens(NodeId node, std::uint32_t count, std::uint32_t depth, TokenCount copy) const {
  return sum(whole(table(node, depth), node, count), copy);
}

TokenCount Endings::text(const Node& node, std::uint16_t prefix, TokenCount steps, std::uint32_t depth, TokenCount copy) const {
  const TextEnds& ends = text_ends_[node.parameters];
  const auto through = [&](const TextEnd& end) { return end.to == kNoNode ? end.bytes : add_tokens(end.bytes, tokens(end.to, 0, depth, copy)); };
  return std::min(add_tokens(steps, through(ends.anywhere)), through(ends.begun[prefix]));
}

}  // namespace kontor::inference
