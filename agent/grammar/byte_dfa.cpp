#include "agent/grammar/byte_dfa.hpp"

#include <algorithm>
#include <map>
#include <unordered_map>
#include <utility>

namespace kontor::agent {
namespace {

using inference::Grammar;
using inference::NodeId;

Error too_large() { return fail(Errc::limit, "it needs more than " + std::to_string(kDfaStatesMax) + " states", "dfa_size"); }

/// Explores pairs of a state and something else from (0, 0) on.
class Product {
 public:
  std::uint32_t state(std::uint32_t a, std::uint32_t b) {
    const auto [it, fresh] = ids_.try_emplace({a, b}, static_cast<std::uint32_t>(pairs_.size()));
    if (fresh) {
      pairs_.emplace_back(a, b);
      out.states.emplace_back();
    }
    return it->second;
  }
  std::size_t size() const { return pairs_.size(); }
  std::pair<std::uint32_t, std::uint32_t> pair(std::size_t i) const { return pairs_[i]; }

  ByteDfa out;

 private:
  std::map<std::pair<std::uint32_t, std::uint32_t>, std::uint32_t> ids_;
  std::vector<std::pair<std::uint32_t, std::uint32_t>> pairs_;
};

constexpr std::uint32_t kUnseen = ~std::uint32_t{0};

/// Removes the ways to states from which nothing is accepted; where that is all, the states, too.
void remove_dead(ByteDfa& dfa) {
  const std::size_t n = dfa.states.size();
  std::vector<std::uint32_t> first(n + 1), work;
  for (const auto& state : dfa.states)
    for (const auto& range : state.ranges) ++first[range.to + 1];
  for (std::size_t i = 1; i <= n; ++i) first[i] += first[i - 1];
  std::vector<std::uint32_t> back(first.back()), at(first.begin(), first.end() - 1);
  std::vector<bool> alive(n);
  for (std::uint32_t i = 0; i < n; ++i) {
    for (const auto& range : dfa.states[i].ranges) back[at[range.to]++] = i;
    if (dfa.states[i].accepts) alive[i] = true, work.push_back(i);
  }
  while (!work.empty()) {
    const std::uint32_t to = work.back();
    work.pop_back();
    for (auto i = first[to]; i < first[to + 1]; ++i)
      if (!alive[back[i]]) alive[back[i]] = true, work.push_back(back[i]);
  }
  if (n == 0 || !alive[0]) return dfa.states.clear();
  for (auto& state : dfa.states) std::erase_if(state.ranges, [&](const auto& range) { return !alive[range.to]; });
}

/// For each state one that accepts the same; the same one for all that are found equal from their ends backwards, which
/// is all of them where nothing repeats without end.
std::vector<std::uint32_t> find_equal(const ByteDfa& dfa) {
  std::vector<std::uint32_t> same(dfa.states.size(), kUnseen), path;
  std::vector<std::size_t> next(dfa.states.size());
  std::unordered_multimap<std::uint64_t, std::uint32_t> known;
  const auto target = [&](std::uint32_t state) { return same[state] == kUnseen ? state : same[state]; };
  const auto equal = [&](const ByteDfa::State& a, const ByteDfa::State& b) {
    return a.accepts == b.accepts && std::equal(a.ranges.begin(), a.ranges.end(), b.ranges.begin(), b.ranges.end(), [&](const auto& x, const auto& y) {
             return x.low == y.low && x.high == y.high && target(x.to) == target(y.to);
           });
  };
  const auto settle = [&](std::uint32_t id) {
    const ByteDfa::State& state = dfa.states[id];
    std::uint64_t hash = state.accepts ? 3 : 5;
    for (const auto& range : state.ranges) {
      hash = (hash ^ (std::uint64_t{range.low} << 40 ^ std::uint64_t{range.high} << 32 ^ target(range.to))) * 0x9E3779B97F4A7C15u;
      hash ^= hash >> 29;
    }
    const auto [from, to] = known.equal_range(hash);
    for (auto it = from; it != to; ++it)
      if (equal(dfa.states[it->second], state)) return it->second;
    known.emplace(hash, id);
    return id;
  };
  // Depth first, without recursion: a state is settled behind all that it leads to, but for those that lead back to it.
  std::vector<bool> seen(dfa.states.size());
  path.push_back(0);
  seen[0] = true;
  while (!path.empty()) {
    const std::uint32_t id = path.back();
    const auto& ranges = dfa.states[id].ranges;
    if (next[id] < ranges.size()) {
      const std::uint32_t to = ranges[next[id]++].to;
      if (!seen[to]) seen[to] = true, path.push_back(to);
      continue;
    }
    same[id] = settle(id);
    path.pop_back();
  }
  return same;
}

}  // namespace

void reduce(ByteDfa& dfa) {
  remove_dead(dfa);
  if (dfa.empty()) return;
  const std::vector<std::uint32_t> same = find_equal(dfa);
  // Numbered again in the order in which they are reached.
  std::vector<std::uint32_t> names(dfa.states.size(), kUnseen), order;
  const auto name = [&](std::uint32_t state) {
    state = same[state];
    if (names[state] == kUnseen) names[state] = static_cast<std::uint32_t>(order.size()), order.push_back(state);
    return names[state];
  };
  ByteDfa out;
  out.states.reserve(dfa.states.size());
  name(0);
  for (std::size_t i = 0; i < order.size(); ++i) {
    out.states.push_back(std::move(dfa.states[order[i]]));
    for (auto& range : out.states.back().ranges) range.to = name(range.to);
  }
  dfa = std::move(out);
}

Result<ByteDfa> intersect(const ByteDfa& a, const ByteDfa& b) {
  if (a.empty() || b.empty()) return ByteDfa{};
  Product product;
  product.state(0, 0);
  for (std::size_t i = 0; i < product.size(); ++i) {
    if (i >= kDfaStatesMax) return too_large();
    const auto [x, y] = product.pair(i);
    product.out.states[i].accepts = a.states[x].accepts && b.states[y].accepts;
    std::vector<ByteDfa::Range> ranges;
    for (const auto& p : a.states[x].ranges)
      for (const auto& q : b.states[y].ranges) {
        const auto low = std::max(p.low, q.low), high = std::min(p.high, q.high);
        if (low <= high) ranges.push_back({low, high, product.state(p.to, q.to)});
      }
    product.out.states[i].ranges = std::move(ranges);
  }
  reduce(product.out);
  return std::move(product.out);
}

Result<ByteDfa> with_length(const ByteDfa& dfa, std::uint32_t least, std::uint32_t most) {
  if (dfa.empty() || (least == 0 && most == inference::kNoLimit)) return dfa;
  Product product;
  product.state(0, 0);
  const bool open = most == inference::kNoLimit;
  for (std::size_t i = 0; i < product.size(); ++i) {
    if (i >= kDfaStatesMax) return too_large();
    const auto [x, count] = product.pair(i);
    product.out.states[i].accepts = dfa.states[x].accepts && count >= least;
    std::vector<ByteDfa::Range> ranges;
    for (const auto& range : dfa.states[x].ranges) {
      // Characters count at their first byte; ranges do not mix first and further bytes, or are cut here.
      const auto add = [&](int low, int high, std::uint32_t next) {
        if (low <= high) ranges.push_back({static_cast<std::uint8_t>(low), static_cast<std::uint8_t>(high), product.state(range.to, next)});
      };
      const std::uint32_t next = open ? std::min(count + 1, least) : count + 1;
      if (open || count < most) add(range.low, std::min<int>(range.high, 0x7F), next);
      add(std::max<int>(range.low, 0x80), std::min<int>(range.high, 0xBF), count);
      if (open || count < most) add(std::max<int>(range.low, 0xC0), range.high, next);
    }
    product.out.states[i].ranges = std::move(ranges);
  }
  reduce(product.out);
  return std::move(product.out);
}

bool accepts(const ByteDfa& dfa, std::string_view text) {
  if (dfa.empty()) return false;
  std::uint32_t at = 0;
  for (const char c : text) {
    const auto byte = static_cast<std::uint8_t>(c);
    const auto& ranges = dfa.states[at].ranges;
    const auto range = std::find_if(ranges.begin(), ranges.end(), [&](const auto& r) { return byte >= r.low && byte <= r.high; });
    if (range == ranges.end()) return false;
    at = range->to;
  }
  return dfa.states[at].accepts;
}

namespace {

/// Edges that spell one byte of a string's value; bytes that stand for themselves are edges of `from`.
class Speller {
 public:
  Speller(Grammar& grammar, NodeId from) : grammar_(grammar), from_(from) {}

