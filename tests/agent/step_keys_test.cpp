// Keys that every kind of step may have beside its action: what `kontor check` accepts has its effect when it runs.

#include "agent/spec/rules.hpp"
#include "tests/agent/bank_run.hpp"

#include <chrono>
#include <set>
#include <thread>

using namespace kontor;
using namespace kontor::agent;
using namespace kontor::agent::test;

namespace {

constexpr const char* kParts = R"(policy: {allow: ["bank.*"]}
agents: {clerk: {model: tape, instruction: Pay., tools: [bank.balance], limits: {steps: 1}, on_invalid: {repair: false}}}
procedures:
  look: {do: [{id: inner, tool: bank.balance, with: {amount: 1}}]}
)";

/// One step of each kind that does something which can fail: `bank.balance`, or what the tape says.
std::string step_of(const std::string& kind, const std::string& more) {
  const std::string rest = more.empty() ? "" : ", " + more;
  if (kind == "tool") return "{id: s, tool: bank.balance, with: {amount: 1}" + rest + "}";
  if (kind == "agent") return "{id: s, agent: clerk, with: {amount: 1}" + rest + "}";
  if (kind == "for_each") return "{id: s, for_each: \"${[1]}\", do: [{id: inner, tool: bank.balance, with: {amount: 1}}]" + rest + "}";
  if (kind == "switch") return "{id: s, switch: \"${1 == 1}\", cases: {true: [{id: inner, tool: bank.balance, with: {amount: 1}}]}" + rest + "}";
  if (kind == "procedure") return "{id: s, procedure: look" + rest + "}";
  if (kind == "approval") return "{id: s, approval: {who: [anna]}" + rest + "}";
  if (kind == "fail") return "{id: s, fail: no" + rest + "}";
  return "{id: s, wait: 1ms" + rest + "}";
}

const std::vector<std::string> kKinds = {"tool", "agent", "for_each", "switch", "procedure", "approval", "fail", "wait"};

bool accepts(const std::string& kind, const std::string& key) { return rule("step." + kind).find(key) != nullptr; }

std::vector<std::string> kinds_with(const std::string& key) {
  std::vector<std::string> kinds;
  for (const auto& kind : kKinds) {
    if (accepts(kind, key)) kinds.push_back(kind);
  }
  return kinds;
}

/// The bank answers with errors this many times; -1: always.
class Moody final : public tools::Tool {
 public:
  explicit Moody(std::shared_ptr<int> errors) : errors_(std::move(errors)) {
    spec_.name = "bank.balance";
    spec_.parameters = *parse_json(R"({"type":"object","properties":{"amount":{"type":"number"}}})");
  }
  const tools::ToolSpec& spec() const override { return spec_; }
  tools::ToolResult call(const Json&, const tools::CallContext&) override {
    if (*errors_ == 0) return tools::ToolResult::ok(Json{{"balance", 100}});
    if (*errors_ > 0) --*errors_;
    return tools::ToolResult::error("closed", "the bank is closed");
  }

 private:
  std::shared_ptr<int> errors_;
  tools::ToolSpec spec_;
};

/// Answers when it is told to stop.
class Endless final : public tools::Tool {
 public:
  Endless() {
    spec_.name = "bank.balance";
    spec_.parameters = *parse_json(R"({"type":"object","properties":{"amount":{"type":"number"}}})");
  }
  const tools::ToolSpec& spec() const override { return spec_; }
  tools::ToolResult call(const Json&, const tools::CallContext& context) override {
    for (int i = 0; i < 1000 && !context.stop.stop_requested(); ++i) std::this_thread::sleep_for(std::chrono::milliseconds(5));
    return tools::ToolResult::error("cancelled", "stopped");
  }

 private:
  tools::ToolSpec spec_;
};

