#include "agent/planner.hpp"
#include "tests/support/catch.hpp"

using namespace kontor;
using namespace kontor::agent;

namespace {

PlannerOptions options_with(std::int64_t steps = 8) {
  PlannerOptions options;
  Message system, user;
  system.role = Role::system, system.content = "You keep the books.";
  user.content = "file: a.txt";
  options.opening = {system, user};
  options.tools = {"erp.match", "erp.pay"};
  options.limits.steps = steps;
  options.output = *tools::Schema::compile(*parse_json(R"({"type":"object","properties":{"decision":{"enum":["approve","hold"]}},"required":["decision"]})"));
  options.output_text = "{...}";
  return options;
}

TurnDone says(const std::string& content) {
  TurnDone turn;
  turn.parsed.content = turn.text = content;
  return turn;
}

TurnDone calls(std::vector<std::pair<std::string, Json>> list) {
  TurnDone turn;
  for (auto& [name, arguments] : list) {
    ToolCall call;
    call.name = name;
    call.arguments = arguments;
    turn.parsed.calls.push_back(call);
  }
  turn.text = "(calls)";
  return turn;
}

TurnDone broken(const std::string& kind, const std::string& raw = "{oops") {
  TurnDone turn;
  turn.parsed.errors.push_back({kind, "erp.pay", raw});
  turn.text = raw;
  return turn;
}

CallsDone answers(const CallTools& action, const std::string& text, bool is_error = false, bool is_invalid = false) {
  CallsDone done;
  for (const auto& call : action.calls) done.outcomes.push_back({call.id, is_error, is_invalid, text});
  return done;
}

/// Every call in the conversation has exactly one result, behind it and before the next assistant turn.
bool is_paired(const std::vector<Message>& messages) {
  std::vector<std::string> open;
  for (const auto& message : messages) {
    if (message.role == Role::tool) {
      const auto found = std::find(open.begin(), open.end(), message.call_id);
      if (found == open.end()) return false;
      open.erase(found);
    } else {
      if (!open.empty()) return false;
      for (const auto& call : message.calls) open.push_back(call.id);
    }
  }
  return open.empty();
}

std::string kind_of(const PlannerAction& action) {
  const auto* give_up = std::get_if<GiveUp>(&action);
  return give_up ? give_up->kind : "";
}

}  // namespace

TEST_CASE("a task goes from calls to an answer that fits the schema", "[agent][planner]") {
  Planner planner(options_with());
  REQUIRE(std::holds_alternative<Generate>(planner.resume(Started{})));
  auto action = planner.resume(calls({{"erp.match", Json{{"file", "a.txt"}}}, {"erp.pay", Json{{"amount", 5}}}}));
  REQUIRE(std::holds_alternative<CallTools>(action));
  const auto& wanted = std::get<CallTools>(action).calls;
  REQUIRE(wanted.size() == 2);
  CHECK(wanted[0].id == "1.1");
  CHECK(wanted[1].id == "1.2");
  REQUIRE(std::holds_alternative<Generate>(planner.resume(answers(std::get<CallTools>(action), "{}"))));
  CHECK(is_paired(planner.messages()));
  action = planner.resume(says("{\"decision\": \"approve\"}"));
  REQUIRE(std::holds_alternative<Answered>(action));
  CHECK(std::get<Answered>(action).answer.at("decision") == Json("approve"));
  CHECK(planner.messages().back().role == Role::assistant);
}

TEST_CASE("unusable output goes back to the model a bounded number of times", "[agent][planner]") {
  for (const char* kind : {"malformed_json", "truncated_call", "unknown_tool", "unterminated_think", "duplicate_key"}) {
    Planner planner(options_with());
    planner.resume(Started{});
    CHECK(std::holds_alternative<Generate>(planner.resume(broken(kind))));
    CHECK(planner.messages().back().role == Role::user);
    CHECK(is_paired(planner.messages()));
    CHECK(std::holds_alternative<Generate>(planner.resume(broken(kind))));
    CHECK(kind_of(planner.resume(broken(kind))) == "invalid_output");
  }
}

