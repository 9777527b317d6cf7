// Steps of workflows: loops on several threads, waits, procedures, handoffs, time limits, approvals with all that can
// happen to them.

#include "agent/decisions.hpp"
#include "tests/agent/bank_run.hpp"

#include <atomic>
#include <chrono>
#include <thread>

using namespace kontor;
using namespace kontor::agent;
using namespace kontor::agent::test;

namespace {

constexpr const char* kAllow = "policy: {allow: [\"bank.*\"]}\n";

PersonsAnswer yes(const std::string& by) { return {true, by, "", ""}; }

/// A workflow with one approval step that has these settings.
std::string approval_yaml(const std::string& settings) {
  return std::string(kHead) + kAllow + "workflow:\n  - {id: ask, approval: {who: [anna], " + settings +
         "}}\n  - {id: way, switch: \"${steps.ask.approved}\", cases: {true: [{id: pay, tool: bank.pay, with: {amount: 1}}]}}\n"
         "  - {id: end, tool: bank.balance, with: {amount: 1}}\n";
}

}  // namespace

TEST_CASE("items of a loop run at the same time, and their results keep their order", "[agent][engine]") {
  Setup setup;
  setup.yaml = std::string(kHead) + kAllow + R"(workflow:
  - id: each
    for_each: "${[1, 2, 3, 4, 5, 6, 7, 8]}"
    max_parallel: 4
    do:
      - {id: look, tool: bank.balance, with: {amount: "${item}"}}
      - {id: pay, tool: bank.pay, with: {amount: "${item}"}, check: "${result.status == 'paid'}"}
      - {id: again, tool: bank.book, with: {amount: "${item}"}}
)";
  std::atomic<int> inside = 0, most = 0;
  setup.bank.during_call = [&] {
    const int now = ++inside;
    for (int seen = most; now > seen && !most.compare_exchange_weak(seen, now);) {}
    std::this_thread::sleep_for(std::chrono::milliseconds(15));
    --inside;
  };
  const RunReport report = setup.start();
  INFO(report.note);
  REQUIRE(report.status == "done");
  CHECK(report.result.at("results").size() == 8);
  CHECK(most > 1);
  CHECK(most <= 4);
  CHECK(setup.bank.payments.size() == 16);
  // The journal is whole and leads to the same result.
  const auto replayed = replay_run(*setup.journal(), report.id, setup.world());
  REQUIRE(replayed.has_value());
  CHECK(replayed->status == "done");
  CHECK(replayed->result == report.result);
}

TEST_CASE("a parallel loop that was stopped anywhere goes on and pays once", "[agent][engine]") {
  const std::string yaml = std::string(kHead) + kAllow + R"(workflow:
  - id: each
    for_each: "${[1, 2, 3, 4, 5]}"
    max_parallel: 3
    do:
      - {id: pay, tool: bank.pay, with: {amount: "${item}"}}
      - {id: book, tool: bank.book, with: {amount: "${item}"}}
)";
  int right = 0, all = 0;
  for (int last = 1; last <= 21; last += 2, ++all) {
    Setup setup;
    setup.yaml = yaml;
    setup.journal();
    setup.sql("CREATE TRIGGER full BEFORE INSERT ON events WHEN NEW.seq > " + std::to_string(last) + " BEGIN SELECT RAISE(ABORT, 'disk full'); END");
    const RunReport stopped = setup.start();
    setup.sql("DROP TRIGGER full");
    const RunReport report = stopped.status == "done" ? stopped : setup.resume(stopped.id);
    INFO("stopped after event " << last << ": " << stopped.note << "; then " << report.status << " " << report.note);
    std::map<double, int> paid;
    for (const auto& [key, arguments] : setup.bank.payments) paid[arguments.at("amount").get<double>()] += 1;
    std::map<std::string, int> keys;
    for (const auto& [key, arguments] : setup.bank.payments) ++keys[key];
    const bool good = report.status == "done" && keys.size() == 10 && report.result.at("results").size() == 5;
    CHECK(good);
    right += good;
  }
  kontor::test::count_cases("parallel loops stopped and resumed", right, all - right);
}

