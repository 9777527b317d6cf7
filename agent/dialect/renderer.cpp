// Kontor's own prompts. One walk over the conversation keeps the state of the turns; what differs between the families
// is how a turn, a call and a result are spelt.

#include "agent/dialect/renderer.hpp"

#include "agent/dialect/faithful_parts.hpp"
#include "agent/dialect/json_scanner.hpp"
#include "agent/dialect/markers.hpp"

#include <algorithm>
#include <string_view>
#include <utility>

namespace kontor::agent {
namespace {

using namespace faithful;

enum class Family { r1, v31, v32, v4, chatml };

struct Entry {
  std::string_view key;
  Family family;
  Prefill prefill;
  KeepReasoning keep;
  std::string_view parser_format;
};

// V3 and the distills share R1's notation. What a model was trained to see in front of its turn decides the pre-fill.
constexpr Entry kEntries[] = {
    {"r1", Family::r1, Prefill::open, KeepReasoning::since_last_user, "deepseek-r1"},
    {"r1-jan2025", Family::r1, Prefill::none, KeepReasoning::since_last_user, "deepseek-r1"},
    {"r1-0528", Family::r1, Prefill::none, KeepReasoning::since_last_user, "deepseek-r1"},
    {"r1-0528-qwen3", Family::r1, Prefill::none, KeepReasoning::since_last_user, "deepseek-r1-0528-qwen3"},
    {"r1-distill", Family::r1, Prefill::open, KeepReasoning::since_last_user, "deepseek-r1-distill"},
    {"v3", Family::r1, Prefill::none, KeepReasoning::never, "deepseek-v3"},
    {"v3.1", Family::v31, Prefill::open, KeepReasoning::since_last_user, "deepseek-v3.1"},
    {"v3.2", Family::v32, Prefill::open, KeepReasoning::since_last_user, "deepseek-v3.2"},
    {"v4", Family::v4, Prefill::open, KeepReasoning::since_last_user, "deepseek-v4"},
    {"qwen3", Family::chatml, Prefill::none, KeepReasoning::since_last_user, "qwen3"},
    {"qwq", Family::chatml, Prefill::open, KeepReasoning::since_last_user, "qwq"},
    {"hermes", Family::chatml, Prefill::none, KeepReasoning::never, "hermes"},
};

const Entry* find_entry(std::string_view key) {
  const auto* entry = std::find_if(std::begin(kEntries), std::end(kEntries), [&](const Entry& e) { return e.key == key; });
  return entry == std::end(kEntries) ? nullptr : entry;
}

/// Number of single-character edits between two short words.
std::size_t distance(std::string_view a, std::string_view b) {
  std::vector<std::size_t> row(b.size() + 1);
  for (std::size_t j = 0; j <= b.size(); ++j) row[j] = j;
  for (std::size_t i = 1; i <= a.size(); ++i) {
    std::size_t diagonal = std::exchange(row[0], i);
    for (std::size_t j = 1; j <= b.size(); ++j) {
      diagonal = std::exchange(row[j], std::min({row[j] + 1, row[j - 1] + 1, diagonal + (a[i - 1] != b[j - 1])}));
    }
  }
  return row[b.size()];
}

Error unknown_key(const std::string& key) {
  std::string known, nearest;
  std::size_t best = 3;
  for (const Entry& entry : kEntries) {
    known += (known.empty() ? "" : ", ") + std::string(entry.key);
    if (key.size() > 32) continue;
    if (const std::size_t d = distance(key, entry.key); d < best) best = d, nearest = entry.key;
  }
  return fail(Errc::usage, "unknown dialect '" + key.substr(0, 64) + "'" + (nearest.empty() ? "" : " (did you mean '" + nearest + "'?)") +
                               "; known are " + known, "dialect");
}

/// Collects segments; neighbours of one kind become one.
class Segments {
 public:
  Segments& markup(std::string_view text) { return add(text, true); }
  Segments& text(std::string_view text) { return add(text, false); }
  void ids(std::string text, const std::vector<int>& tokens) {
    inference::Segment segment;
    segment.text = std::move(text);
    segment.tokens.assign(tokens.begin(), tokens.end());
    list_.push_back(std::move(segment));
  }
  std::vector<inference::Segment> take() { return std::move(list_); }

