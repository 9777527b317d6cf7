#include "agent/turn.hpp"

#include "inference/tokenizer.hpp"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <mutex>
#include <optional>
#include <thread>

namespace kontor::agent {
namespace {

using inference::StopReason;

constexpr std::size_t kLoopCheckPieces = 32;
constexpr std::size_t kBudgetCheckPieces = 4;
// Time and energy run on between two looks at them: stop a little early, so that a limit is never passed.
constexpr double kBudgetShare = 0.95;
/// Less of the context, or less than this share of it, is too little for a turn while the conversation can be shortened.
constexpr std::int64_t kContextRoom = 256, kContextShare = 8;
constexpr std::string_view kThinkBegin = "<think>", kThinkEnd = "</think>";

const char* stop_word(StopReason reason) {
  switch (reason) {
    case StopReason::end_of_turn: return "end_of_turn";
    case StopReason::length: return "length";
    case StopReason::cancelled: return "cancelled";
    case StopReason::stopped_by_sink: return "stopped";
  }
  return "end_of_turn";
}

StopReason stop_reason(const std::string& word) {
  if (word == "length") return StopReason::length;
  if (word == "cancelled") return StopReason::cancelled;
  if (word == "stopped") return StopReason::stopped_by_sink;
  return StopReason::end_of_turn;
}

void add(inference::Usage& sum, const inference::Usage& part) {
  sum.prompt_tokens_new += part.prompt_tokens_new, sum.prompt_tokens_reused += part.prompt_tokens_reused;
  sum.generated += part.generated, sum.forced += part.forced;
  sum.prefill_seconds += part.prefill_seconds, sum.decode_seconds += part.decode_seconds;
}

KeepReasoning keep_of(const std::string& word) {
  return word == "none" ? KeepReasoning::never : word == "all" ? KeepReasoning::all : KeepReasoning::since_last_user;
}

/// Feeds pieces to the parser, watches the think budget and the clock, and passes deltas on.
class Listener {
 public:
  /// `constraint`: sees to the think budget and to loops in the reasoning; may be null.
  Listener(RunContext& run, const TurnRequest& request, ParserOptions options, bool starts_thinking, const inference::GrammarConstraint* constraint)
      : run_(run), request_(request), constraint_(constraint), thinking_(starts_thinking),
        parser_(std::move(options), [this](const ParseEvent& event) { on_event(event); }) {
    if (const auto seconds = run.budget.seconds_left(run.ledger)) budget_end_ns_ = run.booked_ns + static_cast<std::int64_t>(*seconds * kBudgetShare * 1e9);
    if (const auto joules = run.budget.joules_left(run.ledger)) joules_end_ = run.energy_seen.joules + *joules * kBudgetShare;
  }

  bool on_piece(const inference::Piece& piece) {
    text_.append(piece.text);
    ends_.emplace_back(text_.size(), piece.probability);
    writing_ = true;
    parser_.feed(piece.text, piece.control);
    writing_ = false;
    if (thinking_) ++think_tokens_;
    if (thinking_ && !constraint_ && !budget_over_ && request_.think_tokens > 0 && think_tokens_ >= request_.think_tokens) {
      budget_over_ = true;
      return false;
    }
    if (ends_.size() == request_.cut_after) return false;
    if (ends_.size() % kBudgetCheckPieces == 0 && !within_budget()) return false;
    if (ends_.size() % kLoopCheckPieces == 0 && !(constraint_ && constraint_->thinking()) && inference::repeats_itself(text_)) return false;
    if (request_.deadline_ns > 0 && run_.clock->steady_ns() >= request_.deadline_ns) {
      deadline_over_ = true;
      return false;
    }
    return true;
  }

  /// The closing of the reasoning, which the model did not write itself.
  void feed_think_end(bool markers_are_control) {
    const std::pair<std::string_view, bool> parts[] = {{"\n", false}, {kThinkEnd, markers_are_control}, {"\n\n", false}};
    for (const auto& [part, control] : parts) {
      text_ += part;
      parser_.feed(part, control);
    }
    ends_.emplace_back(text_.size(), 1.0f);
    thinking_ = false;
  }

