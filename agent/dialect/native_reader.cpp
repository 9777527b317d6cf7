// R1 and V3.1 call blocks: the forgiving reader that accepts every variant seen in the wild, and the strict one.

#include "agent/dialect/call_reader.hpp"

#include <utility>

namespace kontor::agent::dialect {
namespace {

// White space between a word and the separator that makes it a call header; bounded so that looking ahead is cheap.
constexpr std::size_t kHeaderBlanks = 64;
constexpr std::size_t kNameBytes = 128;

/// Does a call header without its opening marker stand at `pos`: `function<SEP>`, `NAME<SEP>` or `function<NAME>`?
Fit header_at(const Source& source, std::size_t pos) {
  const std::size_t size = source.size();
  std::size_t end = pos;
  while (end < size && end - pos <= kNameBytes && is_name_char(source.text[end])) ++end;
  if (end == size) return source.final ? Fit::none : Fit::partial;
  if (end == pos || end - pos > kNameBytes) return Fit::none;
  std::size_t at = end;
  while (at < size && at - end <= kHeaderBlanks && is_space(source.text[at])) ++at;
  if (at == size) return source.final ? Fit::none : Fit::partial;
  const Match match = source.match(at, kSep);
  if (match.fit != Fit::none) return match.fit;
  if (source.slice(pos, end) != "function" || source.text[at] != '<') return Fit::none;
  std::size_t close = ++at;
  while (close < size && close - at <= kNameBytes && is_name_char(source.text[close])) ++close;
  if (close == size) return source.final ? Fit::none : Fit::partial;
  return close > at && source.text[close] == '>' ? Fit::full : Fit::none;
}

class NativeReader final : public CallReader {
 public:
  NativeReader(CallLog& log, std::size_t begin, std::size_t pos, bool block_open)
      : CallReader(log, begin, pos), state_(block_open ? State::open : State::lone) {}

  Verdict resume(const Source& source) override {
    for (;;) {
      const Step step = advance(source);
      if (step != Step::go) return verdict(step);
    }
  }

 private:
  enum class State { open, lone, head, name, bracket_name, before, value, after, between };

  Step advance(const Source& source) {
    switch (state_) {
      case State::open: return open(source);
      case State::lone: return lone(source);
      case State::head: return head(source);
      case State::name: return name(source);
      case State::bracket_name: return bracket_name(source);
      case State::before: return before(source);
      case State::value: return value(source);
      case State::after: return after(source);
      case State::between: return between(source);
    }
    return Step::stop;
  }

  void enter_call(std::size_t pos) {
    call_begin_ = scan_ = pos_ = pos;
    name_.clear();
    fence_ = closed_fence_ = false;
    no_value();
    state_ = State::head;
  }

  /// Behind the block's opening marker: is there a call?
  Step open(const Source& source) {
    if (!skip_space(source)) return Step::more;
    const Match match = source.match(pos_, kCallsBegin | kCallBegin | kCallsEnd);
    if (match.fit == Fit::partial) return Step::more;
    if (match.fit == Fit::full && match.kind == kCallsBegin) {
      log_.warn("duplicate_begin");
      pos_ += match.length;
      return Step::go;
    }
    if (match.fit == Fit::full && match.kind == kCallsEnd) {
      log_.warn("empty_block");
      pos_ += match.length;
      return Step::closed;
    }
    if (match.fit == Fit::full) return enter_call(pos_ + match.length), Step::go;
    const Fit header = header_at(source, pos_);
    if (header == Fit::partial) return Step::more;
    if (header == Fit::none) return Step::stray;
    log_.warn("missing_call_begin");
    return enter_call(pos_), Step::go;
  }

  /// Behind a call's opening marker outside any block.
  Step lone(const Source& source) {
    if (!skip_space(source)) return Step::more;
    const Fit header = header_at(source, pos_);
    if (header == Fit::partial) return Step::more;
    if (header == Fit::none) return Step::stray;
    log_.warn("missing_begin");
    return enter_call(pos_), Step::go;
  }

