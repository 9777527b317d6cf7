#include "inference/grammar.hpp"

#include <algorithm>
#include <array>

namespace kontor::inference {
namespace {

constexpr std::uint32_t kNever = ~std::uint32_t{0};

void build_prefixes(FreeText& text) {
  text.prefixes.assign(1, {});
  for (std::size_t i = 0; i < text.markers.size(); ++i) {
    std::uint16_t at = 0;
    for (const char c : text.markers[i].bytes) {
      const auto byte = static_cast<std::uint8_t>(c);
      auto& next = text.prefixes[at].next;
      const auto found = std::find_if(next.begin(), next.end(), [&](const auto& entry) { return entry.first == byte; });
      if (found != next.end()) {
        at = found->second;
        continue;
      }
      const auto made = static_cast<std::uint16_t>(text.prefixes.size());
      next.emplace_back(byte, made);
      text.prefixes.emplace_back();
      at = made;
    }
    text.prefixes[at].marker = static_cast<std::int32_t>(i);
  }
}

}  // namespace

NodeId Grammar::add(Node node) {
  nodes_.push_back(std::move(node));
  return static_cast<NodeId>(nodes_.size() - 1);
}

NodeId Grammar::literal(NodeId from, std::string_view bytes) {
  for (const char c : bytes) {
    const NodeId to = add();
    edge(from, static_cast<std::uint8_t>(c), static_cast<std::uint8_t>(c), to);
    from = to;
  }
  return from;
}

NodeId Grammar::string_body(StringBody parameters, NodeId next) {
  Node node;
  node.kind = NodeKind::string_body;
  node.parameters = static_cast<std::uint32_t>(strings_.size());
  node.next = next;
  strings_.push_back(parameters);
  return add(std::move(node));
}

NodeId Grammar::fresh_key(FreshKey parameters, NodeId next) {
  Node node;
  node.kind = NodeKind::fresh_key;
  node.parameters = static_cast<std::uint32_t>(keys_.size());
  node.next = next;
  keys_.push_back(std::move(parameters));
  return add(std::move(node));
}

NodeId Grammar::verbatim(VerbatimBody parameters, NodeId next) {
  Node node;
  node.kind = NodeKind::verbatim;
  node.parameters = static_cast<std::uint32_t>(verbatims_.size());
  node.next = next;
  verbatims_.push_back(parameters);
  return add(std::move(node));
}

NodeId Grammar::text(FreeText parameters) {
  Node node;
  node.kind = NodeKind::text;
  node.parameters = static_cast<std::uint32_t>(texts_.size());
  texts_.push_back(std::move(parameters));
  return add(std::move(node));
}

/// Heights from the ends backwards, least first (Knuth's generalisation of Dijkstra's algorithm): each node is settled
/// once, so a hostile network costs no more than its edges.
void Grammar::measure() {
  struct Back {
    NodeId node;
    std::int32_t call;  ///< Index of the call, -1 for an edge that reads or jumps.
  };
  const auto each = [&](const auto& use) {
    for (NodeId id = 0; id < nodes_.size(); ++id) {
      const Node& node = nodes_[id];
      for (const auto& e : node.bytes) use(e.to, Back{id, -1});
      for (const auto& e : node.jumps) use(e.to, Back{id, -1});
      for (const auto& e : node.tokens) use(e.to, Back{id, -1});
      if (node.next != kNoNode) use(node.next, Back{id, -1});
      if (node.kind == NodeKind::text)
        for (const auto& m : texts_[node.parameters].markers)
          if (m.to != kNoNode) use(m.to, Back{id, -1});
      for (std::size_t i = 0; i < node.calls.size(); ++i) {
        use(node.calls[i].start, Back{id, static_cast<std::int32_t>(i)});
        use(node.calls[i].back, Back{id, static_cast<std::int32_t>(i)});
      }
    }
  };
  std::vector<std::uint32_t> first(nodes_.size() + 1);
  each([&](NodeId to, Back) { ++first[to + 1]; });
  for (std::size_t i = 1; i < first.size(); ++i) first[i] += first[i - 1];
  std::vector<Back> back(first.back());
  std::vector<std::uint32_t> at(first.begin(), first.end() - 1);
  each([&](NodeId to, Back from) { back[at[to]++] = from; });
  for (Node& node : nodes_) node.height = kNever;
  std::array<std::vector<NodeId>, kCallDepthMax + 1> ready;
  for (NodeId id = 0; id < nodes_.size(); ++id)
    if (nodes_[id].returns) ready[0].push_back(id);
  std::vector<bool> settled(nodes_.size());
  for (std::uint32_t height = 0; height <= kCallDepthMax; ++height) {
    for (std::size_t i = 0; i < ready[height].size(); ++i) {
      const NodeId id = ready[height][i];
      if (settled[id]) continue;
      settled[id] = true;
      nodes_[id].height = height;
      for (auto b = first[id]; b < first[id + 1]; ++b) {
        const Back& from = back[b];
        if (settled[from.node]) continue;
        std::uint32_t value = height;
        if (from.call >= 0) {
          const Call& call = nodes_[from.node].calls[static_cast<std::size_t>(from.call)];
          if (!settled[call.start] || !settled[call.back]) continue;
          value = std::max(nodes_[call.start].height + 1, nodes_[call.back].height);
        }
        if (value <= kCallDepthMax) ready[value].push_back(from.node);
      }
    }
  }
}

void Grammar::prune() {
  const auto dead = [&](NodeId id) { return nodes_[id].height > kCallDepthMax; };
  for (Node& node : nodes_) {
    std::erase_if(node.bytes, [&](const ByteEdge& e) { return dead(e.to); });
    std::erase_if(node.jumps, [&](const Jump& e) { return dead(e.to); });
    std::erase_if(node.tokens, [&](const TokenEdge& e) { return dead(e.to); });
    std::erase_if(node.calls, [&](const Call& e) { return dead(e.start) || dead(e.back); });
  }
  for (FreeText& text : texts_)
    for (TextMarker& marker : text.markers)
      if (marker.to != kNoNode && dead(marker.to)) marker.to = kNoNode;
}

Result<void> Grammar::finish() {
  if (nodes_.size() > kGrammarNodesMax)
    return fail(Errc::limit, "the grammar has more than " + std::to_string(kGrammarNodesMax) + " nodes", "grammar_size");
  for (FreeText& text : texts_) build_prefixes(text);
  measure();
  if (start_ == kNoNode || nodes_[start_].height > kCallDepthMax) return fail(Errc::malformed, "no output satisfies the grammar", "unsatisfiable");
  prune();
  return {};
}

}  // namespace kontor::inference
