// Calls that only read begin while the model still writes, and only then when nothing could make them wrong.

#include "tests/agent/bank_run.hpp"

#include <atomic>
#include <chrono>
#include <thread>

using namespace kontor;
using namespace kontor::agent;
using namespace kontor::agent::test;

namespace {

/// Where a tape waits for something before it writes on.
constexpr const char* kWait = "@@wait@@";

/// A tape that stops at kWait until `ready` says so, or two seconds are over.
class PatientModel final : public inference::TextModel {
 public:
  PatientModel(std::unique_ptr<TapeModel> tape, std::function<bool()> ready, std::atomic<int>& in_time) : tape_(std::move(tape)), ready_(std::move(ready)), in_time_(in_time) {}
  const inference::ModelInfo& info() const override { return tape_->info(); }
  Result<inference::Generation> generate(const inference::GenerateRequest& request, const std::function<bool(const inference::Piece&)>& sink) override {
    std::string whole;
    auto made = tape_->generate(request, [&](const inference::Piece& piece) {
      whole += piece.text;
      return true;
    });
    if (!made) return made;
    const auto at = whole.find(kWait);
    made->text = at == std::string::npos ? whole : whole.substr(0, at) + whole.substr(at + std::string(kWait).size());
    for (const std::string& part : {whole.substr(0, at), at == std::string::npos ? std::string() : whole.substr(at + std::string(kWait).size())}) {
      if (part.empty()) continue;
      inference::Piece piece;
      piece.text = part;
      if (!sink(piece)) return made;
      if (at == std::string::npos) continue;
      for (int i = 0; i < 200 && !waited_ && !ready_(); ++i) std::this_thread::sleep_for(std::chrono::milliseconds(10));
      in_time_ += !waited_ && ready_();
      waited_ = true;
    }
    waited_ = false;
    return made;
  }
  Result<std::vector<float>> embed(std::string_view text) override { return tape_->embed(text); }
  std::int64_t count_tokens(std::string_view text) const override { return tape_->count_tokens(text); }

 private:
  std::unique_ptr<TapeModel> tape_;
  std::function<bool()> ready_;
  std::atomic<int>& in_time_;
  bool waited_ = false;
};

/// One call in a block that may hold several.
std::string one(const std::string& name, const std::string& arguments) {
  return "<｜tool▁call▁begin｜>function<｜tool▁sep｜>" + name + "\n```json\n" + arguments + "\n```<｜tool▁call▁end｜>";
}
std::string block(const std::string& calls) { return "<｜tool▁calls▁begin｜>" + calls + "<｜tool▁calls▁end｜>"; }

struct Early : Setup {
  std::atomic<int> in_time = 0;
  int wanted = 1;  ///< Reads that the model waits for.
  std::function<bool()> ready = [this] {
    std::lock_guard guard(bank.mutex);
    return bank.reads >= wanted;
  };

  explicit Early(const std::string& policy = "policy: {allow: [\"bank.*\"]}\n") {
    yaml = std::string(kHead) + policy + "agents:\n  clerk: {model: tape, instruction: Pay., tools: [bank.pay, bank.balance]}\n";
    task = "Pay.";
  }
  RunReport start() {
    const Spec checked = spec();
    auto inputs = resolve_inputs(checked, std::map<std::string, std::string>{}, folder.path);
    REQUIRE(inputs.has_value());
    RunOptions options;
    options.task = task;
    RunWorld patient = world();
    patient.open_model = [this](const ModelSpec&, const RunOptions&, const std::vector<std::string>&) -> Result<std::unique_ptr<inference::TextModel>> {
      auto model = TapeModel::parse(tape, "tape");
      if (!model) return model.error();
      return std::unique_ptr<inference::TextModel>(std::make_unique<PatientModel>(std::move(*model), ready, in_time));
    };
    const auto opened = journal();
    auto report = start_run(*opened, checked, *inputs, options, patient);
    REQUIRE(report.has_value());
    return *report;
  }
};

const std::string kRead = one("bank.balance", "{\"amount\": 1}"), kRead2 = one("bank.balance", "{\"amount\": 2}"), kPay = one("bank.pay", "{\"amount\": 3}");

}  // namespace

TEST_CASE("a reading call begins while the model writes the next one, and is not made again", "[agent][early]") {
  Early setup;
  setup.tape = turn("<｜tool▁calls▁begin｜>" + kRead + kWait + kPay + "<｜tool▁calls▁end｜>") + turn("done");
  const RunReport report = setup.start();
  INFO(report.note);
  REQUIRE(report.status == "done");
  CHECK(setup.in_time == 1);
  CHECK(setup.bank.reads == 1);
  CHECK(setup.bank.payments.size() == 1);
  CHECK(report.ledger.tool_calls == 2);
  // The journal is that of a run where everything waits for its turn.
  std::vector<std::string> order;
  const auto journal = setup.journal();
  const auto events = *journal->events(report.id);
  for (const auto& event : events) order.push_back(event.type + " " + event.step);
  CHECK(order == std::vector<std::string>{"run_created ", "generation clerk#1", "call_outcome clerk#1.1", "call_intent clerk#1.2", "call_outcome clerk#1.2", "generation clerk#2", "run_finished "});
  const auto replayed = replay_run(*journal, report.id, setup.world());
  REQUIRE(replayed.has_value());
  CHECK(replayed->status == "done");
  CHECK(setup.bank.reads == 1);
}

