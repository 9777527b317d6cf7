#include "agent/dialect/text_stream.hpp"

#include <cstdint>
#include <cstring>
#include <utility>

namespace kontor::agent::dialect {
namespace {

/// Length of the run of ASCII at the start of the bytes.
std::size_t ascii_run(const char* data, std::size_t size) {
  std::size_t i = 0;
  for (; i + 8 <= size; i += 8) {
    std::uint64_t word;
    std::memcpy(&word, data + i, 8);
    if (word & 0x8080808080808080ull) break;
  }
  while (i < size && static_cast<unsigned char>(data[i]) < 0x80) ++i;
  return i;
}

struct Sequence {
  std::size_t length;  ///< Bytes to take.
  enum { good, bad, open } kind;
};

/// Looks at a sequence that starts with a byte >= 0x80 (Unicode table 3-7). bad: `length` is the maximal subpart.
Sequence sequence_at(const unsigned char* s, std::size_t size) {
  const unsigned char lead = s[0];
  std::size_t length;
  unsigned char low = 0x80, high = 0xBF;
  if (lead >= 0xC2 && lead <= 0xDF) length = 2;
  else if (lead >= 0xE0 && lead <= 0xEF) length = 3;
  else if (lead >= 0xF0 && lead <= 0xF4) length = 4;
  else return {1, Sequence::bad};
  if (lead == 0xE0) low = 0xA0;
  if (lead == 0xED) high = 0x9F;
  if (lead == 0xF0) low = 0x90;
  if (lead == 0xF4) high = 0x8F;
  for (std::size_t i = 1; i < length; ++i) {
    if (i >= size) return {i, Sequence::open};
    if (s[i] < low || s[i] > high) return {i, Sequence::bad};
    low = 0x80, high = 0xBF;
  }
  return {length, Sequence::good};
}

}  // namespace

void Utf8Feed::append(std::string& out, std::string_view bytes) {
  std::string joined;
  if (!tail_.empty()) {
    // At most three bytes decide what becomes of the tail.
    joined = std::exchange(tail_, {});
    while (!bytes.empty() && (static_cast<unsigned char>(bytes[0]) & 0xC0) == 0x80 && joined.size() < 4) {
      joined += bytes[0];
      bytes.remove_prefix(1);
    }
    const auto* data = reinterpret_cast<const unsigned char*>(joined.data());
    const Sequence sequence = sequence_at(data, joined.size());
    if (sequence.kind == Sequence::open && bytes.empty()) {
      tail_ = std::move(joined);
      return;
    }
    if (sequence.kind == Sequence::good) out.append(joined, 0, sequence.length);
    else mark(out);
    for (std::size_t i = sequence.length; i < joined.size(); ++i) mark(out);  // continuation bytes without a lead
  }
  std::size_t begin = 0, i = 0;
  while (i < bytes.size()) {
    i += ascii_run(bytes.data() + i, bytes.size() - i);
    if (i >= bytes.size()) break;
    const Sequence sequence = sequence_at(reinterpret_cast<const unsigned char*>(bytes.data()) + i, bytes.size() - i);
    if (sequence.kind == Sequence::good) {
      i += sequence.length;
      continue;
    }
    out.append(bytes, begin, i - begin);
    if (sequence.kind == Sequence::open) {
      tail_ = bytes.substr(i);
      return;
    }
    mark(out);
    begin = i += sequence.length;
  }
  out.append(bytes, begin, bytes.size() - begin);
}

void Utf8Feed::flush(std::string& out) {
  if (tail_.empty()) return;
  tail_.clear();
  mark(out);
}

void TextChannel::append(std::string_view text, bool may_be_invalid) {
  if (!part_started_) {
    while (!text.empty() && is_space(text.front())) text.remove_prefix(1);
    if (text.empty()) return;
    if (!text_.empty()) text_ += '\n';
    part_started_ = true;
  }
  std::size_t end = text.size();
  while (end > 0 && is_space(text[end - 1])) --end;
  if (end > 0) {
    text_ += pending_;
    pending_.clear();
    if (may_be_invalid) append_shown(text_, text.substr(0, end));
    else text_.append(text.substr(0, end));
  }
  pending_.append(text.substr(end));
}

void FenceTracker::take(char c) {
  after_backtick_ = c == '`';
  if (c == '\n') {
    const bool fence = line_signs_ >= 3;
    if (open_) {
      if (fence && line_sign_ == sign_ && line_signs_ >= length_ && rest_blank_) open_ = false;
    } else if (fence && !(line_sign_ == '`' && rest_backtick_)) {
      open_ = true;
      sign_ = line_sign_;
      length_ = line_signs_;
    }
    line_ = Line::indent;
    line_sign_ = 0;
    line_signs_ = 0;
    rest_blank_ = true;
    rest_backtick_ = false;
    return;
  }
  if (line_ == Line::indent) {
    if (is_space(c)) return;
    line_ = c == '`' || c == '~' ? Line::signs : Line::rest;
    line_sign_ = c;
  }
  if (line_ == Line::signs) {
    if (c == line_sign_) {
      ++line_signs_;
      return;
    }
    line_ = Line::rest;
  }
  rest_blank_ &= is_space(c);
  rest_backtick_ |= c == '`';
}

bool FenceTracker::in_code(std::string_view text, std::size_t pos) {
  for (; pos_ < pos; ++pos_) take(text[pos_]);
  if (after_backtick_) return true;
  // What begins at `pos` is no text: blanks behind the signs of a closing fence end it as the end of the line would.
  if (open_) return !(line_ == Line::rest && line_sign_ == sign_ && line_signs_ >= length_ && rest_blank_);
  return line_signs_ >= 3 && !(line_sign_ == '`' && rest_backtick_);  // the opening line of a fence
}

}  // namespace kontor::agent::dialect
