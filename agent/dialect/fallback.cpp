#include "agent/dialect/fallback.hpp"

#include "agent/dialect/call_reader.hpp"
#include "agent/dialect/json_scanner.hpp"
#include "agent/dialect/markers.hpp"
#include "agent/dialect/text_stream.hpp"

#include <algorithm>
#include <unordered_set>
#include <utility>

namespace kontor::agent::dialect {
namespace {

using Text = std::string_view;

struct Found {
  std::string name;
  Json arguments;
  std::string raw;
};

/// What a notation without markup says. It counts only as a whole.
struct Candidate {
  std::vector<Found> calls;
  bool repaired = false;
};

class Reader {
 public:
  Reader(const ParserOptions& options, std::string& content, CallLog& log) : options_(options), content_(content), log_(log) {}

  bool run() { return tags() || react() || bare() || fences() || python_text(); }

 private:
  bool is_tool(Text name) const {
    return std::find(options_.tools->begin(), options_.tools->end(), name) != options_.tools->end();
  }

  bool tags();
  bool react();
  bool bare();
  bool fences();
  bool python_text();
  bool json_calls(Text text, Candidate& out) const;
  bool named(Json& value, Candidate& out) const;
  bool python_calls(Text text, Candidate& out) const;
  bool python_call(Text text, std::size_t& pos, Candidate& out) const;
  bool accept(Candidate candidate, Text rest);

