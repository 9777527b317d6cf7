// The journal on a disk that fails: what was acknowledged is there after a power cut, in order and unchanged, and after a
// failed sync nothing more is written.
//
// KONTOR_SEEDS=N tries N seeds, from KONTOR_SEED_FIRST on (1); KONTOR_SEED=N only that one.

#include "agent/journal.hpp"
#include "tests/fault/faulty_disk.hpp"
#include "tests/support/catch.hpp"

#include <cstdlib>
#include <filesystem>

using namespace kontor;
using namespace kontor::agent;
using kontor::test::Fault;
using kontor::test::FaultyDisk;

namespace {

struct Folder {
  Folder() {
    std::string pattern = (std::filesystem::temp_directory_path() / "kontor-fault-XXXXXX").string();
    path = ::mkdtemp(pattern.data());
  }
  ~Folder() { std::filesystem::remove_all(path); }
  std::string path;
};

/// What a run was told to write, and how much of it was acknowledged as being on the disk.
struct Written {
  std::string id;
  std::vector<std::pair<std::string, Json>> events;  // after run_created
  std::size_t safe = 0;
  bool created_safe = false;
};

constexpr int kRuns = 2, kEvents = 60;

Json random_data(std::mt19937_64& random, int number) {
  const std::size_t size = random() % 8 == 0 ? random() % 6000 : random() % 400;
  std::string text(size, 'x');
  for (auto& c : text) c = static_cast<char>('a' + random() % 26);
  return Json{{"number", number}, {"text", text}};
}

JournalMark mark_of(int run) { return {"message:" + std::to_string(run), 0, true, 0}; }

/// Writes until something fails. Returns "" or what is wrong.
std::string write_some(Journal& journal, ManualClock& clock, std::mt19937_64& random, std::vector<Written>& runs) {
  std::vector<RunLog> logs;
  for (int i = 0; i < kRuns; ++i) {
    clock.advance_ms(1000);  // Ids sort by time: the same pages for the same seed.
    auto log = journal.create("run", "file", Json{{"yaml", std::string(random() % 3000, 'y')}}, mark_of(i));
    if (!log) return {};
    runs.push_back({log->id(), {}, 0, true});
    logs.push_back(std::move(*log));
  }
  for (int number = 0; number < kEvents; ++number) {
    const std::size_t at = random() % logs.size();
    Written& run = runs[at];
    const bool now = random() % 3 != 0;
    const std::string type = now ? "call_intent" : "call_outcome";
    Json data = random_data(random, number);
    run.events.emplace_back(type, data);
    const bool status = random() % 10 == 0;
    auto done = logs[at].append(type, "step/" + std::to_string(number), data, status ? "running" : "", status ? "note" : "", now ? Durable::now : Durable::later);
    if (done) {
      // A sync covers the whole log: what other runs wrote before it is safe, too.
      if (now) {
        for (auto& other : runs) other.safe = other.events.size();
      }
      continue;
    }
    const std::string reason = journal.read_only_reason();
    if (!reason.empty()) {
      auto again = logs[1 - at].append("call_intent", "later", Json::object());
      if (again) return "an event was written after a failed sync";
      if (again.error().message.find("read-only") == std::string::npos) return "the reason is not told: " + again.error().message;
      if (journal.create("run", "file", Json::object())) return "a run was created after a failed sync";
    }
    auto again = logs[at].append("call_intent", "later", Json::object());
    if (again) return "a run went on past a hole";
    break;
  }
  return {};
}

std::string check_run(Journal& journal, const Written& run) {
  auto events = journal.events(run.id);
  if (!events) return "cannot read: " + events.error().describe();
  if (events->empty()) return run.created_safe ? "the run is gone" : "";
  const std::size_t have = events->size() - 1;
  if (have < run.safe) return "lost " + std::to_string(run.safe - have) + " acknowledged events";
  if (have > run.events.size()) return "events that were never written";
  for (std::size_t i = 0; i < have; ++i) {
    const auto& event = (*events)[i + 1];
    if (event.type != run.events[i].first || event.data != run.events[i].second) return "event " + std::to_string(i) + " is another one";
  }
  auto log = journal.reopen(run.id);
  if (!log) return "cannot go on: " + log.error().describe();
  if (auto done = log->append("after", "", Json::object()); !done) return "cannot write again: " + done.error().describe();
  auto more = journal.events(run.id);
  if (!more || more->size() != have + 2) return "what was written afterwards is not there";
  return {};
}

/// Returns "" or what is wrong.
std::string try_seed(std::uint64_t seed, const std::string& folder, int& failures) {
  std::mt19937_64 random(seed);
  FaultyDisk disk(seed * 7919 + 1);
  std::vector<Written> runs;
  ManualClock clock(1'790'000'000'000);
  {
    auto journal = Journal::open(folder, clock, disk.name());
    if (!journal) return "cannot open: " + journal.error().describe();
    const Fault faults[] = {Fault::power_cut, Fault::no_space, Fault::write_error, Fault::sync_error};
    disk.plan(faults[random() % 4], 1 + static_cast<std::int64_t>(random() % 400));
    if (auto wrong = write_some(**journal, clock, random, runs); !wrong.empty()) return wrong;
    if (random() % 2 == 0) disk.plan(Fault::power_cut, 1);  // While closing, which moves the log into the database.
  }
  failures += disk.has_failed();
  disk.cut_power();
  auto journal = Journal::open(folder, clock, disk.name());
  if (!journal) return "cannot open after the failure: " + journal.error().describe();
  for (const auto& run : runs) {
    if (auto wrong = check_run(**journal, run); !wrong.empty()) return wrong;
  }
  // As many marks as runs: also where the creation of a run was not acknowledged.
  std::size_t marks = 0;
  for (int i = 0; i < kRuns; ++i) marks += (*journal)->kept(mark_of(i).key).has_value();
  if (const auto rows = (*journal)->list(100); !rows || rows->size() != marks) return "runs and marks are not the same";
  return {};
}

std::uint64_t number_from(const char* name, std::uint64_t otherwise) {
  const char* text = std::getenv(name);
  return text ? std::strtoull(text, nullptr, 10) : otherwise;
}

}  // namespace

