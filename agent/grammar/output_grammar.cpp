#include "agent/grammar/output_grammar.hpp"

#include "agent/grammar/schema_grammar.hpp"

#include <algorithm>
#include <array>
#include <unordered_set>

namespace kontor::agent {
namespace {

using inference::FreeText;
using inference::Grammar;
using inference::kNoNode;
using inference::NodeId;
using inference::Tokenizer;

constexpr std::string_view kThinkOpen = "<think>", kThinkClose = "</think>", kCallsBegin = "<｜tool▁calls▁begin｜>", kCallsEnd = "<｜tool▁calls▁end｜>",
                           kCallBegin = "<｜tool▁call▁begin｜>", kCallEnd = "<｜tool▁call▁end｜>", kSep = "<｜tool▁sep｜>", kToolCall = "<tool_call>",
                           kToolCallEnd = "</tool_call>", kDsmlSign = "｜DSML｜", kDsmlCalls = "<｜DSML｜function_calls>",
                           kDsmlCalls4 = "<｜DSML｜tool_calls>", kDsmlInvoke = "<｜DSML｜invoke";
/// Somebody else's turn, and the end of this one.
constexpr std::array<std::string_view, 11> kTurnMarkers{
    "<｜User｜>", "<｜Assistant｜>", "<｜begin▁of▁sentence｜>", "<｜end▁of▁sentence｜>", "<|im_end|>", "<|im_start|>", "<|endoftext|>",
    "<｜tool▁outputs▁begin｜>", "<｜tool▁outputs▁end｜>", "<｜tool▁output▁begin｜>", "<｜tool▁output▁end｜>"};

enum class Notation { native, native31, hermes, native_or_hermes, dsml };

Notation notation_of(const std::string& format) {
  if (format == "deepseek-v3.1" || format == "v3.1") return Notation::native31;
  if (format == "deepseek-v3.2" || format == "deepseek-v4" || format == "v3.2" || format == "v4") return Notation::dsml;
  if (format == "hermes" || format == "qwen3" || format == "qwq") return Notation::hermes;
  if (format == "deepseek-r1-0528-qwen3" || format == "r1-0528-qwen3") return Notation::native_or_hermes;
  return Notation::native;
}

std::vector<std::string> spellings_of(std::string_view marker) {
  std::vector<std::string> out{""};
  for (std::size_t at = 0; at < marker.size();) {
    std::vector<std::string> choices;
    std::size_t length = 1;
    if (marker.substr(at).starts_with("｜")) choices = {"｜", "|"}, length = 3;
    else if (marker.substr(at).starts_with("▁")) choices = {"▁", "_", " ", "\\_"}, length = 3;
    else choices = {std::string(marker.substr(at, 1))};
    std::vector<std::string> longer;
    for (const auto& text : out)
      for (const auto& choice : choices) longer.push_back(text + choice);
    out = std::move(longer);
    at += length;
  }
  return out;
}

/// The spellings of a marker that the forgiving parser takes for it: bars and blanks have ASCII look-alikes. `marker`: a
/// constant of this file.
const std::vector<std::string>& look_alikes(std::string_view marker) {
  static std::mutex mutex;
  static std::map<std::string_view, std::vector<std::string>> known;
  const std::lock_guard lock(mutex);
  const auto [it, fresh] = known.try_emplace(marker);
  if (fresh) it->second = spellings_of(marker);
  return it->second;
}

class Writer {
 public:
  Writer(const OutputRequest& request, const Tokenizer& tokenizer) : request_(request), tokenizer_(tokenizer), schemas_(grammar_) {}

  Result<Grammar> run() {
    notation_ = notation_of(request_.parser_format);
    if (notation_ == Notation::dsml) open_elements();
    if (const auto done = compile_schemas(); !done) return done.error();
    done_ = grammar_.add();
    grammar_.at(done_).returns = true;
    const NodeId answer = grammar_.add();
    write_answer(answer);
    // Models end their reasoning with a line end or two.
    const NodeId after_think = grammar_.add(), one = grammar_.add(), two = grammar_.add();
    grammar_.jump(after_think, answer);
    grammar_.edge(after_think, '\n', '\n', one);
    grammar_.jump(one, answer);
    grammar_.edge(one, '\n', '\n', two);
    grammar_.jump(two, answer);
    const NodeId thinking = write_thinking(after_think);
    NodeId start = thinking;
    if (request_.prefill != Prefill::open) {
      start = grammar_.add();
      grammar_.jump(start, after_think);
      if (request_.prefill == Prefill::none) grammar_.jump(marker(start, kThinkOpen), thinking);
    }
    grammar_.set_start(start);
    const NodeId close = grammar_.add();
    grammar_.jump(grammar_.literal(marker(grammar_.literal(close, "\n"), kThinkClose), "\n\n"), answer);
    if (request_.prefill != Prefill::closed) grammar_.set_think_close(close);
    if (const auto finished = grammar_.finish(); !finished) return finished.error();
    return std::move(grammar_);
  }