  const ParserOptions& options_;
  std::string& content_;
  CallLog& log_;
};

bool Reader::accept(Candidate candidate, Text rest) {
  log_.warn("fallback_syntax");
  if (candidate.repaired) log_.warn("repaired");
  for (auto& call : candidate.calls) {
    ReadArguments arguments;
    arguments.value = std::move(call.arguments);
    arguments.raw = call.raw;
    if (!log_.finish(call.name, std::move(arguments))) break;
  }
  content_ = std::string(trim(rest));
  return true;
}

/// <tool_call> elements: what the hermes format reads there.
bool Reader::tags() {
  if (content_.find("<tool_call>") == std::string::npos) return false;
  ParserOptions options = options_;
  options.format = "hermes";
  options.prefill = Prefill::closed;
  options.markers = MarkerPolicy::text;
  options.fallbacks = false;
  Parser parser(std::move(options));
  parser.feed(content_);
  ParseResult inner = parser.finish();
  if (inner.calls.empty() && inner.errors.empty()) return false;
  for (const auto& warning : inner.warnings) log_.warn(warning);
  for (auto& error : inner.errors) log_.error(error.kind.c_str(), error.name, error.raw);
  for (auto& call : inner.calls) {
    ReadArguments arguments;
    arguments.value = std::move(call.arguments);
    arguments.raw = call.raw_arguments;
    if (!log_.finish(call.name, std::move(arguments))) break;
  }
  content_ = std::move(inner.content);
  return true;
}

/// The line that starts at `begin`.
Text line_at(Text text, std::size_t begin) { return text.substr(begin, text.find('\n', begin) - begin); }
std::size_t next_line(Text text, std::size_t begin) {
  const std::size_t end = text.find('\n', begin);
  return end == Text::npos ? text.size() : end + 1;
}
bool starts(Text line, Text word) { return line.substr(0, word.size()) == word; }

bool Reader::react() {
  const std::string text = content_;
  constexpr Text kAction = "Action:", kInput = "Action Input:", kObservation = "Observation:";
  FenceTracker fence;
  fence.reset(0);
  std::string rest;
  std::size_t copied = 0;
  bool found = false;
  for (std::size_t line = 0; line < text.size();) {
    const Text words = trim(line_at(text, line));
    const std::size_t following = next_line(text, line);
    if (found && starts(words, kObservation) && !fence.in_code(text, line)) {
      log_.warn("hallucinated_observation");
      rest.append(text, copied, line - copied);
      copied = text.size();
      break;
    }
    if (!starts(words, kAction) || fence.in_code(text, line)) {
      line = following;
      continue;
    }
    std::size_t input = following;
    while (input < text.size() && trim(line_at(text, input)).empty()) input = next_line(text, input);
    if (input >= text.size() || !starts(trim(line_at(text, input)), kInput)) {
      line = following;
      continue;
    }
    Text name = trim(words.substr(kAction.size()));
    while (name.size() >= 2 && name.front() == '`' && name.back() == '`') name = name.substr(1, name.size() - 2);
    rest.append(text, copied, line - copied);
    found = true;
    copied = text.size();
    std::size_t begin = text.find(kInput, input) + kInput.size();
    while (begin < text.size() && is_space(text[begin])) ++begin;
    bool fenced = starts(Text(text).substr(begin), "```");
    if (fenced) {
      begin += 3;
      while (begin < text.size() && is_name_char(text[begin])) ++begin;
      while (begin < text.size() && is_space(text[begin])) ++begin;
    }
    ScannedJson read = scan_json(text, begin, true, options_.max_depth);
    if (read.error) {
      log_.error(read.error, name, Text(text).substr(line));
      break;
    }
    std::size_t end = read.end;
    ReadArguments arguments;
    arguments.value = std::move(read.value);
    arguments.raw = Text(text).substr(begin, end - begin);
    arguments.objection = read.objection;
    arguments.repaired = read.repaired;
    while (end < text.size() && is_space(text[end])) ++end;
    if (fenced && starts(Text(text).substr(end), "```")) end += 3;
    const bool clean = end >= text.size() || is_space(text[end]) || text[end - 1] == '\n';
    if (!clean) {
      log_.error("malformed_json", name, Text(text).substr(line, end - line));
      break;
    }
    if (!log_.finish(name, std::move(arguments))) break;
    copied = line = end;
  }
  if (!found) return false;
  rest.append(text, copied, text.size() - copied);
  content_ = std::string(trim(rest));
  return true;
}

/// One call object; false unless it names a known tool and has arguments.
bool Reader::named(Json& value, Candidate& out) const {
  NamedCall call;
  if (!read_named_call(value, call) || !call.named || !call.has_arguments || !is_tool(call.name)) return false;
  std::string raw = call.arguments.is_string() ? call.arguments.get<std::string>() : spaced_json(call.arguments);
  out.calls.push_back({std::move(call.name), std::move(call.arguments), std::move(raw)});
  return true;
}

bool Reader::json_calls(Text text, Candidate& out) const {
  text = trim(text);
  if (text.empty() || (text[0] != '{' && text[0] != '[')) return false;
  ScannedJson read = scan_json(text, 0, true, options_.max_depth);
  if (read.error || read.objection || !trim(text.substr(read.end)).empty()) return false;
  out.repaired |= read.repaired;
  Json* value = &read.value;
  if (value->is_object()) {
    for (const char* wrapper : {"tool_calls", "tool_call", "tools"}) {
      const auto inner = value->find(wrapper);
      if (inner == value->end() || !(inner->is_array() || inner->is_object())) continue;
      value = &*inner;
      break;
    }
  }
  if (!value->is_array()) return named(*value, out);
  for (auto& item : *value) {
    if (!named(item, out)) return false;
  }
  return !value->empty();
}

bool Reader::bare() {
  Candidate candidate;
  return json_calls(content_, candidate) && accept(std::move(candidate), {});
}

struct Fence {
  std::size_t begin;  ///< Of the opening line.
  Text label;
  Text body;
};

/// The fences of a text, and whether each is followed by white space only up to the next one or the end.
std::vector<Fence> find_fences(Text text, std::size_t& tail) {
  std::vector<Fence> run;
  bool open = false;
  std::size_t begin = 0, body = 0;
  for (std::size_t line = 0; line < text.size(); line = next_line(text, line)) {
    const Text words = trim(line_at(text, line));
    if (!open) {
      if (starts(words, "```") && words.find('`', 3) == Text::npos) {
        open = true;
        begin = line;
        body = next_line(text, line);
        run.push_back({begin, trim(words.substr(3)), {}});
      } else if (!words.empty() && words != "function") {
        run.clear();  // prose behind a fence: it was an example
      }
      continue;
    }
    if (words.size() >= 3 && words.find_first_not_of('`') == Text::npos) {
      run.back().body = text.substr(body, line - body);
      open = false;
    } else if (words.size() > 3 && words.substr(words.size() - 3) == "```" && words.find('`') == words.size() - 3) {
      run.back().body = text.substr(body, text.find("```", line) - body);  // closed on the value's own line
      open = false;
    }
  }
  if (open) run.back().body = text.substr(std::min(body, text.size()));  // cut off, or never closed
  tail = run.empty() ? text.size() : run.front().begin;
  return run;
}

bool Reader::fences() {
  std::size_t tail = 0;
  const std::vector<Fence> run = find_fences(content_, tail);
  // From the end backwards as long as fences hold calls.
  std::vector<Candidate> calls;
  std::size_t first = run.size();
  while (first > 0) {
    const Fence& fence = run[first - 1];
    std::string label(fence.label);
    for (char& c : label) c = c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c;
    Candidate candidate;
    const bool json = (label.empty() || label == "json" || label == "tool_call" || label == "tool_code") && json_calls(fence.body, candidate);
    if (!json) candidate = {};
    const bool python = !json && (label.empty() || label == "python" || label == "py" || label == "tool_code" || label == "tool_call") &&
                        python_calls(fence.body, candidate);
    if (!json && !python) break;
    calls.push_back(std::move(candidate));
    --first;
  }
  if (calls.empty()) return false;
  Candidate all;
  for (auto candidate = calls.rbegin(); candidate != calls.rend(); ++candidate) {
    all.repaired |= candidate->repaired;
    for (auto& call : candidate->calls) all.calls.push_back(std::move(call));
  }
  Text before = trim(Text(content_).substr(0, run[first].begin));
  constexpr Text kIntro = "function";
  if (before == kIntro || (before.size() > kIntro.size() && before.substr(before.size() - 9) == "\nfunction")) {
    before = trim(before.substr(0, before.size() - kIntro.size()));
  }
  return accept(std::move(all), std::string(before));
}

bool Reader::python_text() {
  Candidate candidate;
  return python_calls(content_, candidate) && accept(std::move(candidate), {});
}

void skip_blank(Text text, std::size_t& pos) {
  while (pos < text.size() && is_space(text[pos])) ++pos;
}

/// NAME(key=literal, ...): read, never evaluated. Literals are those that JSON and Python share.
bool Reader::python_call(Text text, std::size_t& pos, Candidate& out) const {
  const std::size_t begin = pos;
  while (pos < text.size() && is_name_char(text[pos])) ++pos;
  const Text name = text.substr(begin, pos - begin);
  if (!is_tool(name) || pos >= text.size() || text[pos] != '(') return false;
  ++pos;
  // Members are appended directly and names kept aside: the map's own insert would search all members again.
  Json arguments = Json::object();
  auto& members = static_cast<std::vector<std::pair<const std::string, Json>>&>(arguments.get_ref<Json::object_t&>());
  std::unordered_set<std::string> keys;
  for (bool first = true;; first = false) {
    skip_blank(text, pos);
    if (pos < text.size() && text[pos] == ')') break;
    if (!first) {
      if (pos >= text.size() || text[pos] != ',') return false;
      ++pos;
      skip_blank(text, pos);
      if (pos < text.size() && text[pos] == ')') break;
    }
    const std::size_t key_begin = pos;
    while (pos < text.size() && is_name_char(text[pos]) && text[pos] != '.' && text[pos] != ':' && text[pos] != '-') ++pos;
    const std::string key(text.substr(key_begin, pos - key_begin));
    skip_blank(text, pos);
    if (!is_tool_name(key) || !keys.insert(key).second || pos >= text.size() || text[pos] != '=') return false;
    ++pos;
    skip_blank(text, pos);
    ScannedJson read = scan_json(text, pos, true, options_.max_depth);
    if (read.error || read.objection) return false;
    members.emplace_back(key, std::move(read.value));
    pos = read.end;
  }
  ++pos;
  std::string raw = spaced_json(arguments);
  out.calls.push_back({std::string(name), std::move(arguments), std::move(raw)});
  return true;
}

bool Reader::python_calls(Text text, Candidate& out) const {
  text = trim(text);
  const bool list = !text.empty() && text.front() == '[';
  if (list) {
    if (text.size() < 2 || text.back() != ']') return false;
    text = trim(text.substr(1, text.size() - 2));
  }
  for (std::size_t pos = 0;;) {
    if (!python_call(text, pos, out)) return false;
    const std::size_t end = pos;
    skip_blank(text, pos);
    if (pos >= text.size()) return true;
    if (list ? text[pos] == ',' : text[pos] == ';') {
      ++pos;
      skip_blank(text, pos);
      if (pos >= text.size()) return true;
    } else if (list || text.substr(end, pos - end).find('\n') == Text::npos) {
      return false;
    }
  }
}

}  // namespace

bool read_fallbacks(const ParserOptions& options, std::string& content, CallLog& log) {
  return options.tools && !content.empty() && Reader(options, content, log).run();
}

}  // namespace kontor::agent::dialect
