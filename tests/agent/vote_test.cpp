// vote: N of an agent step: who is elected, what is journaled, what it costs, and that resuming, replaying and verifying
// see every branch.

#include "agent/vote.hpp"
#include "inference/local_model.hpp"
#include "tests/agent/bank_run.hpp"

#include <set>

using namespace kontor;
using namespace kontor::agent;
using namespace kontor::agent::test;

namespace {

constexpr const char* kVote = R"(policy: {allow: ["bank.*"]}
agents:
  clerk: {model: tape, instruction: Pay., tools: [bank.pay, bank.balance]}
workflow:
  - {id: decide, agent: clerk, with: {amount: 7}, vote: 3}
)";

/// Two of three pay 7, written differently; then two of three say so.
void two_of_three(Setup& setup) {
  setup.yaml = std::string(kHead) + kVote;
  setup.tape = turn(call("bank.pay", "{\"amount\": 8}")) + turn("<think>\nSeven.</think>\n\n" + call("bank.pay", "{\"amount\":7}")) + turn(call("bank.pay", "{ \"amount\" : 7 }")) +
               turn("paid") + turn("not paid") + turn(" paid ");
}

std::size_t elected(std::vector<Ballot> ballots) { return elect(ballots).branch; }

}  // namespace

TEST_CASE("most votes count, then certainty, then the first, and what cannot be used has no vote", "[agent][vote]") {
  CHECK(elected({{"a", 1}, {"b", 0.1}, {"b", 0.1}}) == 1);
  CHECK(elected({{"a", 0.5}, {"b", 0.9}}) == 1);
  CHECK(elected({{"b", 0.9}, {"a", 0.9}}) == 0);
  CHECK(elected({{"a", 0.9}, {"b", 0.9}}) == 0);
  CHECK(elected({{"a", 0.1}, {"b", 0.9}, {"b", 0.5}, {"a", 0.99}}) == 1);
  CHECK(elected({{"", 1}, {"", 1}, {"b", 0.1}}) == 2);
  CHECK(elected({{"", 1}, {"", 1}}) == 0);
  const Election election = elect(std::vector<Ballot>{{"a", 1}, {"b", 1}, {"a", 1}, {"", 1}});
  CHECK(election.agree == 2);
}

TEST_CASE("the majority's call is made, and the journal, the ledger and a replay know all branches", "[agent][vote]") {
  Setup setup;
  two_of_three(setup);
  const RunReport report = setup.start();
  INFO(report.note);
  REQUIRE(report.status == "done");
  CHECK(report.result == Json("paid"));
  REQUIRE(setup.bank.payments.size() == 1);
  CHECK(setup.bank.payments[0].second.at("amount") == Json(7));
  CHECK(report.ledger.turns == 6);
  CHECK(std::count(setup.events.begin(), setup.events.end(), "vote") == 2);
  const auto journal = setup.journal();
  const auto events = *journal->events(report.id);
  std::vector<Json> turns;
  std::int64_t generated = 0;
  for (const auto& event : events) {
    if (event.type != "generation") continue;
    turns.push_back(event.data);
    generated += event.data.at("spent").at("generated").get<std::int64_t>();
  }
  REQUIRE(turns.size() == 2);
  CHECK(generated == report.ledger.generated);
  CHECK(turns[0].at("vote").at("branch") == Json(1));
  REQUIRE(turns[0].at("vote").at("others").size() == 2);
  CHECK(turns[0].at("vote").at("others")[0].at("agrees") == Json(false));
  CHECK(turns[0].at("vote").at("others")[1].at("agrees") == Json(true));
  CHECK(turns[0].at("reasoning") == Json("Seven."));
  CHECK(turns[1].at("vote").at("branch") == Json(0));
  const auto replayed = replay_run(*journal, report.id, setup.world());
  REQUIRE(replayed.has_value());
  CHECK(replayed->status == "done");
  CHECK(replayed->result == report.result);
  CHECK(replayed->ledger.generated == report.ledger.generated);
}

TEST_CASE("verify writes every branch again and finds a difference in one that was not elected", "[agent][vote]") {
  Setup setup;
  two_of_three(setup);
  const RunReport report = setup.start();
  REQUIRE(report.status == "done");
  const auto journal = setup.journal();
  auto verified = verify_run(*journal, report.id, {}, setup.world());
  REQUIRE(verified.has_value());
  CHECK(verified->complete);
  CHECK(verified->turns == 6);
  CHECK(verified->same == 6);
  const std::string tape = setup.tape;
  setup.tape.replace(setup.tape.find("amount\\\": 8"), 11, "amount\\\": 9");
  REQUIRE(setup.tape != tape);
  verified = verify_run(*journal, report.id, {}, setup.world());
  REQUIRE(verified.has_value());
  CHECK(verified->same == 5);
  REQUIRE(verified->first);
  CHECK(verified->first->place == "decide#1, branch 1");
  CHECK(setup.bank.payments.size() == 1);
}

