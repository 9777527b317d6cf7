// A turn whose tokens run out: what is begun is complete all the same, and verify writes the same again.

#include "inference/local_model.hpp"
#include "tests/agent/bank_run.hpp"

#include <fstream>

using namespace kontor;
using namespace kontor::agent;
using namespace kontor::agent::test;

TEST_CASE("an answer is whole at every budget that has room for the shortest one", "[agent][budget]") {
  const std::string path = std::string(KONTOR_SOURCE_DIR) + "/examples/models/pocket-invoice.gguf";
  const auto run_with = [&](const std::string& budget, std::int64_t& spent, bool& wound_down) {
    Setup setup;
    std::ofstream(setup.folder.path + "/answer.json") << R"({"type": "object", "properties": {"note": {"type": "string"}, "lines": {"type": "array", "minItems": 2, "items": {"type": "integer"}}}, "required": ["note", "lines"]})";
    setup.yaml = "kontor: 1\nname: bank-run\nmodels: {pocket: {path: " + path + ", seed: 5, sampling: {temperature: 2, top_p: 1}}}\nagents:\n"
                 "  clerk: {model: pocket, instruction: Say it., output: {schema: answer.json}, limits: {steps: 1, think_tokens: 8}}\nworkflow:\n  - {id: say, agent: clerk, with: {amount: 7}}\n" + budget;
    const Spec checked = setup.spec();
    const auto journal = setup.journal();
    RunWorld world = setup.world();
    world.open_model = [&](const ModelSpec& spec, const RunOptions&, const std::vector<std::string>&) {
      inference::LocalModelOptions options;
      options.device = "cpu", options.threads = 1, options.context = 512;
      return inference::open_local_model(spec.path, options);
    };
    auto report = start_run(*journal, checked, Json::object(), {}, world);
    REQUIRE(report.has_value());
    spent = report->ledger.spent_tokens();
    wound_down = false;
    const auto events = *journal->events(report->id);
    for (const auto& event : events) wound_down |= event.type == "generation" && event.data.value("wound_down", false);
    if (report->status == "done") {
      CHECK(report->result.at("lines").size() >= 2);
      const auto verified = verify_run(*journal, report->id, {}, world);
      REQUIRE(verified.has_value());
      CHECK(verified->turns == 1);
      CHECK(verified->same == 1);
    }
    return *report;
  };
  std::int64_t spent = 0;
  bool wound_down = false;
  // The prompt alone, from what a budget of nothing much says of it.
  const RunReport none = run_with("budgets: {run: {tokens: 10}}\n", spent, wound_down);
  CHECK(none.status == "budget");
  const auto at = none.note.rfind("a prompt of ");
  REQUIRE(at != std::string::npos);
  const long prompt = std::stol(none.note.substr(at + 12));
  int right = 0, wrong = 0, finished = 0, ended = 0;
  for (long room = 4; room < 120; room += 8) {
    const RunReport report = run_with("budgets: {run: {tokens: " + std::to_string(prompt + room) + "}}\n", spent, wound_down);
    INFO(room << ": " << report.status << " " << report.note);
    CHECK(spent <= prompt + room);
    const bool said = report.status == "budget" && report.note.find("the shortest output") != std::string::npos;
    CHECK((report.status == "done" || said));
    ++(report.status == "done" || said ? right : wrong);
    finished += report.status == "done", ended += report.status == "done" && wound_down;
  }
  kontor::test::count_cases("budgets of an answer", right, wrong);
  CHECK(finished >= 5);
  CHECK(ended > 0);
}
