#include "memory/search.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <map>
#include <set>

namespace kontor::memory {
namespace {

constexpr std::size_t kLanes = 8;
constexpr double kFusionOffset = 60;
constexpr std::size_t kWordsMax = 64;
constexpr std::size_t kWordBytesMax = 200;

}  // namespace

float dot(const float* a, const float* b, std::size_t width) {
  std::array<float, kLanes> lanes{};
  std::size_t i = 0;
  for (; i + kLanes <= width; i += kLanes) {
    for (std::size_t lane = 0; lane < kLanes; ++lane) lanes[lane] += a[i + lane] * b[i + lane];
  }
  float sum = ((lanes[0] + lanes[4]) + (lanes[1] + lanes[5])) + ((lanes[2] + lanes[6]) + (lanes[3] + lanes[7]));
  for (; i < width; ++i) sum += a[i] * b[i];
  return sum;
}

bool make_unit(std::span<float> vector) {
  double squares = 0;
  for (const float value : vector) squares += static_cast<double>(value) * value;
  if (!std::isfinite(squares) || squares <= 0) return false;
  const double scale = 1 / std::sqrt(squares);
  for (float& value : vector) value = static_cast<float>(value * scale);
  return true;
}

std::vector<std::pair<std::size_t, float>> nearest_rows(std::span<const float> rows, std::span<const float> query, std::size_t limit) {
  std::vector<std::pair<std::size_t, float>> best;  // A heap with the worst kept row on top.
  if (query.empty() || limit == 0) return best;
  const auto better = [](const auto& a, const auto& b) { return a.second != b.second ? a.second > b.second : a.first < b.first; };
  const std::size_t count = rows.size() / query.size();
  for (std::size_t row = 0; row < count; ++row) {
    const std::pair<std::size_t, float> candidate{row, dot(rows.data() + row * query.size(), query.data(), query.size())};
    if (best.size() < limit) {
      best.push_back(candidate);
      std::push_heap(best.begin(), best.end(), better);
    } else if (better(candidate, best.front())) {
      std::pop_heap(best.begin(), best.end(), better);
      best.back() = candidate;
      std::push_heap(best.begin(), best.end(), better);
    }
  }
  std::sort_heap(best.begin(), best.end(), better);
  return best;
}

std::vector<std::pair<std::int64_t, double>> fuse(const std::vector<std::vector<std::int64_t>>& rankings) {
  std::map<std::int64_t, double> scores;
  for (const auto& ranking : rankings) {
    for (std::size_t rank = 0; rank < ranking.size(); ++rank) scores[ranking[rank]] += 1 / (kFusionOffset + static_cast<double>(rank + 1));
  }
  std::vector<std::pair<std::int64_t, double>> fused(scores.begin(), scores.end());
  std::stable_sort(fused.begin(), fused.end(), [](const auto& a, const auto& b) { return a.second > b.second; });
  return fused;
}

std::string full_text_query(std::string_view text) {
  const auto part = [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || static_cast<unsigned char>(c) >= 0x80;
  };
  std::string query;
  std::set<std::string_view> seen;
  for (std::size_t begin = 0; begin < text.size() && seen.size() < kWordsMax;) {
    std::size_t end = begin;
    while (end < text.size() && part(text[end])) ++end;
    const auto word = text.substr(begin, end - begin);
    begin = end + 1;
    if (word.empty() || word.size() > kWordBytesMax || !seen.insert(word).second) continue;
    if (!query.empty()) query += " OR ";
    query += '"';
    query += word;
    query += '"';
  }
  return query;
}

}  // namespace kontor::memory
