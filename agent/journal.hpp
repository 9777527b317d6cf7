#pragma once
// The journal: every run as a list of events in one SQLite file. An event is durable before the call returns (WAL,
// synchronous=FULL), rows are linked by a hash chain, and a run is written by one process at a time.

#include "base/clock.hpp"
#include "base/error.hpp"
#include "base/json.hpp"

#include <nlohmann/json.hpp>

#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

namespace kontor::agent {

/// One row. `step` is the place in the workflow ("each/0/decide"), "" for the run itself. The types and their data
/// are listed in docs/runs.md.
struct JournalEvent {
  std::int64_t seq = 0;      ///< From 1, without gaps.
  std::int64_t unix_ms = 0;
  std::string type;
  std::string step;
  Json data = Json::object();
  std::string hash;          ///< SHA-256 over the previous hash and this row.
};

/// What `runs list` shows; derived from the events and kept beside them.
struct RunRow {
  std::string id;
  std::string name;          ///< `name:` of the agent file.
  std::string file;
  std::string status;        ///< running parked unknown interrupted budget error done failed cancelled
  std::string note;          ///< One line: what it waits for, why it failed.
  std::int64_t created_ms = 0, updated_ms = 0;
};

/// The right to write one run; released on destruction and by the end of the process.
class RunLock {
 public:
  RunLock() = default;
  explicit RunLock(int fd) : fd_(fd) {}
  RunLock(RunLock&& other) noexcept : fd_(other.fd_) { other.fd_ = -1; }
  RunLock& operator=(RunLock&& other) noexcept;
  ~RunLock();

 private:
  int fd_ = -1;
};

class Journal;

/// A note kept beside the runs: until when a schedule was followed, or which message started a run. Written together with
/// the run that follows from it, so that neither a crash nor a second process makes two runs of it or none.
struct JournalMark {
  std::string key;
  std::int64_t value = 0;
  bool once = false;            ///< Refused where the key is there already; otherwise the value replaces the former one.
  std::int64_t expires_ms = 0;  ///< Unix time from which it counts no more; 0: never.
};

/// When an event must be on the disk. Either way it survives the end of the process, and never before an earlier one.
enum class Durable {
  now,    ///< Before `append` returns.
  later,  ///< With the next event that is `now`: what is lost with the machine's power is simply done again.
};

/// durability.sync of a run: each `now` event is synced, or (batch, off) none for itself. The file is shared: moving its log syncs
/// in any case, since what other runs had synced must not come to lie in a database that is not.
enum class JournalSync { step, batch, off };

/// One run, open for writing. Thread-safe; events have the order of the calls.
class RunLog {
 public:
  RunLog() = default;
  RunLog(RunLog&&) = default;
  RunLog& operator=(RunLog&&) = default;

  /// Appends one event and, when `status` is not empty, changes the run's status in the same transaction. Calls of
  /// several threads share a transaction. After the first failure every further append fails: a run never continues
  /// past a hole. Errors: io.
  Result<void> append(const std::string& type, const std::string& step, const Json& data, const std::string& status = {},
                      const std::string& note = {}, Durable durable = Durable::now);
  const std::string& id() const { return id_; }
  /// For the events from now on.
  void set_sync(JournalSync sync) { sync_ = sync; }

 private:
  friend class Journal;
  JournalSync sync_ = JournalSync::step;
  Journal* journal_ = nullptr;
  std::string id_;
  RunLock lock_;
  struct End {
    std::mutex mutex;
    std::int64_t seq = 0;
    std::string hash;
    bool broken = false;
  };
  std::unique_ptr<End> end_ = std::make_unique<End>();
};

/// Kind of the error of a mark that is there already.
inline constexpr const char* kRepeated = "repeated";

/// Thread-safe; one writer per run.
class Journal {
 public:
  /// Opens or creates `folder`/journal.db. `vfs`: name of SQLite's file layer, for tests. Errors: io, malformed (not a
  /// journal), unsupported (newer format).
  static Result<std::unique_ptr<Journal>> open(const std::string& folder, const Clock& clock = system_clock(), const char* vfs = nullptr);
  ~Journal();

  /// Creates a run with its first event (`run_created`) and locks it. Durable on return, with `sync` step. Errors: io, and conflict (kind
  /// kRepeated) where `mark` is there already; then there is no run.
  Result<RunLog> create(const std::string& name, const std::string& file, const Json& data, const std::optional<JournalMark>& mark = {}, JournalSync sync = JournalSync::step);
  /// Keeps a mark without a run. Durable on return. Errors: as `create`.
  Result<void> keep(const JournalMark& mark);
  /// The value of a mark that counts still. Errors: not_found, io.
  Result<std::int64_t> kept(const std::string& key);
  /// Opens a run for writing. Errors: conflict (another process holds it; the message has its pid), malformed (the
  /// hash chain is broken), not_found.
  /// `read`: receives the events, which were read and checked anyway.
  Result<RunLog> reopen(const std::string& id, std::vector<JournalEvent>* read = nullptr);

  /// `prefix`: the id, its beginning, or "" for the latest run. Errors: not_found, usage (ambiguous).
  Result<RunRow> find(const std::string& prefix);
  /// Latest first.
  Result<std::vector<RunRow>> list(std::size_t limit);
  /// All events in order, with the chain checked. Errors: malformed (kind journal_chain).
  Result<std::vector<JournalEvent>> events(const std::string& id);
  /// Is a process writing this run now?
  bool is_held(const std::string& id) const;

  /// Why nothing can be written any more, or "": after a failed sync the store is read-only until it is opened again.
  std::string read_only_reason() const;
  const std::string& folder() const { return folder_; }

 private:
  friend class RunLog;
  struct Database;
  Journal(std::string folder, const Clock& clock);
  Result<RunLock> lock(const std::string& id) const;
  /// Errors: as create, and conflict (kind kIdTaken): another run has the id that was drawn.
  Result<RunLog> create_once(const std::string& name, const std::string& file, const Json& data, const std::optional<JournalMark>& mark, JournalSync sync);

  std::string folder_;
  const Clock& clock_;
  std::unique_ptr<Database> database_;
};

/// $XDG_STATE_HOME/kontor, else ~/.local/state/kontor, else .kontor in the current folder.
std::string default_state_folder();

}  // namespace kontor::agent
