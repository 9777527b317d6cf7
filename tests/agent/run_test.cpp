// Whole runs with recorded model turns and a bank that remembers what it did: every way a run can stop, and what
// happens when it goes on.

#include "agent/ledger.hpp"
#include "agent/run.hpp"
#include "agent/runner.hpp"
#include "agent/tape_model.hpp"
#include "agent/turn.hpp"
#include "tests/agent/bank_run.hpp"

#include <sqlite3.h>

#include <filesystem>
#include <fstream>

using namespace kontor;
using namespace kontor::agent;
using namespace kontor::agent::test;

namespace {

/// Two invoices: each is looked at, paid by the agent, booked by a fixed step.
void two_payments(Setup& setup, const std::string& policy = "policy: {allow: [\"bank.*\"]}\n") {
  setup.yaml = std::string(kHead) + policy + R"(agents:
  clerk: {model: tape, role: Clerk, instruction: "Pay at most ${inputs.limit}.", tools: [bank.pay, bank.balance], memory: {recall: 2, store: facts, namespace: n}}
workflow:
  - id: each
    for_each: "${[200, 300]}"
    do:
      - {id: pay, agent: clerk, with: {amount: "${item}"}}
      - {id: book, tool: bank.book, with: {amount: "${item}"}}
  - {id: last, tool: bank.balance, with: {amount: 1}}
)";
  for (const char* amount : {"200", "300"}) {
    const std::string when = std::string("amount: ") + amount;
    setup.tape += turn("<think>\nLook first.</think>\n\n" + call("bank.balance", std::string("{\"amount\": ") + amount + "}"), when);
    setup.tape += turn(call("bank.pay", std::string("{\"amount\": ") + amount + "}"), when);
    setup.tape += turn(std::string("paid ") + amount, when);
  }
}

std::size_t payments_of(const Bank& bank, std::int64_t amount) {
  std::size_t count = 0;
  for (const auto& [key, arguments] : bank.payments) count += arguments.at("amount").get<double>() == static_cast<double>(amount);
  return count;
}

}  // namespace

TEST_CASE("a workflow runs to its end and its journal replays without model or tools", "[agent][run]") {
  Setup setup;
  two_payments(setup);
  const RunReport report = setup.start();
  INFO(report.note);
  REQUIRE(report.status == "done");
  CHECK(report.result.at("balance") == Json(100));
  CHECK(report.ledger.turns == 6);
  CHECK(report.ledger.tool_calls == 7);
  CHECK(setup.bank.payments.size() == 4);
  const auto before = setup.bank.reads;
  const auto journal = setup.journal();
  const auto replayed = replay_run(*journal, report.id, setup.world());
  REQUIRE(replayed.has_value());
  CHECK(replayed->status == "done");
  CHECK(replayed->result == report.result);
  CHECK(setup.bank.payments.size() == 4);
  CHECK(setup.bank.reads == before);
}

TEST_CASE("the run stops at every single write of the journal and goes on without paying twice", "[agent][run]") {
  std::size_t total = 0;
  {
    Setup whole;
    two_payments(whole);
    const RunReport report = whole.start();
    REQUIRE(report.status == "done");
    total = whole.journal()->events(report.id)->size();
  }
  REQUIRE(total > 15);
  int right = 0;
  for (std::size_t last = 1; last < total; ++last) {
    Setup setup;
    two_payments(setup);
    setup.journal();
    setup.sql("CREATE TRIGGER full BEFORE INSERT ON events WHEN NEW.seq > " + std::to_string(last) + " BEGIN SELECT RAISE(ABORT, 'disk full'); END");
    const RunReport stopped = setup.start();
    INFO("stopped after event " << last << ": " << stopped.note);
    CHECK(stopped.status == "error");
    setup.sql("DROP TRIGGER full");
    const RunReport report = setup.resume(stopped.id);
    INFO(report.status << " " << report.note);
    CHECK(report.status == "done");
    // Once by the agent, once by the booking; a booking is idempotent and may be sent again with its key.
    std::map<std::string, int> keys;
    for (const auto& [key, arguments] : setup.bank.payments) ++keys[key];
    CHECK(keys.size() == 4);
    std::map<std::string, int> paid;
    const auto events = setup.journal()->events(report.id);
    for (const auto& event : *events) {
      if (event.type == "call_intent" && event.data.at("effect") == Json("once")) paid[event.data.at("key").get<std::string>()] = keys[event.data.at("key").get<std::string>()];
    }
    CHECK(paid.size() == 2);
    for (const auto& [key, count] : paid) CHECK(count == 1);
    right += report.status == "done" && paid.size() == 2 && keys.size() == 4;
  }
  kontor::test::count_cases("stops at every journal write", right, static_cast<int>(total) - 1 - right);
  CHECK(right == static_cast<int>(total) - 1);
}

