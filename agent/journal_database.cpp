#include "agent/journal_database.hpp"

#include <sqlite3.h>

#include <algorithm>
#include <cstdio>
#include <filesystem>
#include <utility>

namespace kontor::agent {
namespace {

constexpr int kBusyTimeoutMs = 20'000;
// What the log holds before it is moved into the database. Little keeps the files of a short run small; moving takes two
// syncs more, so the log of a large database may be longer.
constexpr std::int64_t kLogBytes = 256 << 10, kLogBytesMost = 4 << 20;
// NORMAL is the least: the log is synced before it is moved and the database after it, whichever run's commit it was that moved it.
constexpr int kSynchronousNormal = 1, kSynchronousFull = 2;

}  // namespace

Statement::Statement(sqlite3* db, const char* sql) { prepare(db, sql); }
Statement::~Statement() { finalize(); }

void Statement::finalize() {
  sqlite3_finalize(statement_);
  statement_ = nullptr;
}

void Statement::prepare(sqlite3* db, const char* sql) {
  if (statement_ == nullptr) sqlite3_prepare_v2(db, sql, -1, &statement_, nullptr);
}

Statement& Statement::use() {
  reset();
  bound_ = 0;
  return *this;
}

Statement& Statement::bind(const std::string& text) {
  sqlite3_bind_text64(statement_, ++bound_, text.data(), text.size(), SQLITE_STATIC, SQLITE_UTF8);
  return *this;
}

Statement& Statement::bind(std::int64_t value) {
  sqlite3_bind_int64(statement_, ++bound_, value);
  return *this;
}

int Statement::step() { return statement_ != nullptr ? sqlite3_step(statement_) : SQLITE_ERROR; }
void Statement::reset() { sqlite3_reset(statement_); }

std::string Statement::text(int column) const {
  const auto* bytes = reinterpret_cast<const char*>(sqlite3_column_text(statement_, column));
  return bytes ? std::string(bytes, static_cast<std::size_t>(sqlite3_column_bytes(statement_, column))) : std::string();
}

std::int64_t Statement::integer(int column) const { return sqlite3_column_int64(statement_, column); }

Journal::Database::~Database() {
  for (Statement* statement : {&begin_, &commit_, &rollback_, &insert_event_, &insert_run_, &update_run_, &forget_marks_, &insert_mark_, &replace_mark_}) statement->finalize();
  sqlite3_close_v2(db);
}

Result<void> Journal::Database::open(const std::string& path, const char* vfs) {
  if (sqlite3_open_v2(path.c_str(), &db, SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_NOMUTEX, vfs) != SQLITE_OK) {
    return fail(Errc::io, "cannot open " + path + ": " + (db ? sqlite3_errmsg(db) : "out of memory"), "journal");
  }
  sqlite3_extended_result_codes(db, 1);
  sqlite3_busy_timeout(db, kBusyTimeoutMs);
  sqlite3_wal_hook(
      db,
      [](void* self, sqlite3*, const char*, int pages) {
        static_cast<Database*>(self)->log_pages_ = pages;
        return SQLITE_OK;
      },
      this);
  return {};
}

Result<void> Journal::Database::open_to_read(const std::string& path) {
  // What SQLite needs beside a database with a log cannot be made here. Without a log the file says everything.
  std::error_code code;
  if (const auto bytes = std::filesystem::file_size(path + "-wal", code); !code && bytes > 0) {
    return fail(Errc::unsupported, path + " has a log (journal.db-wal), which can be read only where it may be written: copy the folder", "journal");
  }
  std::string uri = "file:";
  for (const char c : path) {
    char escaped[4];
    std::snprintf(escaped, sizeof escaped, "%%%02X", static_cast<unsigned char>(c));
    uri += c == '%' || c == '?' || c == '#' ? std::string(escaped) : std::string(1, c);
  }
  if (sqlite3_open_v2((uri + "?immutable=1").c_str(), &db, SQLITE_OPEN_READONLY | SQLITE_OPEN_URI | SQLITE_OPEN_NOMUTEX, nullptr) != SQLITE_OK) {
    return fail(Errc::io, "cannot open " + path + ": " + (db ? sqlite3_errmsg(db) : "out of memory"), "journal");
  }
  sqlite3_extended_result_codes(db, 1);
  read_only_ = path + " may only be read";
  const auto found = format(path);
  if (!found) return found.error();
  if (!is_current_format(*found)) return fail(Errc::unsupported, path + " was written by another version of Kontor: copy the folder to where it may be written", "journal");
  return execute("PRAGMA trusted_schema=OFF");
}

Result<void> Journal::Database::execute(const char* sql) {
  char* message = nullptr;
  if (sqlite3_exec(db, sql, nullptr, nullptr, &message) == SQLITE_OK) return {};
  std::string text = message ? message : sqlite3_errmsg(db);
  sqlite3_free(message);
  return fail(Errc::io, "journal: " + text, "journal");
}

Error Journal::Database::error(const std::string& action) const { return fail(Errc::io, "journal: " + action + ": " + sqlite3_errmsg(db), "journal"); }

std::string Journal::Database::read_only_reason() {
  std::lock_guard guard(mutex);
  return read_only_;
}

void Journal::Database::enqueue(const std::shared_ptr<JournalWrite>& write) {
  std::lock_guard guard(queue_mutex_);
  queue_.push_back(write);
}

Result<void> Journal::Database::wait(const std::shared_ptr<JournalWrite>& write) {
  std::unique_lock lock(queue_mutex_);
  while (!write->done) {
    if (writing_) {
      changed_.wait(lock);
      continue;
    }
    writing_ = true;
    const Batch batch = std::exchange(queue_, {});
    lock.unlock();
    write_batch(batch);
    lock.lock();
    for (const auto& written : batch) written->done = true;
    writing_ = false;
    changed_.notify_all();
  }
  return write->result;
}

void Journal::Database::note_failure(int code, const std::string& message) {
  if (code != SQLITE_IOERR_FSYNC && code != SQLITE_IOERR_DIR_FSYNC) return;
  read_only_ = "the store is read-only, because a sync to the disk failed (" + message + "); what was written before it may be lost. " +
               "Check the disk, then start Kontor again";
}

bool Journal::Database::is_move_due(const Batch& coming) {
  std::int64_t bytes = 0;
  for (const auto& write : coming) bytes += static_cast<std::int64_t>(write->data.size());
  if (due_at_ == 0) due_at_ = log_pages_allowed();
  return log_pages_ + bytes / page_bytes_ + 1 >= due_at_;
}

std::int64_t Journal::Database::pragma(const char* sql) {
  Statement query(db, sql);
  return query.step() == SQLITE_ROW ? query.integer(0) : 0;
}

std::int64_t Journal::Database::log_pages_allowed() {
  // A journal that an earlier Kontor made has pages of another size.
  if (page_bytes_ == 0) page_bytes_ = std::max<std::int64_t>(pragma("PRAGMA page_size"), 512);
  return std::clamp(pragma("PRAGMA page_count") * page_bytes_ / 2, kLogBytes, kLogBytesMost) / page_bytes_;
}

Result<void> Journal::Database::move_log(bool synced) {
  int in_log = 0, moved = -1;
  const int rc = sqlite3_wal_checkpoint_v2(db, nullptr, SQLITE_CHECKPOINT_PASSIVE, &in_log, &moved);
  const bool all = rc == SQLITE_OK && moved == in_log;
  log_pages_ = all ? 0 : log_pages_;
  due_at_ = all ? log_pages_allowed() : log_pages_ + kLogBytes / page_bytes_;  // Somebody reads: later.
  if (rc != SQLITE_OK) note_failure(rc, sqlite3_errmsg(db));
  if (read_only_.empty() && (all || !synced)) return {};
  if (read_only_.empty()) {
    sqlite3_file* log = nullptr;
    if (sqlite3_file_control(db, "main", SQLITE_FCNTL_JOURNAL_POINTER, &log) != SQLITE_OK || log == nullptr || log->pMethods == nullptr) return error("sync");
    const int synced_rc = log->pMethods->xSync(log, SQLITE_SYNC_NORMAL);
    if (synced_rc == SQLITE_OK) return {};
    note_failure(SQLITE_IOERR_FSYNC, sqlite3_errstr(synced_rc));
  }
  return fail(Errc::io, "journal: " + read_only_, "journal");
}

Result<void> Journal::Database::begin(bool synced) {
  const int level = synced ? kSynchronousFull : kSynchronousNormal;
  if (level != level_) {
    if (auto set = execute(synced ? "PRAGMA synchronous=FULL" : "PRAGMA synchronous=NORMAL"); !set) return set;
    level_ = level;
  }
  begin_.prepare(db, "BEGIN IMMEDIATE");
  const int rc = begin_.use().step();
  begin_.reset();
  if (rc != SQLITE_DONE) return error("begin");
  return {};
}

Result<void> Journal::Database::finish(Statement& statement, const char* action) {
  if (statement.step() == SQLITE_DONE) {
    statement.reset();
    return {};
  }
  const Error problem = error(action);
  statement.reset();
  return problem;
}

Result<void> Journal::Database::write_mark(const JournalMark& mark, std::int64_t now_ms) {
  forget_marks_.prepare(db, "DELETE FROM marks WHERE expires_ms BETWEEN 1 AND ?");
  forget_marks_.use().bind(now_ms);
  if (auto done = finish(forget_marks_, "forget marks"); !done) return done;
  if (!mark.once) {
    replace_mark_.prepare(db, "INSERT OR REPLACE INTO marks VALUES(?, ?, ?)");
    replace_mark_.use().bind(mark.key).bind(mark.value).bind(mark.expires_ms);
    return finish(replace_mark_, "keep mark");
  }
  insert_mark_.prepare(db, "INSERT OR IGNORE INTO marks VALUES(?, ?, ?)");
  insert_mark_.use().bind(mark.key).bind(mark.value).bind(mark.expires_ms);
  if (auto done = finish(insert_mark_, "keep mark"); !done) return done;
  if (sqlite3_changes(db) == 0) return fail(Errc::conflict, "what should start this run has started one already", kRepeated);
  return {};
}

Result<void> Journal::Database::keep(const JournalMark& mark, std::int64_t now_ms) {
  std::lock_guard guard(mutex);
  if (!read_only_.empty()) return fail(Errc::io, "journal: " + read_only_, "journal");
  if (auto begun = begin(true); !begun) return begun;
  auto done = write_mark(mark, now_ms);
  return done ? commit() : undo(done.error());
}

Result<void> Journal::Database::write_one(const JournalWrite& write) {
  const JournalEvent& event = write.event;
  if (write.mark) {
    if (auto kept = write_mark(*write.mark, event.unix_ms); !kept) return kept;
  }
  if (write.created) {
    insert_run_.prepare(db, "INSERT INTO runs VALUES(?, ?, ?, ?, '', ?, ?, (SELECT ifnull(max(place), 0) >> 32 FROM events) + 1)");
    insert_run_.use().bind(write.run).bind(write.created->name).bind(write.created->file).bind(write.status).bind(event.unix_ms).bind(event.unix_ms);
    if (auto done = finish(insert_run_, "create run"); !done) {
      if (sqlite3_extended_errcode(db) == SQLITE_CONSTRAINT_PRIMARYKEY) return fail(Errc::conflict, done.error().message, kIdTaken);
      return done;
    }
  }
  insert_event_.prepare(db, "INSERT INTO events VALUES((SELECT number FROM runs WHERE id=?1) << 32 | ?2, ?2, ?3, ?4, ?5, ?6, ?7)");
  insert_event_.use().bind(write.run).bind(event.seq).bind(event.unix_ms).bind(event.type).bind(event.step).bind(write.data).bind(event.hash);
  if (auto done = finish(insert_event_, "append event"); !done) return done;
  if (write.status.empty() || write.created) return {};
  update_run_.prepare(db, "UPDATE runs SET status=?, note=?, updated_ms=? WHERE id=?");
  update_run_.use().bind(write.status).bind(write.note).bind(event.unix_ms).bind(write.run);
  return finish(update_run_, "change status");
}

Result<void> Journal::Database::write_all(const Batch& batch) {
  if (!read_only_.empty()) return fail(Errc::io, "journal: " + read_only_, "journal");
  bool synced = false;
  for (const auto& write : batch) synced = synced || write->synced;
  // The log is synced before it is moved: then the batch needs no sync of its own.
  const bool moves = is_move_due(batch);
  if (auto begun = begin(synced && !moves); !begun) return begun;
  for (const auto& write : batch) {
    if (auto written = write_one(*write); !written) {
      note_failure(sqlite3_extended_errcode(db), written.error().message);
      return undo(written.error());
    }
  }
  if (auto committed = commit(); !committed) return committed;
  return moves ? move_log(synced) : Result<void>();
}

Result<void> Journal::Database::commit() {
  commit_.prepare(db, "COMMIT");
  const int rc = commit_.use().step();
  if (rc == SQLITE_DONE) {
    commit_.reset();
    return {};
  }
  const Error problem = error("commit");
  note_failure(sqlite3_extended_errcode(db), problem.message);
  commit_.reset();
  return undo(problem);
}

Error Journal::Database::undo(Error because) {
  rollback_.prepare(db, "ROLLBACK");
  rollback_.use().step();
  rollback_.reset();
  return because;
}

void Journal::Database::write_batch(const Batch& batch) {
  std::lock_guard guard(mutex);
  const Result<void> together = write_all(batch);
  if (together || batch.size() == 1) {
    for (const auto& write : batch) write->result = together;
    return;
  }
  // One bad event must not take the others with it.
  for (const auto& write : batch) write->result = write_all({write});
}

}  // namespace kontor::agent
