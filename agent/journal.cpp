#include "agent/journal.hpp"

#include "base/hash.hpp"

#include <fcntl.h>
#include <sqlite3.h>
#include <sys/file.h>
#include <sys/random.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <filesystem>
#include <mutex>

namespace kontor::agent {
namespace {

constexpr int kFormat = 1;
constexpr int kBusyTimeoutMs = 20'000;
constexpr const char* kSchema = R"(
CREATE TABLE IF NOT EXISTS runs(
  id TEXT PRIMARY KEY, name TEXT NOT NULL, file TEXT NOT NULL, status TEXT NOT NULL, note TEXT NOT NULL,
  created_ms INTEGER NOT NULL, updated_ms INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS events(
  run TEXT NOT NULL, seq INTEGER NOT NULL, unix_ms INTEGER NOT NULL, type TEXT NOT NULL, step TEXT NOT NULL,
  data TEXT NOT NULL, hash TEXT NOT NULL, PRIMARY KEY(run, seq)) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS runs_by_time ON runs(created_ms);
)";

/// A prepared statement; resets itself.
class Statement {
 public:
  Statement(sqlite3* db, const char* sql) { sqlite3_prepare_v2(db, sql, -1, &statement_, nullptr); }
  Statement(const Statement&) = delete;
  Statement& operator=(const Statement&) = delete;
  ~Statement() { sqlite3_finalize(statement_); }

  Statement& bind(const std::string& text) {
    sqlite3_bind_text64(statement_, ++bound_, text.data(), text.size(), SQLITE_TRANSIENT, SQLITE_UTF8);
    return *this;
  }
  Statement& bind(std::int64_t value) {
    sqlite3_bind_int64(statement_, ++bound_, value);
    return *this;
  }
  int step() { return statement_ ? sqlite3_step(statement_) : SQLITE_ERROR; }
  std::string text(int column) const {
    const auto* bytes = reinterpret_cast<const char*>(sqlite3_column_text(statement_, column));
    return bytes ? std::string(bytes, static_cast<std::size_t>(sqlite3_column_bytes(statement_, column))) : std::string();
  }
  std::int64_t integer(int column) const { return sqlite3_column_int64(statement_, column); }

 private:
  sqlite3_stmt* statement_ = nullptr;
  int bound_ = 0;
};

/// Time first, so ids sort by age; then chance, so that two processes do not meet.
std::string new_id(std::int64_t unix_ms) {
  const std::time_t seconds = unix_ms / 1000;
  std::tm utc{};
  gmtime_r(&seconds, &utc);
  std::uint32_t chance = 0;
  if (::getrandom(&chance, sizeof chance, 0) != sizeof chance) chance = static_cast<std::uint32_t>(unix_ms * 2654435761u) ^ ::getpid();
  char id[40];
  std::snprintf(id, sizeof id, "%04d%02d%02d-%02d%02d%02d-%06x", utc.tm_year + 1900, utc.tm_mon + 1, utc.tm_mday,
                utc.tm_hour, utc.tm_min, utc.tm_sec, chance & 0xffffff);
  return id;
}

std::string chain_hash(const std::string& previous, const std::string& run, const JournalEvent& event, const std::string& data) {
  // Lengths keep the fields apart; no two different rows write the same text.
  std::string text = previous;
  for (const std::string& field : {run, std::to_string(event.seq), std::to_string(event.unix_ms), event.type, event.step, data}) {
    text += '\n' + std::to_string(field.size()) + ':' + field;
  }
  return sha256_hex(text);
}

std::string dump(const Json& data) { return data.dump(-1, ' ', false, Json::error_handler_t::replace); }

RunRow read_row(const Statement& statement) {
  RunRow row;
  row.id = statement.text(0), row.name = statement.text(1), row.file = statement.text(2);
  row.status = statement.text(3), row.note = statement.text(4);
  row.created_ms = statement.integer(5), row.updated_ms = statement.integer(6);
  return row;
}

constexpr const char* kRowColumns = "SELECT id, name, file, status, note, created_ms, updated_ms FROM runs ";

bool is_run_id(const std::string& id) {
  if (id.empty() || id.size() > 64) return false;
  return id.find_first_not_of("0123456789abcdefghijklmnopqrstuvwxyz-") == std::string::npos;
}

}  // namespace

struct Journal::Database {
  sqlite3* db = nullptr;
  std::mutex mutex;
  ~Database() { sqlite3_close_v2(db); }