TEST_CASE("a loop stops at its first error in order, unless errors are collected", "[agent][engine]") {
  Setup setup;
  setup.yaml = std::string(kHead) + kAllow + R"(workflow:
  - id: each
    for_each: "${[1, 2, 3, 4]}"
    max_parallel: 2
    do:
      - {id: check, tool: bank.balance, with: {amount: "${item}"}}
      - {id: odd, switch: "${item == 2 || item == 3}", cases: {true: [{fail: "no ${item}"}]}}
    on_error: {collect: bad}
)";
  const RunReport report = setup.start();
  INFO(report.note);
  REQUIRE(report.status == "done");
  CHECK(report.failed_items == 2);
  CHECK(report.result.at("results").size() == 2);
  REQUIRE(report.result.at("bad").size() == 2);
  CHECK(report.result.at("bad")[0].at("error") == Json("no 2"));
  CHECK(report.result.at("bad")[1].at("index") == Json(2));
}

TEST_CASE("a wait survives the process and is not waited for twice", "[agent][engine]") {
  Setup setup;
  ManualClock clock(1'790'000'000'000);
  setup.clock = &clock;
  setup.timers_park = true;
  setup.yaml = std::string(kHead) + kAllow + "workflow:\n  - {id: nap, wait: 2h}\n  - {id: pay, tool: bank.pay, with: {amount: 1}}\n  - {id: until, wait: \"2026-09-21T20:00:00Z\"}\n";
  RunReport report = setup.start();
  INFO(report.note);
  REQUIRE(report.status == "parked");
  REQUIRE(report.pending.size() == 1);
  CHECK(report.pending[0].is_timer);
  CHECK(report.pending[0].expires_at_ms == clock.unix_ms() + 7'200'000);
  clock.advance_ms(7'199'000);
  CHECK(setup.resume(report.id).status == "parked");
  CHECK(setup.bank.payments.empty());
  clock.advance_ms(1'000);
  report = setup.resume(report.id);
  CHECK(setup.bank.payments.size() == 1);
  CHECK(report.status == "parked");
  clock.advance_ms(100LL * 86'400'000);
  CHECK(setup.resume(report.id).status == "done");
  CHECK(setup.bank.payments.size() == 1);
}

TEST_CASE("a procedure sees its inputs alone and gives its last result", "[agent][engine]") {
  Setup setup;
  setup.yaml = std::string(kHead) + kAllow + R"(procedures:
  settle:
    inputs: {amount: {type: number, required: true}, times: {type: number, default: 2}}
    do:
      - {id: pay, tool: bank.pay, with: {amount: "${inputs.amount * inputs.times}"}}
workflow:
  - {id: a, procedure: settle, with: {amount: 5}}
  - {id: b, procedure: settle, with: {amount: 5, times: 3}, check: "${result.status == 'paid'}"}
)";
  const RunReport report = setup.start();
  INFO(report.note);
  REQUIRE(report.status == "done");
  REQUIRE(setup.bank.payments.size() == 2);
  CHECK(setup.bank.payments[0].second.at("amount") == Json(10));
  CHECK(setup.bank.payments[1].second.at("amount") == Json(15));
  CHECK(replay_run(*setup.journal(), report.id, setup.world())->result == report.result);
}

