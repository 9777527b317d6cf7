// How much is left to write in each state, from what Endings knows about nodes and what the registers hold.

#include "inference/automaton.hpp"
#include "inference/automaton_registers.hpp"
#include "inference/string_steps.hpp"

#include <array>
#include <string>

namespace kontor::inference {
namespace {

/// One way to the end of a character of a JSON string that is half written: UTF-8, or an escape.
std::uint8_t next_byte(std::uint8_t state) {
  switch (state) {
    case kEscape: return 'n';
    case kEscapeU:
    case kEscapeU0:
    case kEscapeU00: return '0';
    case kEscapeU000: return '1';
    case kEscapeU001: return '0';
    case 4: return 0xA0;  // Continuation bytes that are good behind each first byte.
    case 6: return 0x90;
    default: return 0x80;
  }
}

constexpr auto kStepsLeft = [] {
  std::array<std::uint8_t, 16> out{};
  out[1] = 1, out[2] = out[4] = out[5] = 2, out[3] = out[6] = out[7] = 3;
  out[kEscape] = 1, out[kEscapeU] = 4, out[kEscapeU0] = 3, out[kEscapeU00] = 2, out[kEscapeU000] = out[kEscapeU001] = 1;
  return out;
}();

/// Bytes that stand for themselves in a string and are characters of their own.
constexpr bool is_plain_byte(char c) { return c >= 0x20 && c < 0x7F && c != '"' && c != '\\'; }
constexpr std::uint64_t kPlainBytes = 0x7F - 0x20 - 2;

}  // namespace

TokenCount Automaton::left_behind(NodeId back, std::uint32_t parent, std::uint64_t data) const {
  if (!endings_) return 0;
  const Node& node = grammar_->at(back);
  if (node.count_to != 0 && low_half(data) < node.count_to) ++data;
  return add_tokens(endings_->tokens(back, low_half(data), frames_[parent].depth, copy_), frames_[parent].left);
}

TokenCount Automaton::left_of(const State& state) const {
  TokenCount least = state.may_end ? 1 : kTokensNever;
  for (const Place& place : state.places) least = std::min(least, left(place));
  return least;
}

TokenCount Automaton::left(const Place& place) const {
  if (!endings_) return 0;
  const Node& node = grammar_->at(place.node);
  if (node.kind == NodeKind::text && node.returns) return 0;
  return add_tokens(left_in_call(place), frames_[place.stack].left);
}

TokenCount Automaton::left_in_call(const Place& place) const {
  const Node& node = grammar_->at(place.node);
  const std::uint32_t depth = frames_[place.stack].depth;
  switch (node.kind) {
    case NodeKind::plain: return endings_->tokens(place.node, low_half(place.data), depth, copy_);
    case NodeKind::text: return endings_->text(node, static_cast<std::uint16_t>(place.data), kStepsLeft[text_character(place.data)], depth, copy_);
    default: break;
  }
  const TokenCount behind = add_tokens(endings_->tokens(node.next, 0, depth, copy_), 1);  // The quote.
  switch (node.kind) {
    case NodeKind::fresh_key: return add_tokens(left_in_name(place, node), behind);
    case NodeKind::verbatim: return add_tokens(left_in_copy(place, node), behind);
    default: break;
  }
  const std::uint32_t least = grammar_->string_parameters(node).least, count = high_half(place.data);
  return add_tokens(kStepsLeft[low_half(place.data)] + endings_->characters(least > count ? least - count : 0), behind);
}

/// The fewest characters that make the name one that is neither declared nor used.
TokenCount Automaton::left_in_name(const Place& place, const Node& node) const {
  const std::uint32_t used = high_half(place.data), name = low_half(place.data) >> kNameShift;
  auto step = static_cast<std::uint8_t>(low_half(place.data) & kStepMask);
  const std::uint8_t rest = kStepsLeft[step];
  if (used == kUnknownUsed) return rest + Endings::kFreshCharacters;
  if (name == kFreshName) return rest;
  std::string text;
  for (std::uint32_t at = name & ~kAhead; at != 0; at = names_[at].before) text += static_cast<char>(names_[at].byte);
  std::reverse(text.begin(), text.end());
  while (step != 0) {
    const std::uint8_t byte = next_byte(step);
    text += static_cast<char>(byte);
    step = string_step(step, byte).state;
  }
  std::array<std::uint64_t, Endings::kFreshCharacters> taken{};  // By length behind the text.
  const auto count = [&](const std::string& other) {
    if (other.size() < text.size() || other.size() >= text.size() + taken.size() || !other.starts_with(text)) return;
    for (std::size_t i = text.size(); i < other.size(); ++i)
      if (!is_plain_byte(other[i])) return;
    ++taken[other.size() - text.size()];
  };
  for (const std::string& declared : grammar_->key_parameters(node).declared) count(declared);
  for (std::uint32_t at = used; at != 0; at = used_[at].before) {
    std::string other;
    for (std::uint32_t n = used_[at].name; n != 0; n = names_[n].before) other += static_cast<char>(names_[n].byte);
    std::reverse(other.begin(), other.end());
    count(other);
  }
  std::uint64_t possible = 1;
  for (TokenCount length = 0; length < taken.size(); ++length, possible *= kPlainBytes)
    if (taken[length] < possible) return rest + length;
  return rest + Endings::kFreshCharacters;
}

TokenCount Automaton::left_in_copy(const Place& place, const Node& node) const {
  if (!verbatim_) return kTokensNever;
  const auto at = static_cast<VerbatimText::State>(high_half(place.data));
  const auto step = static_cast<std::uint8_t>(low_half(place.data));
  if (step == 0) {
    if (at == verbatim_->start()) return grammar_->verbatim_parameters(node).may_be_empty ? 0 : copy_;
    return verbatim_->left(at);
  }
  if (step < kEscape) return verbatim_->left(at);
  TokenCount least = kTokensNever;
  for (int c = 0; c < 0x80; ++c) {
    if (!string_can_spell(step, c)) continue;
    const auto to = verbatim_->step(at, static_cast<std::uint8_t>(c));
    if (to == VerbatimText::kDead) continue;
    const TokenCount rest = step == kEscape && spelled_in_hex(c) ? 5 : kStepsLeft[step];
    least = std::min(least, add_tokens(rest, verbatim_->left(to)));
  }
  return least;
}

}  // namespace kontor::inference
