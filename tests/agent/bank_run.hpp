#pragma once
// Runs with recorded model turns and a bank that remembers what it did, for tests of whole runs.

#include "agent/run.hpp"
#include "agent/tape_model.hpp"
#include "tests/support/catch.hpp"

#include <sqlite3.h>

#include <filesystem>
#include <fstream>
#include <mutex>

namespace kontor::agent::test {

struct Folder {
  Folder() {
    std::string pattern = (std::filesystem::temp_directory_path() / "kontor-run-XXXXXX").string();
    path = ::mkdtemp(pattern.data());
  }
  ~Folder() { std::filesystem::remove_all(path); }
  std::string path;
};

/// The world outside: survives crashes of the run.
struct Bank {
  std::mutex mutex;                                    // calls come from several threads
  std::vector<std::pair<std::string, Json>> payments;  // key, arguments
  std::vector<std::string> effects;                    // names of tools that did something
  std::function<void()> during_call;                   // for tests that watch the time
  int reads = 0;
  std::string next_error;    // kind of the error the next payment ends with, after or before it took effect
  bool effect_before_error = false;
  bool can_probe = true;
};

class BankTool final : public tools::Tool {
 public:
  BankTool(Bank& bank, const std::string& name, tools::Effect effect) : bank_(bank) {
    spec_.name = name;
    spec_.description = "A bank.";
    spec_.parameters = *parse_json(R"({"type":"object","properties":{"amount":{"type":"number"},"to":{"type":"string"}},"required":["amount"],"additionalProperties":false})");
    spec_.effect = effect;
    spec_.has_probe = effect == tools::Effect::once && bank.can_probe;
  }
  const tools::ToolSpec& spec() const override { return spec_; }
  tools::ToolResult call(const Json& arguments, const tools::CallContext& context) override {
    if (bank_.during_call) bank_.during_call();
    std::lock_guard guard(bank_.mutex);
    if (spec_.effect == tools::Effect::none) {
      ++bank_.reads;
      return tools::ToolResult::ok(Json{{"balance", 100}});
    }
    const std::string error = std::exchange(bank_.next_error, "");
    if (error.empty() || bank_.effect_before_error) bank_.effects.push_back(spec_.name);
    if (error.empty() || bank_.effect_before_error) bank_.payments.emplace_back(context.idempotency_key, arguments);
    if (!error.empty()) return tools::ToolResult::error(error, "the line went dead");
    tools::ToolResult result = tools::ToolResult::ok(Json{{"status", "paid"}});
    result.text = "{\"status\": \"paid\"}";
    return result;
  }
  tools::Probe probe(const Json&, const tools::CallContext& context) override {
    std::lock_guard guard(bank_.mutex);
    for (const auto& [key, arguments] : bank_.payments) {
      if (key == context.idempotency_key) return {tools::Probe::State::happened, Json{{"status", "paid"}}};
    }
    return {tools::Probe::State::not_happened, nullptr};
  }

 private:
  Bank& bank_;
  tools::ToolSpec spec_;
};

inline constexpr const char* kHead = R"(kontor: 1
name: bank-run
inputs: {limit: {type: number, default: 500}}
models: {tape: {replay: tape.jsonl}}
tools: {bank: {use: plugin, library: libbank.so}}
)";

inline std::string turn(const std::string& text, const std::string& when = "") { return Json{{"text", text}, {"when", when}}.dump() + "\n"; }
inline std::string call(const std::string& name, const std::string& arguments) {
  return "<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>function<｜tool▁sep｜>" + name + "\n```json\n" + arguments + "\n```<｜tool▁call▁end｜><｜tool▁calls▁end｜>";
}

/// One agent file, its tape, its bank and its journal.
struct Setup {
  Folder folder;
  Bank bank;
  std::string yaml, tape;
  std::vector<std::string> events;
  std::vector<std::string> notes;      // texts of call results
  const Clock* clock = &system_clock();
  bool timers_park = false;
  std::function<ApprovalAnswer(const PendingItem&)> approver;
  std::stop_source stop;
  std::function<std::vector<std::shared_ptr<tools::Tool>>()> make_tools;  // instead of the bank
  std::string task;

  Spec spec() const {
    auto checked = check_text(yaml, folder.path + "/agent.yaml", folder.path);
    for (const auto& diagnostic : checked.diagnostics) UNSCOPED_INFO(diagnostic.line << ":" << diagnostic.column << " " << diagnostic.kind << " " << diagnostic.message);
    REQUIRE(checked.spec);
    return *checked.spec;
  }
  RunWorld world() {
    RunWorld world;
    world.make_tools = [this](const ToolRequest&) -> Result<std::vector<std::shared_ptr<tools::Tool>>> {
      if (make_tools) return make_tools();
      return std::vector<std::shared_ptr<tools::Tool>>{std::make_shared<BankTool>(bank, "bank.pay", tools::Effect::once), std::make_shared<BankTool>(bank, "bank.book", tools::Effect::idempotent),
                                                       std::make_shared<BankTool>(bank, "bank.balance", tools::Effect::none)};
    };
    world.open_model = [this](const ModelSpec&, const RunOptions&, const std::vector<std::string>& played) -> Result<std::unique_ptr<inference::TextModel>> {
      auto model = TapeModel::parse(tape, "tape");
      if (!model) return model.error();
      for (const auto& text : played) (*model)->skip(text);
      return std::unique_ptr<inference::TextModel>(std::move(*model));
    };
    world.sink = [this](const RunEvent& event) {
      events.push_back(event.type);
      if (event.type == "call_result") notes.push_back(event.data.at("text").get<std::string>());
    };
    world.approver = approver;
    world.stop = stop.get_token();
    world.clock = clock;
    world.timers_park = timers_park;
    return world;
  }
  std::unique_ptr<Journal> journal() const {
    auto opened = Journal::open(folder.path + "/runs", *clock);
    REQUIRE(opened.has_value());
    return std::move(*opened);
  }
  RunReport start() {
    const Spec checked = spec();
    auto inputs = resolve_inputs(checked, std::map<std::string, std::string>{}, folder.path);
    REQUIRE(inputs.has_value());
    RunOptions options;
    options.task = task;
    const auto opened = journal();
    auto report = start_run(*opened, checked, *inputs, options, world());
    if (!report) FAIL(report.error().describe());
    return *report;
  }
  RunReport resume(const std::string& id) {
    const auto opened = journal();
    auto report = resume_run(*opened, id, {}, world());
    if (!report) FAIL(report.error().describe());
    return *report;
  }
  void sql(const std::string& text) const {
    sqlite3* db = nullptr;
    REQUIRE(sqlite3_open((folder.path + "/runs/journal.db").c_str(), &db) == SQLITE_OK);
    REQUIRE(sqlite3_exec(db, text.c_str(), nullptr, nullptr, nullptr) == SQLITE_OK);
    sqlite3_close(db);
  }
};

}  // namespace kontor::agent::test
