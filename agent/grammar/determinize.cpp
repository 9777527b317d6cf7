#include "agent/grammar/determinize.hpp"

#include <algorithm>
#include <array>
#include <unordered_map>
#include <utility>

namespace kontor::agent {
namespace {

/// Jumps and what they lead to before more text is looked at: the work that one pattern may take.
constexpr std::size_t kWorkMax = 20'000'000;

using Set = std::vector<std::uint32_t>;

class Subsets {
 public:
  explicit Subsets(const Nfa& nfa) : nfa_(nfa), marks_(nfa.nodes.size()) {
    find_useful();
    cut_bytes();
  }

  Result<ByteDfa> run() {
    intern({nfa_.start}, true);
    std::vector<Set> targets(classes_);
    for (std::size_t i = 0; i < sets_.size(); ++i) {
      if (i >= kDfaStatesMax || work_ > kWorkMax) return fail(Errc::limit, "the pattern needs too many states", "dfa_size");
      for (Set& set : targets) set.clear();
      for (const auto id : sets_[i]) {
        const NfaNode& node = nfa_.nodes[id];
        for (std::size_t c = class_of_[node.low]; c <= class_of_[node.high]; ++c) targets[c].push_back(node.a);
      }
      std::vector<ByteDfa::Range> ranges;
      std::uint32_t to = 0;
      for (std::size_t c = 0; c < classes_; ++c) {
        if (targets[c].empty()) continue;
        work_ += targets[c].size();
        // Neighbours mostly lead to the same place.
        if (c == 0 || targets[c] != targets[c - 1]) to = intern(targets[c], false);
        const auto low = first_[c], high = static_cast<std::uint8_t>(c + 1 == classes_ ? 0xFF : first_[c + 1] - 1);
        if (!ranges.empty() && ranges.back().to == to && ranges.back().high + 1 == low) ranges.back().high = high;
        else ranges.push_back({low, high, to});
      }
      dfa_.states[i].ranges = std::move(ranges);
    }
    reduce(dfa_);
    return std::move(dfa_);
  }

 private:
  /// Nodes from which the end can be reached once something was read: '^' holds no more.
  void find_useful() {
    const auto& nodes = nfa_.nodes;
    std::vector<std::uint32_t> count(nodes.size() + 1);
    const auto each = [&](const auto& use) {
      for (std::uint32_t id = 0; id < nodes.size(); ++id) {
        if (nodes[id].assertion == NfaNode::Assert::begin) continue;
        for (const auto to : {nodes[id].a, nodes[id].b})
          if (to != kNoNfaNode) use(id, to);
      }
    };
    each([&](std::uint32_t, std::uint32_t to) { ++count[to + 1]; });
    for (std::size_t i = 1; i < count.size(); ++i) count[i] += count[i - 1];
    std::vector<std::uint32_t> back(count.back()), at(count.begin(), count.end() - 1);
    each([&](std::uint32_t from, std::uint32_t to) { back[at[to]++] = from; });
    useful_.assign(nodes.size(), false);
    Set work{nfa_.final};
    useful_[nfa_.final] = true;
    while (!work.empty()) {
      const auto id = work.back();
      work.pop_back();
      for (auto i = count[id]; i < count[id + 1]; ++i)
        if (!useful_[back[i]]) useful_[back[i]] = true, work.push_back(back[i]);
    }
  }

  /// Bytes that no node tells apart are one class.
  void cut_bytes() {
    std::array<bool, 257> border{};
    for (const NfaNode& node : nfa_.nodes)
      if (node.reads()) border[node.low] = border[node.high + 1] = true;
    for (std::size_t byte = 0; byte < 256; ++byte) {
      if (byte == 0 || border[byte]) first_[classes_++] = static_cast<std::uint8_t>(byte);
      class_of_[byte] = static_cast<std::uint8_t>(classes_ - 1);
    }
  }

  /// The nodes that read, of those reached from `set`; what jumps tells no states apart.
  struct Closed {
    Set reading;
    bool anything = false;  ///< The pattern was found: whatever follows is right.
    bool accepts = false;
  };
  Closed close(Set set, bool begin) {
    Closed out;
    bool guarded = true;
    for (const bool end : {false, true}) {
      if (!guarded) break;  // Nothing is different at the end of the text.
      guarded = false;
      ++mark_;
      Set work = set;
      for (const auto id : work) marks_[id] = mark_;
      for (std::size_t i = 0; i < work.size(); ++i) {
        const std::uint32_t id = work[i];
        const NfaNode& from = nfa_.nodes[id];
        if (from.reads()) {
          if (!end && useful_[from.a]) out.reading.push_back(id);
          continue;
        }
        if (id == nfa_.final) (end ? out.accepts : out.anything) = true;
        if (from.assertion == NfaNode::Assert::begin && !begin) continue;
        if (from.assertion == NfaNode::Assert::end && !end) {
          guarded = true;
          continue;
        }
        for (const std::uint32_t to : {from.a, from.b})
          if (to != kNoNfaNode && marks_[to] != mark_) marks_[to] = mark_, work.push_back(to);
      }
      work_ += work.size();
      if (out.anything) break;
    }
    return out;
  }

  std::uint32_t intern(Set targets, bool begin) {
    Closed closed = close(std::move(targets), begin);
    if (closed.anything) {
      if (anything_ != kNoNfaNode) return anything_;
      closed = close({nfa_.behind}, false);
      closed.accepts = true;
    }
    std::sort(closed.reading.begin(), closed.reading.end());
    std::uint64_t hash = closed.accepts ? 3 : 5;
    for (const auto id : closed.reading) hash = (hash ^ id) * 0x9E3779B97F4A7C15u, hash ^= hash >> 29;
    const auto [from, to] = ids_.equal_range(hash);
    for (auto it = from; it != to; ++it)
      if (dfa_.states[it->second].accepts == closed.accepts && sets_[it->second] == closed.reading) return it->second;
    const auto id = static_cast<std::uint32_t>(sets_.size());
    ids_.emplace(hash, id);
    if (closed.anything) anything_ = id;
    dfa_.states.push_back({closed.accepts, {}});
    sets_.push_back(std::move(closed.reading));
    return id;
  }

  const Nfa& nfa_;
  std::vector<std::uint32_t> marks_;
  std::uint32_t mark_ = 0;
  std::vector<bool> useful_;
  std::array<std::uint8_t, 256> first_{}, class_of_{};
  std::size_t classes_ = 0, work_ = 0;
  ByteDfa dfa_;
  std::vector<Set> sets_;
  std::unordered_multimap<std::uint64_t, std::uint32_t> ids_;
  std::uint32_t anything_ = kNoNfaNode;
};

}  // namespace

Result<ByteDfa> determinize(const Nfa& nfa) { return Subsets(nfa).run(); }

}  // namespace kontor::agent
