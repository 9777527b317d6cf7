#include "inference/verbatim.hpp"

#include "inference/string_steps.hpp"
#include "inference/utf8_steps.hpp"

#include <algorithm>
#include <numeric>

namespace kontor::inference {

VerbatimText::VerbatimText() : vertices_(1) {}

std::uint32_t VerbatimText::to(std::uint32_t vertex, std::uint16_t symbol) const {
  for (std::uint32_t e = vertices_[vertex].first; e != kNone; e = edges_[e].next)
    if (edges_[e].symbol == symbol) return edges_[e].to;
  return kNone;
}

void VerbatimText::set(std::uint32_t vertex, std::uint16_t symbol, std::uint32_t target) {
  for (std::uint32_t e = vertices_[vertex].first; e != kNone; e = edges_[e].next) {
    if (edges_[e].symbol != symbol) continue;
    edges_[e].to = target;
    return;
  }
  edges_.push_back({symbol, target, vertices_[vertex].first});
  vertices_[vertex].first = static_cast<std::uint32_t>(edges_.size() - 1);
}

void VerbatimText::extend(std::uint16_t symbol) {
  const auto current = static_cast<std::uint32_t>(vertices_.size());
  vertices_.push_back({vertices_[last_].length + 1, kNone, kNone});
  std::uint32_t p = last_;
  last_ = current;
  for (; p != kNone && to(p, symbol) == kNone; p = vertices_[p].link) set(p, symbol, current);
  if (p == kNone) {
    vertices_[current].link = 0;
    return;
  }
  const std::uint32_t q = to(p, symbol);
  if (vertices_[q].length == vertices_[p].length + 1) {
    vertices_[current].link = q;
    return;
  }
  const auto clone = static_cast<std::uint32_t>(vertices_.size());
  vertices_.push_back({vertices_[p].length + 1, vertices_[q].link, kNone});
  for (std::uint32_t e = vertices_[q].first; e != kNone; e = edges_[e].next) {
    const Edge copy{edges_[e].symbol, edges_[e].to, vertices_[clone].first};
    edges_.push_back(copy);
    vertices_[clone].first = static_cast<std::uint32_t>(edges_.size() - 1);
  }
  for (; p != kNone && to(p, symbol) == q; p = vertices_[p].link) set(p, symbol, clone);
  vertices_[q].link = clone;
  vertices_[current].link = clone;
}

void VerbatimText::add(std::string_view text) {
  bool word = false, open = false;
  const auto close = [&] {
    if (!open) return;
    extend(kBoundary);
    extend(kBreak);
    open = false;
  };
  for (std::size_t at = 0; at < text.size();) {
    // Whole characters only: what is copied must be valid UTF-8.
    std::size_t length = 0;
    std::uint8_t state = 0;
    do {
      state = utf8_step(state, static_cast<std::uint8_t>(text[at + length]));
      ++length;
    } while (state != 0 && state != kUtf8Bad && at + length < text.size());
    if (state != 0) {
      close();
      ++at;
      continue;
    }
    const bool here = is_word_byte(static_cast<std::uint8_t>(text[at]));
    if (!open || !(word && here)) extend(kBoundary);
    open = true;
    word = here;
    for (std::size_t i = 0; i < length; ++i) extend(static_cast<std::uint8_t>(text[at + i]));
    at += length;
    bytes_ += length;
  }
  close();
}

void VerbatimText::finish() {
  // Edges lead to longer vertices: the longest first.
  std::vector<std::uint32_t> order(vertices_.size());
  std::iota(order.begin(), order.end(), 0u);
  std::sort(order.begin(), order.end(), [&](std::uint32_t a, std::uint32_t b) { return vertices_[a].length > vertices_[b].length; });
  word_ends_.assign(vertices_.size(), kNowhere);
  for (const std::uint32_t vertex : order) {
    for (std::uint32_t e = vertices_[vertex].first; e != kNone; e = edges_[e].next) {
      const auto symbol = edges_[e].symbol;
      if (symbol == kBoundary) word_ends_[vertex] = 0;
      else if (symbol < kBoundary && is_word_byte(static_cast<std::uint8_t>(symbol))) word_ends_[vertex] = std::min(word_ends_[vertex], word_ends_[edges_[e].to] + 1);
    }
  }
  shortest_ = kNowhere;
  if (start() == kDead) return;
  for (int c = 0; c < 256; ++c) {
    const State to = step(start(), static_cast<std::uint8_t>(c));
    if (to == kDead) continue;
    const std::uint32_t spelled = spelled_in_hex(c) ? 6 : c < 0x20 || c == '"' || c == '\\' ? 2 : 1;
    shortest_ = std::min(shortest_, spelled + left(to));
  }
}

std::uint32_t VerbatimText::left(State state) const {
  if (state == kDead || word_ends_.empty()) return kNowhere;
  return state & 1u ? word_ends_[index(state)] : 0;
}

VerbatimText::State VerbatimText::start() const {
  const std::uint32_t vertex = to(0, kBoundary);
  return vertex == kNone ? kDead : state_of(vertex, true);  // The boundary is read: a word may begin.
}

VerbatimText::State VerbatimText::step(State state, std::uint8_t byte) const {
  if (state == kDead) return kDead;
  const bool word = is_word_byte(byte), fresh = state == start();
  std::uint32_t vertex = index(state);
  // Between two bytes that are not both part of a word stands a boundary (continuation bytes count as words).
  if (!fresh && !((state & 1u) && word)) {
    vertex = to(vertex, kBoundary);
    if (vertex == kNone) return kDead;
  }
  vertex = to(vertex, byte);
  return vertex == kNone ? kDead : state_of(vertex, word);
}

}  // namespace kontor::inference