TEST_CASE("what a procedure step gets wrong is found by check", "[agent][engine]") {
  const std::string head = std::string(kHead) + "procedures:\n  p:\n    inputs: {amount: {type: number, required: true}}\n    do:\n      - {id: pay, tool: bank.pay, with: {amount: \"${inputs.amount}\"}}\n";
  const auto first_kind = [&](const std::string& rest) {
    const auto checked = check_text(head + rest, "a.yaml", "/tmp");
    return checked.diagnostics.empty() ? std::string("none") : checked.diagnostics[0].kind;
  };
  CHECK(first_kind("workflow: [{procedure: p, with: {amount: 1}}]\n") == "none");
  CHECK(first_kind("workflow: [{procedure: q, with: {amount: 1}}]\n") == "unresolved-reference");
  CHECK(first_kind("workflow: [{procedure: p, with: {amuont: 1}}]\n") == "unknown-key");
  CHECK(first_kind("workflow: [{procedure: p}]\n") == "missing-key");
  CHECK(first_kind("workflow: [{wait: soon}]\n") == "bad-format");
  CHECK(first_kind("workflow: [{wait: 90s}]\n") == "none");
  const auto circle = check_text(std::string(kHead) + "procedures:\n  a: {do: [{procedure: b}]}\n  b: {do: [{procedure: a}]}\nworkflow: [{procedure: a}]\n", "a.yaml", "/tmp");
  REQUIRE(!circle.diagnostics.empty());
  CHECK(circle.diagnostics[0].kind == "step-order");
}

TEST_CASE("an agent passes the work over and the other answers; a sub-agent returns", "[agent][engine]") {
  Setup setup;
  setup.yaml = std::string(kHead) + kAllow + R"(agents:
  desk: {model: tape, role: Front desk, instruction: Sort., handoffs: [expert], sub_agents: [clerk]}
  expert: {model: tape, role: Expert, instruction: Answer., tools: [bank.pay]}
  clerk: {model: tape, role: Clerk, instruction: Count.}
workflow:
  - {id: ask, agent: desk, with: {question: "How much?"}}
)";
  setup.tape = turn(call("clerk", "{\"task\": \"count the coins\"}"), "Front desk") + turn("seven coins", "count the coins") +
               turn(call("transfer_to_expert", "{\"task\": \"it is about seven coins\"}"), "seven coins") +
               turn(call("bank.pay", "{\"amount\": 7}"), "it is about seven coins") + turn("Paid seven.", "it is about seven coins");
  const RunReport report = setup.start();
  INFO(report.note);
  REQUIRE(report.status == "done");
  CHECK(report.result == Json("Paid seven."));
  CHECK(setup.bank.payments.size() == 1);
  CHECK(std::count(setup.events.begin(), setup.events.end(), "handoff") == 1);
  CHECK(replay_run(*setup.journal(), report.id, setup.world())->result == report.result);
}

TEST_CASE("the time of a loop ends what is inside it, and a resumed run knows", "[agent][engine]") {
  Setup setup;
  setup.yaml = std::string(kHead) + kAllow + R"(workflow:
  - id: slow
    for_each: "${[1, 2, 3, 4, 5, 6]}"
    timeout: 60ms
    do: [{id: look, tool: bank.balance, with: {amount: "${item}"}}]
    on_error: {collect: late}
  - {id: last, tool: bank.balance, with: {amount: 1}}
)";
  setup.bank.during_call = [] { std::this_thread::sleep_for(std::chrono::milliseconds(25)); };
  const RunReport report = setup.start();
  INFO(report.note);
  REQUIRE(report.status == "done");
  CHECK(report.failed_items >= 1);
  const auto replayed = replay_run(*setup.journal(), report.id, setup.world());
  REQUIRE(replayed.has_value());
  CHECK(replayed->status == "done");
  CHECK(replayed->failed_items == report.failed_items);
}

TEST_CASE("an approval that nobody answers expires, goes on to somebody, or stops the run", "[agent][engine][approval]") {
  for (const std::string rule : {"deny", "stop", "escalate(boss)"}) {
    Setup setup;
    ManualClock clock(1'790'000'000'000);
    setup.clock = &clock;
    setup.yaml = approval_yaml("expires: 48h, on_expire: " + rule);
    RunReport report = setup.start();
    INFO(rule << ": " << report.note);
    REQUIRE(report.status == "parked");
    CHECK(report.pending.at(0).expires_at_ms == clock.unix_ms() + 48 * 3'600'000LL);
    clock.advance_ms(48 * 3'600'000LL);
    // Too late for the one who was asked.
    CHECK(!decide_approval(*setup.journal(), report.id, "", yes("anna"), clock));
    report = setup.resume(report.id);
    if (rule == "deny") CHECK(report.status == "done");
    if (rule == "stop") CHECK(report.status == "failed");
    CHECK(setup.bank.payments.empty());
    if (rule != "escalate(boss)") continue;
    REQUIRE(report.status == "parked");
    CHECK(report.pending.at(0).who == std::vector<std::string>{"boss"});
    CHECK(!decide_approval(*setup.journal(), report.id, "", yes("anna"), clock));
    REQUIRE(decide_approval(*setup.journal(), report.id, "", yes("boss"), clock).has_value());
    const auto twice = decide_approval(*setup.journal(), report.id, "ask", yes("boss"), clock);
    REQUIRE(!twice);
    CHECK(twice.error().message.find("answered already") != std::string::npos);
    CHECK(setup.resume(report.id).status == "done");
    CHECK(setup.bank.payments.size() == 1);
  }
}