 private:
  bool may_call() const { return request_.choice != ToolChoice::none && !tools_.empty(); }
  bool must_call() const { return request_.choice == ToolChoice::required || request_.choice == ToolChoice::named; }

  Result<void> compile_schemas() {
    if (request_.choice != ToolChoice::none) {
      for (const auto& tool : request_.tools) {
        if (request_.choice == ToolChoice::named && tool.name != request_.named) continue;
        const auto rule = notation_ == Notation::dsml ? schemas_.add_elements(tool.parameters, elements_) : schemas_.add(tool.parameters, true);
        if (!rule) return fail(rule.error().code, "parameters of the tool '" + tool.name + "': " + rule.error().message, rule.error().kind, rule.error().where);
        tools_.emplace_back(tool.name, *rule);
      }
    }
    if (must_call() && tools_.empty()) return fail(Errc::usage, "a call is required of '" + request_.named + "', but there is no such tool", "grammar_schema");
    if (!request_.output) return {};
    const auto rule = schemas_.add(*request_.output);
    if (!rule) return fail(rule.error().code, "schema of the answer: " + rule.error().message, rule.error().kind, rule.error().where);
    output_ = *rule;
    return {};
  }

  /// A tag of DSML: the sign in it is a token where the vocabulary has it.
  NodeId tag(NodeId from, std::string_view text) {
    const auto sign = text.find(kDsmlSign);
    if (sign == std::string_view::npos) return grammar_.literal(from, text);
    const NodeId behind = marker(grammar_.literal(from, text.substr(0, sign)), kDsmlSign);
    return grammar_.literal(behind, text.substr(sign + kDsmlSign.size()));
  }

  void open_elements() {
    const NodeId behind = grammar_.add(), end = grammar_.literal(behind, "\n");
    grammar_.at(end).returns = true;
    FreeText text;
    constexpr std::string_view kClose = "</｜DSML｜parameter>";
    if (!control(kDsmlSign))
      for (const auto& spelling : look_alikes(kClose)) text.markers.push_back({spelling, spelling == kClose ? behind : kNoNode, false});
    const NodeId value = grammar_.text(std::move(text));
    if (control(kDsmlSign)) {
      const NodeId close = grammar_.add();
      grammar_.jump(value, close);
      grammar_.jump(tag(close, kClose), behind);
    }
    elements_ = {[this](NodeId from, std::string_view text) { return tag(from, text); }, value};
  }

  std::optional<inference::TokenId> control(std::string_view text) const {
    const auto id = tokenizer_.find(text);
    return id && tokenizer_.is_control(*id) ? id : std::nullopt;
  }

  /// The node behind a marker.
  NodeId marker(NodeId from, std::string_view text) {
    const auto id = control(text);
    if (!id) return grammar_.literal(from, text);
    const NodeId to = grammar_.add();
    grammar_.token(from, *id, to);
    return to;
  }

  /// Free text without markup. `opens`: markers and where they lead.
  NodeId free_text(const std::vector<std::pair<std::string_view, NodeId>>& opens, bool thinking) {
    FreeText text;
    text.visible = !thinking;
    std::vector<std::pair<inference::TokenId, NodeId>> tokens;
    std::unordered_set<std::string> known;
    const auto add = [&](const std::string& bytes, NodeId to, bool literal_in_code) {
      if (known.insert(bytes).second) text.markers.push_back({bytes, to, literal_in_code});
    };
    for (const auto& [bytes, to] : opens) {
      if (const auto id = control(bytes)) tokens.emplace_back(*id, to);
      else if (thinking) add(std::string(bytes), to, false);
      else
        for (const auto& spelling : look_alikes(bytes)) add(spelling, to, true);
    }
    if (!request_.call_tokens) {
      // Where text counts as markup, what would be read as such is not written.
      for (const auto bytes : kTurnMarkers) add(std::string(bytes), kNoNode, false);
      for (const auto bytes : {kThinkOpen, kThinkClose}) add(std::string(bytes), kNoNode, false);
      for (const auto bytes : {kCallsBegin, kCallsEnd, kCallBegin, kCallEnd, kSep, kToolCall, kToolCallEnd})
        for (const auto& spelling : look_alikes(bytes)) add(spelling, kNoNode, !thinking);
    }
    if (notation_ == Notation::dsml && !control(kDsmlSign))
      for (const auto bytes : {kDsmlCalls, kDsmlCalls4, kDsmlInvoke})
        for (const auto& spelling : look_alikes(bytes)) add(spelling, kNoNode, !thinking);
    const NodeId id = grammar_.text(std::move(text));
    grammar_.at(id).thinking = thinking;
    for (const auto& [token, to] : tokens) grammar_.token(id, token, to);
    return id;
  }