RunReport run_step(Setup& setup, const std::string& kind, const std::string& more, int errors, const std::string& tail = "") {
  setup.yaml = std::string(kHead) + kParts + "workflow:\n  - " + step_of(kind, more) + "\n" + tail;
  // One turn that cannot be read for each error, then one that can.
  setup.tape.clear();
  for (int i = 0; i < (errors < 0 ? 8 : errors); ++i) setup.tape += turn(call("bank.balance", "{\"amount\": }"));
  if (errors >= 0) setup.tape += turn("fine");
  auto left = std::make_shared<int>(errors);
  setup.make_tools = [left] { return std::vector<std::shared_ptr<tools::Tool>>{std::make_shared<Moody>(left)}; };
  return setup.start();
}

}  // namespace

TEST_CASE("the keys of steps are accepted where this test tries them", "[agent][steps]") {
  CHECK(kinds_with("retry") == std::vector<std::string>{"tool", "agent", "for_each", "procedure"});
  CHECK(kinds_with("check") == std::vector<std::string>{"tool", "agent", "for_each", "procedure"});
  CHECK(kinds_with("timeout") == std::vector<std::string>{"tool", "agent", "for_each", "switch", "procedure", "approval"});
  CHECK(kinds_with("on_error") == std::vector<std::string>{"tool", "agent", "for_each", "switch", "procedure"});
  CHECK(kinds_with("vote") == std::vector<std::string>{"agent"});
}

TEST_CASE("retry tries every kind of step again that takes it", "[agent][steps]") {
  for (const auto& kind : kinds_with("retry")) {
    INFO(kind);
    Setup again, once;
    CHECK(run_step(again, kind, "retry: {max: 2, backoff: 1ms}", 2).status == "done");
    CHECK(run_step(once, kind, "retry: {max: 1, backoff: 1ms}", 2).status == "failed");
  }
}

TEST_CASE("check refuses the result of every kind of step that takes it", "[agent][steps]") {
  const std::map<std::string, std::pair<std::string, std::string>> checks = {{"tool", {"result.balance == 100", "result.balance == 1"}},
                                                                            {"agent", {"result == 'fine'", "result == 'bad'"}},
                                                                            {"for_each", {"size(result.results) == 1", "size(result.results) == 2"}},
                                                                            {"procedure", {"result.balance == 100", "result.balance == 1"}}};
  for (const auto& kind : kinds_with("check")) {
    INFO(kind);
    Setup good, bad;
    CHECK(run_step(good, kind, "check: \"${" + checks.at(kind).first + "}\"", 0).status == "done");
    const RunReport refused = run_step(bad, kind, "check: \"${" + checks.at(kind).second + "}\"", 0);
    CHECK(refused.status == "failed");
    CHECK(refused.kind == "check");
  }
}

TEST_CASE("on_error keeps the workflow going for every kind of step that takes it, and a replay goes the same way", "[agent][steps]") {
  for (const auto& kind : kinds_with("on_error")) {
    for (const int errors : {0, -1}) {
      INFO(kind << " with " << errors << " errors");
      Setup setup;
      const std::string tail = "  - {id: after, switch: \"${size(steps.s.bad)}\", cases: {\"0\": [{tool: bank.balance, with: {amount: 2}, on_error: {collect: none}}], \"1\": [{wait: 1ms}]}, else: [{fail: odd}]}\n";
      const RunReport report = run_step(setup, kind, "on_error: {collect: bad}", errors, tail);
      INFO(report.note);
      CHECK(report.status == "done");
      CHECK(report.failed_items == (errors == 0 ? 0 : 1));
      if (kind != "switch") {
        REQUIRE(report.result.contains("bad"));
        CHECK(report.result.at("bad").size() == (errors == 0 ? 0u : 1u));
      }
      const auto replayed = replay_run(*setup.journal(), report.id, setup.world());
      REQUIRE(replayed.has_value());
      CHECK(replayed->status == "done");
      CHECK(replayed->result == report.result);
      CHECK(replayed->failed_items == report.failed_items);
    }
  }
}