TEST_CASE("nothing begins early behind a call with an effect, or where a person or the policy has a word", "[agent][early]") {
  const auto reads_early = [](const std::string& policy, const std::string& calls, int wanted = 1) {
    Early setup(policy);
    setup.wanted = wanted;
    setup.tape = turn("<｜tool▁calls▁begin｜>" + calls + "<｜tool▁calls▁end｜>") + turn("done");
    setup.start();
    return setup.in_time.load();
  };
  const std::string allow = "policy: {allow: [\"bank.*\"]}\n";
  CHECK(reads_early(allow, kRead + kWait + kRead2) == 1);
  CHECK(reads_early(allow, kPay + kRead + kWait) == 0);
  CHECK(reads_early("policy: {deny: [bank.balance], allow: [bank.pay]}\n", kRead + kWait) == 0);
  CHECK(reads_early("policy: {ask: [{tool: bank.balance, when: \"args.amount > 100\"}], allow: [\"bank.*\"]}\n", kRead + kWait) == 0);
  CHECK(reads_early(allow, one("bank.balance", "{\"amount\": \"x\"}") + kWait + kRead) == 0);
  // What the first call returns could forbid the second: it waits for its turn.
  const std::string strict = "policy: {untrusted: [bank.balance], trusted_only: [bank.balance], allow: [\"bank.*\"]}\n";
  CHECK(reads_early(allow, kRead + kRead2 + kWait, 2) == 1);
  CHECK(reads_early(strict, kRead + kRead2 + kWait, 1) == 1);
  CHECK(reads_early(strict, kRead + kRead2 + kWait, 2) == 0);
}

TEST_CASE("a turn that cannot be read uses nothing of what began early", "[agent][early]") {
  Early setup;
  setup.tape = turn("<｜tool▁calls▁begin｜>" + kRead + kWait + one("bank.pay", "{\"amount\": }") + "<｜tool▁calls▁end｜>") + turn("nothing done");
  const RunReport report = setup.start();
  INFO(report.note);
  CHECK(report.status == "done");
  CHECK(setup.in_time == 1);
  CHECK(setup.bank.payments.empty());
  CHECK(report.ledger.tool_calls == 0);
  const auto events = *setup.journal()->events(report.id);
  CHECK(std::none_of(events.begin(), events.end(), [](const auto& event) { return event.type == "call_outcome"; }));
}

TEST_CASE("a call that began early is told to stop when the turn is not used", "[agent][early]") {
  /// Reads until it is told to stop.
  class Slow final : public tools::Tool {
   public:
    Slow(std::atomic<bool>& began, std::atomic<bool>& stopped) : began_(began), stopped_(stopped) {
      spec_.name = "bank.balance";
      spec_.parameters = *parse_json(R"({"type":"object","properties":{"amount":{"type":"number"}}})");
    }
    const tools::ToolSpec& spec() const override { return spec_; }
    tools::ToolResult call(const Json&, const tools::CallContext& context) override {
      began_ = true;
      for (int i = 0; i < 300 && !context.stop.stop_requested(); ++i) std::this_thread::sleep_for(std::chrono::milliseconds(10));
      stopped_ = context.stop.stop_requested();
      return tools::ToolResult::error("cancelled", "stopped");
    }

   private:
    std::atomic<bool>&began_, &stopped_;
    tools::ToolSpec spec_;
  };
  // Not on the stack: a call that is left behind may outlive the run.
  static std::atomic<bool> began, stopped;
  began = stopped = false;
  Early setup;
  setup.yaml = std::string(kHead) + "policy: {allow: [\"bank.*\"]}\nagents:\n  clerk: {model: tape, instruction: Pay., tools: [bank.balance]}\n";
  setup.task = "Look.";
  setup.make_tools = [] { return std::vector<std::shared_ptr<tools::Tool>>{std::make_shared<Slow>(began, stopped)}; };
  // Only a call that has begun can be told to stop: one whose thread comes late is not made at all.
  setup.ready = [] { return began.load(); };
  setup.tape = turn(block(kRead + kWait + one("bank.balance", "{\"amount\": }"))) + turn("never mind");
  const RunReport report = setup.start();
  INFO(report.note);
  CHECK(report.status == "done");
  CHECK(began);
  for (int i = 0; i < 400 && !stopped; ++i) std::this_thread::sleep_for(std::chrono::milliseconds(10));
  CHECK(stopped);
}
