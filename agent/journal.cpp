#include "agent/journal.hpp"

#include "agent/journal_database.hpp"
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

constexpr const char* kLocked = "run_locked";
constexpr const char* kRowColumns = "SELECT id, name, file, status, note, created_ms, updated_ms FROM runs ";

bool is_run_id(const std::string& id) {
  if (id.empty() || id.size() > 64) return false;
  return id.find_first_not_of("0123456789abcdefghijklmnopqrstuvwxyz-") == std::string::npos;
}

}  // namespace

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

namespace {

/// A journal is there, and this process may not write beside it.
bool may_only_be_read(const std::string& folder, const std::string& path) {
  if (::access(path.c_str(), R_OK) != 0 || ::faccessat(AT_FDCWD, folder.c_str(), W_OK, AT_EACCESS) == 0) return false;
  return errno == EACCES || errno == EROFS;
}

}  // namespace

Result<std::unique_ptr<Journal>> Journal::open(const std::string& folder, const Clock& clock, const char* vfs) {
  if (const std::string path = folder + "/journal.db"; may_only_be_read(folder, path)) {
    std::unique_ptr<Journal> journal(new Journal(folder, clock));
    journal->database_ = std::make_unique<Database>();
    if (auto opened = journal->database_->open_to_read(path); !opened) return opened.error();
    return journal;
  }
  std::error_code code;
  std::filesystem::create_directories(folder + "/locks", code);
  if (code) return fail(Errc::io, "cannot create " + folder + ": " + code.message() + "; --runs DIR names another folder", "journal");
  // Runs hold business data: only the owner reads them.
  std::filesystem::permissions(folder, std::filesystem::perms::owner_all, code);
  std::unique_ptr<Journal> journal(new Journal(folder, clock));
  journal->database_ = std::make_unique<Database>();
  auto& database = *journal->database_;
  const std::string path = folder + "/journal.db";
  if (auto opened = database.open(path, vfs); !opened) return opened.error();
  if (auto made = database.make_tables(path); !made) return made.error();
  return journal;
}

std::string Journal::read_only_reason() const { return database_->read_only_reason(); }

Result<RunLock> Journal::lock(const std::string& id) const {
  if (!is_run_id(id)) return fail(Errc::usage, "'" + id.substr(0, 64) + "' is not a run id");
  const std::string path = folder_ + "/locks/" + id + ".lock";
  const int fd = ::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
  if (fd < 0) return fail_errno("open", path);
  if (::flock(fd, LOCK_EX | LOCK_NB) != 0) {
    char pid[24] = {};
    const auto got = ::pread(fd, pid, sizeof pid - 1, 0);
    ::close(fd);
    return fail(Errc::conflict, "run " + id + " is being worked on by another process" + (got > 0 ? std::string(" (pid ") + pid + ")" : std::string()), kLocked);
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

Result<RunLog> Journal::create(const std::string& name, const std::string& file, const Json& data, const std::optional<JournalMark>& mark, JournalSync sync) {
  // Ids are unique by chance only: two runs of the same second may draw the same one.
  constexpr int kDraws = 64;
  for (int draw = 1;; ++draw) {
    auto log = create_once(name, file, data, mark, sync);
    if (log || log.error().kind != kIdTaken || draw == kDraws) return log;
  }
}

Result<RunLog> Journal::create_once(const std::string& name, const std::string& file, const Json& data, const std::optional<JournalMark>& mark, JournalSync sync) {
  RunLog log;
  log.sync_ = sync;
  log.journal_ = this;
  auto write = std::make_shared<JournalWrite>();
  JournalEvent& event = write->event;
  event.seq = 1;
  event.unix_ms = clock_.unix_ms();
  event.type = "run_created";
  log.id_ = write->run = new_id(event.unix_ms);
  auto held = lock(log.id_);
  if (!held) return held.error().kind == kLocked ? fail(Errc::conflict, held.error().message, kIdTaken) : held.error();
  log.lock_ = std::move(*held);
  write->data = dump(data);
  event.hash = chain_hash("", log.id_, event, write->data);
  write->status = "running";
  write->created = std::make_unique<RunRow>();
  write->created->name = name, write->created->file = file;
  write->mark = mark;
  write->synced = sync == JournalSync::step;
  log.end_->seq = 1;
  log.end_->hash = event.hash;
  database_->enqueue(write);
  if (auto written = database_->wait(write); !written) return written.error();
  return log;
}

Result<void> Journal::keep(const JournalMark& mark) { return database_->keep(mark, clock_.unix_ms()); }

Result<std::int64_t> Journal::kept(const std::string& key) {
  std::lock_guard guard(database_->mutex);
  Statement query(database_->db, "SELECT value FROM marks WHERE key=? AND (expires_ms=0 OR expires_ms>?)");
  query.bind(key).bind(clock_.unix_ms());
  const int rc = query.step();
  if (rc == SQLITE_ROW) return query.integer(0);
  if (rc == SQLITE_DONE) return fail(Errc::not_found, "there is no such mark");
  return database_->error("read mark");
}

Result<RunLog> Journal::reopen(const std::string& id, std::vector<JournalEvent>* read) {
  auto held = lock(id);
  if (!held) return held.error();
  auto list = events(id);
  if (!list) return list.error();
  if (list->empty()) return fail(Errc::not_found, "no run " + id);
  RunLog log;
  log.journal_ = this;
  log.id_ = id;
  log.lock_ = std::move(*held);
  log.end_->seq = list->back().seq;
  log.end_->hash = list->back().hash;
  if (read) *read = std::move(*list);
  return log;
}

Result<void> RunLog::append(const std::string& type, const std::string& step, const Json& data, const std::string& status,
                            const std::string& note, Durable durable) {
  auto write = std::make_shared<JournalWrite>();
  write->run = id_;
  write->data = dump(data);
  write->status = status, write->note = note;
  write->synced = sync_ == JournalSync::step && durable == Durable::now;
  JournalEvent& event = write->event;
  event.type = type, event.step = step;
  {
    // Number, hash and place in the queue belong together.
    std::lock_guard guard(end_->mutex);
    if (end_->broken) {
      const std::string reason = journal_->read_only_reason();
      return fail(Errc::io, "journal: " + (reason.empty() ? "an earlier write failed; the run stopped" : reason), "journal");
    }
    event.seq = end_->seq + 1;
    event.unix_ms = journal_->clock_.unix_ms();
    event.hash = chain_hash(end_->hash, id_, event, write->data);
    end_->seq = event.seq;
    end_->hash = event.hash;
    journal_->database_->enqueue(write);
  }
  auto written = journal_->database_->wait(write);
  if (!written) {
    std::lock_guard guard(end_->mutex);
    end_->broken = true;
  }
  return written;
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
  Statement query(database_->db, "SELECT seq, unix_ms, type, step, data, hash FROM events "
                                 "WHERE place BETWEEN (SELECT number FROM runs WHERE id=?1) << 32 AND ((SELECT number FROM runs WHERE id=?1) + 1) << 32 ORDER BY place");
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