TEST_CASE("repair can be switched off", "[agent][planner]") {
  auto options = options_with();
  options.limits.repair = false;
  Planner planner(options);
  planner.resume(Started{});
  CHECK(kind_of(planner.resume(broken("malformed_json"))) == "invalid_output");
}

TEST_CASE("no call of a turn that could not be read completely is handed out", "[agent][planner]") {
  Planner planner(options_with());
  planner.resume(Started{});
  auto turn = calls({{"erp.pay", Json{{"amount", 5}}}});
  turn.parsed.errors.push_back({"malformed_json", "erp.match", "{"});
  const auto action = planner.resume(turn);
  CHECK(std::holds_alternative<Generate>(action));
  CHECK(is_paired(planner.messages()));
  CHECK(planner.messages().back().content.find("not run") != std::string::npos);
}

TEST_CASE("what has to be called is called before the answer, once", "[agent][planner]") {
  auto options = options_with();
  options.choice = ToolChoice::named, options.named = "erp.match";
  Planner planner(options);
  planner.resume(Started{});
  CHECK(planner.tool_choice() == ToolChoice::named);
  CHECK(planner.choice(says("{\"decision\": \"hold\"}")).empty());
  CHECK(std::holds_alternative<Generate>(planner.resume(says("{\"decision\": \"hold\"}"))));
  CHECK(planner.messages().back().content.find("'erp.match' has to be called first") != std::string::npos);
  CHECK(std::holds_alternative<Generate>(planner.resume(calls({{"erp.pay", Json{{"amount", 5}}}}))));
  CHECK(is_paired(planner.messages()));
  const auto action = planner.resume(calls({{"erp.match", Json::object()}}));
  REQUIRE(std::holds_alternative<CallTools>(action));
  CHECK(planner.tool_choice() == ToolChoice::automatic);
  planner.resume(answers(std::get<CallTools>(action), "{}"));
  CHECK(std::holds_alternative<Answered>(planner.resume(says("{\"decision\": \"hold\"}"))));

  options.choice = ToolChoice::required;
  Planner some(options);
  some.resume(Started{});
  CHECK(std::holds_alternative<Generate>(some.resume(says("{\"decision\": \"hold\"}"))));
  CHECK(std::holds_alternative<CallTools>(some.resume(calls({{"erp.pay", Json::object()}}))));

  options.choice = ToolChoice::none;
  Planner never(options);
  never.resume(Started{});
  CHECK(std::holds_alternative<Generate>(never.resume(calls({{"erp.pay", Json::object()}}))));
  CHECK(is_paired(never.messages()));
  CHECK(never.tool_choice() == ToolChoice::none);
  CHECK(std::holds_alternative<Answered>(never.resume(says("{\"decision\": \"hold\"}"))));
}

TEST_CASE("an answer that does not fit the schema is explained with the schema, once", "[agent][planner]") {
  Planner planner(options_with());
  planner.resume(Started{});
  CHECK(std::holds_alternative<Generate>(planner.resume(says("I would pay."))));
  CHECK(planner.messages().back().content.find("JSON Schema") != std::string::npos);
  CHECK(std::holds_alternative<Generate>(planner.resume(says("{\"decision\": \"perhaps\"}"))));
  CHECK(planner.messages().back().content.find("decision") != std::string::npos);
  CHECK(planner.messages().back().content.find("JSON Schema") == std::string::npos);
  CHECK(std::holds_alternative<Answered>(planner.resume(says("So:\n```json\n{\"decision\": \"hold\"}\n```"))));
  CHECK(planner.repairs() == 2);
}

TEST_CASE("echoes of unusable output are bounded", "[agent][planner]") {
  auto options = options_with();
  options.limits.echo_bytes = 100;
  Planner planner(options);
  planner.resume(Started{});
  auto turn = broken("malformed_json", std::string(1 << 20, 'x'));
  turn.parsed.content = std::string(1 << 20, 'y');
  planner.resume(turn);
  for (const auto& message : planner.messages()) CHECK(message.content.size() < 1000);
}