  /// Joins everything up to the last turn with ids into one segment with the ids of all of it.
  Result<void> encode(const RollingPrompt::Encode& encode);

  /// Where the text ends now, for restore(): what is added behind it can be taken back.
  struct Mark {
    std::size_t segments = 0, bytes = 0;
  };
  Mark mark() const { return {list_.size(), list_.empty() ? 0 : list_.back().text.size()}; }
  void restore(const Mark& mark) {
    list_.resize(mark.segments);
    if (!list_.empty()) list_.back().text.resize(mark.bytes);
  }
  /// What nothing added behind `mark` can change, and the rest.
  std::span<const inference::Segment> before(const Mark& mark) const { return std::span(list_).first(whole(mark)); }
  std::vector<inference::Segment> from(const Mark& mark) const { return {list_.begin() + static_cast<std::ptrdiff_t>(whole(mark)), list_.end()}; }

 private:
  /// Segments that nothing is appended to: the last one grows unless it holds ids.
  std::size_t whole(const Mark& mark) const { return mark.segments && list_[mark.segments - 1].tokens.empty() ? mark.segments - 1 : mark.segments; }
  Segments& add(std::string_view text, bool is_template) {
    if (text.empty()) return *this;
    if (list_.empty() || list_.back().is_template != is_template || !list_.back().tokens.empty()) {
      list_.push_back({{}, is_template, {}});
    }
    list_.back().text += text;
    return *this;
  }

  std::vector<inference::Segment> list_;
};

Result<void> Segments::encode(const RollingPrompt::Encode& encode) {
  std::size_t end = list_.size();
  while (end > 0 && list_[end - 1].tokens.empty()) --end;
  if (end < 2) return {};
  // Behind ids the text is encoded anew, so that this gives the ids of the whole. The last id tells how it goes on.
  const bool goes_on = !list_[0].tokens.empty();
  std::vector<inference::Segment> part;
  if (goes_on) part.push_back({{}, true, {list_[0].tokens.back()}});
  part.insert(part.end(), list_.begin() + (goes_on ? 1 : 0), list_.begin() + static_cast<std::ptrdiff_t>(end));
  const auto ids = encode(part);
  if (!ids) return ids.error();
  inference::Segment& joined = list_[0];
  for (std::size_t i = 1; i < end; ++i) joined.text += list_[i].text;
  joined.is_template = false;
  joined.tokens.insert(joined.tokens.end(), ids->begin() + (goes_on ? 1 : 0), ids->end());
  list_.erase(list_.begin() + 1, list_.begin() + static_cast<std::ptrdiff_t>(end));
  return {};
}

/// The arguments as the model wrote them where that is an object in canonical JSON (digits such as 4800.00 survive),
/// else printed.
std::string argument_text(const ToolCall& call) {
  if (!call.raw_arguments.empty()) {
    const auto read = dialect::scan_json(call.raw_arguments, 0, false, 128);
    if (!read.error && !read.objection && read.end == call.raw_arguments.size() && read.value == call.arguments) return call.raw_arguments;
  }
  return spaced_json(call.arguments);
}

std::string schema_text(const ToolSchema& tool, bool wrapped) {
  Json function = Json::object();
  function["name"] = tool.name;
  function["description"] = tool.description;
  function["parameters"] = tool.parameters;
  if (!wrapped) return spaced_json(function);
  Json out = Json::object();
  out["type"] = "function";
  out["function"] = std::move(function);
  return spaced_json(out);
}

}  // namespace

class RollingPrompt::Writer {
 public:
  Writer(const DialectOptions& options, const Entry& entry) : options_(options), entry_(entry), family_(entry.family) {}

