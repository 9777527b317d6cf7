// <tool_call> elements of Hermes, Qwen and QwQ: one JSON object {"name", "arguments"} per element.

#include "agent/dialect/call_reader.hpp"

#include <algorithm>
#include <utility>

namespace kontor::agent::dialect {
namespace {

constexpr std::size_t kNameBytes = 128;

class HermesReader final : public CallReader {
 public:
  HermesReader(CallLog& log, std::size_t begin, std::size_t pos) : CallReader(log, begin, pos) {}

  Verdict resume(const Source& source) override {
    for (;;) {
      const Step step = advance(source);
      if (step != Step::go) return verdict(step);
    }
  }

 private:
  enum class State { open, language, fenced, value, after, mixed_name, mixed_before, mixed_language };

  Step advance(const Source& source) {
    switch (state_) {
      case State::open: return open(source);
      case State::language:
        if (!skip_language(source)) return Step::more;
        return state_ = State::fenced, Step::go;
      case State::fenced:
        if (!skip_space(source)) return Step::more;
        return begin_value(log_.lenient()), state_ = State::value, Step::go;
      case State::value: return value(source);
      case State::after: return after(source);
      case State::mixed_name: return mixed_name(source);
      case State::mixed_before: return mixed_before(source);
      case State::mixed_language:
        if (!skip_language(source)) return Step::more;
        return state_ = State::mixed_before, Step::go;
    }
    return Step::stop;
  }

  Step open(const Source& source) {
    if (!skip_space(source)) return Step::more;
    if (at_end(source)) return Step::stray;
    const char c = source.text[pos_];
    if (c == '{' || (c == '[' && log_.lenient())) {
      begin_value(log_.lenient());
      return state_ = State::value, Step::go;
    }
    if (c == '`' && log_.lenient()) {
      const std::size_t run = backticks(source);
      if (run == std::string::npos) return Step::more;
      if (run < 3) return Step::stray;
      pos_ += run;
      return state_ = State::language, Step::go;
    }
    const Match match = source.match(pos_, kToolCallClose | kToolCallOpen);
    if (match.fit == Fit::partial) return Step::more;
    if (match.fit == Fit::full && match.kind == kToolCallClose) {
      log_.warn("empty_block");
      pos_ += match.length;
      return Step::closed;
    }
    if (match.fit == Fit::full && log_.lenient()) {
      log_.warn("duplicate_begin");
      pos_ += match.length;
      return Step::go;
    }
    return log_.lenient() ? mixed(source) : stop(source, "malformed_call");
  }

  /// `function</think>NAME` and `function<SEP>NAME`: R1 habits inside the element.
  Step mixed(const Source& source) {
    constexpr std::string_view kType = "function";
    const std::string_view rest = source.slice(pos_, source.size()).substr(0, kType.size());
    if (kType.substr(0, rest.size()) != rest) return Step::stray;
    if (rest.size() < kType.size()) return source.final ? Step::stray : Step::more;
    const Match match = source.match(pos_ + kType.size(), kSep | kThinkClose);
    if (match.fit == Fit::partial) return Step::more;
    if (match.fit == Fit::none) return Step::stray;
    pos_ = scan_ = pos_ + kType.size() + match.length;
    mixed_ = true;
    return state_ = State::mixed_name, Step::go;
  }

  Step mixed_name(const Source& source) {
    if (scan_ == pos_) {
      const bool ready = skip_space(source);
      scan_ = pos_;
      if (!ready) return Step::more;
    }
    while (scan_ < source.size() && is_name_char(source.text[scan_]) && scan_ - pos_ <= kNameBytes) ++scan_;
    if (scan_ == source.size()) return source.final ? stop(source, "truncated_call") : Step::more;
    name_ = source.slice(pos_, scan_);
    pos_ = scan_;
    log_.start(name_);
    return state_ = State::mixed_before, Step::go;
  }

  Step mixed_before(const Source& source) {
    if (!skip_space(source)) return Step::more;
    if (at_end(source)) return stop(source, "truncated_call", name_);
    if (source.text[pos_] == '`') {
      const std::size_t run = backticks(source);
      if (run == std::string::npos) return Step::more;
      if (run < 3) return stop(source, "malformed_json", name_);
      pos_ += run;
      return state_ = State::mixed_language, Step::go;
    }
    begin_value(true);
    return state_ = State::value, Step::go;
  }

