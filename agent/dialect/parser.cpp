// The top of the parser: reasoning, content and the places where calls begin. The notations of calls are read by the
// readers of call_reader.hpp, notations without markup by fallback.hpp once the output is complete.

#include "agent/dialect/parser.hpp"

#include "agent/dialect/call_log.hpp"
#include "agent/dialect/call_reader.hpp"
#include "agent/dialect/fallback.hpp"
#include "agent/dialect/formats.hpp"
#include "agent/dialect/markers.hpp"
#include "agent/dialect/text_stream.hpp"

#include <algorithm>
#include <utility>

namespace kontor::agent {

using namespace dialect;

struct Parser::State {
  enum class Phase {
    start,       ///< Nothing but white space so far.
    think,
    part_start,  ///< Behind </think> or a call block: a further <think> may open another part.
    content,
    eos_in_code, ///< An end marker quoted in code: a real end only if nothing follows.
    block,       ///< A reader is at work.
    trial,       ///< A reader is at work inside the reasoning: its block counts only if the output ends behind it.
    trial_end,   ///< That block is complete.
    ended,       ///< Behind the end of the turn.
    dropped,     ///< Nothing that follows counts.
  };

  State(ParserOptions given, std::function<void(const ParseEvent&)> given_sink)
      : options(std::move(given)), sink(std::move(given_sink)), notation(notation_of(options.format)), log(options, &sink) {
    source.lenient = options.mode == ParseMode::lenient;
    source.token_policy = options.markers == MarkerPolicy::token;
    openers = notation.openers;
    hold = options.fallbacks && options.tools && source.lenient;
  }

  void feed(std::string_view bytes, bool control);
  ParseResult finish();

  void advance() { while (step()) {} }
  bool step();
  bool start();
  bool think();
  bool part_start();
  bool content();
  bool content_marker(const Match& match);
  bool is_quoted(const Match& match);
  bool eos_in_code();
  bool block();
  bool trial();
  bool trial_end();
  bool ended();

  std::unique_ptr<CallReader> make_reader(CallLog& target, std::size_t begin, const Match& match) const;
  void enter(Phase next, std::size_t pos) {
    phase = next;
    flushed = scan = pos;
    if (next == Phase::content) fences.reset(pos);
  }
  void flush(TextChannel& channel, ParseEvent::Kind kind, std::size_t end);
  void flush_reasoning(std::size_t end) { flush(reasoning, ParseEvent::Kind::reasoning, end); }
  void flush_content(std::size_t end) { flush(answer, ParseEvent::Kind::content, end); }
  void emit_content();
  bool closes_before(std::size_t end);
  void abandon_trial(std::size_t resume_openers);
  void accept_trial();
  void run_fallbacks(ParseResult& result);

  const ParserOptions options;
  const std::function<void(const ParseEvent&)> sink;
  const Notation notation;
  Source source;
  Utf8Feed utf8;
  CallLog log;
  TextChannel reasoning;
  TextChannel answer;
  FenceTracker fences;
  FallbackWatch watch;                      ///< What may still turn out to be a call without markup.
  std::unique_ptr<CallReader> reader;
  std::unique_ptr<CallLog> trial_log;

