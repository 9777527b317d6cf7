#include "agent/spec/text_tools.hpp"

#include <algorithm>
#include <cstdint>
#include <cstdio>

namespace kontor::agent {
namespace {

constexpr std::size_t kCompared = 100'000;
thread_local std::size_t names_left = 0;
thread_local bool is_bounded = false;

std::uint32_t decode(std::string_view text, std::size_t at, std::size_t length) {
  const auto byte = [&](std::size_t i) { return static_cast<std::uint32_t>(static_cast<unsigned char>(text[at + i])); };
  switch (length) {
    case 2: return (byte(0) & 0x1F) << 6 | (byte(1) & 0x3F);
    case 3: return (byte(0) & 0x0F) << 12 | (byte(1) & 0x3F) << 6 | (byte(2) & 0x3F);
    case 4: return (byte(0) & 0x07) << 18 | (byte(1) & 0x3F) << 12 | (byte(2) & 0x3F) << 6 | (byte(3) & 0x3F);
    default: return byte(0);
  }
}

/// Characters that change what a reader sees without being seen.
bool is_hidden(std::uint32_t c) {
  return c < 0x20 || (c >= 0x7F && c <= 0x9F) || c == 0xAD || c == 0x34F || c == 0x61C || c == 0x115F || c == 0x1160 ||
         c == 0x17B4 || c == 0x17B5 || (c >= 0x180B && c <= 0x180F) || (c >= 0x200B && c <= 0x200F) ||
         (c >= 0x2028 && c <= 0x202E) || (c >= 0x2060 && c <= 0x206F) || c == 0x3164 || (c >= 0xFE00 && c <= 0xFE0F) ||
         c == 0xFEFF || c == 0xFFA0 || (c >= 0xFFF0 && c <= 0xFFFB) || (c >= 0xE0000 && c <= 0xE0FFF);
}

std::vector<std::uint32_t> folded(std::string_view text, std::size_t limit) {
  std::vector<std::uint32_t> points;
  for (std::size_t at = 0; at < text.size() && points.size() <= limit;) {
    const std::size_t length = code_point_length(text, at);
    std::uint32_t c = decode(text, at, length);
    if (c >= 'A' && c <= 'Z') c += 'a' - 'A';
    if (c == '-') c = '_';
    if (!is_hidden(c)) points.push_back(c);
    at += length;
  }
  return points;
}

}  // namespace

std::size_t code_point_length(std::string_view text, std::size_t at) {
  const auto lead = static_cast<unsigned char>(text[at]);
  const std::size_t length = lead >= 0xF0 && lead < 0xF8 ? 4 : lead >= 0xE0 && lead < 0xF0 ? 3 : lead >= 0xC0 && lead < 0xE0 ? 2 : 1;
  if (at + length > text.size()) return 1;
  for (std::size_t i = 1; i < length; ++i) {
    if ((static_cast<unsigned char>(text[at + i]) & 0xC0) != 0x80) return 1;
  }
  return length;
}

std::size_t count_code_points(std::string_view text, std::size_t end) {
  std::size_t count = 0;
  for (std::size_t at = 0; at < end && at < text.size(); at += code_point_length(text, at)) ++count;
  return count;
}

std::string shown_text(std::string_view text, std::size_t limit) {
  std::string out;
  std::size_t shown = 0;
  for (std::size_t at = 0; at < text.size(); ++shown) {
    if (shown == limit) return out + "...";
    const std::size_t length = code_point_length(text, at);
    const std::uint32_t c = decode(text, at, length);
    if (is_hidden(c) || (length == 1 && c >= 0x80)) {
      char buffer[16];
      std::snprintf(buffer, sizeof buffer, "\\u{%X}", static_cast<unsigned>(c));
      out += buffer;
    } else {
      out += text.substr(at, length);
    }
    at += length;
  }
  return out;
}

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
    if (distance > allowed || distance >= name.size()) continue;
    if (distance < best_distance || (distance == best_distance && same_start(name) > same_start(best))) best = name, best_distance = distance;
  }
  return best;
}

SuggestionBudget::SuggestionBudget() { names_left = kCompared, is_bounded = true; }
SuggestionBudget::~SuggestionBudget() { is_bounded = false; }

std::string did_you_mean(std::string_view suggestion) {
  return suggestion.empty() ? std::string() : " (did you mean '" + shown_text(suggestion, 120) + "'?)";
}

}  // namespace kontor::agent