  Step value(const Source& source) {
    // The name of a plain element stands inside the value, so it is not known while that is broken.
    const Step step = scan_value(source, mixed_ ? name_ : std::string_view(), mixed_);
    if (step != Step::stop && !mixed_) stream(source);
    if (step == Step::go) state_ = State::after;
    return step;
  }

  /// The call has started when its name is read; its arguments are streamed as they stand.
  void stream(const Source& source) {
    if (!started_ && !scanner_.name().empty()) {
      started_ = true;
      log_.start(scanner_.name());
      streamed_ = 0;
    }
    const std::size_t begin = scanner_.arguments_begin();
    if (!started_ || begin == 0 || source.text[begin] != '{' || scanner_.repaired()) return;
    const std::size_t from = std::max(begin, streamed_);
    const std::size_t to = scanner_.arguments_end() != 0 ? scanner_.arguments_end() : scanner_.pos();
    if (to > from) log_.delta(source.slice(from, to));
    streamed_ = std::max(from, to);
  }

  /// Behind the value: a fence end, one surplus brace, the closing tag. A missing tag is forgiven.
  Step after(const Source& source) {
    if (!skip_space(source)) return Step::more;
    if (at_end(source)) return missing_end(source);
    const char c = source.text[pos_];
    if (c == '`' && log_.lenient() && !closed_fence_) {
      const std::size_t run = backticks(source);
      if (run == std::string::npos) return Step::more;
      if (run < 3 && pos_ + run < source.size()) return stop(source, "malformed_json");
      closed_fence_ = true;
      pos_ += run;
      return Step::go;
    }
    if (c == '}' && log_.lenient() && !surplus_brace_ && !closed_fence_) {
      surplus_brace_ = true;
      arguments_.repaired = true;
      ++pos_;
      return Step::go;
    }
    const Match match = source.match(pos_, kToolCallClose | kToolCallOpen | kOutputEnd);
    if (match.fit == Fit::partial) return Step::more;
    if (match.fit == Fit::none) {
      if (!source.ends_inside(pos_, kToolCallClose | kToolCallOpen)) return stop(source, "malformed_json", mixed_ ? std::string_view(name_) : std::string_view());
      pos_ = source.size();
      return missing_end(source);
    }
    if (match.kind != kToolCallClose) return missing_end(source);
    pos_ += match.length;
    return keep(source) ? Step::closed : Step::stop;
  }

  Step missing_end(const Source& source) {
    if (!log_.lenient()) return stop(source, "malformed_call");
    log_.warn("missing_call_end");
    return keep(source) ? Step::closed : Step::stop;
  }

  /// One call, or the calls of an array.
  bool keep(const Source& source) {
    ReadArguments read = take_arguments(source);
    if (mixed_) return log_.finish(name_, std::move(read));
    const std::size_t begin = scanner_.arguments_begin(), end = scanner_.arguments_end();
    const bool ambiguous = read.value->is_object() && read.value->contains("arguments") && read.value->contains("parameters");
    written_ = started_ && begin != 0 && end != 0 && !ambiguous ? source.slice(begin, end) : std::string_view();
    if (!read.value->is_array()) return keep_one(*read.value, read);
    for (auto& item : *read.value) {
      if (!keep_one(item, read)) return false;
    }
    return true;
  }

  bool keep_one(Json& value, const ReadArguments& read) {
    NamedCall call;
    if (read.objection || !read_named_call(value, call)) {
      log_.error(read.objection ? read.objection : "malformed_call", {}, read.raw);
      return read.objection != nullptr;  // not even an object: nothing behind counts
    }
    ReadArguments arguments;
    std::string text;
    if (call.has_arguments) {
      const bool as_written = !written_.empty() && call.arguments.is_object();
      text = call.arguments.is_string() ? call.arguments.get<std::string>() : as_written ? std::string(written_) : spaced_json(call.arguments);
      arguments.value = std::move(call.arguments);
    }
    arguments.raw = text;
    arguments.repaired = read.repaired;
    return log_.finish(call.name, std::move(arguments));
  }

  State state_ = State::open;
  std::size_t scan_ = 0;
  std::string name_;
  std::string_view written_;  ///< The arguments as they stand, where they can be told apart.
  bool mixed_ = false;
  bool started_ = false;
  bool closed_fence_ = false;
  bool surplus_brace_ = false;
};

}  // namespace

std::unique_ptr<CallReader> hermes_reader(CallLog& log, std::size_t begin, std::size_t pos) {
  return std::make_unique<HermesReader>(log, begin, pos);
}

}  // namespace kontor::agent::dialect