  Phase phase = Phase::start;
  std::uint32_t openers = 0;
  std::size_t fed = 0;
  std::size_t flushed = 0;       ///< Text up to here is in a channel.
  std::size_t scan = 0;          ///< Text up to here holds no marker.
  std::size_t marker = 0;        ///< Where the marker under consideration begins.
  std::size_t quote_end = 0;     ///< Behind a call's marker that was literal; 0 where the last one was none.
  std::size_t ahead = 0;
  std::size_t close_scan = 0;    ///< </think> was looked for up to here while a trial runs.
  std::size_t no_trial_before = 0;
  std::size_t emitted = 0;       ///< Of the answer.
  bool hold = false;             ///< Fallbacks are on: what may become a call is not streamed as content.
  bool think_closed = false;
  bool saw_think = false;        ///< Any <think>, literal or not.
  bool saw_block = false;
  bool unterminated = false;
  bool overflow = false;
};

void Parser::State::feed(std::string_view bytes, bool control) {
  fed += bytes.size();
  if (overflow || fed > options.max_bytes) {
    overflow = true;
    source.text = {};
    return;
  }
  if (source.token_policy && control) {
    utf8.flush(source.text);
    const std::size_t begin = source.size();
    utf8.append(source.text, bytes);
    utf8.flush(source.text);
    source.control.push_back({begin, source.size() - begin});
  } else {
    utf8.append(source.text, bytes);
  }
  advance();
}

bool Parser::State::step() {
  switch (phase) {
    case Phase::start: return start();
    case Phase::think: return think();
    case Phase::part_start: return part_start();
    case Phase::content: return content();
    case Phase::eos_in_code: return eos_in_code();
    case Phase::block: return block();
    case Phase::trial: return trial();
    case Phase::trial_end: return trial_end();
    case Phase::ended: return ended();
    case Phase::dropped: return false;
  }
  return false;
}

bool Parser::State::start() {
  const std::size_t pos = source.skip_space(flushed);
  flushed = pos;
  const bool open = options.prefill == Prefill::open;
  const Match match = source.match(pos, open ? kThinkOpen : kThinkOpen | kThinkClose);
  if (match.fit == Fit::partial) return false;
  if (match.fit == Fit::full && match.kind == kThinkOpen) {
    saw_think = true;
    enter(Phase::think, pos + match.length);
  } else if (match.fit == Fit::full) {
    log.warn("stray_think_close");
    think_closed = true;
    enter(Phase::part_start, pos + match.length);
  } else {
    enter(open ? Phase::think : Phase::content, pos);
  }
  return true;
}

bool Parser::State::part_start() {
  const std::size_t pos = source.skip_space(flushed);
  flushed = pos;
  const Match match = source.match(pos, kThinkOpen);
  if (match.fit == Fit::partial) return false;
  if (match.fit == Fit::full) {
    saw_think = true;
    enter(Phase::think, pos + match.length);
  } else {
    enter(Phase::content, pos);
  }
  return true;
}

bool Parser::State::think() {
  const bool may_try = source.lenient && !think_closed;
  for (;;) {
    const std::size_t at = source.text.find('<', scan);
    if (at == std::string::npos) {
      scan = source.size();
      flush_reasoning(scan);
      if (source.final && !unterminated) unterminated = true;
      return false;
    }
    const std::uint32_t mask = kThinkClose | kEos | (may_try && at >= no_trial_before ? openers : 0u);
    const Match match = source.match(at, mask);
    if (match.fit == Fit::partial) {
      scan = at;
      flush_reasoning(at);
      return false;
    }
    if (match.fit == Fit::none) {
      scan = at + 1;
      continue;
    }
    flush_reasoning(at);
    if (match.kind == kThinkClose) {
      reasoning.end_part();
      think_closed = true;
      enter(Phase::part_start, at + match.length);
    } else if (match.kind == kEos) {
      unterminated = true;
      reasoning.end_part();
      enter(Phase::ended, at + match.length);
    } else {
      marker = at;
      close_scan = at;
      trial_log = std::make_unique<CallLog>(options, nullptr);
      reader = make_reader(*trial_log, at, match);
      phase = Phase::trial;
    }
    return true;
  }
}

/// A </think> inside what the reader takes for a block means that the block was only a thought.
bool Parser::State::closes_before(std::size_t end) {
  for (;;) {
    const std::size_t at = source.text.find("</think>", close_scan);
    if (at == std::string::npos || at >= end) {
      if (end > 7) close_scan = std::max(close_scan, end - 7);
      return false;
    }
    if (source.match(at, kThinkClose).fit == Fit::full) return true;
    close_scan = at + 1;
  }
}

bool Parser::State::trial() {
  const Verdict verdict = reader->resume(source);
  if (verdict == Verdict::more) {
    if (!closes_before(source.size())) return false;
    abandon_trial(source.size());
    return true;
  }
  const bool complete = verdict == Verdict::closed && trial_log->errors().empty() && !trial_log->calls().empty() &&
                        !trial_log->has_warning("missing_begin") && !trial_log->has_warning("missing_end") &&
                        !trial_log->has_warning("missing_call_end") &&
                        !closes_before(reader->pos());
  if (complete) {
    ahead = reader->pos();
    phase = Phase::trial_end;
  } else {
    abandon_trial(std::max(reader->pos(), marker + 1));
  }
  return true;
}

bool Parser::State::trial_end() {
  ahead = source.skip_space(ahead);
  const Match match = source.match(ahead, kEos | openers);
  if (match.fit == Fit::partial) return false;
  if (match.fit == Fit::full && match.kind != kEos) {
    reader = make_reader(*trial_log, ahead, match);
    phase = Phase::trial;
  } else if (match.fit == Fit::full || ahead >= source.size()) {
    accept_trial();
  } else {
    abandon_trial(std::max(ahead, marker + 1));
  }
  return true;
}

void Parser::State::abandon_trial(std::size_t resume_openers) {
  reader.reset();
  trial_log.reset();
  no_trial_before = resume_openers;
  scan = marker + 1;  // the text stays reasoning; only end markers in it still count
  phase = Phase::think;
}

void Parser::State::accept_trial() {
  reasoning.end_part();
  log.warn("implicit_think_close");
  reader.reset();
  saw_block = true;
  const bool kept = log.adopt(std::move(*trial_log));
  trial_log.reset();
  enter(kept ? Phase::content : Phase::dropped, ahead);
}

bool Parser::State::content() {
  const std::uint32_t mask = openers | kEos | kTurn | kThinkOpen | kThinkClose;
  for (;;) {
    const std::size_t at = source.text.find('<', scan);
    if (at == std::string::npos) {
      scan = source.size();
      flush_content(scan);
      return false;
    }
    const Match match = source.match(at, mask);
    if (match.fit == Fit::partial) {
      scan = at;
      flush_content(at);
      return false;
    }
    if (match.fit == Fit::none) {
      scan = at + 1;
      continue;
    }
    marker = at;
    if (content_marker(match)) return true;
  }
}

/// Is the marker literal? So is what continues a quoted block: its markers may have white space between them.
bool Parser::State::is_quoted(const Match& match) {
  if (source.token_policy) return false;
  if (fences.in_code(source.text, marker)) return !(match.kind == kEos && fences.behind_closing_fence());
  return (match.kind & openers) && quote_end != 0 && source.skip_space(quote_end) == marker;
}

/// False: the marker is literal, the search goes on behind it.
bool Parser::State::content_marker(const Match& match) {
  const std::size_t behind = marker + match.length;
  const bool code = is_quoted(match);
  quote_end = code && (match.kind & openers) ? behind : 0;
  scan = behind;
  if (match.kind == kThinkOpen) return saw_think = true, false;
  if (match.kind == kThinkClose) {
    const bool reveals = options.prefill == Prefill::none && !saw_think && !think_closed && !saw_block && !code;
    if (!reveals) return log.warn("stray_think_close"), false;
    // The model never opened its reasoning: what stood before is it.
    flush_content(marker);
    log.warn("missing_think_open");
    reasoning.set(answer.take());
    answer = {};
    emitted = 0;
    watch = {};
    think_closed = true;
    enter(Phase::part_start, behind);
    return true;
  }
  if (code && match.kind == kEos) {
    flush_content(marker);
    ahead = behind;
    phase = Phase::eos_in_code;
    return true;
  }
  if (code) return log.warn("marker_in_code"), false;
  flush_content(marker);
  if (match.kind == kEos || match.kind == kTurn) {
    answer.end_part();
    if (match.kind == kTurn) log.warn("hallucinated_turn");
    enter(match.kind == kEos ? Phase::ended : Phase::dropped, behind);
    return true;
  }
  reader = make_reader(log, marker, match);
  if (!reader) {  // strict: this marker cannot stand here
    log.error("malformed_call", {}, source.slice(marker, behind));
    enter(Phase::dropped, behind);
    return true;
  }
  phase = Phase::block;
  return true;
}

bool Parser::State::eos_in_code() {
  ahead = source.skip_space(ahead);
  if (ahead >= source.size()) {
    if (!source.final) return false;
    answer.end_part();
    enter(Phase::ended, ahead);
    return true;
  }
  log.warn("marker_in_code");
  phase = Phase::content;
  return true;
}

bool Parser::State::block() {
  const Verdict verdict = reader->resume(source);
  if (verdict == Verdict::more) return false;
  const std::size_t pos = reader->pos();
  reader.reset();
  switch (verdict) {
    case Verdict::closed:
      saw_block = true;
      answer.end_part();
      enter(Phase::part_start, pos);
      break;
    case Verdict::stray:
      log.warn("stray_marker");
      scan = pos;
      phase = Phase::content;
      break;
    default: enter(Phase::dropped, pos);
  }
  return true;
}

bool Parser::State::ended() {
  flushed = source.skip_space(flushed);
  if (flushed >= source.size()) return false;
  log.warn("text_after_eos");
  phase = Phase::dropped;
  return false;
}

std::unique_ptr<CallReader> Parser::State::make_reader(CallLog& target, std::size_t begin, const Match& match) const {
  const std::size_t pos = begin + match.length;
  switch (match.kind) {
    case kCallsBegin:
      if (source.lenient) return native_reader(target, begin, pos, true);
      return strict_native_reader(target, begin, pos, notation.v31);
    case kCallBegin: return source.lenient ? native_reader(target, begin, pos, false) : nullptr;
    case kDsmlCallsOpen: return dsml_reader(target, begin, pos, false);
    case kDsmlInvokeOpen: return source.lenient ? dsml_reader(target, begin, pos, true) : nullptr;
    case kToolCallOpen: return hermes_reader(target, begin, pos);
    default: return nullptr;
  }
}

void Parser::State::flush(TextChannel& channel, ParseEvent::Kind kind, std::size_t end) {
  if (end <= flushed) return;
  const std::size_t before = channel.text().size();
  channel.append(source.slice(flushed, end), utf8.saw_invalid());
  if (utf8.saw_invalid() && source.slice(flushed, end).find(kInvalidByte) != std::string_view::npos) log.warn("invalid_utf8");
  flushed = end;
  if (!sink) return;
  if (kind == ParseEvent::Kind::content) return emit_content();
  if (channel.text().size() > before) sink({kind, channel.text().substr(before), 0});
}

/// Streams the answer up to the first place that may still become a call.
void Parser::State::emit_content() {
  const std::string& text = answer.text();
  const std::size_t end = hold && !saw_block ? watch.safe(text, *options.tools) : text.size();
  if (end <= emitted) return;
  sink({ParseEvent::Kind::content, text.substr(emitted, end - emitted), 0});
  emitted = end;
}

void Parser::State::run_fallbacks(ParseResult& result) {
  if (!hold || saw_block || !result.calls.empty() || !result.errors.empty()) return;
  CallLog found(options, &sink);
  std::string content = result.content;
  if (!read_fallbacks(options, content, found)) return;
  ParseResult calls;
  found.move_into(calls);
  result.content = std::move(content);
  result.calls = std::move(calls.calls);
  result.errors = std::move(calls.errors);
  result.warnings.insert(result.warnings.end(), calls.warnings.begin(), calls.warnings.end());
  std::sort(result.warnings.begin(), result.warnings.end());
  result.warnings.erase(std::unique(result.warnings.begin(), result.warnings.end()), result.warnings.end());
}

ParseResult Parser::State::finish() {
  ParseResult result;
  if (!overflow) {
    utf8.flush(source.text);
    source.final = true;
    advance();
  }
  if (overflow) {
    result.errors.push_back({"output_too_large", {}, {}});
    return result;
  }
  log.move_into(result);
  result.reasoning = reasoning.take();
  result.content = answer.take();
  const bool too_many = !result.errors.empty() && result.errors.back().kind == "too_many_calls";
  if (unterminated && !too_many) result.errors.push_back({"unterminated_think", {}, {}});
  run_fallbacks(result);
  if (sink && result.content.size() > emitted) {
    sink({ParseEvent::Kind::content, result.content.substr(emitted), 0});
  }
  return result;
}

Parser::Parser(ParserOptions options, std::function<void(const ParseEvent&)> sink)
    : state_(std::make_unique<State>(std::move(options), std::move(sink))) {}
Parser::~Parser() = default;
Parser::Parser(Parser&&) noexcept = default;
Parser& Parser::operator=(Parser&&) noexcept = default;

void Parser::feed(std::string_view bytes, bool control) { state_->feed(bytes, control); }

ParseResult Parser::finish(Finish) { return state_->finish(); }

}  // namespace kontor::agent