TEST_CASE("an effect without probe parks the run as unknown until a person decides", "[agent][run]") {
  for (const bool happened : {true, false}) {
    Setup setup;
    two_payments(setup);
    setup.bank.can_probe = false;
    setup.bank.next_error = "crashed";
    setup.bank.effect_before_error = happened;
    // The first effect is the agent's payment of 200; the second item is worked on all the same.
    RunReport report = setup.start();
    INFO(report.note);
    CHECK(report.status == "unknown");
    REQUIRE(report.pending.size() == 1);
    CHECK(report.pending[0].is_unknown);
    CHECK(payments_of(setup.bank, 300) == 2);
    CHECK(setup.resume(report.id).status == "unknown");
    const auto item = resolve_outcome(*setup.journal(), report.id, "", happened, "anna");
    REQUIRE(item.has_value());
    report = setup.resume(report.id);
    CHECK(report.status == "done");
    CHECK(payments_of(setup.bank, 200) == 2);  // payment and booking
  }
}

TEST_CASE("a crash of the tool is settled by its probe at once", "[agent][run]") {
  for (const bool happened : {true, false}) {
    Setup setup;
    two_payments(setup);
    setup.bank.next_error = "timeout";
    setup.bank.effect_before_error = happened;
    if (!happened) {
      // The model sees the error and tries again.
      setup.tape.insert(setup.tape.find("{\"text\":\"paid 200"), turn(call("bank.pay", "{\"amount\": 200}")));
    }
    const RunReport report = setup.start();
    INFO(report.note);
    CHECK(report.status == "done");
    CHECK(payments_of(setup.bank, 200) == 2);
  }
}

TEST_CASE("a call that policy asks about waits, and an approval counts for exactly that call", "[agent][run]") {
  Setup setup;
  two_payments(setup, "policy: {allow: [\"bank.*\"], ask: [{tool: bank.pay, when: args.amount > 250, who: [finance]}]}\n");
  RunReport report = setup.start();
  INFO(report.note);
  CHECK(report.status == "parked");
  CHECK(payments_of(setup.bank, 300) == 0);
  CHECK(payments_of(setup.bank, 200) == 2);
  REQUIRE(report.pending.size() == 1);
  CHECK(report.pending[0].tool == "bank.pay");
  CHECK(report.pending[0].who == std::vector<std::string>{"finance"});
  CHECK(setup.resume(report.id).status == "parked");
  CHECK(!decide_approval(*setup.journal(), report.id, "each/9/pay#1.1", PersonsAnswer{true, "anna", "", {}}));
  REQUIRE(decide_approval(*setup.journal(), report.id, "", PersonsAnswer{true, "anna", "", {}}).has_value());
  CHECK(!decide_approval(*setup.journal(), report.id, "", PersonsAnswer{true, "anna", "", {}}));
  report = setup.resume(report.id);
  CHECK(report.status == "done");
  CHECK(payments_of(setup.bank, 300) == 2);
  CHECK(setup.resume(report.id).status == "done");
  CHECK(payments_of(setup.bank, 300) == 2);
}

