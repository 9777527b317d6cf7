// Budgets: whatever the limit is, what was used is never more.

#include "agent/budget.hpp"
#include "agent/run_context.hpp"
#include "tests/agent/bank_run.hpp"

#include <random>

using namespace kontor;
using namespace kontor::agent;
using namespace kontor::agent::test;

namespace {

/// Three agents, one of them called by another, in a loop on two threads.
std::string yaml_with(const std::string& budget) {
  return std::string(kHead) + "policy: {allow: [\"bank.*\"]}\nbudgets: {run: {" + budget + "}}\ndurability: {sync: off}\n" + R"(agents:
  clerk: {model: tape, role: Clerk, instruction: Pay., tools: [bank.pay], sub_agents: [helper], on_invalid: {retries: 1}}
  helper: {model: tape, role: Helper, instruction: Count.}
workflow:
  - id: each
    for_each: "${[1, 2, 3]}"
    max_parallel: 2
    do:
      - {id: pay, agent: clerk, with: {item: "${item}"}}
)";
}

std::string tape_text() {
  std::string tape;
  for (const char* item : {"1", "2", "3"}) {
    const std::string when = std::string("item: ") + item;
    tape += turn("<think>\n" + std::string(300, 'x') + "</think>\n\n" + call("helper", std::string("{\"task\": \"helper task ") + item + "\"}"), when);
    tape += turn(std::string(200, 'y'), std::string("helper task ") + item);
    tape += turn(call("bank.pay", std::string("{\"amount\": ") + item + "}"), when);
    tape += turn("done " + std::string(100, 'z'), when);
  }
  return tape;
}

}  // namespace

TEST_CASE("a thousand random limits are never passed, and every stop says why", "[agent][budget]") {
  Setup setup;
  setup.tape = tape_text();
  setup.yaml = yaml_with("tokens: 100k");
  const RunReport whole = setup.start();
  INFO(whole.note);
  REQUIRE(whole.status == "done");
  const std::int64_t needed = whole.ledger.spent_tokens();
  REQUIRE(needed > 500);
  std::mt19937_64 random(7);
  int right = 0, stopped = 0, done = 0;
  const auto journal = setup.journal();
  for (int i = 0; i < 1000; ++i) {
    const auto limit = static_cast<std::int64_t>(1 + random() % static_cast<std::uint64_t>(needed * 5 / 4));
    setup.yaml = yaml_with("tokens: " + std::to_string(limit));
    const Spec spec = setup.spec();
    auto report = start_run(*journal, spec, Json{{"limit", 500}}, {}, setup.world());
    INFO("limit " << limit << (report ? std::string() : ": " + report.error().message));
    REQUIRE(report.has_value());
    INFO("limit " << limit << ": " << report->status << ", used " << report->ledger.spent_tokens() << ", " << report->note);
    const bool within = report->ledger.spent_tokens() <= limit;
    const bool told = report->status == "done" || (report->status == "budget" && report->note.find("budget reached") != std::string::npos);
    CHECK(within);
    CHECK(told);
    right += within && told;
    (report->status == "done" ? done : stopped) += 1;
  }
  CHECK(stopped > 100);
  CHECK(done > 50);
  kontor::test::count_cases("random budgets", right, 1000 - right);
}

TEST_CASE("a budget of money is one of energy at the price of electricity, and another currency is refused", "[agent][budget]") {
  BudgetSpec spec;
  spec.money = "0.30 EUR";
  const auto budget = Budget::create(spec);
  REQUIRE(budget.has_value());
  Ledger spent;
  CHECK(budget->check(spent).has_value());
  spent.joules = 3.7e6;  // a little more than a kilowatt hour
  CHECK(!budget->check(spent));
  spec.money = "0.30 USD";
  CHECK(!Budget::create(spec));
}

TEST_CASE("calls at the same time share what is left", "[agent][budget]") {
  BudgetSpec spec;
  spec.tokens = 1000;
  auto budget = Budget::create(spec);
  Ledger spent;
  CHECK(*budget->reserve(spent, 100, 500, 0) == 500);
  CHECK(*budget->reserve(spent, 100, 500, 0) == 300);
  CHECK(!budget->reserve(spent, 1, 1, 0));
  budget->release(spent, 600);
  CHECK(*budget->reserve(spent, 10, 5000, 10) == 580);
}

TEST_CASE("seconds and joules end a run with the reason", "[agent][budget]") {
  for (const char* limit : {"seconds: 0.05", "joules: 0.0001"}) {
    Setup setup;
    setup.tape = tape_text();
    setup.yaml = yaml_with(limit);
    setup.bank.during_call = [] { std::this_thread::sleep_for(std::chrono::milliseconds(30)); };
    const RunReport report = setup.start();
    INFO(limit << ": " << report.note);
    CHECK(report.status == "budget");
  }
}