  /// Whether what was written is still right when the conversation went on as `messages`.
  bool goes_on(const std::vector<Message>& messages) const {
    if (messages.size() < done_) return false;
    return std::none_of(messages.begin() + static_cast<std::ptrdiff_t>(done_), messages.end(), [&](const Message& message) {
      return message.role == Role::system || (message.role == Role::user && options_.keep_reasoning == KeepReasoning::since_last_user);
    });
  }
  Result<void> extend(const std::vector<Message>& messages, const std::vector<ToolSchema>& tools);
  Result<Rendered> prompt(const Encode& encode);
  /// Messages that are written.
  std::size_t done() const { return done_; }
  Result<Rendered> ahead(std::span<const Message> results, const Message* begun, const Encode& encode);

 private:
  static std::size_t last_user(const std::vector<Message>& messages, std::size_t from) {
    std::size_t behind = 0;
    for (std::size_t i = from; i < messages.size(); ++i) {
      if (messages[i].role == Role::user) behind = i + 1;
    }
    return behind;
  }
  Result<void> check(const Message& message);
  void system(const std::vector<Message>& messages, const std::vector<ToolSchema>& tools);
  Prefill finish();
  /// Where the text stands: between turns, where the assistant may go on, or behind results that are not yet closed.
  enum class Place { start, assistant, turn_end, results };

  void user(const Message& message);
  void assistant(const Message& message, std::size_t index);
  void result(const Message& message);
  void calls(const Message& message);
  void call_r1(const ToolCall& call, bool first);
  void call_dsml(const ToolCall& call);
  void open_assistant();
  void close_results(bool assistant_follows);
  void close_turn() { out_.markup(family_ == Family::chatml ? options_.eos + "\n" : options_.eos); }
  bool keeps(std::size_t index) const {
    return options_.keep_reasoning == KeepReasoning::all ||
           (options_.keep_reasoning == KeepReasoning::since_last_user && index >= last_user_);
  }
  bool thinks_in_place() const { return family_ == Family::v31 || family_ == Family::v32 || family_ == Family::v4; }
  std::string_view prefill_text(Prefill prefill) const {
    if (prefill == Prefill::none) return {};
    if (thinks_in_place()) return prefill == Prefill::open ? kThink : kThinkEnd;
    return prefill == Prefill::open ? std::string_view("<think>\n") : std::string_view("<think>\n\n</think>\n\n");
  }