  Result<void> execute(const char* sql) {
    char* message = nullptr;
    if (sqlite3_exec(db, sql, nullptr, nullptr, &message) == SQLITE_OK) return {};
    std::string text = message ? message : sqlite3_errmsg(db);
    sqlite3_free(message);
    return fail(Errc::io, "journal: " + text, "journal");
  }
  Error error(const std::string& action) const { return fail(Errc::io, "journal: " + action + ": " + sqlite3_errmsg(db), "journal"); }
};

RunLock& RunLock::operator=(RunLock&& other) noexcept {
  std::swap(fd_, other.fd_);
  return *this;
}

RunLock::~RunLock() {
  if (fd_ >= 0) ::close(fd_);
}

std::string default_state_folder() {
  if (const char* state = std::getenv("XDG_STATE_HOME"); state && *state) return std::string(state) + "/kontor";
  if (const char* home = std::getenv("HOME"); home && *home) return std::string(home) + "/.local/state/kontor";
  return ".kontor";
}

Journal::Journal(std::string folder, const Clock& clock) : folder_(std::move(folder)), clock_(clock) {}
Journal::~Journal() = default;

Result<std::unique_ptr<Journal>> Journal::open(const std::string& folder, const Clock& clock) {
  std::error_code code;
  std::filesystem::create_directories(folder + "/locks", code);
  if (code) return fail(Errc::io, "cannot create " + folder + ": " + code.message(), "journal");
  // Runs hold business data: only the owner reads them.
  std::filesystem::permissions(folder, std::filesystem::perms::owner_all, code);
  std::unique_ptr<Journal> journal(new Journal(folder, clock));
  journal->database_ = std::make_unique<Database>();
  auto& database = *journal->database_;
  const std::string path = folder + "/journal.db";
  if (sqlite3_open_v2(path.c_str(), &database.db, SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_NOMUTEX, nullptr) != SQLITE_OK) {
    return fail(Errc::io, "cannot open " + path + ": " + (database.db ? sqlite3_errmsg(database.db) : "out of memory"), "journal");
  }
  sqlite3_busy_timeout(database.db, kBusyTimeoutMs);
  std::int64_t format = 0;
  {
    Statement version(database.db, "PRAGMA user_version");
    const int rc = version.step();
    if (rc == SQLITE_NOTADB || rc == SQLITE_CORRUPT) return fail(Errc::malformed, path + " is not a Kontor journal", "journal");
    if (rc != SQLITE_ROW) return database.error("open " + path);
    format = version.integer(0);
  }
  if (format > kFormat) return fail(Errc::unsupported, path + " was written by a newer Kontor", "journal");
  if (auto set = database.execute("PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL; PRAGMA trusted_schema=OFF;"); !set) return set.error();
  if (format == 0) {
    const std::string create = std::string("BEGIN IMMEDIATE;") + kSchema + "PRAGMA user_version=" + std::to_string(kFormat) + ";COMMIT;";
    if (auto made = database.execute(create.c_str()); !made) return made.error();
  }
  return journal;
}

void Journal::set_sync(Sync sync) {
  std::lock_guard guard(database_->mutex);
  const char* sql = sync == Sync::step ? "PRAGMA synchronous=FULL" : sync == Sync::batch ? "PRAGMA synchronous=NORMAL" : "PRAGMA synchronous=OFF";
  (void)database_->execute(sql);
}

Result<RunLock> Journal::lock(const std::string& id) const {
  if (!is_run_id(id)) return fail(Errc::usage, "'" + id.substr(0, 64) + "' is not a run id");
  const std::string path = folder_ + "/locks/" + id + ".lock";
  const int fd = ::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
  if (fd < 0) return fail_errno("open", path);
  if (::flock(fd, LOCK_EX | LOCK_NB) != 0) {
    char pid[24] = {};
    const auto got = ::pread(fd, pid, sizeof pid - 1, 0);
    ::close(fd);
    return fail(Errc::conflict, "run " + id + " is being worked on by another process" + (got > 0 ? std::string(" (pid ") + pid + ")" : std::string()), "run_locked");
  }
  const std::string pid = std::to_string(::getpid());
  if (::ftruncate(fd, 0) != 0 || ::pwrite(fd, pid.data(), pid.size(), 0) < 0) {
    // The pid is only for the message of others; the lock itself holds.
  }
  return RunLock(fd);
}

bool Journal::is_held(const std::string& id) const {
  const int fd = ::open((folder_ + "/locks/" + id + ".lock").c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) return false;
  const bool held = ::flock(fd, LOCK_SH | LOCK_NB) != 0 && errno == EWOULDBLOCK;
  ::close(fd);
  return held;
}

Result<void> Journal::write(const std::string& id, const JournalEvent& event, const std::string& status, const std::string& note,
                            const RunRow* created) {
  std::lock_guard guard(database_->mutex);
  sqlite3* db = database_->db;
  if (auto begun = database_->execute("BEGIN IMMEDIATE"); !begun) return begun;
  const auto undo = [&](const std::string& action) -> Error {
    Error error = database_->error(action);
    (void)database_->execute("ROLLBACK");
    return error;
  };
  if (created) {
    Statement insert(db, "INSERT INTO runs VALUES(?, ?, ?, ?, '', ?, ?)");
    insert.bind(id).bind(created->name).bind(created->file).bind(status).bind(event.unix_ms).bind(event.unix_ms);
    if (insert.step() != SQLITE_DONE) return undo("create run");
  }
  {
    Statement insert(db, "INSERT INTO events VALUES(?, ?, ?, ?, ?, ?, ?)");
    insert.bind(id).bind(event.seq).bind(event.unix_ms).bind(event.type).bind(event.step).bind(dump(event.data)).bind(event.hash);
    if (insert.step() != SQLITE_DONE) return undo("append event");
  }
  if (!status.empty() && !created) {
    Statement update(db, "UPDATE runs SET status=?, note=?, updated_ms=? WHERE id=?");
    update.bind(status).bind(note).bind(event.unix_ms).bind(id);
    if (update.step() != SQLITE_DONE) return undo("change status");
  }
  if (auto done = database_->execute("COMMIT"); !done) {
    (void)database_->execute("ROLLBACK");
    return done;
  }
  return {};
}

Result<RunLog> Journal::create(const std::string& name, const std::string& file, const Json& data) {
  RunLog log;
  log.journal_ = this;
  JournalEvent event;
  event.seq = 1;
  event.unix_ms = clock_.unix_ms();
  event.type = "run_created";
  event.data = data;
  log.id_ = new_id(event.unix_ms);
  auto held = lock(log.id_);
  if (!held) return held.error();
  log.lock_ = std::move(*held);
  event.hash = chain_hash("", log.id_, event, dump(data));
  RunRow row;
  row.name = name, row.file = file;
  if (auto written = write(log.id_, event, "running", "", &row); !written) return written.error();
  log.seq_ = 1;
  log.hash_ = event.hash;
  return log;
}

Result<RunLog> Journal::reopen(const std::string& id) {
  auto held = lock(id);
  if (!held) return held.error();
  auto list = events(id);
  if (!list) return list.error();
  if (list->empty()) return fail(Errc::not_found, "no run " + id);
  RunLog log;
  log.journal_ = this;
  log.id_ = id;
  log.lock_ = std::move(*held);
  log.seq_ = list->back().seq;
  log.hash_ = list->back().hash;
  return log;
}

Result<void> RunLog::append(const std::string& type, const std::string& step, const Json& data, const std::string& status,
                            const std::string& note) {
  if (broken_) return fail(Errc::io, "journal: an earlier write failed; the run stopped", "journal");
  JournalEvent event;
  event.seq = seq_ + 1;
  event.unix_ms = journal_->clock_.unix_ms();
  event.type = type, event.step = step, event.data = data;
  event.hash = chain_hash(hash_, id_, event, dump(data));
  if (auto written = journal_->write(id_, event, status, note, nullptr); !written) {
    broken_ = true;
    return written;
  }
  seq_ = event.seq;
  hash_ = event.hash;
  return {};
}

Result<RunRow> Journal::find(const std::string& prefix) {
  std::lock_guard guard(database_->mutex);
  if (prefix.empty()) {
    Statement latest(database_->db, (std::string(kRowColumns) + "ORDER BY created_ms DESC, id DESC LIMIT 1").c_str());
    if (latest.step() != SQLITE_ROW) return fail(Errc::not_found, "there are no runs in " + folder_);
    return read_row(latest);
  }
  if (!is_run_id(prefix)) return fail(Errc::usage, "'" + prefix.substr(0, 64) + "' is not a run id");
  Statement query(database_->db, (std::string(kRowColumns) + "WHERE id >= ? AND id < ? || 'z~' ORDER BY id LIMIT 50").c_str());
  query.bind(prefix).bind(prefix);
  std::vector<RunRow> rows;
  while (query.step() == SQLITE_ROW) rows.push_back(read_row(query));
  std::erase_if(rows, [&](const RunRow& row) { return row.id.rfind(prefix, 0) != 0; });
  for (const auto& row : rows) {
    if (row.id == prefix) return row;
  }
  if (rows.empty()) return fail(Errc::not_found, "no run begins with '" + prefix + "' in " + folder_);
  if (rows.size() > 1) return fail(Errc::usage, "'" + prefix + "' fits several runs: " + rows[0].id + ", " + rows[1].id);
  return rows.front();
}

Result<std::vector<RunRow>> Journal::list(std::size_t limit) {
  std::lock_guard guard(database_->mutex);
  Statement query(database_->db, (std::string(kRowColumns) + "ORDER BY created_ms DESC, id DESC LIMIT ?").c_str());
  query.bind(static_cast<std::int64_t>(limit));
  std::vector<RunRow> rows;
  int rc;
  while ((rc = query.step()) == SQLITE_ROW) rows.push_back(read_row(query));
  if (rc != SQLITE_DONE) return database_->error("list runs");
  return rows;
}

Result<std::vector<JournalEvent>> Journal::events(const std::string& id) {
  std::lock_guard guard(database_->mutex);
  Statement query(database_->db, "SELECT seq, unix_ms, type, step, data, hash FROM events WHERE run=? ORDER BY seq");
  query.bind(id);
  std::vector<JournalEvent> events;
  std::string previous;
  int rc;
  while ((rc = query.step()) == SQLITE_ROW) {
    JournalEvent event;
    event.seq = query.integer(0), event.unix_ms = query.integer(1);
    event.type = query.text(2), event.step = query.text(3), event.hash = query.text(5);
    const std::string text = query.text(4);
    const auto broken = [&](const std::string& why) {
      return fail(Errc::malformed, "journal: run " + id + ", event " + std::to_string(event.seq) + ": " + why, "journal_chain");
    };
    if (event.seq != static_cast<std::int64_t>(events.size()) + 1) return broken("an event before it is missing");
    if (chain_hash(previous, id, event, text) != event.hash) return broken("the row was changed after it was written");
    auto data = parse_json(text, {.depth = 512, .bytes = 256u << 20});
    if (!data) return broken(data.error().describe());
    event.data = std::move(*data);
    previous = event.hash;
    events.push_back(std::move(event));
  }
  if (rc != SQLITE_DONE) return database_->error("read run " + id);
  return events;
}

}  // namespace kontor::agent
