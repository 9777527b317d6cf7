#include "agent/journal_database.hpp"

#include <sqlite3.h>

namespace kontor::agent {
namespace {

constexpr int kFormat = 3;
// Every commit puts whole pages into the log, and an event takes a few hundred bytes: with small pages the log lasts longer until
// it has to be moved, which costs syncs. Only a new file takes it.
constexpr const char* kSettings = "PRAGMA page_size=2048; PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL; PRAGMA trusted_schema=OFF;";
constexpr const char* kRuns = R"(
CREATE TABLE runs(
  id TEXT PRIMARY KEY, name TEXT NOT NULL, file TEXT NOT NULL, status TEXT NOT NULL, note TEXT NOT NULL,
  created_ms INTEGER NOT NULL, updated_ms INTEGER NOT NULL, number INTEGER NOT NULL DEFAULT 0) WITHOUT ROWID;
CREATE INDEX runs_by_time ON runs(created_ms);
)";
// `place` is the number of the run and, in its lower 32 bits, that of the event: by this key an append changes half as many
// pages as by (run, seq).
constexpr const char* kEvents = R"(
CREATE TABLE events(
  place INTEGER PRIMARY KEY, seq INTEGER NOT NULL, unix_ms INTEGER NOT NULL, type TEXT NOT NULL, step TEXT NOT NULL,
  data TEXT NOT NULL, hash TEXT NOT NULL);
)";
constexpr const char* kMarks = R"(
CREATE TABLE marks(key TEXT PRIMARY KEY, value INTEGER NOT NULL, expires_ms INTEGER NOT NULL) WITHOUT ROWID;
CREATE INDEX marks_by_expiry ON marks(expires_ms);
)";
constexpr const char* kFromFormat1 = R"(
ALTER TABLE runs ADD COLUMN number INTEGER NOT NULL DEFAULT 0;
UPDATE runs SET number = counted.number FROM (SELECT id, row_number() OVER (ORDER BY created_ms, id) AS number FROM runs) AS counted
  WHERE counted.id = runs.id;
INSERT INTO events SELECT (SELECT number FROM runs WHERE id = run) << 32 | seq, seq, unix_ms, type, step, data, hash FROM events_1;
DROP TABLE events_1;
)";

}  // namespace

Result<std::int64_t> Journal::Database::format(const std::string& path) const {
  Statement version(db, "PRAGMA user_version");
  const int rc = version.step() & 0xff;
  if (rc == SQLITE_NOTADB || rc == SQLITE_CORRUPT) return fail(Errc::malformed, path + " is not a Kontor journal", "journal");
  if (rc != SQLITE_ROW) return error("open " + path);
  return version.integer(0);
}

bool Journal::Database::is_current_format(std::int64_t found) { return found == kFormat; }

Result<void> Journal::Database::make_tables(const std::string& path) {
  const auto found = format(path);
  if (!found) return found.error();
  if (*found > kFormat) return fail(Errc::unsupported, path + " was written by a newer Kontor", "journal");
  if (auto set = execute(kSettings); !set) return set;
  if (*found == kFormat) return {};
  if (auto begun = execute("BEGIN IMMEDIATE"); !begun) return begun;
  const auto changed = [&]() -> Result<void> {
    const auto now = format(path);  // Another process may have been first.
    if (!now) return now.error();
    if (*now == kFormat) return {};
    std::string script = kMarks;
    if (*now == 0) script += std::string(kRuns) + kEvents;
    if (*now == 1) script += std::string("ALTER TABLE events RENAME TO events_1;") + kEvents + kFromFormat1;
    return execute((script + "PRAGMA user_version=" + std::to_string(kFormat)).c_str());
  };
  if (auto done = changed(); !done) {
    (void)execute("ROLLBACK");
    return done;
  }
  return execute("COMMIT");
}

}  // namespace kontor::agent