TEST_CASE("an approval given for other arguments does not count", "[agent][run]") {
  Setup setup;
  two_payments(setup, "policy: {allow: [\"bank.*\"], ask: [{tool: bank.pay, when: args.amount > 250}]}\n");
  RunReport report = setup.start();
  REQUIRE(report.status == "parked");
  const auto journal = setup.journal();
  auto log = journal->reopen(report.id);
  REQUIRE(log.has_value());
  REQUIRE(log->append("approval_decided", report.pending[0].call, Json{{"decision", "approve"}, {"by", "x"}, {"binding", "something else"}}).has_value());
  log = fail(Errc::none, "");
  report = setup.resume(report.id);
  CHECK(report.status == "error");
  CHECK(report.kind == kDiverged);
  CHECK(payments_of(setup.bank, 300) == 0);
}

TEST_CASE("a rejected call is an error the model can react to", "[agent][run]") {
  Setup setup;
  two_payments(setup, "policy: {allow: [\"bank.*\"], ask: [{tool: bank.pay, when: args.amount > 250}]}\n");
  const RunReport parked = setup.start();
  REQUIRE(decide_approval(*setup.journal(), parked.id, "", PersonsAnswer{false, "anna", "", {}}).has_value());
  const RunReport report = setup.resume(parked.id);
  CHECK(report.status == "done");
  CHECK(payments_of(setup.bank, 300) == 1);  // only the booking
}

TEST_CASE("deny beats approval", "[agent][run]") {
  Setup setup;
  two_payments(setup, "policy: {deny: [bank.pay], allow: [\"bank.*\"]}\n");
  setup.approver = [](const PendingItem&) { return ApprovalAnswer{ApprovalAnswer::Kind::approved, "flag", ""}; };
  const RunReport report = setup.start();
  CHECK(report.status == "done");
  CHECK(setup.bank.payments.size() == 2);  // bookings
}

TEST_CASE("a call that no rule allows asks, because it has an effect", "[agent][run]") {
  Setup setup;
  two_payments(setup, "");
  int asked = 0;
  setup.approver = [&](const PendingItem& item) {
    ++asked;
    CHECK(!item.binding.empty());
    return ApprovalAnswer{ApprovalAnswer::Kind::approved, "anna", ""};
  };
  CHECK(setup.start().status == "done");
  CHECK(asked == 4);
}

TEST_CASE("a stop request leaves a run that can go on", "[agent][run]") {
  Setup setup;
  two_payments(setup);
  auto world = setup.world();
  int calls = 0;
  const auto inner = world.sink;
  world.sink = [&](const RunEvent& event) {
    if (event.type == "call_result" && ++calls == 3) setup.stop.request_stop();
  };
  const Spec spec = setup.spec();
  RunReport report;
  {
    const auto journal = setup.journal();
    report = *start_run(*journal, spec, *resolve_inputs(spec, Json::object()), {}, world);
  }
  CHECK(report.status == "interrupted");
  setup.stop = std::stop_source();
  report = setup.resume(report.id);
  CHECK(report.status == "done");
  CHECK(setup.bank.payments.size() == 4);
}

TEST_CASE("unusable output is repaired, and gives the step up when it does not end", "[agent][run]") {
  Setup setup;
  setup.yaml = std::string(kHead) + "policy: {allow: [\"bank.*\"]}\nagents:\n  clerk: {model: tape, instruction: Pay., tools: [bank.pay], on_invalid: {repair: true, retries: 1}}\n";
  setup.task = "Pay 5.";
  setup.tape = turn(call("bank.pay", "{\"amount\": }")) + turn(call("bank.pay", "{\"amount\": 5}")) + turn("done");
  const RunReport good = setup.start();
  INFO(good.note);
  CHECK(good.status == "done");
  CHECK(good.result == Json("done"));
  CHECK(setup.bank.payments.size() == 1);
  setup.tape = turn(call("bank.pay", "{\"amount\": \"five\"}")) + turn(call("bank.pay", "{}")) + turn("done");
  const RunReport bad = setup.start();
  CHECK(bad.status == "failed");
  CHECK(bad.kind == "invalid_output");
  CHECK(setup.bank.payments.size() == 1);
}

