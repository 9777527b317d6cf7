#include "agent/cli/command.hpp"
#include "agent/cli/run_support.hpp"
#include "agent/cli/shared_options.hpp"
#include "agent/decisions.hpp"
#include "agent/planner.hpp"
#include "tools/csv.hpp"

#include <stdlib.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <set>

namespace kontor::agent::cli {
namespace {

namespace fs = std::filesystem;

constexpr std::size_t kMaxDifferences = 20;

struct Options {
  std::vector<std::string> files;
  std::string only;
  RunOptions run;
  bool json = false, keep = false;
};

struct Comparison {
  std::size_t right = 0, expected = 0;
  std::vector<std::string> differences;
  bool holds = true;           ///< Exactly equal.
  bool enough = true;          ///< As many rows are right as the test wants.

  void add(const Comparison& other, const std::string& file, bool name_it) {
    right += other.right, expected += other.expected;
    holds = holds && other.holds;
    for (const auto& difference : other.differences) differences.push_back((name_it ? file + ": " : "") + difference);
  }
};

struct Outcome {
  std::string file, name;
  bool passed = false;
  std::string status, note;
  Comparison rows;
  std::string calls;           ///< "ok", what is missing, or "" without the check.
  double seconds = 0;
  Ledger ledger;
};

/// A folder of its own for everything a test writes; gone afterwards.
class Scratch {
 public:
  explicit Scratch(bool keep) : keep_(keep) {
    std::string pattern = (fs::temp_directory_path() / "kontor-eval-XXXXXX").string();
    if (::mkdtemp(pattern.data())) path_ = pattern;
  }
  ~Scratch() {
    std::error_code code;
    if (!keep_ && !path_.empty()) fs::remove_all(path_, code);
  }
  Scratch(const Scratch&) = delete;
  Scratch& operator=(const Scratch&) = delete;
  const std::string& path() const { return path_; }