  bool budget_over() const { return budget_over_; }
  /// Time or energy of the run came to its end; "" otherwise.
  const std::string& run_budget_over() const { return run_budget_over_; }
  bool deadline_over() const { return deadline_over_; }
  const std::string& text() const { return text_; }
  const std::vector<std::pair<std::size_t, float>>& ends() const { return ends_; }
  ParseResult finish(Finish finish) { return parser_.finish(finish); }

 private:
  bool within_budget() {
    if (budget_end_ns_ && run_.clock->steady_ns() >= *budget_end_ns_) run_budget_over_ = "no seconds are left";
    if (joules_end_ && run_.energy && run_.energy->joules() >= *joules_end_) run_budget_over_ = "no joules are left";
    return run_budget_over_.empty();
  }

  void on_event(const ParseEvent& event) {
    thinking_ = event.kind == ParseEvent::Kind::reasoning;
    if (event.kind == ParseEvent::Kind::call_started) call_name_ = event.text;
    // At the end of the output the turn is complete, and its calls begin in the usual way.
    if (event.kind == ParseEvent::Kind::call_done && writing_ && request_.early) request_.early->written(event.call, call_name_, event.text);
    if (request_.silent) return;
    switch (event.kind) {
      case ParseEvent::Kind::reasoning: run_.emit("reasoning", request_.place, Json{{"text", event.text}}); break;
      case ParseEvent::Kind::content: run_.emit("content", request_.place, Json{{"text", event.text}}); break;
      case ParseEvent::Kind::call_started: run_.emit("call_started", request_.place, Json{{"tool", event.text}}); break;
      default: break;
    }
  }

  RunContext& run_;
  const TurnRequest& request_;
  const inference::GrammarConstraint* constraint_;
  bool thinking_;
  bool writing_ = false;   ///< A piece is being parsed.
  std::string call_name_;  ///< Of the call that is being written.
  bool budget_over_ = false, deadline_over_ = false;
  std::int64_t think_tokens_ = 0;
  std::optional<std::int64_t> budget_end_ns_;
  std::optional<double> joules_end_;
  std::string run_budget_over_;
  std::string text_;
  std::vector<std::pair<std::size_t, float>> ends_;
  Parser parser_;
};

/// Cuts an incomplete UTF-8 sequence at the end, so that forced text does not land inside a character.
std::size_t whole_characters(const std::string& text) {
  for (std::size_t back = 1; back <= 4 && back <= text.size(); ++back) {
    const auto byte = static_cast<unsigned char>(text[text.size() - back]);
    if ((byte & 0xC0) == 0x80) continue;
    const std::size_t length = byte < 0x80 ? 1 : byte >= 0xF0 ? 4 : byte >= 0xE0 ? 3 : byte >= 0xC0 ? 2 : 1;
    return length > back ? text.size() - back : text.size();
  }
  return text.size();
}

/// Geometric mean of the known probabilities of the pieces that end behind `from`; 1 where there are none.
double mean_probability(const std::vector<std::pair<std::size_t, float>>& ends, std::size_t from) {
  double sum = 0;
  std::size_t count = 0;
  for (const auto& [end, probability] : ends) {
    if (end <= from || probability < 0) continue;
    sum += std::log(std::max(static_cast<double>(probability), 1e-30));
    ++count;
  }
  return count == 0 ? 1 : std::exp(sum / static_cast<double>(count));
}

/// Calls of one turn to the model: reserved before, booked after.
class Meter {
 public:
  /// `constraint`: is told how many tokens there are; may be null. `fill_context`: as TurnRequest's.
  Meter(RunContext& run, inference::TextModel& model, std::mutex& one_at_a_time, inference::GrammarConstraint* constraint, bool fill_context, Turn& turn)
      : run_(run), model_(model), one_at_a_time_(one_at_a_time), constraint_(constraint), fill_context_(fill_context), turn_(turn) {}

