#pragma once
// What sessions have computed, by token ids, so that the next one need not compute it again: a tree of KV pages in which
// every path from the root spells a token timeline.

#include "base/error.hpp"
#include "inference/backend.hpp"
#include "inference/text_model.hpp"

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <span>
#include <vector>

namespace kontor::inference {

/// A node holds one page and the ids of its tokens: 64, or fewer at the end of a timeline. Nodes with fewer have no
/// children, and no node's tokens begin with those of a sibling. Sessions that share a cache see how long their prompts
/// take and so can tell what others asked: one cache belongs to one tenant. Thread-safe.
class PrefixCache {
 public:
  PrefixCache(std::uint64_t page_bytes, std::uint64_t limit_bytes);
  ~PrefixCache();
  PrefixCache(const PrefixCache&) = delete;
  PrefixCache& operator=(const PrefixCache&) = delete;

  struct Match {
    std::vector<KvPageRef> pages;  ///< For Sequence::adopt; the last one may hold more than the match.
    std::int64_t length = 0;       ///< Tokens.
  };
  /// The longest prefix of `tokens` that is held. Counts as a use of it.
  Match find(std::span<const TokenId> tokens);
  /// Length of what find() would return, without a use.
  std::int64_t match_length(std::span<const TokenId> tokens) const;

  /// Keeps the timeline: `pages` holds its tokens. Where it is full, what was used least recently goes, latest pages
  /// first; a timeline longer than the limit is kept in part.
  void insert(std::span<const TokenId> tokens, std::span<const KvPageRef> pages);

  std::uint64_t bytes() const;
  std::uint64_t limit_bytes() const { return limit_pages_ * page_bytes_; }
  void clear();

  /// A node in a list of nodes; parents come first.
  struct Entry {
    std::int64_t parent = -1;  ///< Index in the list; -1: the root.
    std::vector<TokenId> tokens;
    KvPageRef page;
  };
  /// The nodes on the paths of these timelines, without a use.
  std::vector<Entry> entries(std::span<const std::vector<TokenId>> timelines) const;

  /// Keeps the timelines that the entries spell. `entries`: parents before children, full where something follows.
  void insert(std::span<const Entry> entries);

  /// Whether all of the above holds: shapes of nodes, order of siblings, counts, the list of leaves. Errors: internal,
  /// with the first fault.
  Result<void> check_integrity() const;

 private:
  struct Node;
  using Children = std::map<std::vector<TokenId>, std::unique_ptr<Node>>;
  struct Node {
    const Children::value_type* self = nullptr;  ///< Where the parent holds it; null for the root.
    Node* parent = nullptr;
    KvPageRef page;
    Children children;
    std::uint64_t used = 0;  ///< Time of the last use, counted in uses. Never before that of a child.
  };
  struct Step {
    Node* node = nullptr;
    std::int64_t shared = 0;  ///< Tokens of the node that match.
  };

  static Step best_child(const Node& node, std::span<const TokenId> tokens);
  static std::vector<Step> path(const Node& root, std::span<const TokenId> tokens);
  void touch(Node& node);
  void remove(Node& leaf);
  bool make_room(const Node& keep);
  Node* add(Node& parent, std::span<const TokenId> tokens, const KvPageRef& page);

  const std::uint64_t page_bytes_, limit_pages_;
  mutable std::mutex mutex_;
  std::unique_ptr<Node> root_;
  std::set<std::pair<std::uint64_t, Node*>> leaves_;
  std::uint64_t pages_ = 0;
  std::uint64_t clock_ = 0;
};

}  // namespace kontor::inference