/// A tape whose context is full `room` bytes behind its first prompt.
class NarrowModel final : public inference::TextModel {
 public:
  NarrowModel(std::unique_ptr<TapeModel> tape, std::size_t room) : tape_(std::move(tape)), room_(room) {}
  const inference::ModelInfo& info() const override { return tape_->info(); }
  Result<inference::Generation> generate(const inference::GenerateRequest& request, const std::function<bool(const inference::Piece&)>& sink) override {
    const std::size_t size = request.prompt_text().size();
    if (first_ == 0) first_ = size;
    if (size > first_ + room_) return fail(Errc::limit, "too long", "context_full");
    return tape_->generate(request, sink);
  }
  Result<std::vector<float>> embed(std::string_view text) override { return tape_->embed(text); }
  std::int64_t count_tokens(std::string_view text) const override { return tape_->count_tokens(text); }

 private:
  std::unique_ptr<TapeModel> tape_;
  std::size_t room_, first_ = 0;
};

TEST_CASE("when the context is full the oldest parts of the conversation go, and the journal says which", "[agent][run]") {
  Setup setup;
  setup.yaml = std::string(kHead) + "agents:\n  clerk: {model: tape, instruction: Book., tools: [bank.balance], limits: {steps: 20, repeat_calls: 20}}\n";
  setup.task = "Book.";
  std::string thought = "<think>\n";
  for (int i = 0; thought.size() < 600; ++i) thought += std::to_string(i) + " and ";
  thought += "so on.</think>\n\n";
  for (int i = 0; i < 5; ++i) setup.tape += turn(thought + call("bank.balance", "{\"amount\": 1}"));
  setup.tape += turn("done");
  const Spec checked = setup.spec();
  auto inputs = resolve_inputs(checked, std::map<std::string, std::string>{}, setup.folder.path);
  REQUIRE(inputs.has_value());
  const auto opened = setup.journal();
  RunWorld world = setup.world();
  world.open_model = [&](const ModelSpec&, const RunOptions&, const std::vector<std::string>&) -> Result<std::unique_ptr<inference::TextModel>> {
    auto model = TapeModel::parse(setup.tape, "tape");
    if (!model) return model.error();
    return std::unique_ptr<inference::TextModel>(std::make_unique<NarrowModel>(std::move(*model), 2600));
  };
  RunOptions options;
  options.task = setup.task;
  auto report = start_run(*opened, checked, *inputs, options, world);
  REQUIRE(report.has_value());
  INFO(report->note);
  CHECK(report->status == "done");
  int compactions = 0;
  const auto events = opened->events(report->id);
  REQUIRE(events.has_value());
  for (const auto& event : *events) {
    if (event.type != "context_compacted") continue;
    ++compactions;
    CHECK(event.step.starts_with("clerk#"));
    CHECK(event.data.at("dropped").at(0).at("what") == Json("reasoning"));
    CHECK(event.data.at("bytes").get<std::size_t>() > 0);
  }
  CHECK(compactions >= 1);
}

TEST_CASE("a model that writes the same thing over and over is stopped and told", "[agent][run]") {
  Setup setup;
  setup.yaml = std::string(kHead) + "agents:\n  clerk: {model: tape, instruction: Answer.}\n";
  setup.task = "Say something.";
  std::string loop = "<think>\nSo.</think>\n\n";
  for (int i = 0; i < 20000; ++i) loop += "again ";
  setup.tape = turn(loop) + turn("done");
  const RunReport report = setup.start();
  INFO(report.note);
  CHECK(report.status == "done");
  CHECK(report.ledger.generated < 300);
}

TEST_CASE("a failed agent is tried again, but not after it has paid", "[agent][run]") {
  for (const bool pays : {false, true}) {
    Setup setup;
    setup.yaml = std::string(kHead) + R"(policy: {allow: ["bank.*"]}
agents:
  clerk: {model: tape, instruction: Pay., tools: [bank.pay, bank.balance], on_invalid: {repair: false}}
workflow:
  - {id: pay, agent: clerk, with: {amount: 5}, retry: {max: 2, backoff: 1ms}}
)";
    setup.tape = turn(call(pays ? "bank.pay" : "bank.balance", "{\"amount\": 5}")) + turn(call("bank.pay", "{\"amount\": ")) + turn(call("bank.pay", "{\"amount\": 5}")) + turn("paid");
    RunReport report = setup.start();
    INFO(report.note);
    CHECK(report.status == (pays ? "failed" : "done"));
    CHECK(setup.bank.payments.size() == 1);
    if (pays) CHECK(report.note.find("not tried again") != std::string::npos);
  }
}