  /// Lowers `request.max_tokens` to what the budget leaves. `forced`: tokens at the end of the prompt that count as such.
  Result<inference::Generation> generate(inference::GenerateRequest& request, std::int64_t forced, const std::function<bool(const inference::Piece&)>& sink) {
    const std::int64_t context = constraint_ ? model_.info().context : 0;
    const std::int64_t prompt = run_.budget.limits_tokens() || context > 0 ? model_.prompt_bound(request) : 0;
    const bool filled = context > 0 && context - prompt < request.max_tokens;
    if (filled) {
      const std::int64_t room = context - prompt;
      if (room < 1) return context_full(room, context, "context_full");
      if (!fill_context_ && room < std::min(kContextRoom, context / kContextShare)) return context_full(room, context, "context_tight");
      request.max_tokens = static_cast<int>(room);
    }
    auto allowed = run_.budget.reserve(run_.ledger, prompt, request.max_tokens, forced);
    // What others have reserved is mostly more than they will use: wait for it before less is made of this call.
    while (run_.budget.limits_tokens() && !run_.stop.stop_requested() && (!allowed || *allowed < request.max_tokens)) {
      if (allowed) run_.budget.release(run_.ledger, prompt + forced + *allowed);
      const bool others = run_.budget.reserved() > 0;
      if (others) {
        Pause others_may_work(run_);
        std::this_thread::sleep_for(std::chrono::milliseconds(1));
      }
      allowed = run_.budget.reserve(run_.ledger, prompt, request.max_tokens, forced);
      if (!others) break;
    }
    if (!allowed) return allowed.error();
    const bool limited = *allowed < request.max_tokens;
    request.max_tokens = static_cast<int>(*allowed);
    if (constraint_) {
      if (const auto room = constraint_->limit(*allowed); !room) {
        if (run_.budget.limits_tokens()) run_.budget.release(run_.ledger, prompt + forced + *allowed);
        if (filled && !limited) return context_full(*allowed, context, fill_context_ ? "context_full" : "context_tight");
        return limited ? fail(Errc::budget, room.error().message, kBudget) : Result<inference::Generation>(room.error());
      }
      turn_.limit = *allowed;
    }
    inference::Usage came;
    const auto counting = [&](const inference::Piece& piece) {
      ++came.generated;
      return !sink || sink(piece);
    };
    auto generation = [&] {
      Pause others_may_work(run_);
      std::unique_lock timeline(one_at_a_time_, std::defer_lock);
      if (!model_.is_concurrent()) timeline.lock();
      return model_.generate(request, counting);
    }();
    // What was used is in the ledger before the reservation ends: somebody may be embedding meanwhile.
    const auto give_back = [&, tokens = prompt + forced + *allowed] {
      if (run_.budget.limits_tokens()) run_.budget.release(run_.ledger, tokens);
    };
    if (!generation && came.generated > 0) {
      // The server had computed this before it fell silent, and its owner will be paid for it.
      came.prompt_tokens_new = model_.prompt_bound(request);
      Ledger part;
      part.add(came);
      part.broken = 1;
      if (calls_++ > 0) part.turns = 0;
      turn_.spent.add(part);
      run_.ledger.add(part);
    }
    if (!generation) {
      give_back();
      return generation;
    }
    generation->usage.forced += forced;
    Ledger part;
    part.add(generation->usage);
    if (calls_++ > 0) part.turns = 0;
    turn_.spent.add(part);
    run_.ledger.add(part);
    give_back();
    add(turn_.usage, generation->usage);
    if (limited && generation->stop_reason == StopReason::length) {
      turn_.over_budget = true;
      turn_.budget_reason = "no tokens are left";
    }
    return generation;
  }

