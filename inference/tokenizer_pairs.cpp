#include "inference/tokenizer_pairs.hpp"

#include "inference/weight_file.hpp"

#include <array>
#include <bit>
#include <queue>

namespace kontor::inference {
namespace {

constexpr std::size_t kShort = 40;  // symbols; above, a heap beats scanning

}  // namespace

Result<MergeTable> MergeTable::build(const MergePairs& pairs, const Vocabulary& vocabulary, TokenSpelling spelling, const std::string& where) {
  MergeTable table;
  table.merges_.assign(std::bit_ceil(2 * pairs.size() + 2), Merge{});
  table.mask_ = table.merges_.size() - 1;
  table.seed_ = vocabulary.seed();
  std::string raw;
  const auto append = [&](std::string_view text) {
    if (spelling == TokenSpelling::byte_alphabet) append_from_byte_alphabet(text, raw);
    else raw += text;
  };
  for (std::size_t rank = 0; rank < pairs.size(); ++rank) {
    const std::string_view first = pairs[rank].first, second = pairs[rank].second;
    const auto wrong = [&](const std::string& why) {
      return fail(Errc::malformed, "merge " + std::to_string(rank) + " \"" + printable(first) + " " + printable(second) + "\" " + why, "bad_vocab", where);
    };
    if (first.size() + second.size() > 2 * kMaxTokenBytes) return wrong("is too long");
    if (first.empty() || second.empty()) return wrong("is not a pair");
    raw.clear();
    append(first);
    const std::size_t middle = raw.size();
    append(second);
    const TokenId left = vocabulary.find_text(std::string_view(raw).substr(0, middle));
    const TokenId right = vocabulary.find_text(std::string_view(raw).substr(middle));
    const TokenId result = vocabulary.find_text(raw);
    if (left < 0 || right < 0 || result < 0) return wrong("joins or gives a token that the vocabulary does not have");
    const std::uint64_t key = key_of(left, right);
    std::size_t slot = table.hash(key) & table.mask_;
    while (table.merges_[slot].pair != kNoPair && table.merges_[slot].pair != key) slot = (slot + 1) & table.mask_;
    if (table.merges_[slot].pair != kNoPair) continue;
    table.merges_[slot] = {key, static_cast<std::int32_t>(rank), result};
    ++table.count_;
  }
  return table;
}

void MergeTable::merge(std::vector<TokenId>& ids) const { ids.size() <= kShort ? merge_short(ids) : merge_long(ids); }

void MergeTable::merge_short(std::vector<TokenId>& ids) const {
  constexpr std::int32_t kNone = INT32_MAX;
  std::array<std::int32_t, kShort> ranks;  // of the pair that starts here
  std::array<TokenId, kShort> results;
  std::size_t count = ids.size();
  const auto look_up = [&](std::size_t i) {
    const Merge* found = i + 1 < count ? find(ids[i], ids[i + 1]) : nullptr;
    ranks[i] = found ? found->rank : kNone;
    results[i] = found ? found->result : -1;
  };
  for (std::size_t i = 0; i < count; ++i) look_up(i);
  while (count > 1) {
    std::size_t best = 0;
    for (std::size_t i = 1; i + 1 < count; ++i)
      if (ranks[i] < ranks[best]) best = i;
    if (ranks[best] == kNone) break;
    ids[best] = results[best];
    --count;
    for (std::size_t i = best + 1; i < count; ++i) {
      ids[i] = ids[i + 1];
      ranks[i] = ranks[i + 1];
      results[i] = results[i + 1];
    }
    look_up(best);
    if (best > 0) look_up(best - 1);
  }
  ids.resize(count);
}

void MergeTable::merge_long(std::vector<TokenId>& ids) const {
  struct Symbol {
    TokenId id;
    bool gone;
    std::uint32_t previous, next;
  };
  struct Candidate {
    std::int32_t rank;
    std::uint32_t left;
    std::uint64_t pair;  // as it was when found: outdated where the symbols have changed since
    TokenId result;
    bool operator<(const Candidate& other) const { return rank != other.rank ? rank > other.rank : left > other.left; }
  };
  constexpr std::uint32_t kNone = UINT32_MAX;
  const auto count = static_cast<std::uint32_t>(ids.size());
  std::vector<Symbol> symbols(count);
  std::vector<Candidate> found_at_start;
  for (std::uint32_t i = 0; i < count; ++i) symbols[i] = {ids[i], false, i == 0 ? kNone : i - 1, i + 1 == count ? kNone : i + 1};
  for (std::uint32_t i = 0; i + 1 < count; ++i)
    if (const Merge* found = find(ids[i], ids[i + 1])) found_at_start.push_back({found->rank, i, found->pair, found->result});
  std::priority_queue<Candidate> queue(std::less<Candidate>(), std::move(found_at_start));
  const auto consider = [&](std::uint32_t left) {
    const std::uint32_t right = symbols[left].next;
    if (right == kNone) return;
    if (const Merge* found = find(symbols[left].id, symbols[right].id)) queue.push({found->rank, left, found->pair, found->result});
  };
  while (!queue.empty()) {
    const Candidate candidate = queue.top();
    queue.pop();
    Symbol& left = symbols[candidate.left];
    if (left.gone || left.next == kNone || key_of(left.id, symbols[left.next].id) != candidate.pair) continue;
    Symbol& right = symbols[left.next];
    left.id = candidate.result;
    right.gone = true;
    left.next = right.next;
    if (left.next != kNone) symbols[left.next].previous = candidate.left;
    consider(candidate.left);
    if (left.previous != kNone) consider(left.previous);
  }
  std::size_t kept = 0;
  for (std::uint32_t i = 0; i != kNone; i = symbols[i].next) ids[kept++] = symbols[i].id;
  ids.resize(kept);
}

}  // namespace kontor::inference