TEST_CASE("a token budget stops the run before the next turn", "[agent][run]") {
  Setup setup;
  two_payments(setup, "policy: {allow: [\"bank.*\"]}\nbudgets: {run: {tokens: 500}, on_exceed: stop}\n");
  const RunReport report = setup.start();
  INFO(report.note);
  CHECK(report.status == "budget");
  CHECK(report.ledger.turns >= 1);
  CHECK(report.ledger.turns < 6);
}

TEST_CASE("switches route, failures are collected, approval steps wait", "[agent][run]") {
  Setup setup;
  setup.yaml = std::string(kHead) + R"(policy: {allow: ["bank.*"]}
workflow:
  - id: each
    for_each: "${['a', 'b', 'c', 'd']}"
    key: "${item}"
    do:
      - {id: look, tool: bank.balance, with: {amount: 1}}
      - id: route
        switch: "${item}"
        cases:
          a: [{tool: bank.book, with: {amount: 1, to: "${item}"}}]
          b: [{fail: "no ${item}"}]
          c: [{id: person, approval: {who: [finance], show: [look], choices: [approve, reject]}}]
        else: [{tool: bank.book, with: {amount: 2}}]
    on_error: {collect: errors}
)";
  RunReport report = setup.start();
  INFO(report.note);
  CHECK(report.status == "parked");
  REQUIRE(report.pending.size() == 1);
  CHECK(report.pending[0].choices.size() == 2);
  CHECK(report.pending[0].arguments.at("look").at("balance") == Json(100));
  CHECK(setup.bank.payments.size() == 2);
  REQUIRE(decide_approval(*setup.journal(), report.id, "", PersonsAnswer{true, "anna", "approve", {}}).has_value());
  report = setup.resume(report.id);
  REQUIRE(report.status == "done");
  CHECK(report.failed_items == 1);
  REQUIRE(report.failures.size() == 1);
  CHECK(report.failures[0].step == "each/1/route/b/@1");
  CHECK(report.failures[0].item == Json("b"));
  CHECK(report.failures[0].error == "no b");
  CHECK(report.result.at("results").size() == 3);
  CHECK(report.result.at("results")[0].at("balance") == Json(100));
  REQUIRE(report.result.at("errors").size() == 1);
  CHECK(report.result.at("errors")[0].at("error") == Json("no b"));
}

TEST_CASE("what an agent remembers is recalled later", "[agent][run]") {
  Setup setup;
  two_payments(setup);
  const RunReport report = setup.start();
  REQUIRE(report.status == "done");
  const auto events = setup.journal()->events(report.id);
  std::vector<std::size_t> recalled;
  for (const auto& event : *events) {
    if (event.type == "memory_recalled") recalled.push_back(event.data.at("facts").size());
  }
  REQUIRE(recalled.size() == 2);
  CHECK(recalled[0] == 0);
}

TEST_CASE("what an agent remembers of a secret source stays secret in another run", "[agent][run]") {
  Setup setup;
  const std::string agent = "agents:\n  clerk: {model: tape, instruction: Look., tools: [bank.*], memory: {recall: 2, store: facts, namespace: n}}\n"
                            "workflow: [{id: look, agent: clerk, with: {account: rent}}]\n";
  const bool from_secret = GENERATE(true, false);
  setup.yaml = std::string(kHead) + (from_secret ? "secrets: {token: {from: env:KONTOR_TEST_NONE, allow_tools: [bank.balance]}}\n" : "") + "policy: {allow: [\"bank.*\"]}\n" + agent;
  setup.tape = turn(call("bank.balance", "{\"amount\": 1}")) + turn("account rent: 100");
  REQUIRE(setup.start().status == "done");
  // This file knows of no secret; its balance is a stranger's text.
  setup.yaml = std::string(kHead) + "policy: {allow: [\"bank.*\"], untrusted: [bank.balance]}\n" + agent;
  setup.tape = turn(call("bank.balance", "{\"amount\": 1}")) + turn(call("bank.pay", "{\"amount\": 5}")) + turn("paid");
  const RunReport report = setup.start();
  INFO(report.note);
  if (!from_secret) {
    CHECK(report.status == "done");
    return;
  }
  REQUIRE(report.status == "parked");
  REQUIRE(report.pending.size() == 1);
  CHECK(report.pending[0].reason.find("rule of two") != std::string::npos);
  CHECK(setup.bank.payments.empty());
}