TEST_CASE("a vote that was stopped at any write of the journal goes on and pays once", "[agent][vote]") {
  std::size_t total = 0;
  {
    Setup whole;
    two_of_three(whole);
    total = whole.journal()->events(whole.start().id)->size();
  }
  int right = 0;
  for (std::size_t last = 1; last < total; ++last) {
    Setup setup;
    two_of_three(setup);
    setup.journal();
    setup.sql("CREATE TRIGGER full BEFORE INSERT ON events WHEN NEW.seq > " + std::to_string(last) + " BEGIN SELECT RAISE(ABORT, 'disk full'); END");
    const RunReport stopped = setup.start();
    setup.sql("DROP TRIGGER full");
    const RunReport report = setup.resume(stopped.id);
    INFO("stopped after event " << last << ": " << stopped.note << "; then " << report.status << " " << report.note);
    const bool good = report.status == "done" && report.result == Json("paid") && setup.bank.payments.size() == 1 && setup.bank.payments[0].second.at("amount") == Json(7);
    CHECK(good);
    right += good;
  }
  kontor::test::count_cases("stops of a vote", right, static_cast<int>(total) - 1 - right);
}

TEST_CASE("branches that cannot be read have no vote; when none can, the turn is sent back", "[agent][vote]") {
  Setup setup;
  two_of_three(setup);
  setup.tape = turn(call("bank.pay", "{\"amount\": }")) + turn(call("bank.pay", "{\"amount\": }")) + turn("nothing to pay");
  RunReport report = setup.start();
  INFO(report.note);
  CHECK(report.status == "done");
  CHECK(report.result == Json("nothing to pay"));
  const std::string broken = turn(call("bank.pay", "{\"amount\": }"));
  setup.tape = broken + broken + broken + turn("a") + turn("b") + turn("b");
  report = setup.start();
  CHECK(report.status == "done");
  CHECK(report.result == Json("b"));
  CHECK(std::count(setup.events.begin(), setup.events.end(), "repair") == 1);
  CHECK(setup.bank.payments.empty());
}

TEST_CASE("the branches of a vote never take more tokens than the budget has", "[agent][vote]") {
  int over = 0, done = 0;
  for (int limit = 20; limit <= 2020; limit += 40) {
    Setup setup;
    two_of_three(setup);
    setup.yaml += "budgets: {run: {tokens: " + std::to_string(limit) + "}}\n";
    const RunReport report = setup.start();
    CHECK(report.ledger.spent_tokens() <= limit);
    CHECK((report.status == "done" || report.status == "budget"));
    over += report.ledger.spent_tokens() > limit;
    done += report.status == "done";
  }
  kontor::test::count_cases("budgets of votes", 51 - over, over);
  CHECK(done > 0);
  CHECK(done < 51);
}

TEST_CASE("a local model computes the prompt of a vote once, and its branches differ", "[agent][vote]") {
  if (kontor::test::shared_dir().empty()) return kontor::test::count_cases("votes of a local model", 0, 0, 1);
  const std::string path = std::string(KONTOR_SOURCE_DIR) + "/examples/models/pocket-invoice.gguf";
  const auto run_with = [&](const std::string& vote) {
    Setup setup;
    std::ofstream(setup.folder.path + "/answer.json") << R"({"type":"object","properties":{"pay":{"enum":["yes","no","later","never","always"]}},"required":["pay"],"additionalProperties":false})";
    setup.yaml = "kontor: 1\nname: bank-run\nmodels: {pocket: {path: " + path + ", seed: 3, sampling: {temperature: 1.2}}}\nagents:\n"
                 "  clerk: {model: pocket, instruction: Read the invoice and the order and the vendor and say whether the invoice may be paid today or later or never and think about it first., output: {schema: answer.json}, limits: {steps: 1, think_tokens: 24}}\nworkflow:\n  - {id: decide, agent: clerk, with: {amount: 7}" + vote + "}\n";
    const Spec checked = setup.spec();
    const auto journal = setup.journal();
    RunWorld world = setup.world();
    world.open_model = [&](const ModelSpec& spec, const RunOptions&, const std::vector<std::string>&) {
      inference::LocalModelOptions options;
      options.device = "cpu", options.threads = 2, options.context = 512;
      return inference::open_local_model(spec.path, options);
    };
    auto report = start_run(*journal, checked, Json::object(), {}, world);
    REQUIRE(report.has_value());
    INFO(report->status << " " << report->note);
    std::vector<Json> turns;
    const auto events = *journal->events(report->id);
    for (const auto& event : events) {
      if (event.type == "generation") turns.push_back(event.data);
    }
    REQUIRE(turns.size() == 1);
    if (!vote.empty()) {
      const auto verified = verify_run(*journal, report->id, {}, world);
      REQUIRE(verified.has_value());
      CHECK(verified->turns == 5);
      CHECK(verified->same == 5);
    }
    return std::pair(turns[0], report->ledger);
  };
  const auto [alone, one] = run_with("");
  const auto [voted, five] = run_with(", vote: 5");
  REQUIRE(voted.contains("vote"));
  // Whoever is not the first computes the last token of the prompt again, whose logits it needs.
  CHECK(five.prefilled == one.prefilled + 4);
  CHECK(five.turns == 5);
  CHECK(five.generated > one.generated);
  const auto branch = voted.at("vote").at("branch").get<std::size_t>();
  std::set<std::string> texts{voted.at("text").get<std::string>()};
  for (const auto& other : voted.at("vote").at("others")) texts.insert(other.at("text").get<std::string>());
  CHECK(texts.size() > 1);
  // The first branch is what is written without a vote.
  const Json& first = branch == 0 ? voted : voted.at("vote").at("others")[0];
  CHECK(first.at("text") == alone.at("text"));
  kontor::test::count_cases("votes of a local model", 1, 0);
}