  /// The word in front of the separator: a type (R1) or the name itself (V3.1).
  Step head(const Source& source) {
    if (scan_ == pos_) {
      const bool ready = skip_space(source);
      scan_ = pos_;
      if (!ready) return Step::more;
    }
    for (;; ++scan_) {
      scan_ = source.text.find_first_of("<\n\r{`", scan_);
      if (scan_ == std::string::npos) {
        scan_ = source.size();
        return source.final ? stop(source, "truncated_call") : Step::more;
      }
      const char c = source.text[scan_];
      if (c == '\n' || c == '\r') {  // fine when only white space follows up to the separator
        const std::size_t next = source.skip_space(scan_);
        if (next >= source.size()) return source.final ? stop(source, "truncated_call") : Step::more;
        if (source.text[next] != '<' || next - scan_ > kHeaderBlanks) return stop(source, "malformed_call");
        scan_ = next - 1;
        continue;
      }
      const std::string_view word = trim(source.slice(pos_, scan_));
      if (c != '<') return stop(source, "malformed_call");
      const Match match = source.match(scan_, kSep | kOutputEnd);
      if (match.fit == Fit::partial) return Step::more;
      if (match.fit == Fit::full && match.kind == kSep) {
        const std::string_view type = trim(source.slice(pos_, scan_));
        pos_ = scan_ = scan_ + match.length;
        if (type == "function" || type.empty()) return state_ = State::name, Step::go;
        name_ = type;
        log_.start(name_);
        return state_ = State::before, Step::go;
      }
      if (match.fit == Fit::full) return stop(source, "truncated_call");
      if (source.ends_inside(scan_, kSep)) return stop(source, "truncated_call");
      if (word != "function") return stop(source, "malformed_call");
      log_.warn("missing_separator");
      pos_ = scan_ = scan_ + 1;
      return state_ = State::bracket_name, Step::go;
    }
  }

  /// function<NAME>
  Step bracket_name(const Source& source) {
    while (scan_ < source.size() && is_name_char(source.text[scan_])) ++scan_;
    if (scan_ == source.size()) return source.final ? stop(source, "truncated_call") : Step::more;
    if (source.text[scan_] != '>') return stop(source, "malformed_call");
    name_ = source.slice(pos_, scan_);
    pos_ = scan_ + 1;
    log_.start(name_);
    return state_ = State::before, Step::go;
  }

  /// R1: the name runs to the end of its line; arguments may be glued to it.
  Step name(const Source& source) {
    if (scan_ == pos_) {
      const bool ready = skip_space(source);
      scan_ = pos_;
      if (!ready) return Step::more;
    }
    for (;; ++scan_) {
      scan_ = source.text.find_first_of("<\n\r{`", scan_);
      if (scan_ == std::string::npos) {
        scan_ = source.size();
        return source.final ? stop(source, "truncated_call") : Step::more;
      }
      if (source.text[scan_] != '<') break;
      const Match match = source.match(scan_, kCallsBegin | kCallBegin | kCallEnd | kCallsEnd | kSep | kOutputEnd);
      if (match.fit == Fit::partial) return Step::more;
      if (match.fit == Fit::full && (match.kind & kOutputEnd)) return stop(source, "truncated_call");
      if (match.fit == Fit::full) break;
    }
    name_ = trim(source.slice(pos_, scan_));
    pos_ = scan_;
    log_.start(name_);
    return state_ = State::before, Step::go;
  }

  /// In front of the arguments: an optional fence, or no arguments at all.
  Step before(const Source& source) {
    if (!skip_space(source)) return Step::more;
    if (at_end(source)) return stop(source, "truncated_call", name_);
    if (source.text[pos_] == '`') {
      const std::size_t run = backticks(source);
      if (run == std::string::npos) return Step::more;
      if (run < 3) return stop(source, at_end_behind(source, run) ? "truncated_call" : "malformed_json", name_);
      if (fence_) {  // opened and closed without arguments
        log_.warn("missing_arguments");
        return state_ = State::after, Step::go;
      }
      fence_ = true;
      pos_ += run;
      language_ = true;
    }
    if (language_) {
      if (!skip_language(source)) return Step::more;
      language_ = false;
      return Step::go;
    }
    const Match match = source.match(pos_, kCallEnd | kCallsEnd | kCallBegin | kOutputEnd);
    if (match.fit == Fit::partial) return Step::more;
    if (match.fit == Fit::full && (match.kind & kOutputEnd)) return stop(source, "truncated_call", name_);
    if (match.fit == Fit::full) {
      log_.warn("missing_arguments");
      return state_ = State::after, Step::go;
    }
    begin_value(true);
    return state_ = State::value, Step::go;
  }

  bool at_end_behind(const Source& source, std::size_t run) const { return pos_ + run >= source.size(); }