TEST_CASE("texts of messages and facts have their exact form", "[agent][run]") {
  CHECK(task_text(Json{{"file", "inv-001.txt"}, {"text", "A\nB\n"}}) == "file: inv-001.txt\n\ntext:\nA\nB\n");
  CHECK(task_text(Json{{"n", 5}, {"list", Json::array({1, "a"})}}) == "n: 5\n\nlist: [1, \"a\"]");
  CHECK(fact_text(Json{{"file", "a"}, {"vendor", "B"}, {"n", 1}}) == "file: a; vendor: B; n: 1");
}

TEST_CASE("the confidence of an argument is that of its least likely token", "[agent][run]") {
  const std::string raw = R"({"iban": "DE12", "lines": [{"amount": 5.00}, {"amount": 7}], "ok": true})";
  std::vector<std::pair<std::size_t, float>> ends;
  for (std::size_t i = 1; i <= raw.size(); ++i) ends.emplace_back(10 + i, 1.0f);
  const auto at = [&](const char* text) { return raw.find(text); };
  ends[at("E12")].second = 0.5f;
  ends[at("7}")].second = 0.25f;
  ends[at("\"ok\"")].second = 0.1f;
  const auto confidence = argument_confidence(raw, 10, ends);
  REQUIRE(confidence.size() == 4);
  CHECK(confidence.at("iban") == Approx(0.5));
  CHECK(confidence.at("lines.0.amount") == Approx(1.0));
  CHECK(confidence.at("lines.1.amount") == Approx(0.25));
  CHECK(confidence.at("ok") == Approx(1.0));
  // What the source does not know is not made up.
  ends[at("12")].second = inference::kUnknownProbability;
  const auto partly = argument_confidence(raw, 10, ends);
  CHECK(partly.size() == 3);
  CHECK(!partly.contains("iban"));
}

TEST_CASE("the built-in prices are the table in configs", "[agent][ledger]") {
  std::ifstream in(std::string(KONTOR_SOURCE_DIR) + "/configs/prices.json");
  const std::string text((std::istreambuf_iterator<char>(in)), std::istreambuf_iterator<char>());
  CHECK(text == built_in_prices());
  const auto prices = parse_prices(text);
  REQUIRE(prices.has_value());
  Ledger ledger;
  ledger.prefilled = 1'000'000, ledger.reused = 2'000'000, ledger.generated = 500'000, ledger.joules = 3'600'000;
  CHECK(hosted_cost(ledger, prices->hosted.front()).to_string() == "1.925000");
  CHECK(electricity_cost(ledger, *prices).to_string() == "0.300000");
  CHECK(!parse_prices("{\"electricity\": {\"per_kwh\": 0.3, \"currency\": \"EUR\"}}"));
}

TEST_CASE("energy counters are read where they are, across their wrap", "[agent][ledger]") {
  Folder folder;
  const std::string zone = folder.path + "/intel-rapl:0";
  std::filesystem::create_directories(zone);
  std::filesystem::create_directories(folder.path + "/intel-rapl:0:0");
  const auto write = [](const std::string& path, const std::string& text) { std::ofstream(path) << text; };
  write(zone + "/energy_uj", "9000000");
  write(zone + "/max_energy_range_uj", "10000000");
  write(folder.path + "/intel-rapl:0:0/energy_uj", "1");
  EnergyMeter meter({folder.path, 8.0, "no-such-library.so"});
  CHECK(!meter.is_estimate());
  write(zone + "/energy_uj", "9500000");
  CHECK(meter.joules() == Approx(0.5));
  write(zone + "/energy_uj", "500000");
  CHECK(meter.joules() == Approx(1.5));
  CHECK(EnergyMeter({folder.path + "/nothing", 8.0, "no-such-library.so"}).is_estimate());
}