  void add(int low, int high, NodeId to) {
    for (int c = low; c <= high && c < 0x20; ++c) control(c, to);
    for (const int c : {'"', '\\'})
      if (c >= low && c <= high) grammar_.edge(escape(), static_cast<std::uint8_t>(c), static_cast<std::uint8_t>(c), to);
    plain(std::max(low, 0x20), std::min(high, '"' - 1), to);
    plain(std::max(low, '"' + 1), std::min(high, '\\' - 1), to);
    plain(std::max(low, '\\' + 1), high, to);
  }

 private:
  void plain(int low, int high, NodeId to) {
    if (low <= high) grammar_.edge(from_, static_cast<std::uint8_t>(low), static_cast<std::uint8_t>(high), to);
  }
  NodeId escape() {
    if (escape_ == inference::kNoNode) escape_ = grammar_.literal(from_, "\\");
    return escape_;
  }
  void control(int c, NodeId to) {
    constexpr std::string_view kShort = "\b\f\n\r\t", kLetters = "bfnrt";
    if (const auto at = kShort.find(static_cast<char>(c)); at != std::string_view::npos && c != 0) {
      const auto letter = static_cast<std::uint8_t>(kLetters[at]);
      return grammar_.edge(escape(), letter, letter, to);
    }
    NodeId& half = half_[c >> 4];
    if (zeros_ == inference::kNoNode) zeros_ = grammar_.literal(escape(), "u00");
    if (half == inference::kNoNode) half = grammar_.literal(zeros_, c >> 4 ? "1" : "0");
    const auto digit = static_cast<std::uint8_t>("0123456789abcdef"[c & 15]);
    grammar_.edge(half, digit, digit, to);
  }

