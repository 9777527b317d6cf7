#include "tools/nearest.hpp"

#include "tools/code_points.hpp"

#include <algorithm>
#include <cstdint>

namespace kontor::tools {
namespace {

constexpr std::size_t kCompared = 100'000;
thread_local std::size_t names_left = 0;
thread_local bool is_bounded = false;

std::vector<std::uint32_t> folded(std::string_view text, std::size_t limit) {
  std::vector<std::uint32_t> points;
  for (std::size_t at = 0; at < text.size() && points.size() <= limit;) {
    const std::size_t length = code_point_length(text, at);
    std::uint32_t c = code_point_at(text, at, length);
    if (c >= 'A' && c <= 'Z') c += 'a' - 'A';
    if (c == '-') c = '_';
    if (!is_hidden(c)) points.push_back(c);
    at += length;
  }
  return points;
}

}  // namespace

std::size_t edit_distance(std::string_view a, std::string_view b, std::size_t limit) {
  constexpr std::size_t kLongest = 200;
  const auto x = folded(a, kLongest);
  const auto y = folded(b, kLongest);
  const std::size_t gap = x.size() > y.size() ? x.size() - y.size() : y.size() - x.size();
  if (gap > limit || x.size() > kLongest || y.size() > kLongest) return limit + 1;
  std::vector<std::size_t> before(y.size() + 1), last(y.size() + 1), row(y.size() + 1);
  for (std::size_t j = 0; j <= y.size(); ++j) last[j] = j;
  for (std::size_t i = 1; i <= x.size(); ++i) {
    row[0] = i;
    std::size_t best = row[0];
    for (std::size_t j = 1; j <= y.size(); ++j) {
      row[j] = std::min({last[j] + 1, row[j - 1] + 1, last[j - 1] + (x[i - 1] != y[j - 1])});
      if (i > 1 && j > 1 && x[i - 1] == y[j - 2] && x[i - 2] == y[j - 1]) row[j] = std::min(row[j], before[j - 2] + 1);
      best = std::min(best, row[j]);
    }
    if (best > limit) return limit + 1;
    before.swap(last);
    last.swap(row);
  }
  return last[y.size()];
}

std::string nearest(std::string_view word, const std::vector<std::string>& names) {
  // Short words need to be closer: two edits turn any three letters into another word.
  const std::size_t length = count_code_points(word, word.size());
  const std::size_t allowed = length <= 2 ? 1 : length <= 5 ? 2 : 3;
  std::string best;
  std::size_t best_distance = allowed + 1;
  // Of names as near as each other, the one that begins as the word does.
  const auto same_start = [&](const std::string& name) { return std::mismatch(name.begin(), name.end(), word.begin(), word.end()).first - name.begin(); };
  if (is_bounded && names.size() > names_left) return best;
  if (is_bounded) names_left -= names.size();
  for (const auto& name : names) {
    const std::size_t distance = edit_distance(word, name, allowed);
    if (distance > allowed || distance >= std::max(name.size(), word.size())) continue;
    if (distance < best_distance || (distance == best_distance && same_start(name) > same_start(best))) best = name, best_distance = distance;
  }
  return best;
}

SuggestionBudget::SuggestionBudget() { names_left = kCompared, is_bounded = true; }
SuggestionBudget::~SuggestionBudget() { is_bounded = false; }

}  // namespace kontor::tools
