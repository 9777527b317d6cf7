#include "tools/builtin/line_diff.hpp"

#include <algorithm>
#include <optional>

namespace kontor::tools {
namespace {

using Lines = std::vector<std::string_view>;

struct Edit {
  char kind;             // ' ', '-', '+'
  std::size_t old_line, new_line;  // before it, from 0
};

/// Edits between two ranges without common beginning and end, or nothing when more than `most` are needed.
std::optional<std::vector<Edit>> shortest(const Lines& a, const Lines& b, std::size_t a_begin, std::size_t a_end, std::size_t b_begin, std::size_t b_end, std::size_t most) {
  const auto n = static_cast<std::ptrdiff_t>(a_end - a_begin), m = static_cast<std::ptrdiff_t>(b_end - b_begin);
  const std::ptrdiff_t limit = std::min<std::ptrdiff_t>(n + m, static_cast<std::ptrdiff_t>(most));
  std::vector<std::ptrdiff_t> furthest(static_cast<std::size_t>(2 * limit + 3), 0);
  const auto at = [&](std::vector<std::ptrdiff_t>& row, std::ptrdiff_t k, std::ptrdiff_t half) -> std::ptrdiff_t& { return row[static_cast<std::size_t>(k + half)]; };
  std::vector<std::vector<std::ptrdiff_t>> trace;  // the diagonals -d..d as they stood before round d
  const std::ptrdiff_t half = limit + 1;
  std::ptrdiff_t d = 0;
  bool found = false;
  for (; d <= limit && !found; ++d) {
    trace.emplace_back(furthest.begin() + (half - d - 1), furthest.begin() + (half + d + 2));
    for (std::ptrdiff_t k = -d; k <= d && !found; k += 2) {
      std::ptrdiff_t x = k == -d || (k != d && at(furthest, k - 1, half) < at(furthest, k + 1, half)) ? at(furthest, k + 1, half) : at(furthest, k - 1, half) + 1;
      while (x < n && x - k < m && x - k >= 0 && a[a_begin + static_cast<std::size_t>(x)] == b[b_begin + static_cast<std::size_t>(x - k)]) ++x;
      at(furthest, k, half) = x;
      found = x >= n && x - k >= m;
    }
  }
  if (!found) return std::nullopt;
  std::vector<Edit> edits;
  std::ptrdiff_t x = n, y = m;
  const auto push = [&](char kind) { edits.push_back({kind, a_begin + static_cast<std::size_t>(x), b_begin + static_cast<std::size_t>(y)}); };
  for (--d; d >= 0; --d) {
    std::vector<std::ptrdiff_t>& row = trace[static_cast<std::size_t>(d)];
    const std::ptrdiff_t k = x - y, middle = d + 1;
    const bool down = k == -d || (k != d && at(row, k - 1, middle) < at(row, k + 1, middle));
    const std::ptrdiff_t start_x = d == 0 ? 0 : down ? at(row, k + 1, middle) : at(row, k - 1, middle) + 1;
    while (x > start_x && y > 0 && x > 0) {
      --x;
      --y;
      push(' ');
    }
    if (d == 0) break;
    if (down) --y;
    else --x;
    push(down ? '+' : '-');
  }
  std::reverse(edits.begin(), edits.end());
  return edits;
}

std::vector<Edit> edits_of(const Lines& a, const Lines& b, std::size_t most) {
  std::size_t head = 0, tail = 0;
  while (head < a.size() && head < b.size() && a[head] == b[head]) ++head;
  while (tail < a.size() - head && tail < b.size() - head && a[a.size() - 1 - tail] == b[b.size() - 1 - tail]) ++tail;
  std::vector<Edit> edits;
  for (std::size_t i = 0; i < head; ++i) edits.push_back({' ', i, i});
  const std::size_t a_end = a.size() - tail, b_end = b.size() - tail;
  if (auto middle = shortest(a, b, head, a_end, head, b_end, most)) {
    edits.insert(edits.end(), middle->begin(), middle->end());
  } else {
    for (std::size_t i = head; i < a_end; ++i) edits.push_back({'-', i, head});
    for (std::size_t i = head; i < b_end; ++i) edits.push_back({'+', a_end, i});
  }
  for (std::size_t i = 0; i < tail; ++i) edits.push_back({' ', a_end + i, b_end + i});
  return edits;
}

/// With their ends, so that a last line without one differs from the same line with one.
Lines whole_lines_of(std::string_view text) {
  Lines lines;
  for (std::size_t at = 0; at < text.size();) {
    const std::size_t end = std::min(text.find('\n', at), text.size() - 1) + 1;
    lines.push_back(text.substr(at, end - at));
    at = end;
  }
  return lines;
}

}  // namespace

Lines lines_of(std::string_view text) {
  Lines lines;
  for (std::size_t at = 0; at < text.size();) {
    const std::size_t end = std::min(text.find('\n', at), text.size());
    lines.push_back(text.substr(at, end - at));
    at = end + 1;
  }
  return lines;
}

LineDiff diff_lines(std::string_view before, std::string_view after, std::size_t context, std::size_t most_edits) {
  const Lines a = whole_lines_of(before), b = whole_lines_of(after);
  const std::vector<Edit> edits = edits_of(a, b, most_edits);
  LineDiff out;
  for (std::size_t i = 0; i < edits.size();) {
    if (edits[i].kind == ' ') {
      ++i;
      continue;
    }
    const std::size_t begin = i - std::min(i, context);
    std::size_t end = i, quiet = 0;  // quiet: unchanged lines in a row
    for (std::size_t k = i; k < edits.size() && quiet <= 2 * context; ++k) {
      quiet = edits[k].kind == ' ' ? quiet + 1 : 0;
      if (quiet == 0) end = k + 1;
    }
    const std::size_t stop = std::min(edits.size(), end + context);
    std::size_t old_count = 0, new_count = 0;
    std::string body;
    for (std::size_t k = begin; k < stop; ++k) {
      const Edit& edit = edits[k];
      old_count += edit.kind != '+';
      new_count += edit.kind != '-';
      out.added += edit.kind == '+';
      out.removed += edit.kind == '-';
      body += edit.kind;
      const std::string_view line = edit.kind == '+' ? b[edit.new_line] : a[edit.old_line];
      body += line;
      if (!line.ends_with('\n')) body += "\n\\ No newline at end of file\n";
    }
    const auto range = [](std::size_t line, std::size_t count) { return std::to_string(count == 0 ? line : line + 1) + (count == 1 ? "" : "," + std::to_string(count)); };
    out.unified += "@@ -" + range(edits[begin].old_line, old_count) + " +" + range(edits[begin].new_line, new_count) + " @@\n" + body;
    i = stop;
  }
  return out;
}

}  // namespace kontor::tools