  NodeId write_thinking(NodeId behind) { return free_text({{kThinkClose, behind}}, true); }

  void write_answer(NodeId from) {
    std::vector<std::pair<std::string_view, NodeId>> opens;
    if (may_call()) {
      if (notation_ == Notation::dsml) return write_answer_dsml(from);
      if (notation_ != Notation::hermes) opens.emplace_back(kCallsBegin, write_native());
      if (notation_ == Notation::hermes || notation_ == Notation::native_or_hermes) opens.emplace_back(kToolCall, write_hermes());
    }
    if (!must_call() && !request_.output) {
      const NodeId text = free_text(opens, false);
      grammar_.at(text).returns = true;
      grammar_.jump(from, text);
      return;
    }
    for (const auto& [bytes, to] : opens) grammar_.jump(marker(from, bytes), to);
    if (!must_call()) grammar_.call(from, output_, done_);
  }

  /// With calls. The tag that opens them is no single token: beside text its sign may only come where the tag stands.
  void write_answer_dsml(NodeId from) {
    const std::string_view opening = request_.parser_format.ends_with("v4") ? kDsmlCalls4 : kDsmlCalls;
    const NodeId block = write_dsml(opening.substr(opening.rfind("｜") + 3));
    const NodeId open = grammar_.add();
    grammar_.jump(tag(open, opening), block);
    grammar_.jump(from, open);
    if (must_call()) return;
    if (request_.output) return grammar_.call(from, output_, done_);
    const bool sign = control(kDsmlSign).has_value();
    const NodeId text = free_text(sign ? std::vector<std::pair<std::string_view, NodeId>>{} : std::vector<std::pair<std::string_view, NodeId>>{{opening, block}}, false);
    grammar_.at(text).returns = true;
    if (sign) grammar_.jump(text, open);
    grammar_.jump(from, text);
  }

  /// Behind the tag that opens the block; `name`: what closes it.
  NodeId write_dsml(std::string_view name) {
    const NodeId start = grammar_.add();
    const NodeId first = grammar_.literal(start, "\n"), call = grammar_.add();
    inference::Node counting;
    counting.count_to = kTurnCallsMax;
    const NodeId behind = grammar_.add(std::move(counting)), last = grammar_.add();
    grammar_.jump(first, call);
    const NodeId head = tag(call, std::string(kDsmlInvoke) + " name=\"");
    for (const auto& [tool, rule] : tools_) {
      const NodeId closed = grammar_.add();
      grammar_.call(grammar_.literal(head, tool + "\">\n"), rule, closed);
      grammar_.jump(tag(closed, "</｜DSML｜invoke>\n"), behind);
    }
    grammar_.jump(behind, last);
    grammar_.jump(tag(last, "</｜DSML｜" + std::string(name)), done_);
    grammar_.jump(behind, call, 0, kTurnCallsMax - 1);
    return start;
  }

  /// Behind the marker that opens the block.
  NodeId write_native() {
    const bool v31 = notation_ == Notation::native31;
    const NodeId start = grammar_.add(), name = grammar_.add();
    inference::Node counting;
    counting.count_to = kTurnCallsMax;
    const NodeId behind = grammar_.add(std::move(counting)), more = grammar_.add(), last = grammar_.add();
    const NodeId head = marker(start, kCallBegin);
    grammar_.jump(v31 ? head : marker(grammar_.literal(head, "function"), kSep), name);
    for (const auto& [tool, rule] : tools_) {
      const NodeId named = v31 ? marker(grammar_.literal(name, tool), kSep) : grammar_.literal(name, tool + "\n```json\n");
      const NodeId closed = grammar_.add();
      grammar_.call(named, rule, closed);
      grammar_.jump(marker(v31 ? closed : grammar_.literal(closed, "\n```"), kCallEnd), behind);
    }
    grammar_.jump(behind, last);
    grammar_.jump(marker(last, kCallsEnd), done_);
    grammar_.jump(behind, more, 0, kTurnCallsMax - 1);
    grammar_.jump(v31 ? more : grammar_.literal(more, "\n"), start);
    return start;
  }