TEST_CASE("the same call over and over ends the task", "[agent][planner]") {
  Planner planner(options_with(50));
  planner.resume(Started{});
  for (int i = 0; i < 3; ++i) {
    // The order of members does not make it another call.
    const auto action = planner.resume(calls({{"erp.match", i % 2 ? Json{{"a", 1}, {"b", 2}} : Json{{"b", 2}, {"a", 1}}}}));
    REQUIRE(std::holds_alternative<CallTools>(action));
    planner.resume(answers(std::get<CallTools>(action), "{}"));
  }
  CHECK(kind_of(planner.resume(calls({{"erp.match", Json{{"a", 1}, {"b", 2}}}}))) == "repeated_call");
}

TEST_CASE("failed calls in a row end the task, a good one between starts the count again", "[agent][planner]") {
  Planner planner(options_with(50));
  planner.resume(Started{});
  int n = 0;
  const auto attempt = [&](bool is_error) {
    const auto action = planner.resume(calls({{"erp.match", Json{{"n", ++n}}}}));
    return planner.resume(answers(std::get<CallTools>(action), "{\"error\": \"no\"}", is_error));
  };
  CHECK(std::holds_alternative<Generate>(attempt(true)));
  CHECK(std::holds_alternative<Generate>(attempt(true)));
  CHECK(std::holds_alternative<Generate>(attempt(false)));
  CHECK(std::holds_alternative<Generate>(attempt(true)));
  CHECK(std::holds_alternative<Generate>(attempt(true)));
  CHECK(kind_of(attempt(true)) == "tool_errors");
}

TEST_CASE("with no failed call allowed a good call is no reason to stop", "[agent][planner]") {
  PlannerOptions options = options_with(50);
  options.limits.tool_errors = 0;
  Planner planner(std::move(options));
  planner.resume(Started{});
  for (const bool is_error : {false, true}) {
    const auto action = planner.resume(calls({{"erp.match", Json{{"error", is_error}}}}));
    const auto next = planner.resume(answers(std::get<CallTools>(action), "{}", is_error));
    if (!is_error) CHECK(std::holds_alternative<Generate>(next));
    else CHECK(kind_of(next) == "tool_errors");
  }
}

TEST_CASE("arguments that do not fit count as unusable output", "[agent][planner]") {
  Planner planner(options_with(50));
  planner.resume(Started{});
  for (int i = 0; i < 3; ++i) {
    const auto action = planner.resume(calls({{"erp.pay", Json{{"n", i}}}}));
    const auto next = planner.resume(answers(std::get<CallTools>(action), "argument 'amount': missing", true, true));
    if (i < 2) CHECK(std::holds_alternative<Generate>(next));
    else CHECK(kind_of(next) == "invalid_output");
  }
}

TEST_CASE("the number of turns is limited", "[agent][planner]") {
  Planner planner(options_with(3));
  auto action = planner.resume(Started{});
  int turns = 0;
  while (std::holds_alternative<Generate>(action)) {
    ++turns;
    action = planner.resume(calls({{"erp.match", Json{{"n", turns}}}}));
    if (const auto* call = std::get_if<CallTools>(&action)) action = planner.resume(answers(*call, "{}"));
  }
  CHECK(turns == 3);
  CHECK(kind_of(action) == "steps");
}

TEST_CASE("empty output and cut output are sent back", "[agent][planner]") {
  Planner planner(options_with());
  planner.resume(Started{});
  auto empty = says("");
  CHECK(std::holds_alternative<Generate>(planner.resume(empty)));
  empty.stop = inference::StopReason::length;
  CHECK(std::holds_alternative<Generate>(planner.resume(empty)));
  CHECK(planner.messages().back().content.find("cut") != std::string::npos);
}

