// DSML call blocks of DeepSeek V3.2 and V4: invoke elements with typed parameters.

#include "agent/dialect/call_reader.hpp"

#include <set>
#include <utility>

namespace kontor::agent::dialect {
namespace {

constexpr std::size_t kTagBytes = 1024;

class DsmlReader final : public CallReader {
 public:
  DsmlReader(CallLog& log, std::size_t begin, std::size_t pos, bool invoke) : CallReader(log, begin, pos) {
    if (!invoke) return;
    if (log.lenient()) log.warn("missing_begin");
    state_ = State::invoke;
    scan_ = pos;
  }

  Verdict resume(const Source& source) override {
    for (;;) {
      const Step step = advance(source);
      if (step != Step::go) return verdict(step);
    }
  }

 private:
  enum class State { open, invoke, parameters, parameter, verbatim, typed, typed_end, between };

  Step advance(const Source& source) {
    switch (state_) {
      case State::open: return open(source);
      case State::invoke: return invoke(source);
      case State::parameters: return parameters(source);
      case State::parameter: return parameter(source);
      case State::verbatim: return verbatim(source);
      case State::typed: return typed(source);
      case State::typed_end: return typed_end(source);
      case State::between: return between(source);
    }
    return Step::stop;
  }

  Step open(const Source& source) {
    if (!skip_space(source)) return Step::more;
    const Match match = source.match(pos_, kDsmlInvokeOpen | kDsmlCallsClose | kDsmlCallsOpen);
    if (match.fit == Fit::partial) return Step::more;
    if (match.fit == Fit::none) return log_.lenient() ? Step::stray : stop(source, "malformed_call");
    if (match.kind == kDsmlInvokeOpen) return enter_invoke(pos_, match.length), Step::go;
    pos_ += match.length;
    if (match.kind == kDsmlCallsOpen) {
      log_.warn("duplicate_begin");
      return log_.lenient() ? Step::go : stop(source, "malformed_call");
    }
    log_.warn("empty_block");
    return Step::closed;
  }

  void enter_invoke(std::size_t tag, std::size_t length) {
    call_begin_ = tag;
    scan_ = pos_ = tag + length;
    state_ = State::invoke;
  }

  /// Finds the end of the tag whose attributes start at pos_; false: not yet, or `fault` is set.
  bool tag_end(const Source& source, const char*& fault) {
    for (; scan_ < source.size() && scan_ - pos_ <= kTagBytes; ++scan_) {
      const char c = source.text[scan_];
      if (quote_ != 0) {
        if (c == quote_) quote_ = 0;
      } else if (c == '"' || (c == '\'' && log_.lenient())) {
        quote_ = c;
      } else if (c == '>') {
        return true;
      }
    }
    if (scan_ < source.size()) fault = "malformed_call";
    else if (source.final) fault = "truncated_call";
    return false;
  }

  /// Value of an attribute in the tag text; false when it is missing.
  static bool attribute(std::string_view tag, std::string_view key, std::string& out) {
    while (!(tag = trim(tag)).empty()) {
      const std::size_t equals = tag.find('=');
      if (equals == std::string_view::npos) return false;
      const std::string_view name = trim(tag.substr(0, equals));
      tag = trim(tag.substr(equals + 1));
      if (tag.empty() || (tag[0] != '"' && tag[0] != '\'')) return false;
      const std::size_t close = tag.find(tag[0], 1);
      if (close == std::string_view::npos) return false;
      if (name == key) return out = tag.substr(1, close - 1), true;
      tag.remove_prefix(close + 1);
    }
    return false;
  }

  Step invoke(const Source& source) {
    const char* fault = nullptr;
    if (!tag_end(source, fault)) return fault ? stop(source, fault) : Step::more;
    name_.clear();
    const bool named = attribute(source.slice(pos_, scan_), "name", name_);
    pos_ = scan_ + 1;
    if (!named) return stop(source, "malformed_call");
    arguments_object_ = Json::object();
    keys_.clear();
    objection_ = nullptr;
    repaired_ = false;
    no_value();
    log_.start(name_);
    return state_ = State::parameters, Step::go;
  }

  /// Between parameters.
  Step parameters(const Source& source) {
    if (!skip_space(source)) return Step::more;
    const Match match = source.match(pos_, kDsmlParamOpen | kDsmlInvokeClose | kOutputEnd);
    if (match.fit == Fit::partial) return Step::more;
    if (match.fit == Fit::none) return stop(source, ends(source, kDsmlParamOpen | kDsmlInvokeClose) ? "truncated_call" : "malformed_call", name_);
    if (match.kind & kOutputEnd) return stop(source, "truncated_call", name_);
    pos_ += match.length;
    if (match.kind == kDsmlParamOpen) {
      scan_ = pos_;
      return state_ = State::parameter, Step::go;
    }
    // A parameter may still follow an unclosed element, so only the closing tag makes the object complete.
    ReadArguments arguments;
    arguments.value = std::move(arguments_object_);
    arguments.objection = objection_;
    arguments.repaired = repaired_;
    const std::string text = spaced_json(*arguments.value);
    arguments.raw = text;
    if (!log_.finish(name_, std::move(arguments))) return Step::stop;
    return state_ = State::between, Step::go;
  }