 private:
  static Error context_full(std::int64_t room, std::int64_t context, const char* kind) {
    return fail(Errc::limit, "the prompt leaves " + std::to_string(std::max<std::int64_t>(room, 0)) + " of the context's " + std::to_string(context) + " tokens, too few for an answer", kind);
  }

  RunContext& run_;
  inference::TextModel& model_;
  std::mutex& one_at_a_time_;
  inference::GrammarConstraint* const constraint_;
  const bool fill_context_;
  Turn& turn_;
  int calls_ = 0;
};

/// The constraint of a turn; null where nothing can or should be constrained.
Result<std::shared_ptr<inference::GrammarConstraint>> constrain(const inference::TextModel& model, const TurnRequest& request, const DialectOptions& dialect,
                                                                const Rendered& rendered) {
  std::shared_ptr<inference::GrammarConstraint> constraint;
  if (!request.grammars || !model.tokenizer()) return constraint;
  OutputRequest output;
  output.dialect = dialect;
  output.parser_format = rendered.parser_format;
  output.prefill = rendered.prefill;
  output.call_tokens = model.info().has_call_tokens;
  output.tools = request.tool_parameters ? *request.tool_parameters : *request.tools;
  if (request.output) output.output = *request.output;
  output.choice = request.choice;
  output.named = request.named;
  const auto program = request.grammars->get(request.grammar_name, output, model);
  if (!program) return program.error();
  inference::ConstraintOptions options;
  options.think_tokens = request.think_tokens;
  if ((*program)->grammar->uses_verbatim()) options.verbatim = verbatim_text(*request.messages);
  constraint = std::make_shared<inference::GrammarConstraint>(*program, std::move(options));
  return constraint;
}

/// What an error leaves of a turn is paid for all the same; the journal says so.
Error cut_off(RunContext& run, const TurnRequest& request, const Turn& turn, const std::string& reason, Error error) {
  if (turn.spent.turns == 0 || !run.log) return error;
  if (auto told = run.record("generation_cut", request.place, Json{{"reason", reason}, {"spent", delta_json(turn.spent)}}); !told) return told.error();
  return error;
}

}  // namespace

Result<DialectOptions> turn_dialect(const inference::ModelInfo& model, const std::string& think_keep) {
  auto dialect = dialect_for(model.dialect);
  if (!dialect) return fail(dialect.error().code, "model " + model.name + ": " + dialect.error().message, kModelFailed);
  dialect->keep_reasoning = keep_of(think_keep);
  return dialect;
}

Result<Turn> generate_turn(RunContext& run, inference::TextModel& model, const TurnRequest& request, std::mutex& one_at_a_time) {
  const auto& info = model.info();
  const auto dialect = turn_dialect(info, request.think_keep);
  if (!dialect) return dialect.error();
  RollingPrompt fresh;
  RollingPrompt::Encode encode;
  if (const auto* tokenizer = model.tokenizer()) encode = [tokenizer](std::span<const inference::Segment> segments) { return tokenizer->encode_segments(segments); };
  auto rendered = (request.prompt ? *request.prompt : fresh).next(*dialect, *request.messages, *request.tools, encode);
  if (!rendered) return fail(Errc::internal, "prompt: " + rendered.error().describe(), "prompt");

  ParserOptions options;
  options.format = rendered->parser_format;
  options.prefill = rendered->prefill;
  options.markers = info.has_call_tokens ? MarkerPolicy::token : MarkerPolicy::text;
  options.tools.emplace();
  for (const auto& tool : *request.tools) options.tools->push_back(tool.name);
  auto constraint = constrain(model, request, *dialect, *rendered);
  if (!constraint) return constraint.error();
  Listener listener(run, request, std::move(options), rendered->prefill == Prefill::open, constraint->get());

  inference::GenerateRequest generate;
  generate.earlier = rendered->earlier;
  generate.prompt = std::move(rendered->segments);
  generate.sampling = request.sampling;
  generate.max_tokens = request.max_tokens;
  generate.stop = run.stop;
  generate.constraint = *constraint;
  generate.ahead = request.ahead;
  const auto sink = [&](const inference::Piece& piece) { return listener.on_piece(piece); };
  Turn turn;
  Meter meter(run, model, one_at_a_time, request.wind_down ? constraint->get() : nullptr, request.fill_context, turn);
  auto generation = meter.generate(generate, 0, sink);
  if (generation && !turn.over_budget && listener.budget_over() && generation->stop_reason == StopReason::stopped_by_sink) {
    // The reasoning is over its budget: close it and let the model go on from there.
    turn.think_forced = true;
    const std::size_t whole = whole_characters(generation->text);
    inference::Segment thought;
    thought.text = generation->text.substr(0, whole);
    if (whole == generation->text.size()) thought.tokens = generation->tokens;
    if (thought.tokens.empty() && thought.text.starts_with(kThinkBegin)) {
      // Where there are no ids the model's own marker has to be told from text again.
      generate.prompt.push_back({std::string(kThinkBegin), true, {}});
      thought.text.erase(0, kThinkBegin.size());
    }
    generate.prompt.push_back(std::move(thought));
    inference::Segment close;
    close.text = "\n" + std::string(kThinkEnd) + "\n\n";
    close.is_template = true;
    generate.ahead = nullptr;  // It has been counted.
    generate.max_tokens = std::max(64, request.max_tokens - static_cast<int>(generation->usage.generated));
    listener.feed_think_end(info.has_call_tokens);
    const std::int64_t forced = model.count_tokens(close.text);
    generate.prompt.push_back(std::move(close));
    generation = meter.generate(generate, forced, sink);
    if (generation) generation->tokens.clear();  // The ids in the middle were not sampled; the text says it all.
  }
  if (!generation) {
    const Error& error = generation.error();
    if (error.kind == "context_full" || error.kind == "context_tight") return cut_off(run, request, turn, error.message, fail(Errc::limit, error.message, error.kind));
    if (error.kind == kBudget && turn.spent.turns == 0) return fail(Errc::budget, error.message + ", before " + request.place, kBudget, request.place);
    if (error.kind == kBudget) {
      turn.over_budget = true;
      turn.budget_reason = error.message;
      return turn;
    }
    return cut_off(run, request, turn, error.message, fail(error.code, "model " + info.name + ": " + error.message, kModelFailed));
  }
  if (generation->stop_reason == StopReason::cancelled || run.stop.stop_requested()) return cut_off(run, request, turn, "interrupted", fail(Errc::cancelled, "interrupted", kInterrupted));
  if (listener.deadline_over()) return cut_off(run, request, turn, "timeout", fail(Errc::timeout, "the step took longer than its timeout", "timeout"));
  if (!listener.run_budget_over().empty()) turn.over_budget = true, turn.budget_reason = listener.run_budget_over();
  if (turn.over_budget) return turn;
  const auto& used = generation->usage;
  if (generation->stop_reason == StopReason::length && info.context > 0 &&
      used.prompt_tokens_new + used.prompt_tokens_reused + used.generated + used.forced >= info.context) {
    // Cut by the context, not by a limit of ours: only a shorter conversation helps.
    return cut_off(run, request, turn, "context_full", fail(Errc::limit, "the context of " + std::to_string(info.context) + " tokens is full", "context_full"));
  }
  if (*constraint) turn.think_forced = (*constraint)->think_forced(), turn.wound_down = (*constraint)->wound_down();
  turn.done.stop = generation->stop_reason == StopReason::stopped_by_sink ? StopReason::length : generation->stop_reason;
  turn.done.parsed = listener.finish(turn.done.stop == StopReason::length ? Finish::length : Finish::stop);
  turn.done.text = listener.text();
  turn.done.tokens.assign(generation->tokens.begin(), generation->tokens.end());
  const auto thought = turn.done.text.rfind(kThinkEnd);
  turn.certainty = mean_probability(listener.ends(), thought == std::string::npos ? 0 : thought + kThinkEnd.size());
  std::size_t from = 0;
  for (const auto& call : turn.done.parsed.calls) {
    std::map<std::string, double> confidence;
    const auto at = call.raw_arguments.empty() ? std::string::npos : turn.done.text.find(call.raw_arguments, from);
    if (at != std::string::npos) {
      confidence = argument_confidence(call.raw_arguments, at, listener.ends());
      from = at + call.raw_arguments.size();
    }
    turn.confidence.push_back(std::move(confidence));
  }
  return turn;
}

std::map<std::string, double> argument_confidence(const std::string& raw, std::size_t begin,
                                                  const std::vector<std::pair<std::size_t, float>>& ends) {
  std::map<std::string, double> result;
  // Least probability of the pieces that overlap [from, to) of the object's text; negative where one is not known.
  const auto least = [&](std::size_t from, std::size_t to) {
    auto piece = std::upper_bound(ends.begin(), ends.end(), begin + from, [](std::size_t at, const auto& end) { return at < end.first; });
    double probability = 1;
    for (std::size_t start = piece == ends.begin() ? 0 : std::prev(piece)->first; piece != ends.end() && start < begin + to; start = piece->first, ++piece) {
      probability = std::min(probability, static_cast<double>(piece->second));
    }
    return probability;
  };
  struct Level {
    bool is_array = false;
    std::size_t index = 0;
    std::string path;
    std::string key;
    bool expects_key = true;
  };
  std::vector<Level> levels;
  const auto path_here = [&]() -> std::string {
    if (levels.empty()) return {};
    const Level& level = levels.back();
    const std::string name = level.is_array ? std::to_string(level.index) : level.key;
    return level.path.empty() ? name : level.path + "." + name;
  };
  constexpr std::size_t kMaxEntries = 4096;
  for (std::size_t at = 0; at < raw.size() && result.size() < kMaxEntries;) {
    const char c = raw[at];
    if (c == '{' || c == '[') {
      const std::string path = path_here();
      levels.push_back({c == '[', 0, path, {}, c == '{'});
      ++at;
    } else if (c == '}' || c == ']') {
      if (!levels.empty()) levels.pop_back();
      ++at;
    } else if (c == ',') {
      if (!levels.empty()) levels.back().is_array ? void(++levels.back().index) : void(levels.back().expects_key = true);
      ++at;
    } else if (c == ':' || c == ' ' || c == '\t' || c == '\n' || c == '\r') {
      ++at;
    } else {
      const std::size_t start = at;
      if (c == '"' || c == '\'') {
        for (++at; at < raw.size() && raw[at] != c; ++at) at += raw[at] == '\\';
        at = std::min(at + 1, raw.size());
      } else {
        while (at < raw.size() && std::string_view(",]}: \t\r\n").find(raw[at]) == std::string_view::npos) ++at;
      }
      if (!levels.empty() && !levels.back().is_array && levels.back().expects_key) {
        const bool quoted = c == '"' || c == '\'';
        levels.back().key = quoted && at >= start + 2 ? raw.substr(start + 1, at - start - 2) : raw.substr(start, at - start);
        levels.back().expects_key = false;
      } else if (!levels.empty()) {
        if (const double probability = least(start, at); probability >= 0) result[path_here()] = probability;
      }
    }
  }
  return result;
}

Json to_json(const Turn& turn) {
  const ParseResult& parsed = turn.done.parsed;
  Json calls = Json::array();
  for (std::size_t i = 0; i < parsed.calls.size(); ++i) {
    Json call{{"name", parsed.calls[i].name}, {"arguments", parsed.calls[i].arguments}};
    if (!parsed.calls[i].raw_arguments.empty()) call["raw_arguments"] = parsed.calls[i].raw_arguments;
    if (i < turn.confidence.size() && !turn.confidence[i].empty()) {
      Json confidence = Json::object();
      for (const auto& [path, value] : turn.confidence[i]) confidence[path] = value;
      call["confidence"] = std::move(confidence);
    }
    calls.push_back(std::move(call));
  }
  Json errors = Json::array();
  for (const auto& error : parsed.errors) errors.push_back(Json{{"kind", error.kind}, {"name", error.name}, {"raw", error.raw}});
  Json data{{"text", turn.done.text}, {"tokens", turn.done.tokens}, {"stop", stop_word(turn.done.stop)},
            {"reasoning", parsed.reasoning}, {"content", parsed.content}, {"calls", std::move(calls)}, {"errors", std::move(errors)},
            {"warnings", parsed.warnings}};
  if (turn.limit > 0) data["limit"] = turn.limit;
  if (turn.wound_down) data["wound_down"] = true;
  if (turn.others.empty()) return data;
  Json others = Json::array();
  for (const Turn& other : turn.others) {
    others.push_back(Json{{"text", other.done.text}, {"tokens", other.done.tokens}, {"stop", stop_word(other.done.stop)}, {"agrees", other.agrees}});
    if (other.limit > 0) others.back()["limit"] = other.limit;
  }
  data["vote"] = Json{{"branch", turn.branch}, {"others", std::move(others)}};
  return data;
}

Turn turn_from_json(const Json& data) {
  Turn turn;
  const auto text = [](const Json& value, const char* key) { return value.contains(key) && value.at(key).is_string() ? value.at(key).get<std::string>() : std::string(); };
  const auto list = [&](const char* key) { return data.contains(key) && data.at(key).is_array() ? data.at(key) : Json::array(); };
  const auto read_output = [&](const Json& value, TurnDone& done) {
    done.text = text(value, "text");
    if (value.contains("tokens") && value.at("tokens").is_array()) {
      for (const auto& id : value.at("tokens")) {
        if (id.is_number_integer()) done.tokens.push_back(id.get<int>());
      }
    }
    done.stop = stop_reason(text(value, "stop"));
  };
  const auto read_limit = [](const Json& value, std::int64_t& limit) {
    if (const auto found = value.find("limit"); found != value.end() && found->is_number_integer()) limit = found->get<std::int64_t>();
  };
  read_output(data, turn.done);
  read_limit(data, turn.limit);
  turn.wound_down = data.contains("wound_down") && data.at("wound_down") == true;
  turn.done.parsed.reasoning = text(data, "reasoning");
  turn.done.parsed.content = text(data, "content");
  for (const auto& entry : list("calls")) {
    ToolCall call;
    call.name = text(entry, "name");
    if (entry.contains("arguments")) call.arguments = entry.at("arguments");
    call.raw_arguments = text(entry, "raw_arguments");
    turn.done.parsed.calls.push_back(std::move(call));
    std::map<std::string, double> confidence;
    if (entry.contains("confidence") && entry.at("confidence").is_object()) {
      for (const auto& [path, value] : entry.at("confidence").items()) {
        if (value.is_number()) confidence[path] = value.get<double>();
      }
    }
    turn.confidence.push_back(std::move(confidence));
  }
  for (const auto& entry : list("errors")) turn.done.parsed.errors.push_back({text(entry, "kind"), text(entry, "name"), text(entry, "raw")});
  for (const auto& entry : list("warnings")) {
    if (entry.is_string()) turn.done.parsed.warnings.push_back(entry.get<std::string>());
  }
  const auto vote = data.find("vote");
  if (vote == data.end() || !vote->is_object()) return turn;
  turn.branch = vote->value("branch", std::size_t{0});
  for (const auto& entry : vote->value("others", Json::array())) {
    Turn& other = turn.others.emplace_back();
    read_output(entry, other.done);
    other.limit = turn.limit;  // Of runs that recorded one for all.
    read_limit(entry, other.limit);
    other.agrees = entry.value("agrees", false);
  }
  return turn;
}

}  // namespace kontor::agent
