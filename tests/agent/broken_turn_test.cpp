// Turns that break off: what had come is paid for, in the report and in the journal.

#include "tests/agent/bank_run.hpp"

using namespace kontor;
using namespace kontor::agent;
using namespace kontor::agent::test;

namespace {

/// A server that falls silent after some pieces, as often as it is told.
class Breaking final : public inference::TextModel {
 public:
  Breaking(int& good, int& breaks, std::stop_source* stop) : good_(good), breaks_(breaks), stop_(stop) {
    info_.name = "breaking", info_.architecture = "endpoint", info_.dialect = "r1";
  }
  const inference::ModelInfo& info() const override { return info_; }
  Result<inference::Generation> generate(const inference::GenerateRequest& request, const std::function<bool(const inference::Piece&)>& sink) override {
    inference::Generation done;
    for (const char* text : {"<think>\nx", "</think>\n\n", "done"}) {
      sink({text, false, -1, 1.0f});
      done.text += text;
    }
    done.usage.generated = 3, done.usage.prompt_tokens_new = 40;
    if (stop_) {
      stop_->request_stop();
      done.stop_reason = inference::StopReason::cancelled;
      return done;
    }
    if (good_ > 0) {
      --good_;
      return done;
    }
    if (breaks_ > 0) {
      --breaks_;
      return fail(Errc::io, "the line went dead", "closed");
    }
    (void)request;
    return done;
  }
  Result<std::vector<float>> embed(std::string_view) override { return fail(Errc::unsupported, "none"); }
  std::int64_t count_tokens(std::string_view text) const override { return static_cast<std::int64_t>(text.size()); }
  std::int64_t prompt_bound(const inference::GenerateRequest&) const override { return 50; }

 private:
  inference::ModelInfo info_;
  int& good_;   // How many turns come whole before.
  int& breaks_;
  std::stop_source* stop_;
};

struct Broken : Setup {
  int good = 0, breaks = 1;
  std::stop_source* stopped = nullptr;
  Broken() { yaml = std::string(kHead) + "agents: {clerk: {model: tape, instruction: Say it.}}\nworkflow: [{id: say, agent: clerk, with: {text: x}}]\n"; }
  RunWorld breaking() {
    RunWorld world = this->world();
    world.open_model = [this](const ModelSpec&, const RunOptions&, const std::vector<std::string>&) -> Result<std::unique_ptr<inference::TextModel>> {
      return std::unique_ptr<inference::TextModel>(std::make_unique<Breaking>(good, breaks, stopped));
    };
    return world;
  }
  RunReport run() {
    const auto kept = journal();
    auto report = start_run(*kept, spec(), Json{{"limit", 500}}, {}, breaking());
    if (!report) FAIL(report.error().describe());
    return *report;
  }
  Json cut(const RunReport& report) {
    for (const auto& event : *journal()->events(report.id))
      if (event.type == "generation_cut") return event.data;
    return nullptr;
  }
};

}  // namespace

TEST_CASE("a turn that the server breaks off is booked as far as it came", "[agent][ledger]") {
  Broken setup;
  const RunReport report = setup.run();
  CHECK(report.status == "error");
  CHECK(report.ledger.generated == 3);
  CHECK(report.ledger.prefilled == 50);  // The most that its prompt can have had.
  CHECK(report.ledger.turns == 1);
  CHECK(report.ledger.broken == 1);
  const Json cut = setup.cut(report);
  REQUIRE(cut.is_object());
  CHECK(cut.at("reason") == "the line went dead");
  CHECK(cut.at("spent").at("generated") == 3);
  CHECK(cut.at("spent").at("broken") == 1);
  // Another process goes on and knows what was spent.
  const auto journal = setup.journal();
  const auto resumed = resume_run(*journal, report.id, {}, setup.breaking());
  REQUIRE(resumed.has_value());
  CHECK(resumed->status == "done");
  CHECK(resumed->ledger.generated == 6);
  CHECK(resumed->ledger.prefilled == 90);
  CHECK(resumed->ledger.turns == 2);
  CHECK(resumed->ledger.broken == 1);
  CHECK(replay_run(*journal, report.id, setup.breaking())->status == "done");
}

TEST_CASE("a turn that is interrupted is booked in the journal", "[agent][ledger]") {
  Broken setup;
  setup.breaks = 0;
  setup.stopped = &setup.stop;
  const RunReport report = setup.run();
  CHECK(report.status == "interrupted");
  CHECK(report.ledger.generated == 3);
  const Json cut = setup.cut(report);
  REQUIRE(cut.is_object());
  CHECK(cut.at("reason") == "interrupted");
  CHECK(cut.at("spent").at("generated") == 3);
  CHECK(!cut.at("spent").contains("broken"));
}

TEST_CASE("a budget of tokens counts what broke off", "[agent][budget]") {
  Broken setup;
  setup.yaml += "budgets: {run: {tokens: 100}}\n";
  const RunReport report = setup.run();
  CHECK(report.ledger.spent_tokens() == 53);
  const auto journal = setup.journal();
  const auto resumed = resume_run(*journal, report.id, {}, setup.breaking());
  REQUIRE(resumed.has_value());
  CHECK(resumed->status == "budget");  // 47 are left, and the prompt may have 50.
  CHECK(resumed->ledger.spent_tokens() == 53);
}

TEST_CASE("the whole branches of a vote are booked when another one breaks off", "[agent][vote]") {
  Broken setup;
  setup.good = 1;
  setup.yaml.replace(setup.yaml.find("with: {text: x}"), 15, "vote: 3, with: {text: x}");
  const RunReport report = setup.run();
  CHECK(report.status == "error");
  CHECK(report.ledger.generated == 6);
  CHECK(report.ledger.turns == 2);
  CHECK(report.ledger.broken == 1);
  const auto journal = setup.journal();
  const auto resumed = resume_run(*journal, report.id, {}, setup.breaking());
  REQUIRE(resumed.has_value());
  CHECK(resumed->status == "done");
  CHECK(resumed->ledger.generated == 15);  // Three more branches: nothing of the two before is lost.
  CHECK(resumed->ledger.turns == 5);
  CHECK(resumed->ledger.broken == 1);
}
