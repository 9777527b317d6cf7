// kill -9 at a random moment, again while resuming, then the run is left to finish: every effect once in the log that the
// tool itself keeps, and the same files as without a kill.
//
// KONTOR_KILLS=N kills N times for each workflow; KONTOR_KILL_SEED chooses other moments.

#include "tests/support/program.hpp"

#include <nlohmann/json.hpp>

#include <chrono>
#include <map>
#include <random>
#include <thread>

using kontor::test::ExampleCopy;

namespace {

struct Workflow {
  std::string name, log;
  std::vector<std::string> start, resume;  ///< Options behind `run FOLDER` and `runs resume`.
  std::vector<std::string> files;
  std::function<void(const ExampleCopy&)> prepare;
};

/// Effects in the tool's log without what differs between two runs.
std::multimap<std::string, std::string> effects(const ExampleCopy& example, const std::string& log) {
  std::multimap<std::string, std::string> list;
  std::ifstream in(example.folder / log);
  for (std::string line; std::getline(in, line);) {
    auto entry = nlohmann::json::parse(line);
    for (const char* key : {"sequence", "key", "time", "reference", "po"}) entry.erase(key);
    list.emplace(entry.at("kind").get<std::string>(), entry.dump());
  }
  return list;
}

std::int64_t microseconds(const std::function<void()>& work) {
  const auto began = std::chrono::steady_clock::now();
  work();
  return std::chrono::duration_cast<std::chrono::microseconds>(std::chrono::steady_clock::now() - began).count();
}

std::vector<std::string> joined(std::vector<std::string> words, const std::vector<std::string>& more) {
  words.insert(words.end(), more.begin(), more.end());
  return words;
}

int kill_after(const ExampleCopy& example, const std::vector<std::string>& words, std::int64_t us) {
  const pid_t child = example.start(words);
  std::this_thread::sleep_for(std::chrono::microseconds(us));
  ::kill(child, SIGKILL);
  return ExampleCopy::wait(child);
}

void check_kills(const Workflow& workflow, int kills) {
  const auto made = [&] {
    auto example = std::make_unique<ExampleCopy>(workflow.name);
    if (workflow.prepare) workflow.prepare(*example);
    return example;
  };
  std::multimap<std::string, std::string> wanted;
  std::map<std::string, std::string> files;
  std::int64_t whole_us = 0;
  {
    const auto example = made();
    int code = 0;
    whole_us = microseconds([&] { code = example->run(joined({"run", example->folder.string()}, workflow.start)); });
    INFO(example->output());
    REQUIRE(code == 0);
    wanted = effects(*example, workflow.log);
    for (const auto& file : workflow.files) files[file] = example->read(file);
  }
  REQUIRE(!wanted.empty());
  const char* seed = std::getenv("KONTOR_KILL_SEED");
  std::mt19937_64 random(seed ? std::strtoull(seed, nullptr, 10) : 1);
  int right = 0, cut = 0, lost = 0, doubled = 0;
  for (int i = 0; i < kills; ++i) {
    const auto example = made();
    const auto start = joined({"run", example->folder.string()}, workflow.start), resume = joined({"runs", "resume"}, workflow.resume);
    cut += kill_after(*example, start, static_cast<std::int64_t>(random() % static_cast<std::uint64_t>(whole_us))) == 1000 + SIGKILL;
    cut += kill_after(*example, resume, static_cast<std::int64_t>(random() % static_cast<std::uint64_t>(whole_us))) == 1000 + SIGKILL;
    int code = example->run(resume);
    // Killed before there was a run: nothing was shown, nothing happened, it is started again.
    if (code == 2) code = example->run(start);
    const auto have = effects(*example, workflow.log);
    bool good = code == 0 && have == wanted;
    for (const auto& [file, text] : files) good = good && example->read(file) == text;
    if (have.size() > wanted.size()) ++doubled;
    if (have.size() < wanted.size()) ++lost;
    INFO("kill " << i << " of " << kills << ": exit " << code << ", " << have.size() << " of " << wanted.size() << " effects\n" << example->output());
    CHECK(good);
    right += good;
  }
  std::printf("%s: killed %d times in %d runs, %d lost, %d doubled effects\n", workflow.name.c_str(), cut, kills, lost, doubled);
  kontor::test::count_cases("kill -9: " + workflow.name, right, kills - right);
}

int kills_wanted() {
  const char* text = std::getenv("KONTOR_KILLS");
  return text ? std::atoi(text) : 5;
}

}  // namespace

TEST_CASE("killed anywhere, invoice triage pays once and loses nothing", "[fault][kill]") {
  Workflow workflow{"invoice-triage", "out/erp-log.jsonl", {"--approve", "erp.pay=yes"}, {"--approve", "erp.pay=yes"}, {"out/decisions.csv", "out/fields.csv"}, {}};
  workflow.prepare = [](const ExampleCopy& example) { example.edit("model: pocket", "model: tape"); };
  check_kills(workflow, kills_wanted());
}

TEST_CASE("killed anywhere, procurement orders once and loses nothing", "[fault][kill]") {
  const std::string script = std::string(KONTOR_SOURCE_DIR) + "/examples/procurement/data/decisions_script.jsonl";
  check_kills({"procurement", "out/po-log.jsonl", {"--decisions", script}, {"--decisions", script}, {"out/orders.csv", "out/budgets.csv"}, {}}, kills_wanted());
}