  Step value(const Source& source) {
    const Step step = scan_value(source, name_, true);
    if (step == Step::go) state_ = State::after;
    return step;
  }

  /// Behind the arguments: fence end, call end. Missing ends are forgiven, the object is complete.
  Step after(const Source& source) {
    if (!skip_space(source)) return Step::more;
    if (at_end(source)) return cut(source);
    if (source.text[pos_] == '`' && !closed_fence_) {
      const std::size_t run = backticks(source);
      if (run == std::string::npos) return Step::more;
      if (run < 3 && !at_end_behind(source, run)) return stop(source, "malformed_json", name_);
      closed_fence_ = true;
      pos_ += run;
      return Step::go;
    }
    const Match match = source.match(pos_, kCallEnd | kCallsEnd | kCallBegin | kCallsBegin | kOutputEnd);
    if (match.fit == Fit::partial) return Step::more;
    if (match.fit == Fit::none) {
      if (source.ends_inside(pos_, kCallEnd | kCallsEnd | kCallBegin)) return pos_ = source.size(), cut(source);
      const Fit header = header_at(source, pos_);
      if (header == Fit::partial) return Step::more;
      if (header == Fit::none) return stop(source, "malformed_json", name_);
      log_.warn("missing_call_end");
      log_.warn("missing_call_begin");
      if (!keep(source)) return Step::stop;
      return enter_call(pos_), Step::go;
    }
    if (match.kind & kOutputEnd) return cut(source);
    if (match.kind != kCallEnd) log_.warn("missing_call_end");
    if (!keep(source)) return Step::stop;
    if (match.kind == kCallsBegin) log_.warn("missing_end");
    pos_ += match.length;
    if (match.kind == kCallsEnd) return Step::closed;
    if (match.kind == kCallBegin) return enter_call(pos_), Step::go;
    state_ = match.kind == kCallsBegin ? State::open : State::between;
    return Step::go;
  }

  /// Behind a call's end.
  Step between(const Source& source) {
    if (!skip_space(source)) return Step::more;
    const Match match = source.match(pos_, kCallsEnd | kCallBegin | kCallsBegin | kOutputEnd);
    if (match.fit == Fit::partial) return Step::more;
    if (match.fit == Fit::full && match.kind == kCallBegin) return enter_call(pos_ + match.length), Step::go;
    if (match.fit == Fit::full && match.kind == kCallsEnd) return pos_ += match.length, Step::closed;
    if (match.fit == Fit::none && source.ends_inside(pos_, kCallsEnd | kCallBegin)) pos_ = source.size();
    if (match.fit == Fit::none && !at_end(source)) {
      const Fit header = header_at(source, pos_);
      if (header == Fit::partial) return Step::more;
      if (header == Fit::full) {
        log_.warn("missing_call_begin");
        return enter_call(pos_), Step::go;
      }
    }
    log_.warn("missing_end");
    return Step::closed;
  }

  /// The output ends behind complete arguments.
  Step cut(const Source& source) {
    log_.warn("missing_call_end");
    log_.warn("missing_end");
    return keep(source) ? Step::closed : Step::stop;
  }

  bool keep(const Source& source) { return log_.finish(name_, take_arguments(source)); }

  State state_;
  std::size_t scan_ = 0;  ///< The header is searched up to here.
  std::string name_;
  bool fence_ = false;
  bool language_ = false;
  bool closed_fence_ = false;
};

/// Canonical blocks byte for byte. Anything else is malformed_call: generated under a grammar, it would be a bug.
class StrictNativeReader final : public CallReader {
 public:
  StrictNativeReader(CallLog& log, std::size_t begin, std::size_t pos, bool v31) : CallReader(log, begin, pos), v31_(v31) {}

  Verdict resume(const Source& source) override {
    for (;;) {
      const Step step = advance(source);
      if (step != Step::go) return verdict(step);
    }
  }

 private:
  enum class State { call, head, name, fence, value, fence_end, call_end, between, after_newline };

  Step advance(const Source& source) {
    switch (state_) {
      case State::call: return marker(source, kCallBegin, State::head);
      case State::head: return v31_ ? (scan_ = pos_, state_ = State::name, Step::go) : head(source);
      case State::name: return name(source);
      case State::fence: return literal(source, "```json\n", State::value);
      case State::value: return value(source);
      case State::fence_end: return literal(source, "\n```", State::call_end);
      case State::call_end: return call_end(source);
      case State::between: return between(source);
      case State::after_newline: return marker(source, kCallBegin, State::head);
    }
    return Step::stop;
  }