TEST_CASE("on a failing disk nothing that was acknowledged is lost, changed or out of order", "[fault][storage]") {
  const Folder folder;
  constexpr std::uint64_t kTellEvery = 500;
  const bool one = std::getenv("KONTOR_SEED") != nullptr;
  const std::uint64_t first = number_from("KONTOR_SEED", number_from("KONTOR_SEED_FIRST", 1)), count = one ? 1 : number_from("KONTOR_SEEDS", 200);
  int right = 0, wrong = 0, failures = 0;
  for (std::uint64_t seed = first; seed < first + count; ++seed) {
    if (seed > first && (seed - first) % kTellEvery == 0) {
      std::printf("seeds %llu to %llu done, %d violations; goes on with KONTOR_SEED_FIRST=%llu\n", static_cast<unsigned long long>(first),
                  static_cast<unsigned long long>(seed - 1), wrong, static_cast<unsigned long long>(seed));
      std::fflush(stdout);
    }
    const std::string problem = try_seed(seed, folder.path, failures);
    (problem.empty() ? right : wrong) += 1;
    if (!problem.empty()) UNSCOPED_INFO("seed " << seed << ": " << problem << "; again with KONTOR_SEED=" << seed << " build/tests/test_fault \"[storage]\"");
    if (wrong > 10) break;
  }
  CHECK(wrong == 0);
  if (!one) CHECK(failures > static_cast<int>(count) / 2);
  std::printf("seeds %llu to %llu, %d with a failure, %d violations\n", static_cast<unsigned long long>(first), static_cast<unsigned long long>(first + count - 1), failures, wrong);
  kontor::test::count_cases("failing disks", right, wrong);
}