  Grammar& grammar_;
  NodeId from_;
  NodeId escape_ = inference::kNoNode, zeros_ = inference::kNoNode;
  NodeId half_[2] = {inference::kNoNode, inference::kNoNode};
};

NodeId first_of(Grammar& grammar, const ByteDfa& dfa) {
  const auto first = static_cast<NodeId>(grammar.size());
  for (std::size_t i = 0; i < std::max<std::size_t>(dfa.states.size(), 1); ++i) grammar.add();
  return first;
}

}  // namespace

NodeId add_string(Grammar& grammar, const ByteDfa& dfa, NodeId next) {
  const NodeId first = first_of(grammar, dfa);
  for (std::uint32_t i = 0; i < dfa.states.size(); ++i) {
    Speller speller(grammar, first + i);
    for (const auto& range : dfa.states[i].ranges) speller.add(range.low, range.high, first + range.to);
    if (dfa.states[i].accepts) grammar.edge(first + i, '"', '"', next);
  }
  return first;
}

NodeId add_plain(Grammar& grammar, const ByteDfa& dfa) {
  const NodeId first = first_of(grammar, dfa);
  for (std::uint32_t i = 0; i < dfa.states.size(); ++i) {
    for (const auto& range : dfa.states[i].ranges) grammar.edge(first + i, range.low, range.high, first + range.to);
    grammar.at(first + i).returns = dfa.states[i].accepts;
  }
  return first;
}

}  // namespace kontor::agent