 private:
  bool keep_;
  std::string path_;
};

std::optional<std::string> read_file(const fs::path& path) {
  std::ifstream in(path, std::ios::binary);
  if (!in) return std::nullopt;
  return std::string((std::istreambuf_iterator<char>(in)), std::istreambuf_iterator<char>());
}

/// The agent file's folder as the test sees it: everything is there, but what tools write is not.
void shadow(const Spec& spec, const std::string& folder) {
  std::vector<std::string> written;
  for (const auto& tool : spec.tools) {
    if (!tool.settings.contains("write") || !tool.settings.at("write").is_string()) continue;
    const auto relative = fs::path(tool.settings.at("write").get<std::string>()).lexically_normal().lexically_relative(spec.folder);
    if (!relative.empty()) written.push_back(relative.begin()->string());
  }
  std::error_code code;
  fs::create_directories(folder, code);
  for (const auto& entry : fs::directory_iterator(spec.folder, code)) {
    const std::string name = entry.path().filename().string();
    if (name == "out" || std::find(written.begin(), written.end(), name) != written.end()) continue;
    fs::create_symlink(entry.path(), fs::path(folder) / name, code);
  }
}

/// CSV: row by row by the first column. JSON: by value. Everything else: byte by byte.
Comparison compare(const std::string& name, const std::optional<std::string>& got, const std::string& wanted) {
  Comparison result;
  if (fs::path(name).extension() == ".json" && got) {
    const auto expected_value = parse_json(wanted), value = parse_json(*got);
    if (expected_value && value) {
      result.expected = 1;
      result.holds = canonical_json(*expected_value) == canonical_json(*value);
      result.right = result.holds;
      if (!result.holds) result.differences.push_back("got " + spaced_json(*value));
      return result;
    }
  }
  const auto expected = tools::parse_csv(wanted);
  const bool is_csv = fs::path(name).extension() == ".csv" && expected;
  if (!is_csv) {
    result.expected = 1;
    result.holds = got && *got == wanted;
    result.right = result.holds;
    if (!result.holds) result.differences.push_back(got ? "the content differs" : "the file was not written");
    return result;
  }
  result.expected = expected->rows.size();
  const auto table = got ? tools::parse_csv(*got) : Result<tools::CsvTable>(fail(Errc::not_found, "the file was not written"));
  if (!table) {
    result.holds = false;
    result.differences.push_back(table.error().describe());
    return result;
  }
  // Where the first column names no row for itself, rows are told apart by their number.
  std::set<std::string> names;
  for (const auto& row : expected->rows) names.insert(row[0]);
  const bool by_name = names.size() == expected->rows.size();
  const auto key_of = [&](const std::vector<std::string>& row, std::size_t number) { return by_name ? row[0] : std::to_string(number); };
  std::map<std::string, std::vector<std::string>> by_key;
  for (std::size_t i = 0; i < table->rows.size(); ++i) by_key[key_of(table->rows[i], i)] = table->rows[i];
  const auto joined = [](const std::vector<std::string>& cells) {
    std::string text;
    for (const auto& cell : cells) text += (text.empty() ? "" : ",") + cell;
    return text;
  };
  if (table->columns != expected->columns) {
    result.differences.push_back("columns: " + joined(table->columns) + " instead of " + joined(expected->columns));
    result.holds = false;
  }
  for (std::size_t i = 0; i < expected->rows.size(); ++i) {
    const auto& row = expected->rows[i];
    const auto found = by_key.find(key_of(row, i));
    if (found != by_key.end() && found->second == row) {
      ++result.right;
      continue;
    }
    result.holds = false;
    result.differences.push_back(found == by_key.end() ? row[0] + " is missing" : "got " + joined(found->second) + "; expected " + joined(row));
  }
  if (table->rows.size() != expected->rows.size()) {
    result.holds = false;
    result.differences.push_back(std::to_string(table->rows.size()) + " rows instead of " + std::to_string(expected->rows.size()));
  }
  return result;
}

/// The listed tools were called in this order; other calls may stand between them.
std::string check_calls(const std::vector<std::string>& wanted, const std::vector<std::string>& made) {
  if (wanted.empty()) return {};
  std::size_t at = 0;
  for (const auto& name : made) {
    if (at < wanted.size() && name == wanted[at]) ++at;
  }
  return at == wanted.size() ? "ok" : "no call of " + wanted[at] + (at > 0 ? " after " + wanted[at - 1] : "");
}

/// What a run wrote: relative to the folder of the file, or to a folder that tools write to.
std::optional<std::string> written_file(const Spec& spec, const std::string& shadow_folder, const std::string& file) {
  auto got = read_file(fs::path(shadow_folder) / file);
  for (const auto& tool : spec.tools) {
    if (got || !tool.settings.contains("write") || !tool.settings.at("write").is_string()) continue;
    const auto relative = fs::path(tool.settings.at("write").get<std::string>()).lexically_normal().lexically_relative(spec.folder);
    got = read_file(fs::path(shadow_folder) / relative / file);
  }
  return got;
}

Outcome run_test(const Spec& spec, const TestSpec& test, const Options& options, const ModelOpener& open_model, const std::stop_token& stop) {
  Outcome outcome;
  outcome.file = spec.path;
  outcome.name = test.name;
  const auto failed = [&](const std::string& status, const std::string& note) {
    outcome.status = status, outcome.note = note;
    return outcome;
  };
  const Scratch scratch(options.keep);
  if (scratch.path().empty()) return failed("error", "cannot create a temporary folder");
  RunOptions run = options.run;
  run.shadow_folder = scratch.path() + "/files";
  run.model_name = run.model_path.empty() ? test.model : std::string();
  shadow(spec, run.shadow_folder);
  auto inputs = resolve_inputs(spec, test.inputs);
  if (!inputs) return failed("error", inputs.error().describe());
  LeapingClock clock;
  auto journal = Journal::open(scratch.path() + "/runs", clock);
  if (!journal) return failed("error", journal.error().describe());
  if (auto found = find_models(spec, run); !found) return failed("error", found.error().describe());
  std::vector<std::string> made;
  const bool live = !options.json && ::isatty(STDERR_FILENO) == 1;
  RunWorld world;
  world.make_tools = make_tools;
  world.open_model = open_model;
  world.stop = stop;
  world.clock = &clock;
  world.timers_park = true;  // A test does not wait.
  world.sink = [&](const RunEvent& event) {
    if (event.type == "call" && event.data.contains("tool")) made.push_back(event.data.at("tool").get<std::string>());
    if (live && event.type == "item") {
      std::fprintf(stderr, "\r%s: %s of %s\x1b[K", printable(test.name, 40).c_str(), std::to_string(event.data.value("index", std::size_t{0}) + 1).c_str(),
                   spaced_json(event.data.at("total")).c_str());
    }
  };
  const auto began = std::chrono::steady_clock::now();
  auto report = start_run(**journal, spec, *inputs, run, world);
  if (report && !test.decisions.empty()) {
    auto script = read_decisions(test.decisions);
    if (!script) return failed("error", script.error().describe());
    report = follow_script(**journal, std::move(*report), *script, clock, run, world, report_skipped);
  }
  if (live) std::fputs("\r\x1b[K", stderr);
  outcome.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - began).count();
  if (!report) return failed("error", report.error().describe());
  outcome.status = report->status, outcome.note = report->note, outcome.ledger = report->ledger;
  std::vector<std::pair<std::string, std::string>> files = test.expect_also;
  if (!test.expect_equals.empty()) files.insert(files.begin(), {test.expect_file, test.expect_equals});
  for (const auto& [file, equals] : files) {
    const auto wanted = read_file(equals);
    if (!wanted) return failed("error", "cannot read " + equals);
    outcome.rows.add(compare(file, written_file(spec, run.shadow_folder, file), *wanted), file, files.size() > 1);
  }
  outcome.rows.enough = outcome.rows.holds || (test.expect_at_least < 1 && static_cast<double>(outcome.rows.right) >=
                                                                               test.expect_at_least * static_cast<double>(outcome.rows.expected));
  outcome.calls = check_calls(test.expect_calls, made);
  // A run that waits for a person has done everything else; what it wrote is compared all the same.
  const bool ended_well = report->status == "done" || report->status == "parked";
  outcome.passed = ended_well && outcome.rows.enough && (outcome.calls.empty() || outcome.calls == "ok");
  if (options.keep) outcome.note += (outcome.note.empty() ? "" : "; ") + std::string("kept in ") + scratch.path();
  return outcome;
}

void print_table(const std::vector<Outcome>& outcomes) {
  std::vector<std::vector<std::string>> table = {{"TEST", "RESULT", "ROWS", "SHARE", "CALLS", "RUN", "SECONDS", "PREFILLED", "REUSED", "GENERATED"}};
  for (const auto& outcome : outcomes) {
    char seconds[32];
    std::snprintf(seconds, sizeof seconds, "%.1f", outcome.seconds);
    char share[32] = "-";
    if (outcome.rows.expected > 0) {
      std::snprintf(share, sizeof share, "%.1f %%", 100.0 * static_cast<double>(outcome.rows.right) / static_cast<double>(outcome.rows.expected));
    }
    table.push_back({outcome.name, outcome.passed ? "pass" : "FAIL", std::to_string(outcome.rows.right) + "/" + std::to_string(outcome.rows.expected), share, outcome.calls.empty() ? "-" : outcome.calls,
                     outcome.status, seconds, std::to_string(outcome.ledger.prefilled), std::to_string(outcome.ledger.reused), std::to_string(outcome.ledger.generated)});
  }
  std::fputs(text_table(table, 60).c_str(), stdout);
  for (const auto& outcome : outcomes) {
    if (outcome.passed && outcome.rows.holds) continue;
    std::printf("\n%s:%s\n", printable(outcome.name, 60).c_str(), outcome.note.empty() ? "" : (" " + printable(outcome.note, 400)).c_str());
    for (std::size_t i = 0; i < outcome.rows.differences.size() && i < kMaxDifferences; ++i) std::printf("  %s\n", printable(outcome.rows.differences[i], 300).c_str());
    if (outcome.rows.differences.size() > kMaxDifferences) std::printf("  and %zu more\n", outcome.rows.differences.size() - kMaxDifferences);
  }
}

Json to_json(const Outcome& outcome) {
  return Json{{"file", outcome.file}, {"name", outcome.name}, {"passed", outcome.passed}, {"status", outcome.status}, {"note", outcome.note},
              {"rows", Json{{"right", outcome.rows.right}, {"expected", outcome.rows.expected}}}, {"differences", outcome.rows.differences},
              {"calls", outcome.calls}, {"seconds", outcome.seconds}, {"ledger", ledger_json(outcome.ledger)}};
}

int execute(const Options& options) {
  Interrupts interrupts("");
  std::vector<Outcome> outcomes;
  const ModelOpener open_model = make_model_opener();
  bool any = false;
  for (const auto& given : options.files) {
    auto file = find_agent_file(given);
    if (!file) return report_error(file.error());
    auto spec = read_spec(*file);
    if (!spec) return kUsage;
    for (const auto& test : spec->tests) {
      any = true;
      if (!options.only.empty() && test.name != options.only) continue;
      outcomes.push_back(run_test(*spec, test, options, open_model, interrupts.token()));
      if (interrupts.token().stop_requested()) return kInterrupted;
    }
  }
  if (outcomes.empty()) {
    print_error(any ? "no test is named '" + options.only + "'" : "there are no tests: in " + options.files.front());
    return kUsage;
  }
  const auto failed = std::count_if(outcomes.begin(), outcomes.end(), [](const Outcome& outcome) { return !outcome.passed; });
  if (options.json) {
    Json list = Json::array();
    for (const auto& outcome : outcomes) list.push_back(to_json(outcome));
    print_json(Json{{"passed", outcomes.size() - static_cast<std::size_t>(failed)}, {"failed", failed}, {"tests", std::move(list)}}.dump(-1, ' ', false, Json::error_handler_t::replace));
  } else {
    print_table(outcomes);
  }
  return failed == 0 ? kDone : kFailed;
}

const Verb verb{"eval", "run the tests: of agent files", [](CLI::App& app) -> Action {
  auto options = std::make_shared<Options>();
  app.add_option("FILE", options->files, "agent files or their folders")->required();
  app.add_option("--test", options->only, "only the test of this name");
  add_model_options(app, options->run);
  app.add_flag("--keep", options->keep, "keep what the tests wrote");
  app.add_flag("--json", options->json, "one JSON document");
  return [options] { return execute(*options); };
}};

}  // namespace
}  // namespace kontor::agent::cli