  Step parameter(const Source& source) {
    const char* fault = nullptr;
    if (!tag_end(source, fault)) return fault ? stop(source, fault, name_) : Step::more;
    const std::string_view tag = source.slice(pos_, scan_);
    std::string type;
    const bool complete = attribute(tag, "name", key_) && attribute(tag, "string", type) && (type == "true" || type == "false");
    pos_ = scan_ + 1;
    if (!complete || key_.find(kInvalidByte) != std::string::npos) return stop(source, "malformed_call", name_);
    scan_ = pos_;
    if (type == "true") return state_ = State::verbatim, Step::go;
    begin_value(log_.lenient());
    return state_ = State::typed, Step::go;
  }

  /// string="true": everything up to the closing tag, as it stands.
  Step verbatim(const Source& source) {
    for (;; ++scan_) {
      scan_ = source.text.find('<', scan_);
      if (scan_ == std::string::npos) {
        scan_ = source.size();
        return source.final ? stop(source, "truncated_call", name_) : Step::more;
      }
      const Match match = source.match(scan_, kDsmlParamClose);
      if (match.fit == Fit::partial) return Step::more;
      if (match.fit == Fit::none) continue;
      const std::string_view text = source.slice(pos_, scan_);
      if (text.find(kInvalidByte) != std::string_view::npos) {
        log_.warn("invalid_utf8");
        return stop(source, "invalid_utf8", name_);
      }
      put(Json(std::string(text)));
      pos_ = scan_ + match.length;
      return state_ = State::parameters, Step::go;
    }
  }

  Step typed(const Source& source) {
    const Step step = scan_value(source, name_, false);
    if (step == Step::go) state_ = State::typed_end;
    return step;
  }

  Step typed_end(const Source& source) {
    if (!skip_space(source)) return Step::more;
    const Match match = source.match(pos_, kDsmlParamClose | kOutputEnd);
    if (match.fit == Fit::partial) return Step::more;
    if (match.fit == Fit::none) return stop(source, ends(source, kDsmlParamClose) ? "truncated_call" : "malformed_json", name_);
    if (match.kind & kOutputEnd) return stop(source, "truncated_call", name_);
    pos_ += match.length;
    if (arguments_.objection && !objection_) objection_ = arguments_.objection;
    repaired_ |= arguments_.repaired;
    put(std::move(*arguments_.value));
    no_value();
    return state_ = State::parameters, Step::go;
  }

  Step between(const Source& source) {
    if (!skip_space(source)) return Step::more;
    const Match match = source.match(pos_, kDsmlInvokeOpen | kDsmlCallsClose);
    if (match.fit == Fit::partial) return Step::more;
    if (match.fit == Fit::full && match.kind == kDsmlInvokeOpen) return enter_invoke(pos_, match.length), Step::go;
    if (match.fit == Fit::full) return pos_ += match.length, Step::closed;
    if (!log_.lenient()) return stop(source, "malformed_call");
    if (source.ends_inside(pos_, kDsmlInvokeOpen | kDsmlCallsClose)) pos_ = source.size();
    log_.warn("missing_end");
    return Step::closed;
  }

  bool ends(const Source& source, std::uint32_t mask) const { return at_end(source) || source.ends_inside(pos_, mask); }

  void put(Json value) {
    if (!keys_.insert(key_).second) {
      if (!objection_) objection_ = "duplicate_key";
      return;
    }
    // Appended directly: the map's own insert would search all members again.
    using Members = std::vector<std::pair<const std::string, Json>>;
    static_cast<Members&>(arguments_object_.get_ref<Json::object_t&>()).emplace_back(key_, std::move(value));
  }

  State state_ = State::open;
  std::size_t scan_ = 0;
  char quote_ = 0;
  std::string name_;
  std::string key_;
  std::set<std::string> keys_;
  Json arguments_object_ = Json::object();
  const char* objection_ = nullptr;
  bool repaired_ = false;
};

}  // namespace

std::unique_ptr<CallReader> dsml_reader(CallLog& log, std::size_t begin, std::size_t pos, bool invoke) {
  return std::make_unique<DsmlReader>(log, begin, pos, invoke);
}

}  // namespace kontor::agent::dialect
