// What the agent layer costs without a model, one JSON line each:
//   agent_bench parser       the incremental parser in chunks of 4 bytes and of 64 KiB
//   agent_bench step STEPS   turns of a scripted model with one tool call each: planner, prompt, parser, argument check
//                            and the call itself; no journal. Processor microseconds per step.
//   agent_bench endpoint URL MODEL TOKENS TURNS   turns written by a server in a process of its own: connection, events,
//                            JSON and pieces. Processor microseconds of this process per turn and per token.

#include "agent/endpoint/endpoint.hpp"
#include "agent/planner.hpp"
#include "agent/turn.hpp"
#include "base/json.hpp"
#include "tools/schema.hpp"

#include <nlohmann/json.hpp>

#include <ctime>

#include <algorithm>
#include <mutex>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <vector>

namespace {

using namespace kontor;
using namespace kontor::agent;

double cpu_seconds() {
  timespec now{};
  clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
  return static_cast<double>(now.tv_sec) + static_cast<double>(now.tv_nsec) / 1e9;
}

/// Writes a call in every turn, in pieces of about four bytes as a model would.
class Scripted final : public inference::TextModel {
 public:
  Scripted() {
    info_.name = "scripted", info_.architecture = "scripted", info_.dialect = "r1";
    info_.context = 1 << 20;
  }
  const inference::ModelInfo& info() const override { return info_; }
  Result<inference::Generation> generate(const inference::GenerateRequest& request, const std::function<bool(const inference::Piece&)>& sink) override {
    (void)request;
    inference::Generation made;
    made.text = "The next reading is needed.\n</think>\n\n<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>function<｜tool▁sep｜>meter.read\n```json\n{\"number\": " +
                std::to_string(turn_++) + ", \"unit\": \"kWh\"}\n```<｜tool▁call▁end｜><｜tool▁calls▁end｜>";
    for (std::size_t at = 0; at < made.text.size(); at += 4) {
      inference::Piece piece;
      piece.text = std::string_view(made.text).substr(at, 4);
      if (!sink(piece)) break;
    }
    return made;
  }
  Result<std::vector<float>> embed(std::string_view) override { return fail(Errc::unsupported, "no embeddings"); }
  std::int64_t count_tokens(std::string_view text) const override { return static_cast<std::int64_t>(text.size() / 4); }