TEST_CASE("an approval by two needs two different people, and one no is enough", "[agent][engine][approval]") {
  Setup setup;
  setup.yaml = approval_yaml("people: 2");
  RunReport report = setup.start();
  REQUIRE(report.status == "parked");
  REQUIRE(decide_approval(*setup.journal(), report.id, "", yes("anna")).has_value());
  CHECK(setup.resume(report.id).status == "parked");
  CHECK(!decide_approval(*setup.journal(), report.id, "", yes("anna")));
  CHECK(setup.bank.payments.empty());
  REQUIRE(decide_approval(*setup.journal(), report.id, "", yes("ben")).has_value());
  report = setup.resume(report.id);
  CHECK(report.status == "done");
  CHECK(setup.bank.payments.size() == 1);

  Setup refused;
  refused.yaml = approval_yaml("people: 2");
  report = refused.start();
  REQUIRE(decide_approval(*refused.journal(), report.id, "", yes("anna")).has_value());
  REQUIRE(decide_approval(*refused.journal(), report.id, "", PersonsAnswer{false, "ben", "", "too dear"}).has_value());
  CHECK(refused.resume(report.id).status == "done");
  CHECK(refused.bank.payments.empty());
}

TEST_CASE("one answer at a terminal is not two people", "[agent][engine][approval]") {
  Setup setup;
  setup.yaml = std::string(kHead) + "policy: {ask: [{tool: bank.pay, people: 2}]}\nworkflow: [{id: pay, tool: bank.pay, with: {amount: 1}}]\n";
  setup.approver = [](const PendingItem&) { return ApprovalAnswer{ApprovalAnswer::Kind::approved, "anna", {}, {}, false}; };
  RunReport report = setup.start();
  CHECK(report.status == "parked");
  CHECK(setup.resume(report.id).status == "parked");
  CHECK(setup.bank.payments.empty());
  setup.approver = [](const PendingItem&) { return ApprovalAnswer{ApprovalAnswer::Kind::approved, "ben", {}, {}, false}; };
  CHECK(setup.resume(report.id).status == "done");
  CHECK(setup.bank.payments.size() == 1);
}

TEST_CASE("durations and scripts of decisions are read, and nonsense is refused", "[agent][engine]") {
  CHECK(*parse_iso_duration("PT26H") == 26 * 3'600'000LL);
  CHECK(*parse_iso_duration("P2DT30M") == 2 * 86'400'000LL + 1'800'000);
  CHECK(*parse_iso_duration("PT0.5S") == 500);
  for (const char* bad : {"", "P", "PT", "26H", "PT5", "P1H", "PT-1H", "P1Y", "PT1HT1H", "PT99999999999H"}) CHECK(!parse_iso_duration(bad));
  CHECK(parse_decisions("{\"at\": \"PT2H\", \"request\": \"B\", \"by\": \"x\", \"decision\": \"reject\"}\n\n{\"at\": \"PT1H\", \"request\": \"A\", \"by\": \"x\", \"decision\": \"approve\"}\n")->front().request == "A");
  for (const char* bad : {"x", "[]", "{}", "{\"at\": \"PT1H\", \"request\": \"A\", \"by\": \"x\", \"decision\": \"maybe\"}"}) CHECK(!parse_decisions(bad));
}
