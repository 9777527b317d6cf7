#include "inference/prefix_cache.hpp"

#include <algorithm>

namespace kontor::inference {
namespace {

std::int64_t common_length(std::span<const TokenId> a, std::span<const TokenId> b) {
  return std::mismatch(a.begin(), a.end(), b.begin(), b.end()).first - a.begin();
}

std::span<const TokenId> page_of(std::span<const TokenId> tokens, std::size_t begin) {
  return tokens.subspan(begin, std::min<std::size_t>(kPagePositions, tokens.size() - begin));
}

}  // namespace

PrefixCache::PrefixCache(std::uint64_t page_bytes, std::uint64_t limit_bytes)
    : page_bytes_(std::max<std::uint64_t>(1, page_bytes)), limit_pages_(limit_bytes / page_bytes_), root_(std::make_unique<Node>()) {}

PrefixCache::~PrefixCache() { clear(); }

/// The child that shares most with the tokens. Siblings are ordered like words, so it is a neighbour of where they
/// would stand.
PrefixCache::Step PrefixCache::best_child(const Node& node, std::span<const TokenId> tokens) {
  Step best;
  const auto consider = [&](const Children::value_type& child) {
    const std::int64_t shared = common_length(child.first, tokens);
    if (shared > best.shared) best = {child.second.get(), shared};
  };
  const auto at = node.children.lower_bound(std::vector<TokenId>(tokens.begin(), tokens.end()));
  if (at != node.children.end()) consider(*at);
  if (at != node.children.begin()) consider(*std::prev(at));
  return best;
}

std::vector<PrefixCache::Step> PrefixCache::path(const Node& root, std::span<const TokenId> tokens) {
  std::vector<Step> steps;
  const Node* node = &root;
  for (std::size_t at = 0; at < tokens.size(); at += kPagePositions) {
    const Step step = best_child(*node, page_of(tokens, at));
    if (step.shared == 0) break;
    steps.push_back(step);
    if (step.shared < kPagePositions) break;
    node = step.node;
  }
  return steps;
}

/// The node and all above it were used now.
void PrefixCache::touch(Node& node) {
  ++clock_;
  for (Node* n = &node; n->self; n = n->parent) {
    if (n->children.empty()) leaves_.erase({n->used, n});
    n->used = clock_;
    if (n->children.empty()) leaves_.insert({n->used, n});
  }
}

void PrefixCache::remove(Node& leaf) {
  Node& parent = *leaf.parent;
  leaves_.erase({leaf.used, &leaf});
  parent.children.erase(parent.children.find(leaf.self->first));
  --pages_;
  if (parent.self && parent.children.empty()) leaves_.insert({parent.used, &parent});
}

/// Room for one page more, below `keep`, which stays. False where there is none.
bool PrefixCache::make_room(const Node& keep) {
  while (pages_ >= limit_pages_) {
    if (leaves_.empty()) return false;
    auto oldest = leaves_.begin();
    if (oldest->second == &keep && ++oldest == leaves_.end()) return false;
    remove(*oldest->second);
  }
  return true;
}

PrefixCache::Node* PrefixCache::add(Node& parent, std::span<const TokenId> tokens, const KvPageRef& page) {
  if (!make_room(parent)) return nullptr;
  if (parent.self && parent.children.empty()) leaves_.erase({parent.used, &parent});
  const auto [place, added] = parent.children.emplace(std::vector<TokenId>(tokens.begin(), tokens.end()), std::make_unique<Node>());
  Node& node = *place->second;
  node.self = &*place;
  node.parent = &parent;
  node.page = page;
  leaves_.insert({node.used, &node});
  ++pages_;
  return &node;
}

PrefixCache::Match PrefixCache::find(std::span<const TokenId> tokens) {
  const std::lock_guard lock(mutex_);
  Match match;
  const std::vector<Step> steps = path(*root_, tokens);
  for (const Step& step : steps) {
    match.pages.push_back(step.node->page);
    match.length += step.shared;
  }
  if (!steps.empty()) touch(*steps.back().node);
  return match;
}

std::int64_t PrefixCache::match_length(std::span<const TokenId> tokens) const {
  const std::lock_guard lock(mutex_);
  std::int64_t length = 0;
  for (const Step& step : path(*root_, tokens)) length += step.shared;
  return length;
}

void PrefixCache::insert(std::span<const TokenId> tokens, std::span<const KvPageRef> pages) {
  const std::lock_guard lock(mutex_);
  Node* node = root_.get();
  for (std::size_t at = 0, i = 0; at < tokens.size() && i < pages.size(); at += kPagePositions, ++i) {
    const auto part = page_of(tokens, at);
    const auto length = static_cast<std::int64_t>(part.size());
    const Step step = best_child(*node, part);
    if (step.shared == length) {  // Held already, perhaps as the beginning of more.
      node = step.node;
    } else {
      // A shorter end of a timeline gives way to what continues it.
      if (step.node && step.shared == static_cast<std::int64_t>(step.node->self->first.size())) remove(*step.node);
      node = add(*node, part, pages[i]);
      if (!node) return;
    }
    touch(*node);
    if (length < kPagePositions) return;
  }
}

std::uint64_t PrefixCache::bytes() const {
  const std::lock_guard lock(mutex_);
  return pages_ * page_bytes_;
}

void PrefixCache::clear() {
  const std::lock_guard lock(mutex_);
  // Leaf by leaf: a long timeline is a deep tree, and destructors recurse.
  while (!leaves_.empty()) remove(*leaves_.begin()->second);
}

std::vector<PrefixCache::Entry> PrefixCache::entries(std::span<const std::vector<TokenId>> timelines) const {
  const std::lock_guard lock(mutex_);
  std::vector<Entry> result;
  std::map<const Node*, std::int64_t> index{{root_.get(), -1}};
  for (const auto& tokens : timelines)
    for (const Step& step : path(*root_, tokens)) {
      const auto [place, added] = index.emplace(step.node, static_cast<std::int64_t>(result.size()));
      if (added) result.push_back({index.at(step.node->parent), step.node->self->first, step.node->page});
    }
  return result;
}

void PrefixCache::insert(std::span<const Entry> entries) {
  std::vector<bool> has_child(entries.size());
  for (const Entry& entry : entries)
    if (entry.parent >= 0) has_child[static_cast<std::size_t>(entry.parent)] = true;
  for (std::size_t i = 0; i < entries.size(); ++i) {
    if (has_child[i]) continue;
    std::vector<std::size_t> nodes;
    for (auto at = static_cast<std::int64_t>(i); at >= 0; at = entries[static_cast<std::size_t>(at)].parent) nodes.push_back(static_cast<std::size_t>(at));
    std::vector<TokenId> tokens;
    std::vector<KvPageRef> pages;
    for (auto node = nodes.rbegin(); node != nodes.rend(); ++node) {
      tokens.insert(tokens.end(), entries[*node].tokens.begin(), entries[*node].tokens.end());
      pages.push_back(entries[*node].page);
    }
    insert(tokens, pages);
  }
}

Result<void> PrefixCache::check_integrity() const {
  const std::lock_guard lock(mutex_);
  const auto fault = [](const std::string& what) { return fail(Errc::internal, "prefix cache: " + what, "broken_cache"); };
  std::uint64_t pages = 0, leaves = 0;
  std::vector<const Node*> open{root_.get()};
  while (!open.empty()) {
    const Node& node = *open.back();
    open.pop_back();
    if (node.self) {
      const std::size_t length = node.self->first.size();
      ++pages;
      if (!node.page) return fault("a node has no page");
      if (length == 0 || length > kPagePositions) return fault("a node has " + std::to_string(length) + " tokens");
      if (length < kPagePositions && !node.children.empty()) return fault("a page filled in part has children");
      if (node.parent->used < node.used && node.parent->self) return fault("a node was used after its parent");
      if (node.children.empty() && ++leaves && !leaves_.contains({node.used, const_cast<Node*>(&node)})) return fault("a leaf is not in the list");
    }
    const std::vector<TokenId>* previous = nullptr;
    for (const auto& child : node.children) {
      if (child.second->self != &child || child.second->parent != &node) return fault("a node does not know its place");
      if (previous && common_length(*previous, child.first) == static_cast<std::int64_t>(previous->size()))
        return fault("a node begins like its sibling");
      previous = &child.first;
      open.push_back(child.second.get());
    }
  }
  if (pages != pages_) return fault(std::to_string(pages_) + " pages counted, " + std::to_string(pages) + " there");
  if (leaves != leaves_.size()) return fault("the list of leaves holds what is no leaf");
  if (pages_ > limit_pages_) return fault("more pages than the limit");
  return {};
}

}  // namespace kontor::inference