 private:
  inference::ModelInfo info_;
  int turn_ = 0;
};

/// Median over several loops of the microseconds per step.
double step_cost(int steps) {
  const auto schema = tools::Schema::compile(*parse_json(
      R"({"type":"object","properties":{"number":{"type":"integer"},"unit":{"type":"string","enum":["kWh","MWh"]}},"required":["number","unit"],"additionalProperties":false})"));
  if (!schema) std::exit(1);
  const std::vector<ToolSchema> tools = {{"meter.read", "Reads a meter.", *parse_json(R"({"type":"object"})")}};
  std::vector<double> costs;
  for (int loop = 0; loop < std::clamp(20'000 / steps, 5, 200); ++loop) {
    Scripted model;
    RunContext run;
    PlannerOptions options;
    options.opening.resize(2);
    options.opening[0].role = Role::system, options.opening[0].content = "You read meters.";
    options.opening[1].content = "Read all meters of the house.";
    options.tools = {"meter.read"};
    options.limits.steps = steps + 1;
    run.clock = &system_clock();
    Planner planner(std::move(options));
    TurnRequest request;
    request.messages = &planner.messages();
    request.tools = &tools;
    RollingPrompt prompt;
    request.prompt = &prompt;
    std::mutex timeline;
    const std::lock_guard mine(run.baton);
    const double start = cpu_seconds();
    PlannerAction action = planner.resume(Started{});
    for (int step = 0; step < steps; ++step) {
      auto turn = generate_turn(run, model, request, timeline);
      if (!turn) std::fprintf(stderr, "%s\n", turn.error().describe().c_str()), std::exit(1);
      action = planner.resume(turn->done);
      const auto* calls = std::get_if<CallTools>(&action);
      if (!calls || calls->calls.size() != 1) std::fprintf(stderr, "the scripted call was not read\n"), std::exit(1);
      const auto& arguments = calls->calls[0].arguments;
      if (!schema->validate(arguments).empty()) std::exit(1);
      CallsDone done;
      done.outcomes.push_back({calls->calls[0].id, false, false, R"({"value": 1834.2, "unit": "kWh"})", true});
      action = planner.resume(done);
    }
    costs.push_back((cpu_seconds() - start) / steps * 1e6);
  }
  std::sort(costs.begin(), costs.end());
  return costs[costs.size() / 2];
}

Json endpoint_cost(const std::string& url, const std::string& name, int tokens, int turns) {
  ModelSpec spec;
  spec.endpoint = url, spec.endpoint_model = name;
  auto model = open_endpoint_model(spec);
  if (!model) std::fprintf(stderr, "%s\n", model.error().describe().c_str()), std::exit(1);
  std::int64_t generated = 0, pieces = 0;
  const double start = cpu_seconds();
  for (int turn = 0; turn < turns; ++turn) {
    inference::GenerateRequest request;
    request.prompt = {{"<｜User｜>", true, {}}, {"Tell the story of invoice " + std::to_string(turn), false, {}}, {"<｜Assistant｜><think>\n", true, {}}};
    request.max_tokens = tokens;
    request.sampling.temperature = 1;
    request.sampling.seed = static_cast<std::uint64_t>(turn);
    const auto written = (*model)->generate(request, [&](const inference::Piece&) { return ++pieces, true; });
    if (!written) std::fprintf(stderr, "%s\n", written.error().describe().c_str()), std::exit(1);
    generated += written->usage.generated;
  }
  const double spent = (cpu_seconds() - start) * 1e6;
  return Json{{"bench", "endpoint"}, {"turns", turns}, {"tokens", generated}, {"pieces", pieces}, {"microseconds_per_turn", spent / turns},
              {"microseconds_per_token", spent / static_cast<double>(std::max<std::int64_t>(generated, 1))}};
}

Json parser_cost() {
  std::string text = "I look at the orders first, then at the vendors.\n</think>\n\n";
  while (text.size() < (8u << 20)) text += "The order of May 3 has 12 lines and fits the invoice; nothing else is open. ";
  const auto seconds = [&](std::size_t chunk) {
    std::vector<double> all;
    for (int i = 0; i < 5; ++i) {
      ParserOptions options;
      options.prefill = Prefill::open;
      std::size_t bytes = 0;
      Parser parser(std::move(options), [&](const ParseEvent& event) { bytes += event.text.size(); });
      const double start = cpu_seconds();
      for (std::size_t at = 0; at < text.size(); at += chunk) parser.feed(std::string_view(text).substr(at, chunk));
      if (parser.finish().content.empty() || bytes == 0) std::exit(1);
      all.push_back(cpu_seconds() - start);
    }
    std::sort(all.begin(), all.end());
    return all[2];
  };
  const double bytes = static_cast<double>(text.size());
  const double small = seconds(4), large = seconds(64 << 10);
  return Json{{"bench", "parser"}, {"microseconds_per_4_bytes", small / (bytes / 4) * 1e6}, {"megabytes_per_second_64k", bytes / large / 1e6}};
}

}  // namespace

int main(int count, char** words) {
  const std::string what = count > 1 ? words[1] : "";
  if (what == "parser") {
    std::printf("%s\n", parser_cost().dump().c_str());
  } else if (what == "step" && count > 2) {
    const int steps = std::max(1, std::atoi(words[2]));
    std::printf("%s\n", Json{{"bench", "step"}, {"steps", steps}, {"microseconds_per_step", step_cost(steps)}}.dump().c_str());
  } else if (what == "endpoint" && count > 5) {
    std::printf("%s\n", endpoint_cost(words[2], words[3], std::max(1, std::atoi(words[4])), std::max(1, std::atoi(words[5]))).dump().c_str());
  } else {
    std::fprintf(stderr, "usage: agent_bench parser | step STEPS | endpoint URL MODEL TOKENS TURNS\n");
    return 2;
  }
  return 0;
}
