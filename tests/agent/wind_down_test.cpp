// A turn whose tokens run out: what is begun is complete all the same, and verify writes the same again.

#include "inference/local_model.hpp"
#include "tests/agent/bank_run.hpp"

#include <algorithm>
#include <fstream>

using namespace kontor;
using namespace kontor::agent;
using namespace kontor::agent::test;

namespace {

/// A run of one agent that answers in JSON, on the pocket model, which has no idea what it says.
struct Said {
  RunReport report;
  bool wound_down = false;
  std::vector<std::int64_t> limits;  ///< Of the elected branch, then of the others.
};
Said say(const std::string& budget, std::int64_t context = 512, int vote = 1) {
  const std::string path = std::string(KONTOR_SOURCE_DIR) + "/examples/models/pocket-invoice.gguf";
  Setup setup;
  std::ofstream(setup.folder.path + "/answer.json") << R"({"type": "object", "properties": {"note": {"type": "string"}, "lines": {"type": "array", "minItems": 2, "items": {"type": "integer"}}}, "required": ["note", "lines"]})";
  setup.yaml = "kontor: 1\nname: bank-run\nmodels: {pocket: {path: " + path + ", seed: 5, sampling: {temperature: 2, top_p: 1}}}\nagents:\n"
               "  clerk: {model: pocket, instruction: Say it., output: {schema: answer.json}, limits: {steps: 1, think_tokens: 8}}\nworkflow:\n  - {id: say, agent: clerk, with: {amount: 7}, vote: " + std::to_string(vote) + "}\n" + budget;
  const Spec checked = setup.spec();
  const auto journal = setup.journal();
  RunWorld world = setup.world();
  world.open_model = [&](const ModelSpec& spec, const RunOptions&, const std::vector<std::string>&) {
    inference::LocalModelOptions options;
    options.device = "cpu", options.threads = 1, options.context = context;
    return inference::open_local_model(spec.path, options);
  };
  auto report = start_run(*journal, checked, Json::object(), {}, world);
  REQUIRE(report.has_value());
  Said said;
  said.report = *report;
  const auto events = *journal->events(report->id);
  for (const auto& event : events) {
    if (event.type != "generation") continue;
    said.wound_down |= event.data.value("wound_down", false);
    said.limits.push_back(event.data.value("limit", std::int64_t{0}));
    if (!event.data.contains("vote")) continue;
    for (const auto& other : event.data.at("vote").at("others")) said.limits.push_back(other.value("limit", std::int64_t{0}));
  }
  if (report->status == "done") {
    CHECK(report->result.at("lines").size() >= 2);
    const auto verified = verify_run(*journal, report->id, {}, world);
    REQUIRE(verified.has_value());
    CHECK(verified->turns == static_cast<std::size_t>(vote));
    CHECK(verified->same == static_cast<std::size_t>(vote));
  }
  return said;
}

/// Tokens of the prompt, from what a budget of nothing much says of it.
long prompt_of(const Said& refused) {
  CHECK(refused.report.status == "budget");
  const auto at = refused.report.note.rfind("a prompt of ");
  REQUIRE(at != std::string::npos);
  return std::stol(refused.report.note.substr(at + 12));
}

}  // namespace

TEST_CASE("an answer is whole at every budget that has room for the shortest one", "[agent][budget]") {
  const long prompt = prompt_of(say("budgets: {run: {tokens: 10}}\n"));
  int right = 0, wrong = 0, finished = 0, ended = 0;
  for (long room = 4; room < 120; room += 8) {
    const Said said = say("budgets: {run: {tokens: " + std::to_string(prompt + room) + "}}\n");
    const RunReport& report = said.report;
    INFO(room << ": " << report.status << " " << report.note);
    CHECK(report.ledger.spent_tokens() <= prompt + room);
    const bool refused = report.status == "budget" && report.note.find("the shortest output") != std::string::npos;
    CHECK((report.status == "done" || refused));
    ++(report.status == "done" || refused ? right : wrong);
    finished += report.status == "done", ended += report.status == "done" && said.wound_down;
  }
  kontor::test::count_cases("budgets of an answer", right, wrong);
  CHECK(finished >= 5);
  CHECK(ended > 0);
}

TEST_CASE("an answer is whole in every context that has room for the shortest one", "[agent][budget]") {
  const long prompt = prompt_of(say("budgets: {run: {tokens: 10}}\n"));
  int right = 0, wrong = 0, finished = 0, ended = 0;
  for (long room = 4; room < 120; room += 8) {
    const Said said = say("", prompt + room);
    const RunReport& report = said.report;
    INFO(room << ": " << report.status << " " << report.note);
    const bool refused = report.status == "failed" && report.note.find("too few for an answer") != std::string::npos;
    CHECK((report.status == "done" || refused));
    ++(report.status == "done" || refused ? right : wrong);
    if (report.status == "done") CHECK(said.limits.front() == room);
    finished += report.status == "done", ended += report.status == "done" && said.wound_down;
  }
  kontor::test::count_cases("contexts of an answer", right, wrong);
  CHECK(finished >= 5);
  CHECK(finished < 15);
  CHECK(ended > 0);
}

TEST_CASE("the branches of a vote are verified within the limit that each of them had", "[agent][budget][vote]") {
  const long prompt = prompt_of(say("budgets: {run: {tokens: 10}}\n"));
  int finished = 0, different = 0;
  for (long room = 150; room < 500; room += 35) {
    const Said said = say("budgets: {run: {tokens: " + std::to_string(3 * prompt + room) + "}}\n", 512, 3);
    INFO(room << ": " << said.report.status << " " << said.report.note);
    CHECK((said.report.status == "done" || said.report.status == "budget"));
    if (said.report.status != "done") continue;
    ++finished;
    REQUIRE(said.limits.size() == 3);
    CHECK(*std::min_element(said.limits.begin(), said.limits.end()) > 0);
    different += said.limits[0] != said.limits[1] || said.limits[1] != said.limits[2];
  }
  CHECK(finished > 0);
  CHECK(different > 0);
}
