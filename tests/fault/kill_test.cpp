// kill -9 at a random moment, again while resuming, then the run is left to finish: every effect once in the log that the
// tool itself keeps, and the same files as without a kill.
//
// KONTOR_KILLS=N: N runs of each workflow, each killed twice at moments that its seed chooses. KONTOR_KILL_SEED=S: the
// seeds start at S, which also goes on where an earlier test was stopped.

#include "agent/journal.hpp"
#include "tests/support/program.hpp"

#include <nlohmann/json.hpp>

#include <algorithm>
#include <chrono>
#include <iterator>
#include <map>
#include <random>
#include <set>
#include <thread>

using kontor::test::ExampleCopy;

namespace {

struct Workflow {
  std::string name, log;
  std::vector<std::string> start, resume;  ///< Options behind `run FOLDER` and `runs resume`.
  std::vector<std::string> files;
  std::function<void(const ExampleCopy&)> prepare;
};

using Effects = std::multiset<std::string>;

/// Effects in the tool's log without what differs between two runs.
Effects effects(const ExampleCopy& example, const std::string& log) {
  Effects list;
  std::ifstream in(example.folder / log);
  for (std::string line; std::getline(in, line);) {
    auto entry = nlohmann::json::parse(line);
    for (const char* key : {"sequence", "key", "time", "reference", "po"}) entry.erase(key);
    list.insert(entry.dump());
  }
  return list;
}

/// How many of `all` are not in `some`, counting repeats.
std::size_t missing_in(const Effects& some, const Effects& all) {
  std::vector<std::string> rest;
  std::set_difference(all.begin(), all.end(), some.begin(), some.end(), std::back_inserter(rest));
  return rest.size();
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

void check_kills(const Workflow& workflow, int runs) {
  const auto made = [&] {
    auto example = std::make_unique<ExampleCopy>(workflow.name);
    if (workflow.prepare) workflow.prepare(*example);
    return example;
  };
  Effects wanted;
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
  const char* given = std::getenv("KONTOR_KILL_SEED");
  const std::uint64_t first = given ? std::strtoull(given, nullptr, 10) : 1, end = first + static_cast<std::uint64_t>(runs);
  constexpr std::uint64_t kTellEvery = 25;
  int right = 0, cut = 0;
  std::size_t lost = 0, doubled = 0, other_files = 0;
  for (std::uint64_t seed = first; seed < end; ++seed) {
    if (seed > first && (seed - first) % kTellEvery == 0) {
      std::printf("%s: seeds %llu to %llu done, %d kills, %zu lost, %zu doubled; goes on with KONTOR_KILL_SEED=%llu\n", workflow.name.c_str(),
                  static_cast<unsigned long long>(first), static_cast<unsigned long long>(seed - 1), cut, lost, doubled, static_cast<unsigned long long>(seed));
      std::fflush(stdout);
    }
    std::mt19937_64 random(seed);
    const auto example = made();
    const auto start = joined({"run", example->folder.string()}, workflow.start), resume = joined({"runs", "resume"}, workflow.resume);
    cut += kill_after(*example, start, static_cast<std::int64_t>(random() % static_cast<std::uint64_t>(whole_us))) == 1000 + SIGKILL;
    cut += kill_after(*example, resume, static_cast<std::int64_t>(random() % static_cast<std::uint64_t>(whole_us))) == 1000 + SIGKILL;
    int code = example->run(resume);
    // Killed before there was a run: nothing was shown, nothing happened, it is started again.
    if (code == 2) code = example->run(start);
    const auto have = effects(*example, workflow.log);
    const bool same_files = std::all_of(files.begin(), files.end(), [&](const auto& file) { return example->read(file.first) == file.second; });
    lost += missing_in(have, wanted);
    doubled += missing_in(wanted, have);
    other_files += !same_files;
    const bool good = code == 0 && have == wanted && same_files;
    INFO("again with KONTOR_KILLS=1 KONTOR_KILL_SEED=" << seed << ": exit " << code << ", " << have.size() << " of " << wanted.size() << " effects\n" << example->output());
    CHECK(good);
    right += good;
  }
  std::printf("%s: seeds %llu to %llu, killed %d times in %d runs: %zu lost and %zu doubled effects, %zu runs with other files\n", workflow.name.c_str(),
              static_cast<unsigned long long>(first), static_cast<unsigned long long>(end - 1), cut, runs, lost, doubled, other_files);
  kontor::test::count_cases("kill -9: " + workflow.name, right, runs - right);
}

int runs_wanted() {
  const char* text = std::getenv("KONTOR_KILLS");
  return text ? std::atoi(text) : 5;
}

}  // namespace

TEST_CASE("killed anywhere, invoice triage pays once and loses nothing", "[fault][kill]") {
  Workflow workflow{"invoice-triage", "out/erp-log.jsonl", {"--approve", "erp.pay=yes"}, {"--approve", "erp.pay=yes"}, {"out/decisions.csv", "out/fields.csv"}, {}};
  workflow.prepare = [](const ExampleCopy& example) { example.edit("model: pocket", "model: tape"); };
  check_kills(workflow, runs_wanted());
}

TEST_CASE("killed anywhere, procurement orders once and loses nothing", "[fault][kill]") {
  const std::string script = std::string(KONTOR_SOURCE_DIR) + "/examples/procurement/data/decisions_script.jsonl";
  check_kills({"procurement", "out/po-log.jsonl", {"--decisions", script}, {"--decisions", script}, {"out/orders.csv", "out/budgets.csv"}, {}}, runs_wanted());
}

namespace {

/// Events that are not about the starting and stopping itself.
std::size_t progress(kontor::agent::Journal& journal, const std::string& id) {
  const auto events = journal.events(id);
  if (!events) return 0;
  return static_cast<std::size_t>(std::count_if(events->begin(), events->end(), [](const auto& event) { return event.type != "run_resumed" && event.type != "run_stopped"; }));
}

/// Waits until the run has got on by an event or the program has ended; ends it with `signal`. Returns its exit code.
int stop_after_one_event(const ExampleCopy& example, const std::vector<std::string>& words, kontor::agent::Journal& journal, int signal) {
  const auto latest = journal.find("");
  const std::size_t before = latest ? progress(journal, latest->id) : 0;
  const pid_t child = example.start(words);
  for (int status = 0;;) {
    if (waitpid(child, &status, WNOHANG) == child) return WIFEXITED(status) ? WEXITSTATUS(status) : 1000 + WTERMSIG(status);
    const auto run = journal.find("");
    if (run && progress(journal, run->id) > before) break;
    std::this_thread::sleep_for(std::chrono::microseconds(200));
  }
  ::kill(child, signal);
  return ExampleCopy::wait(child);
}

}  // namespace

TEST_CASE("procurement with a restart after every step orders the same", "[fault][restart]") {
  const std::string script = std::string(KONTOR_SOURCE_DIR) + "/examples/procurement/data/decisions_script.jsonl";
  std::map<std::string, std::string> wanted;
  Effects effects_wanted;
  {
    const ExampleCopy whole("procurement");
    REQUIRE(whole.run({"run", whole.folder.string(), "--decisions", script}) == 0);
    for (const char* file : {"out/orders.csv", "out/budgets.csv"}) wanted[file] = whole.read(file);
    effects_wanted = effects(whole, "out/po-log.jsonl");
  }
  for (const int signal : {SIGKILL, SIGINT}) {
    const ExampleCopy example("procurement");
    const auto journal = kontor::agent::Journal::open((example.folder / "runs").string());
    REQUIRE(journal.has_value());
    int code = stop_after_one_event(example, {"run", example.folder.string(), "--decisions", script}, **journal, signal);
    int starts = 1;
    for (; code != 0 && starts < 400; ++starts) code = stop_after_one_event(example, {"runs", "resume", "--decisions", script}, **journal, signal);
    INFO(example.output());
    CHECK(code == 0);
    CHECK(starts >= 10);
    CHECK((*journal)->list(10)->size() == 1);
    CHECK(effects(example, "out/po-log.jsonl") == effects_wanted);
    for (const auto& [file, text] : wanted) CHECK(example.read(file) == text);
    std::printf("procurement: %d processes with signal %d\n", starts, signal);
  }
}