  DialectOptions options_;
  const Entry& entry_;
  Family family_;
  std::size_t done_ = 0;         ///< Messages that are written.
  std::size_t last_user_ = 0;    ///< Index behind the last user message.
  std::vector<std::string> open_calls_;  ///< Ids of the last turn's calls ...
  std::size_t open_ = 0;                 ///< ... and how many of them have no result yet.
  Segments out_;
  Place place_ = Place::start;
  bool fresh_ = true;            ///< At Place::assistant: a new turn, which begins with the pre-fill.
};

/// Errors: malformed for a result that answers no call of the turn before it.
Result<void> RollingPrompt::Writer::check(const Message& message) {
  if (message.role != Role::tool) {
    open_calls_.clear();
    if (message.role == Role::assistant) {
      for (const auto& call : message.calls) open_calls_.push_back(call.id);
    }
    open_ = open_calls_.size();
    return {};
  }
  const bool known = message.call_id.empty() || std::find(open_calls_.begin(), open_calls_.end(), message.call_id) != open_calls_.end();
  if (open_ == 0 || !known) return fail(Errc::malformed, "the result '" + message.call_id + "' of " + message.name + " answers no call", "result_without_call");
  --open_;
  return {};
}

void RollingPrompt::Writer::system(const std::vector<Message>& messages, const std::vector<ToolSchema>& tools) {
  std::string text;
  bool any = false;
  for (const auto& message : messages) {
    if (message.role != Role::system) continue;
    text += (any ? "\n\n" : "") + message.content;
    any = true;
  }
  const auto describe = [&](const ToolsText& words, bool wrapped) {
    out_.markup(words.before);
    for (const auto& tool : tools) out_.markup(words.each).text(schema_text(tool, wrapped)).markup(words.behind);
    out_.markup(words.after);
  };
  if (family_ == Family::chatml) {
    if (!any && tools.empty()) return;
    out_.markup("<|im_start|>system\n").text(text);
    if (any && !tools.empty()) out_.markup("\n\n");
    if (!tools.empty()) describe(kQwenTools, true);
    close_turn();
    return;
  }
  out_.markup(options_.bos).text(text);
  if (tools.empty()) return;
  if (family_ == Family::r1) return describe(kSglangTools, true);
  if (any) out_.markup("\n\n");
  if (family_ == Family::v32) return describe(kV32Tools, false);
  if (family_ == Family::v4) return describe(kV4Tools, false);
  out_.markup("## Tools\nYou have access to the following tools:\n");
  for (const auto& tool : tools) {
    out_.markup("\n### ").text(tool.name).markup("\nDescription: ").text(tool.description).markup("\n\nParameters: ");
    out_.text(spaced_json(tool.parameters)).markup("\n");
  }
  out_.markup(
      "\nIMPORTANT: ALWAYS adhere to this exact format for tool use:\n"
      "<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>tool_call_name<｜tool▁sep｜>tool_call_arguments<｜tool▁call▁end｜>"
      "{additional_tool_calls}<｜tool▁calls▁end｜>\n\n"
      "Where:\n- `tool_call_name` must be an exact match to one of the available tools\n"
      "- `tool_call_arguments` must be valid JSON that strictly follows the tool's Parameters Schema\n"
      "- For multiple tool calls, chain them directly without separators or spaces\n");
}

Result<void> RollingPrompt::Writer::extend(const std::vector<Message>& messages, const std::vector<ToolSchema>& tools) {
  if (done_ == 0) system(messages, tools);
  last_user_ = std::max(last_user_, last_user(messages, done_));
  for (; done_ < messages.size(); ++done_) {
    const Message& message = messages[done_];
    if (message.role == Role::system) continue;
    if (const auto fine = check(message); !fine) return fine.error();
    switch (message.role) {
      case Role::system: break;
      case Role::user: user(message); break;
      case Role::assistant: assistant(message, done_); break;
      case Role::tool: result(message); break;
    }
  }
  return {};
}

/// The prompt up to where the model goes on. That end is not kept: the turn that comes is written by its own rules.
Result<Rendered> RollingPrompt::Writer::prompt(const Encode& encode) {
  if (encode) {
    if (const auto encoded = out_.encode(encode); !encoded) return encoded.error();
  }
  const auto mark = out_.mark();
  const Place place = place_;
  const bool fresh = fresh_;
  Rendered out;
  out.prefill = finish();
  out.parser_format = entry_.parser_format;
  out.segments = out_.from(mark);
  out_.restore(mark);
  out.earlier = out_.before(mark);
  place_ = place;
  fresh_ = fresh;
  return out;
}

/// `results`: those that are not written yet.
Result<Rendered> RollingPrompt::Writer::ahead(std::span<const Message> results, const Message* begun, const Encode& encode) {
  if (encode) {
    if (const auto encoded = out_.encode(encode); !encoded) return encoded.error();
  }
  for (const Message& message : results) {
    if (const auto fine = check(message); !fine) return fine.error();
    result(message);
    ++done_;
  }
  const auto mark = out_.mark();
  const Place place = place_;
  if (begun) result(*begun);
  Rendered out;
  out.parser_format = entry_.parser_format;
  out.segments = out_.from(mark);
  out_.restore(mark);
  out.earlier = out_.before(mark);
  place_ = place;
  return out;
}

/// Ends a run of results. `assistant_follows`: the model goes on, else somebody else's turn begins.
void RollingPrompt::Writer::close_results(bool assistant_follows) {
  if (place_ != Place::results) return;
  place_ = Place::turn_end;
  switch (family_) {
    case Family::r1: out_.markup(kOutputsEnd); break;
    case Family::v31: break;
    case Family::v32: out_.markup("\n</function_results>"); break;
    case Family::v4: return;  // results are a user turn; open_assistant() ends it
    case Family::chatml: close_turn(); return;
  }
  if (!assistant_follows) return;
  if (family_ == Family::v32) {
    out_.markup("\n\n");
    place_ = Place::assistant;
    fresh_ = true;
  } else if (options_.after_tool == AfterTool::carry_on) {
    place_ = Place::assistant;
    fresh_ = false;
  } else {
    out_.markup(options_.eos);
  }
}

/// Brings the text to where the assistant writes.
void RollingPrompt::Writer::open_assistant() {
  close_results(true);
  if (place_ == Place::assistant) return;
  out_.markup(family_ == Family::chatml ? std::string_view("<|im_start|>assistant\n") : kAssistant);
  place_ = Place::assistant;
  fresh_ = true;
}

void RollingPrompt::Writer::user(const Message& message) {
  if (family_ == Family::v4 && place_ == Place::results) {
    out_.markup("\n\n").text(message.content);  // results and text share the user turn
    return;
  }
  close_results(false);
  if (family_ == Family::chatml) {
    out_.markup("<|im_start|>user\n").text(message.content);
    close_turn();
  } else {
    out_.markup(kUser).text(message.content);
  }
  place_ = Place::turn_end;
}

void RollingPrompt::Writer::assistant(const Message& message, std::size_t index) {
  open_assistant();
  const bool keep = keeps(index);
  const bool holds_reasoning = !message.reasoning.empty() || message.generated_text.find(kThinkEnd) != std::string::npos;
  if (!message.tokens.empty() && (keep || !holds_reasoning)) {
    if (fresh_) out_.markup(prefill_text(options_.think_prefill));
    const bool ended = options_.eos_id < 0 || message.tokens.back() == options_.eos_id;
    std::string text = message.generated_text;
    if (ended && !text.ends_with(options_.eos)) text += options_.eos;
    out_.ids(std::move(text), message.tokens);
    if (!ended) out_.markup(options_.eos);
    if (family_ == Family::chatml) out_.markup("\n");
    place_ = Place::turn_end;
    return;
  }
  if (thinks_in_place()) {
    if (keep && !message.reasoning.empty()) {
      if (fresh_) out_.markup(kThink);
      out_.text(message.reasoning).markup(kThinkEnd);
    } else if (fresh_) {
      out_.markup(kThinkEnd);
    }
  } else if (keep && !message.reasoning.empty()) {
    out_.markup("<think>\n").text(message.reasoning).markup("\n</think>\n\n");
  }
  out_.text(message.content);
  if (!message.calls.empty()) calls(message);
  close_turn();
  place_ = Place::turn_end;
}

void RollingPrompt::Writer::call_r1(const ToolCall& call, bool first) {
  if (family_ == Family::v31) {
    out_.markup(kCallBegin).text(call.name).markup(kSep).text(argument_text(call)).markup(kCallEnd);
    return;
  }
  if (!first) out_.markup("\n");
  out_.markup(kCallBegin).markup("function").markup(kSep).text(call.name).markup("\n```json\n");
  out_.text(argument_text(call)).markup("\n```").markup(kCallEnd);
}

void RollingPrompt::Writer::call_dsml(const ToolCall& call) {
  out_.markup("<｜DSML｜invoke name=\"").text(call.name).markup("\">\n");
  for (const auto& [key, value] : call.arguments.items()) {
    out_.markup("<｜DSML｜parameter name=\"").text(key).markup(value.is_string() ? "\" string=\"true\">" : "\" string=\"false\">");
    out_.text(value.is_string() ? value.get<std::string>() : spaced_json(value)).markup("</｜DSML｜parameter>\n");
  }
  out_.markup("</｜DSML｜invoke>\n");
}

void RollingPrompt::Writer::calls(const Message& message) {
  const bool dsml = family_ == Family::v32 || family_ == Family::v4;
  const std::string block = family_ == Family::v32 ? "function_calls>" : "tool_calls>";
  if (dsml) out_.markup("\n\n<｜DSML｜" + block + "\n");
  else if (family_ != Family::chatml) out_.markup(kCallsBegin);
  bool first = true;
  for (const auto& call : message.calls) {
    if (dsml) {
      call_dsml(call);
    } else if (family_ == Family::chatml) {
      if (!first || !message.content.empty()) out_.markup("\n");
      Json name = call.name;
      out_.markup("<tool_call>\n").text("{\"name\": " + spaced_json(name) + ", \"arguments\": " + argument_text(call) + "}").markup("\n</tool_call>");
    } else {
      call_r1(call, first);
    }
    first = false;
  }
  if (dsml) out_.markup("</｜DSML｜" + block);
  else if (family_ != Family::chatml) out_.markup(kCallsEnd);
}

void RollingPrompt::Writer::result(const Message& message) {
  const bool first = place_ != Place::results;
  place_ = Place::results;
  switch (family_) {
    case Family::r1:
      out_.markup(first ? kOutputsBegin : std::string_view("\n")).markup(kOutputBegin).text(message.content).markup(kOutputEnd);
      break;
    case Family::v31: out_.markup(kOutputBegin).text(message.content).markup(kOutputEnd); break;
    case Family::v32:
      if (first) out_.markup("\n\n<function_results>");
      out_.markup("\n<result>").text(message.content).markup("</result>");
      break;
    case Family::v4:
      out_.markup(first ? kUser : std::string_view("\n\n")).markup("<tool_result>").text(message.content).markup("</tool_result>");
      break;
    case Family::chatml:
      if (first) out_.markup("<|im_start|>user");
      out_.markup("\n<tool_response>\n").text(message.content).markup("\n</tool_response>");
      break;
  }
}

/// The place where the model goes on; returns what was pre-filled there.
Prefill RollingPrompt::Writer::finish() {
  open_assistant();
  if (!fresh_) return Prefill::none;
  out_.markup(prefill_text(options_.think_prefill));
  return options_.think_prefill;
}

Result<DialectOptions> dialect_for(const std::string& key) {
  const Entry* entry = find_entry(key);
  if (!entry) return unknown_key(key);
  DialectOptions options;
  options.key = key;
  options.think_prefill = entry->prefill;
  options.keep_reasoning = entry->keep;
  if (entry->family == Family::chatml) {
    options.bos.clear();
    options.eos = "<|im_end|>";
  }
  return options;
}

RollingPrompt::RollingPrompt() = default;
RollingPrompt::RollingPrompt(RollingPrompt&&) noexcept = default;
RollingPrompt& RollingPrompt::operator=(RollingPrompt&&) noexcept = default;
RollingPrompt::~RollingPrompt() = default;

void RollingPrompt::forget() { writer_.reset(); }

Result<Rendered> RollingPrompt::next(const DialectOptions& options, const std::vector<Message>& messages, const std::vector<ToolSchema>& tools,
                                     const Encode& encode) {
  const Entry* entry = find_entry(options.key);
  if (!entry) return unknown_key(options.key);
  // Reasoning of the turns before a new message of the user is dropped, and system texts stand at the front: all is
  // written again then.
  if (!writer_ || !writer_->goes_on(messages)) writer_ = std::make_unique<Writer>(options, *entry);
  if (const auto extended = writer_->extend(messages, tools); !extended) {
    forget();
    return extended.error();
  }
  return writer_->prompt(encode);
}

Result<Rendered> RollingPrompt::ahead(const DialectOptions& options, const std::vector<Message>& messages, std::span<const Message> results, const Message* begun,
                                      const std::vector<ToolSchema>& tools, const Encode& encode) {
  const Entry* entry = find_entry(options.key);
  if (!entry) return unknown_key(options.key);
  if (!writer_ || (writer_->done() <= messages.size() && !writer_->goes_on(messages))) writer_ = std::make_unique<Writer>(options, *entry);
  auto written = writer_->extend(messages, tools);
  const std::size_t known = std::min(writer_->done() - std::min(writer_->done(), messages.size()), results.size());
  auto out = written ? writer_->ahead(results.subspan(known), begun, encode) : Result<Rendered>(written.error());
  if (!out) forget();
  return out;
}

Result<Rendered> render(const DialectOptions& options, const std::vector<Message>& messages, const std::vector<ToolSchema>& tools) {
  RollingPrompt prompt;
  auto out = prompt.next(options, messages, tools);
  if (!out) return out;
  out->segments.insert(out->segments.begin(), out->earlier.begin(), out->earlier.end());
  out->earlier = {};
  return out;
}

}  // namespace kontor::agent