  Step marker(const Source& source, std::uint32_t kind, State next) {
    const Match match = source.match(pos_, kind | kOutputEnd);
    if (match.fit == Fit::partial) return Step::more;
    if (match.fit != Fit::full || match.kind != kind) return stop(source, ended(source, match) ? "truncated_call" : "malformed_call");
    pos_ += match.length;
    if (next == State::head) call_begin_ = pos_;
    return state_ = next, Step::go;
  }

  Step literal(const Source& source, std::string_view word, State next) {
    const std::string_view rest = source.slice(pos_, source.size()).substr(0, word.size());
    if (word.substr(0, rest.size()) != rest) return stop(source, "malformed_call", name_);
    if (rest.size() < word.size()) return source.final ? stop(source, "truncated_call", name_) : Step::more;
    pos_ += word.size();
    if (next == State::value) begin_value(false);
    return state_ = next, Step::go;
  }

  Step head(const Source& source) {
    constexpr std::string_view kType = "function";
    const std::string_view rest = source.slice(pos_, source.size()).substr(0, kType.size());
    if (kType.substr(0, rest.size()) != rest) return stop(source, "malformed_call");
    if (rest.size() < kType.size()) return source.final ? stop(source, "truncated_call") : Step::more;
    const Match match = source.match(pos_ + kType.size(), kSep);
    if (match.fit == Fit::partial) return Step::more;
    if (match.fit == Fit::none) return stop(source, source.size() == pos_ + kType.size() ? "truncated_call" : "malformed_call");
    pos_ = scan_ = pos_ + kType.size() + match.length;
    return state_ = State::name, Step::go;
  }

  Step name(const Source& source) {
    scan_ = source.text.find(v31_ ? '<' : '\n', scan_);
    if (scan_ == std::string::npos) {
      scan_ = source.size();
      return source.final ? stop(source, "truncated_call") : Step::more;
    }
    const Match match = v31_ ? source.match(scan_, kSep) : Match{Fit::full, 0, 1};
    if (match.fit == Fit::partial) return Step::more;
    if (match.fit == Fit::none) return stop(source, "malformed_call");
    name_ = source.slice(pos_, scan_);
    pos_ = scan_ + match.length;
    if (v31_ && name_ == "function") name_.clear();  // a type without a name
    log_.start(name_);
    state_ = v31_ ? State::value : State::fence;
    if (v31_) begin_value(false);
    return Step::go;
  }

  Step value(const Source& source) {
    const Step step = scan_value(source, name_, true);
    if (step == Step::go) state_ = v31_ ? State::call_end : State::fence_end;
    return step;
  }

  Step call_end(const Source& source) {
    const Match match = source.match(pos_, kCallEnd);
    if (match.fit == Fit::partial) return Step::more;
    if (match.fit == Fit::none) return stop(source, "malformed_call", name_);
    pos_ += match.length;
    if (!log_.finish(name_, take_arguments(source))) return Step::stop;
    name_.clear();
    return state_ = State::between, Step::go;
  }

  Step between(const Source& source) {
    const Match match = source.match(pos_, kCallsEnd | (v31_ ? kCallBegin : 0u));
    if (match.fit == Fit::partial) return Step::more;
    if (match.fit == Fit::full) {
      if (match.kind == kCallBegin) return state_ = State::call, Step::go;
      pos_ += match.length;
      return Step::closed;
    }
    if (!v31_ && !at_end(source) && source.text[pos_] == '\n') return ++pos_, state_ = State::after_newline, Step::go;
    call_begin_ = begin_;
    return stop(source, "malformed_call");
  }

  bool ended(const Source& source, const Match& match) const {
    return match.fit == Fit::full || (source.final && at_end(source));
  }

  State state_ = State::call;
  bool v31_;
  std::size_t scan_ = 0;
  std::string name_;
};

}  // namespace

std::unique_ptr<CallReader> native_reader(CallLog& log, std::size_t begin, std::size_t pos, bool block_open) {
  return std::make_unique<NativeReader>(log, begin, pos, block_open);
}

std::unique_ptr<CallReader> strict_native_reader(CallLog& log, std::size_t begin, std::size_t pos, bool v31) {
  return std::make_unique<StrictNativeReader>(log, begin, pos, v31);
}

}  // namespace kontor::agent::dialect
