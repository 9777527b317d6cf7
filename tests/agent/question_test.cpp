// builtin.ask_user: a question parks the run, and the answer of a person is the result of the call.

#include "tests/agent/bank_run.hpp"
#include "tools/builtin/builtin.hpp"

using namespace kontor;
using namespace kontor::agent;
using namespace kontor::agent::test;

namespace {

struct Asking : Setup {
  explicit Asking(const std::string& policy = "") {
    yaml = std::string("kontor: 1\nname: ask-run\nmodels: {tape: {replay: tape.jsonl}}\ntools: {person: {use: builtin.ask_user}}\n") + policy + R"(agents:
  clerk: {model: tape, instruction: "Book it.", tools: [person.ask]}
workflow:
  - {id: booked, agent: clerk, with: {text: x}}
  - {id: paint, tool: person.ask, with: {question: "Which colour?", choices: [red, blue]}}
)";
    tape = turn(call("person.ask", R"({"question": "Which account?"})")) + turn("booked");
    make_tools = [] { return *tools::make_builtin("builtin.ask_user", "person", Json::object(), {}); };
  }
  Result<PendingItem> answer(const RunReport& report, const std::string& text, bool approve = true, const std::string& call = "") { return decide_approval(*journal(), report.id, call, {approve, "anna", text, {}}); }
};

}  // namespace

TEST_CASE("a question parks the run, and the answer is the result of the call", "[agent][run]") {
  Asking setup;
  RunReport report = setup.start();
  INFO(report.note);
  REQUIRE(report.status == "parked");
  REQUIRE(report.pending.size() == 1);
  CHECK(report.pending[0].is_question);
  CHECK(report.pending[0].reason == "Which account?");
  CHECK(setup.resume(report.id).status == "parked");
  CHECK(!setup.answer(report, ""));                      // approving is no answer
  CHECK(!setup.answer(report, "\xff"));
  CHECK(!setup.answer(report, std::string(70'000, 'x')));
  CHECK(!setup.answer(report, "4400", true, "elsewhere"));
  REQUIRE(setup.answer(report, "4400 „Umsatz\"").has_value());
  CHECK(!setup.answer(report, "4500"));
  report = setup.resume(report.id);
  REQUIRE(report.status == "parked");
  CHECK(setup.notes.back() == R"({"answer": "4400 „Umsatz\"", "by": "anna"})");  // what the model read
  REQUIRE(report.pending.size() == 1);
  CHECK(report.pending[0].choices == std::vector<std::string>{"red", "blue"});
  CHECK(!setup.answer(report, "green"));
  REQUIRE(setup.answer(report, "blue").has_value());
  report = setup.resume(report.id);
  REQUIRE(report.status == "done");
  CHECK(report.result == Json{{"answer", "blue"}, {"by", "anna"}});
  const auto journal = setup.journal();
  CHECK(replay_run(*journal, report.id, setup.world())->result == report.result);
}

TEST_CASE("whoever is at hand answers at once, and a refusal is an error of the call", "[agent][run]") {
  Asking setup;
  setup.approver = [](const PendingItem& item) -> ApprovalAnswer {
    if (item.choices.empty()) return {ApprovalAnswer::Kind::rejected, "anna", {}};
    return {ApprovalAnswer::Kind::approved, "anna", item.choices[0]};
  };
  const RunReport report = setup.start();
  INFO(report.note);
  REQUIRE(report.status == "done");
  CHECK(report.result["answer"] == "red");
  CHECK(setup.notes.front() == R"({"error": "anna does not answer"})");
}

TEST_CASE("a question that policy asks about waits for both, and deny leaves none", "[agent][run]") {
  Asking setup("policy: {ask: [{tool: person.ask, when: 'args.question == \"Which account?\"'}]}\n");
  RunReport report = setup.start();
  INFO(report.note);
  REQUIRE(report.status == "parked");
  CHECK(!report.pending[0].is_question);
  REQUIRE(setup.answer(report, "").has_value());
  report = setup.resume(report.id);
  REQUIRE(report.status == "parked");
  REQUIRE(report.pending.size() == 1);
  CHECK(report.pending[0].is_question);
  CHECK(report.pending[0].call.ends_with("/answer"));
  REQUIRE(setup.answer(report, "4400").has_value());
  CHECK(setup.resume(report.id).status == "parked");
  CHECK(setup.notes.back() == R"({"answer": "4400", "by": "anna"})");

  Asking never("policy: {deny: [person.ask]}\n");
  report = never.start();
  CHECK(report.status == "failed");
  CHECK(report.pending.empty());
}
