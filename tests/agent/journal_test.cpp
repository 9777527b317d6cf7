#include "agent/journal.hpp"
#include "agent/history.hpp"
#include "tests/support/catch.hpp"

#include <sqlite3.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <filesystem>
#include <fstream>
#include <thread>

using namespace kontor;
using namespace kontor::agent;

namespace {

struct Folder {
  Folder() {
    std::string pattern = (std::filesystem::temp_directory_path() / "kontor-journal-XXXXXX").string();
    path = ::mkdtemp(pattern.data());
  }
  ~Folder() { std::filesystem::remove_all(path); }
  std::string path;
};

void execute(const std::string& folder, const char* sql) {
  sqlite3* db = nullptr;
  REQUIRE(sqlite3_open((folder + "/journal.db").c_str(), &db) == SQLITE_OK);
  REQUIRE(sqlite3_exec(db, sql, nullptr, nullptr, nullptr) == SQLITE_OK);
  sqlite3_close(db);
}

}  // namespace

TEST_CASE("runs of the same second do not fail because they draw the same id", "[agent][journal]") {
  // 24 bits of chance: of 20,000 ids about a dozen are drawn twice. The last hundred runs are still open.
  Folder folder;
  ManualClock clock(1'790'000'000'000);
  auto journal = Journal::open(folder.path, clock);
  REQUIRE(journal.has_value());
  std::vector<RunLog> open(100);
  int created = 0;
  for (int i = 0; i < 20'000; ++i) {
    auto log = (*journal)->create("triage", "/a/agent.yaml", Json::object(), {}, JournalSync::off);
    if (!log) FAIL(log.error().describe());
    created += log.has_value();
    open[static_cast<std::size_t>(i) % open.size()] = std::move(*log);
  }
  CHECK(created == 20'000);
  CHECK((*journal)->list(30'000)->size() == 20'000);
}

TEST_CASE("events come back in order with their data", "[agent][journal]") {
  Folder folder;
  ManualClock clock(1'790'000'000'000);
  std::string id;
  {
    auto journal = Journal::open(folder.path, clock);
    REQUIRE(journal.has_value());
    auto log = (*journal)->create("triage", "/a/agent.yaml", Json{{"yaml", "kontor: 1"}});
    REQUIRE(log.has_value());
    id = log->id();
    CHECK(id.rfind("2026", 0) == 0);
    clock.advance_ms(5);
    REQUIRE(log->append("generation", "decide#1", Json{{"text", "Grüße \x01 ️"}, {"n", 4800.5}}).has_value());
    REQUIRE(log->append("run_finished", "", Json::object(), "done", "all good").has_value());
  }
  auto journal = Journal::open(folder.path, clock);
  auto events = (*journal)->events(id);
  REQUIRE(events.has_value());
  REQUIRE(events->size() == 3);
  CHECK((*events)[1].data.at("text") == Json("Grüße \x01 ️"));
  CHECK((*events)[1].unix_ms == 1'790'000'000'005);
  CHECK((*events)[1].step == "decide#1");
  auto row = (*journal)->find("");
  REQUIRE(row.has_value());
  CHECK(row->id == id);
  CHECK(row->status == "done");
  CHECK(row->note == "all good");
  CHECK((*journal)->find(id.substr(0, 10))->id == id);
  CHECK(!(*journal)->find("19"));
  CHECK(!(*journal)->find("%' OR 1"));
}

TEST_CASE("a changed, removed or moved row is noticed", "[agent][journal]") {
  for (const char* sql : {"UPDATE events SET data='{\"amount\":1}' WHERE seq=2", "DELETE FROM events WHERE seq=2", "UPDATE events SET step='x' WHERE seq=3",
                          "UPDATE events SET unix_ms=unix_ms+1 WHERE seq=1"}) {
    Folder folder;
    std::string id;
    {
      auto journal = Journal::open(folder.path);
      auto log = (*journal)->create("a", "f", Json::object());
      id = log->id();
      REQUIRE(log->append("x", "1", Json{{"amount", 2}}).has_value());
      REQUIRE(log->append("y", "2", Json{{"amount", 3}}).has_value());
    }
    execute(folder.path, sql);
    auto journal = Journal::open(folder.path);
    auto events = (*journal)->events(id);
    REQUIRE(!events);
    CHECK(events.error().kind == "journal_chain");
    CHECK(!(*journal)->reopen(id));
  }
}

TEST_CASE("one process at a time works on a run, and the other is told who", "[agent][journal]") {
  Folder folder;
  auto journal = Journal::open(folder.path);
  std::string id;
  {
    auto log = (*journal)->create("a", "f", Json::object());
    id = log->id();
    CHECK((*journal)->is_held(id));
    auto second = (*journal)->reopen(id);
    REQUIRE(!second);
    CHECK(second.error().code == Errc::conflict);
    CHECK(second.error().message.find(std::to_string(::getpid())) != std::string::npos);
  }
  CHECK(!(*journal)->is_held(id));
  auto again = (*journal)->reopen(id);
  REQUIRE(again.has_value());
  REQUIRE(again->append("run_resumed", "", Json::object()).has_value());
  CHECK((*journal)->events(id)->size() == 2);
}

TEST_CASE("after a failed write nothing more is written", "[agent][journal]") {
  Folder folder;
  auto journal = Journal::open(folder.path);
  auto log = (*journal)->create("a", "f", Json::object());
  execute(folder.path, "CREATE TRIGGER full BEFORE INSERT ON events BEGIN SELECT RAISE(ABORT, 'disk full'); END");
  auto written = log->append("x", "", Json::object());
  REQUIRE(!written);
  CHECK(written.error().message.find("disk full") != std::string::npos);
  execute(folder.path, "DROP TRIGGER full");
  CHECK(!log->append("y", "", Json::object()));
  CHECK((*journal)->events(log->id())->size() == 1);
}

TEST_CASE("a journal of the first format is read, goes on, and keeps its chain", "[agent][journal]") {
  Folder folder;
  std::vector<std::string> ids;
  {
    auto journal = Journal::open(folder.path);
    for (int i = 0; i < 3; ++i) {
      auto log = (*journal)->create("a", "f", Json{{"run", i}});
      REQUIRE(log.has_value());
      ids.push_back(log->id());
      for (int event = 0; event <= i; ++event) REQUIRE(log->append("x", std::to_string(event), Json{{"n", event}}).has_value());
    }
  }
  // As the first format had it.
  execute(folder.path, "ALTER TABLE events RENAME TO new_events; ALTER TABLE runs RENAME TO new_runs;"
                       "CREATE TABLE runs(id TEXT PRIMARY KEY, name TEXT NOT NULL, file TEXT NOT NULL, status TEXT NOT NULL, note TEXT NOT NULL,"
                       "  created_ms INTEGER NOT NULL, updated_ms INTEGER NOT NULL) WITHOUT ROWID;"
                       "CREATE TABLE events(run TEXT NOT NULL, seq INTEGER NOT NULL, unix_ms INTEGER NOT NULL, type TEXT NOT NULL, step TEXT NOT NULL,"
                       "  data TEXT NOT NULL, hash TEXT NOT NULL, PRIMARY KEY(run, seq)) WITHOUT ROWID;"
                       "INSERT INTO runs SELECT id, name, file, status, note, created_ms, updated_ms FROM new_runs;"
                       "INSERT INTO events SELECT (SELECT id FROM new_runs WHERE number = place >> 32), seq, unix_ms, type, step, data, hash FROM new_events;"
                       "DROP TABLE new_events; DROP TABLE new_runs; DROP TABLE marks; CREATE INDEX runs_by_time ON runs(created_ms); PRAGMA user_version=1");
  for (int opened = 0; opened < 2; ++opened) {
    auto journal = Journal::open(folder.path);
    REQUIRE(journal.has_value());
    for (int i = 0; i < 3; ++i) {
      auto log = (*journal)->reopen(ids[static_cast<std::size_t>(i)]);
      REQUIRE(log.has_value());
      REQUIRE(log->append("more", "", Json::object()).has_value());
      const auto events = (*journal)->events(log->id());
      REQUIRE(events.has_value());
      REQUIRE(events->size() == static_cast<std::size_t>(i + 3 + opened));
      CHECK((*events)[0].data == Json{{"run", i}});
    }
    auto log = (*journal)->create("b", "f", Json::object());
    REQUIRE(log.has_value());
    CHECK((*journal)->events(log->id())->size() == 1);
    CHECK((*journal)->list(10)->size() == static_cast<std::size_t>(4 + opened));
  }
}

TEST_CASE("a mark is kept with the run or not at all, and counts for other processes and later ones", "[agent][journal]") {
  Folder folder;
  ManualClock clock(1'790'000'000'000);
  const std::int64_t now = clock.unix_ms();
  const JournalMark message{"message:a", 7, true, now + 600'000}, schedule{"schedule:a", 100};
  std::string id;
  {
    auto journal = Journal::open(folder.path, clock), other = Journal::open(folder.path, clock);
    auto log = (*journal)->create("a", "f", Json::object(), message);
    REQUIRE(log.has_value());
    id = log->id();
    auto again = (*other)->create("a", "f", Json::object(), message);
    REQUIRE(!again);
    CHECK(again.error().kind == kRepeated);
    CHECK((*other)->list(10)->size() == 1);
    CHECK((*other)->kept("message:a").value() == 7);
    // A refused run breaks neither the store nor the others.
    CHECK(log->append("x", "", Json::object()).has_value());
    CHECK((*other)->create("b", "f", Json::object(), schedule).has_value());
    CHECK(!(*other)->kept("message:b"));
  }
  auto journal = Journal::open(folder.path, clock);
  CHECK(!(*journal)->create("a", "f", Json::object(), message));
  CHECK((*journal)->kept("schedule:a").value() == 100);
  REQUIRE((*journal)->keep({"schedule:a", 200}).has_value());
  CHECK((*journal)->kept("schedule:a").value() == 200);
  CHECK((*journal)->list(10)->size() == 2);
  clock.advance_ms(600'000);
  CHECK(!(*journal)->kept("message:a"));
  CHECK((*journal)->create("a", "f", Json::object(), JournalMark{"message:a", 8, true, now + 1'200'000}).has_value());
  CHECK((*journal)->kept("schedule:a").value() == 200);
  CHECK((*journal)->events(id)->size() == 2);
}

TEST_CASE("of many threads with one mark, one makes a run", "[agent][journal]") {
  Folder folder;
  auto journal = Journal::open(folder.path);
  for (int round = 0; round < 5; ++round) {
    const JournalMark mark{"message:" + std::to_string(round), 0, true, system_clock().unix_ms() + 600'000};
    std::atomic<int> made = 0, refused = 0;
    {
      std::vector<std::jthread> threads;
      for (int i = 0; i < 8; ++i) {
        threads.emplace_back([&] {
          auto log = (*journal)->create("a", "f", Json::object(), mark);
          if (log) ++made;
          else if (log.error().kind == kRepeated) ++refused;
        });
      }
    }
    CHECK(made == 1);
    CHECK(refused == 7);
  }
  CHECK((*journal)->list(100)->size() == 5);
}

TEST_CASE("something else than a journal is refused and left alone", "[agent][journal]") {
  Folder folder;
  std::ofstream(folder.path + "/journal.db") << std::string(5000, 'x');
  auto journal = Journal::open(folder.path);
  REQUIRE(!journal);
  CHECK(std::filesystem::file_size(folder.path + "/journal.db") == 5000);
}

TEST_CASE("the history tells what waits for a person", "[agent][journal]") {
  const auto event = [](const char* type, const char* step, Json data) {
    JournalEvent made;
    made.type = type, made.step = step, made.data = std::move(data);
    return made;
  };
  std::vector<JournalEvent> events = {event("approval_requested", "pay/0", Json{{"tool", "erp.pay"}, {"binding", "b1"}, {"who", Json::array({"finance"})}}),
                                      event("call_intent", "pay/1", Json{{"tool", "erp.pay"}}), event("call_unknown", "pay/1", Json{{"tool", "erp.pay"}, {"reason", "crash"}})};
  auto pending = History(events).pending();
  REQUIRE(pending.size() == 2);
  CHECK(pending[0].call == "pay/0");
  CHECK(pending[0].who == std::vector<std::string>{"finance"});
  CHECK(!pending[0].is_unknown);
  CHECK(pending[1].is_unknown);
  events.push_back(event("approval_decided", "pay/0", Json{{"decision", "approve"}}));
  events.push_back(event("call_resolved", "pay/1", Json{{"state", "not_happened"}}));
  CHECK(History(events).pending().empty());
  // Tried again after "not happened", and cut off again: open once more.
  events.push_back(event("call_intent", "pay/1", Json{{"tool", "erp.pay"}}));
  CHECK(History(events).resolution("pay/1") == nullptr);
  events.push_back(event("call_unknown", "pay/1", Json{{"tool", "erp.pay"}}));
  CHECK(History(events).pending().size() == 1);
}

TEST_CASE("a journal in a folder that may only be read is read, and nothing is written to it", "[journal]") {
  const Folder folder;
  std::string id;
  {
    auto journal = Journal::open(folder.path);
    REQUIRE(journal.has_value());
    auto log = (*journal)->create("demo", "a.yaml", Json::object());
    REQUIRE(log.has_value());
    REQUIRE(log->append("run_finished", "", Json{{"status", "done"}}, "done").has_value());
    id = log->id();
  }
  REQUIRE_FALSE(std::filesystem::exists(folder.path + "/journal.db-wal"));
  namespace fs = std::filesystem;
  fs::permissions(folder.path + "/journal.db", fs::perms::owner_read | fs::perms::group_read | fs::perms::others_read);
  const auto locked = fs::perms::owner_read | fs::perms::owner_exec | fs::perms::group_read | fs::perms::group_exec | fs::perms::others_read | fs::perms::others_exec;
  fs::permissions(folder.path, locked);
  // Root may write everywhere: a child looks as somebody else.
  const pid_t child = ::fork();
  REQUIRE(child >= 0);
  if (child == 0) {
    if (::geteuid() == 0 && (::setresgid(65534, 65534, 65534) != 0 || ::setresuid(65534, 65534, 65534) != 0)) _exit(10);
    auto journal = Journal::open(folder.path);
    if (!journal) _exit(11);
    const auto rows = (*journal)->list(5);
    if (!rows || rows->size() != 1 || rows->front().status != "done") _exit(12);
    const auto events = (*journal)->events(id);
    if (!events || events->size() != 2) _exit(13);
    if ((*journal)->read_only_reason().find("may only be read") == std::string::npos) _exit(14);
    if ((*journal)->create("demo", "a.yaml", Json::object())) _exit(15);
    if ((*journal)->reopen(id)) _exit(16);
    _exit(0);
  }
  int status = 0;
  REQUIRE(::waitpid(child, &status, 0) == child);
  CHECK(WEXITSTATUS(status) == 0);
  fs::permissions(folder.path, fs::perms::owner_all);
  CHECK((*Journal::open(folder.path))->events(id)->size() == 2);
}