TEST_CASE("results that do not pair with the calls are an internal error, not a guess", "[agent][planner]") {
  for (int wrong = 0; wrong < 3; ++wrong) {
    Planner planner(options_with());
    planner.resume(Started{});
    const auto action = planner.resume(calls({{"erp.match", Json::object()}, {"erp.pay", Json::object()}}));
    auto done = answers(std::get<CallTools>(action), "{}");
    if (wrong == 0) done.outcomes.pop_back();
    if (wrong == 1) done.outcomes[1].call_id = done.outcomes[0].call_id;
    if (wrong == 2) done.outcomes.push_back(done.outcomes[0]);
    CHECK(kind_of(planner.resume(done)) == "internal");
  }
}

TEST_CASE("events at the wrong time end the task at every step", "[agent][planner]") {
  const std::vector<PlannerEvent> script = {Started{}, calls({{"erp.match", Json::object()}})};
  for (std::size_t good = 0; good <= script.size(); ++good) {
    for (int wrong = 0; wrong < 3; ++wrong) {
      Planner planner(options_with());
      for (std::size_t i = 0; i < good; ++i) planner.resume(script[i]);
      const bool expected[] = {good == 0, good == 1, good == 2};
      const PlannerAction action = wrong == 0 ? planner.resume(Started{}) : wrong == 1 ? planner.resume(says("{\"decision\":\"hold\"}")) : planner.resume(CallsDone{});
      if (!expected[wrong] || wrong == 2) CHECK(kind_of(action) == "internal");
      if (!kind_of(action).empty()) CHECK(kind_of(planner.resume(Started{})) == "internal");
    }
  }
}

TEST_CASE("a conversation is made shorter from its oldest parts on, and stays paired", "[agent][planner]") {
  Planner planner(options_with(20));
  planner.resume(Started{});
  for (int i = 0; i < 4; ++i) {
    auto turn = calls({{"erp.match", Json{{"file", std::to_string(i)}}}});
    turn.parsed.reasoning = std::string(500, 'r');
    turn.tokens = {1, 2, 3};
    const auto action = planner.resume(turn);
    REQUIRE(std::holds_alternative<CallTools>(action));
    planner.resume(answers(std::get<CallTools>(action), std::string(1000, 'x')));
  }
  const auto size = [&] {
    std::size_t sum = 0;
    for (const auto& message : planner.messages()) sum += message.content.size() + message.reasoning.size();
    return sum;
  };
  const auto before = planner.messages();
  const std::size_t full = size();
  const auto first = planner.compact(600);
  REQUIRE(first.size() == 2);
  CHECK(first[0].what == "reasoning");
  CHECK(first[0].message == 2);
  CHECK(planner.messages()[2].tokens.empty());
  CHECK(size() == full - 1000);
  const auto second = planner.compact(1'000'000);
  std::size_t results = 0;
  for (const auto& part : second) results += part.what == "result" && part.name == "erp.match";
  CHECK(results == 3);
  CHECK(is_paired(planner.messages()));
  CHECK(planner.messages().size() == before.size());
  CHECK(planner.messages()[1].content == before[1].content);
  // The last round is what the model has to go on with.
  CHECK(planner.messages().back().content == before.back().content);
  CHECK(planner.messages()[before.size() - 2].reasoning == before[before.size() - 2].reasoning);
  CHECK(planner.compact(1).empty());
}

TEST_CASE("an answer is read from plain JSON or the last fence, never from prose", "[agent][planner]") {
  CHECK(read_answer("  {\"a\": 1}\n").has_value());
  CHECK(read_answer("first\n```json\n{\"a\": 1}\n```\nthen\n```\n{\"a\": 2}\n```")->at("a") == Json(2));
  CHECK(!read_answer("the object {\"a\": 1} would do"));
  CHECK(!read_answer("```json\n{\"a\": 1}"));
  CHECK(!read_answer("{\"a\": 1, \"a\": 2}"));
  CHECK(!read_answer(std::string(100000, '[')));
}