  NodeId write_hermes() {
    const NodeId start = grammar_.add(), name = grammar_.literal(start, "\n{\"name\": \"");
    inference::Node counting;
    counting.count_to = kTurnCallsMax;
    counting.returns = true;
    const NodeId behind = grammar_.add(std::move(counting)), more = grammar_.add();
    for (const auto& [tool, rule] : tools_) {
      const NodeId named = grammar_.literal(name, tool + "\", \"arguments\": "), closed = grammar_.add();
      grammar_.call(named, rule, closed);
      grammar_.jump(marker(grammar_.literal(closed, "}\n"), kToolCallEnd), behind);
    }
    grammar_.jump(behind, more, 0, kTurnCallsMax - 1);
    grammar_.jump(marker(grammar_.literal(more, "\n"), kToolCall), start);
    return start;
  }

  const OutputRequest& request_;
  const Tokenizer& tokenizer_;
  Grammar grammar_;
  SchemaGrammar schemas_;
  ElementNotation elements_;
  Notation notation_ = Notation::native;
  std::vector<std::pair<std::string, NodeId>> tools_;
  NodeId output_ = kNoNode, done_ = kNoNode;
};

}  // namespace

Result<std::shared_ptr<inference::GrammarProgram>> compile_output(const OutputRequest& request, const Tokenizer& tokenizer,
                                                                  std::shared_ptr<const inference::TokenTrie> trie) {
  auto grammar = Writer(request, tokenizer).run();
  if (!grammar) return grammar.error();
  auto end = tokenizer.find(request.dialect.eos);
  if (!end || !tokenizer.is_end(*end)) end = tokenizer.eos();
  const auto shared = std::make_shared<const Grammar>(std::move(*grammar));
  auto endings = std::make_shared<const inference::Endings>(shared, trie);
  return std::make_shared<inference::GrammarProgram>(inference::GrammarProgram{shared, std::move(trie), tokenizer, end.value_or(-1), std::move(endings),
                                                                               std::make_shared<inference::MaskCache>()});
}

bool writes_elements(std::string_view dialect) { return dialect == "v3.2" || dialect == "v4"; }

Result<void> check_output_schemas(const std::vector<ToolSchema>& tools, const std::optional<Json>& output, std::string_view dialect) {
  const bool elements = writes_elements(dialect);
  for (const auto& tool : tools) {
    if (const auto fits = check_schema_grammar(tool.parameters, elements ? ValueNotation::elements : ValueNotation::object); !fits)
      return fail(fits.error().code, "parameters of the tool '" + tool.name + "': " + fits.error().message, fits.error().kind, fits.error().where);
  }
  if (!output) return {};
  if (const auto fits = check_schema_grammar(*output); !fits)
    return fail(fits.error().code, "schema of the answer: " + fits.error().message, fits.error().kind, fits.error().where);
  return {};
}

std::shared_ptr<const inference::VerbatimText> verbatim_text(const std::vector<Message>& messages) {
  std::size_t bytes = 0, first = messages.size();
  while (first > 0 && bytes + messages[first - 1].content.size() <= inference::VerbatimText::kBytesMax) {
    const Message& message = messages[--first];
    if (message.role == Role::user || message.role == Role::tool) bytes += message.content.size();
  }
  auto text = std::make_shared<inference::VerbatimText>();
  for (; first < messages.size(); ++first)
    if (messages[first].role == Role::user || messages[first].role == Role::tool) text->add(messages[first].content);
  text->finish();
  return text;
}

Result<std::shared_ptr<const inference::GrammarProgram>> OutputGrammars::get(const std::string& name, const OutputRequest& request, const inference::TextModel& model) {
  const Tokenizer& tokenizer = *model.tokenizer();
  const std::string key = name + '\n' + request.dialect.key + '\n' + request.parser_format + '\n' + std::to_string(static_cast<int>(request.prefill)) +
                          std::to_string(static_cast<int>(request.choice)) + request.named + '\n' +
                          std::to_string(reinterpret_cast<std::uintptr_t>(&tokenizer));
  const std::lock_guard lock(mutex_);
  if (const auto found = programs_.find(key); found != programs_.end()) return found->second;
  auto program = compile_output(request, tokenizer, model.token_trie());
  if (!program) return program.error();
  programs_.emplace(key, *program);
  return std::shared_ptr<const inference::GrammarProgram>(*program);
}

}  // namespace kontor::agent
