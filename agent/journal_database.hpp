#pragma once
// The SQLite connection behind a journal. Events that are waiting to be written share one transaction and one sync
// (group commit). Internal to the journal.

#include "agent/journal.hpp"

#include <condition_variable>
#include <deque>
#include <memory>
#include <mutex>
#include <optional>
#include <string>

struct sqlite3;
struct sqlite3_stmt;

namespace kontor::agent {

/// A prepared statement that is kept; `use` clears what was bound before.
class Statement {
 public:
  Statement() = default;
  Statement(sqlite3* db, const char* sql);
  Statement(const Statement&) = delete;
  Statement& operator=(const Statement&) = delete;
  ~Statement();

  void prepare(sqlite3* db, const char* sql);
  Statement& use();
  Statement& bind(const std::string& text);
  Statement& bind(std::int64_t value);
  int step();
  std::string text(int column) const;
  std::int64_t integer(int column) const;
  /// Ends the use: a statement that is not reset keeps the database from being checkpointed.
  void reset();
  void finalize();

 private:
  sqlite3_stmt* statement_ = nullptr;
  int bound_ = 0;
};

/// Kind of the error of a new run whose id another one has.
inline constexpr const char* kIdTaken = "id_taken";

/// One event on its way to the disk.
struct JournalWrite {
  std::string run;
  JournalEvent event;
  std::string data;                ///< `event.data` as the text that is stored and hashed.
  std::string status, note;        ///< New status of the run; "" keeps it.
  std::unique_ptr<RunRow> created; ///< For the first event of a run.
  std::optional<JournalMark> mark; ///< Together with the event.
  bool synced = true;              ///< On the disk when it is written.

  bool done = false;               ///< Guarded by the database's queue.
  Result<void> result;
};

/// Thread-safe.
struct Journal::Database {
  sqlite3* db = nullptr;
  std::mutex mutex;                ///< The connection.

  ~Database();
  Result<void> open(const std::string& path, const char* vfs);
  /// A journal that may be read and not written (a copy, another person's): nothing is changed, and every write is an
  /// error. Errors: io, unsupported (another format; events that only lie in its log).
  Result<void> open_to_read(const std::string& path);
  Result<void> execute(const char* sql);
  /// Makes the tables, or those of an older format new, in one transaction. Errors: malformed, unsupported (newer), io.
  Result<void> make_tables(const std::string& path);
  Error error(const std::string& action) const;

  /// Hands an event over; events are written in the order of these calls.
  void enqueue(const std::shared_ptr<JournalWrite>& write);
  /// Returns when the event is written as durably as it asks for. Whoever comes first writes for all.
  Result<void> wait(const std::shared_ptr<JournalWrite>& write);

  /// A mark alone, synced.
  Result<void> keep(const JournalMark& mark, std::int64_t now_ms);

  std::string read_only_reason();

 private:
  using Batch = std::deque<std::shared_ptr<JournalWrite>>;
  void write_batch(const Batch& batch);
  Result<void> write_all(const Batch& batch);
  Result<void> write_one(const JournalWrite& write);
  Result<void> write_mark(const JournalMark& mark, std::int64_t now_ms);
  Result<void> finish(Statement& statement, const char* action);
  Result<void> begin(bool synced);
  Result<void> commit();
  /// Rolls back; returns the reason.
  Error undo(Error because);
  Result<std::int64_t> format(const std::string& path) const;
  static bool is_current_format(std::int64_t found);
  /// After a failed sync nobody knows what is on the disk: nothing more is written.
  void note_failure(int code, const std::string& message);
  /// Whether the log will have reached its bound with these. SQLite's own way of moving it keeps failed syncs to itself.
  bool is_move_due(const Batch& coming);
  /// Moves what was committed into the database. `synced`: when it returns without an error, all of it is on the disk; where
  /// a reader keeps a part from being moved, by a sync of the log.
  Result<void> move_log(bool synced);
  std::int64_t log_pages_allowed();
  std::int64_t pragma(const char* sql);

  std::mutex queue_mutex_;
  std::condition_variable changed_;
  Batch queue_;
  bool writing_ = false;

  Statement begin_, commit_, rollback_, insert_event_, insert_run_, update_run_, forget_marks_, insert_mark_, replace_mark_;
  int level_ = -1;                 ///< SQLite's `synchronous` as it is set now.
  std::int64_t log_pages_ = 0, due_at_ = 0, page_bytes_ = 0;  ///< 0: not looked at yet.
  std::string read_only_;
};

}  // namespace kontor::agent