TEST_CASE("the result of a step with on_error stands beside its errors", "[agent][steps]") {
  Setup good, bad;
  RunReport report = run_step(good, "tool", "on_error: {collect: bad}", 0);
  CHECK(report.result == *parse_json(R"({"result": {"balance": 100}, "bad": []})"));
  report = run_step(bad, "tool", "on_error: {collect: bad}", -1);
  REQUIRE(report.result.at("bad").size() == 1);
  CHECK(report.result.at("result").is_null());
  CHECK(report.result.at("bad")[0].at("kind") == Json("closed"));
  CHECK(report.result.at("bad")[0].at("error").get<std::string>().find("the bank is closed") != std::string::npos);
}

TEST_CASE("timeout ends every kind of step that takes it", "[agent][steps]") {
  for (const auto& kind : kinds_with("timeout")) {
    if (kind == "approval") continue;  // Waits for a person: tests/agent/engine_test.cpp.
    INFO(kind);
    Setup setup;
    setup.yaml = std::string(kHead) + kParts + "workflow:\n  - " + step_of(kind, "timeout: 40ms") + "\n";
    setup.tape = turn(call("bank.balance", "{\"amount\": 1}"));
    setup.make_tools = [] { return std::vector<std::shared_ptr<tools::Tool>>{std::make_shared<Endless>()}; };
    if (kind == "agent") setup.yaml.replace(setup.yaml.find("steps: 1"), 8, "steps: 2");
    const auto began = std::chrono::steady_clock::now();
    const RunReport report = setup.start();
    INFO(report.note);
    CHECK(report.status == "failed");
    CHECK(report.kind == "timeout");
    CHECK(std::chrono::steady_clock::now() - began < std::chrono::seconds(2));
  }
}

TEST_CASE("errors carry the labels of what the step could read", "[agent][steps]") {
  const auto pays = [](const std::string& policy, const std::string& first) {
    Setup setup;
    setup.yaml = std::string(kHead) + policy + "workflow:\n  - " + first + "\n  - {id: pay, tool: bank.pay, with: {amount: 1, to: \"${steps.s.bad}\"}}\n";
    setup.bank.next_error = "closed";
    setup.yaml.replace(setup.yaml.find("\"${steps.s.bad}\""), 16, "\"${string(size(steps.s.bad))}\"");
    return setup.start();
  };
  const std::string strict = "policy: {untrusted: [bank.book], trusted_only: [bank.pay], allow: [\"bank.*\"]}\n";
  CHECK(pays("policy: {trusted_only: [bank.pay], allow: [\"bank.*\"]}\n", "{id: s, tool: bank.book, with: {amount: 1}, on_error: {collect: bad}}").status == "done");
  CHECK(pays(strict, "{id: s, tool: bank.book, with: {amount: 1}, on_error: {collect: bad}}").kind == "denied");
  CHECK(pays(strict, "{id: s, for_each: \"${[1]}\", do: [{tool: bank.book, with: {amount: 1}}], on_error: {collect: bad}}").kind == "denied");
}

TEST_CASE("errors may not take the name of the result", "[agent][steps]") {
  const auto first_kind = [](const std::string& step) {
    const auto checked = check_text(std::string(kHead) + kParts + "workflow: [" + step + "]\n", "a.yaml", "/tmp");
    return checked.diagnostics.empty() ? std::string("none") : checked.diagnostics[0].kind;
  };
  CHECK(first_kind(step_of("tool", "on_error: {collect: result}")) == "conflict");
  CHECK(first_kind(step_of("for_each", "on_error: {collect: results}")) == "conflict");
  CHECK(first_kind(step_of("for_each", "on_error: {collect: result}")) == "none");
  CHECK(first_kind(step_of("tool", "on_error: {collect: bad}") + ", {fail: \"${steps.s.balance}\"}") == "unresolved-reference");
  CHECK(first_kind(step_of("tool", "on_error: {collect: bad}") + ", {fail: \"${steps.s.bad}\"}") == "none");
  CHECK(first_kind(step_of("approval", "on_error: {collect: bad}")) == "unknown-key");
}
