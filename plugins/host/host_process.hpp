#pragma once
// One host process from its start to its end, and the calls in it.

#include "base/error.hpp"
#include "plugins/host/frame.hpp"
#include "plugins/host/instance.hpp"
#include "plugins/host/process.hpp"
#include "tools/brief_wait.hpp"

#include <sys/types.h>

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <deque>
#include <map>
#include <mutex>
#include <optional>
#include <stop_token>
#include <string>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

namespace kontor::plugins {

/// Callers read the answers themselves: whoever waits and finds nobody reading does it for all, so that a call alone costs
/// no switch between threads. Another thread only waits for the end of the process. Thread-safe.
class HostProcess {
 public:
  /// Owns the process, its socket, and an event (eventfd, non-blocking) that wakes who reads.
  HostProcess(pid_t pid, int socket, int wake, std::string name, const ProcessOptions& options);
  ~HostProcess();
  HostProcess(const HostProcess&) = delete;
  HostProcess& operator=(const HostProcess&) = delete;

  bool dead() const;

  /// The first message of a process and the text of the answer to it. Errors as create_instance; cancelled, timeout, io.
  Result<std::string> load(std::vector<std::string> fields, const std::stop_token& stop);

  /// Ends soon after it is asked to stop, whatever the process does. Empty when the process was already gone, so that
  /// nothing of the call can have happened.
  std::optional<Answer> call(const CallRequest& request, bool serial);

 private:
  using Lock = std::unique_lock<std::mutex>;
  using Time = std::chrono::steady_clock::time_point;

  struct Pending {
    bool done = false;
    Answer answer;
    std::optional<Error> refusal;
    std::optional<std::pair<double, std::string>> progress;  ///< The latest that was not yet handed on.
    std::optional<std::string> partial;                      ///< The longest that was not yet handed on.
    std::deque<Frame> talk;                                  ///< Messages, questions, contents not yet handed on.
    bool stirred() const { return done || progress || partial || !talk.empty(); }
  };

  static Error refusal(std::vector<std::string>& fields);
  static std::optional<Frame> hand_on(const Frame& frame, const CallRequest& request);

  // All with the lock held; those that are given it let go of it in between.
  bool wait(Lock& lock, Pending& pending, const CallRequest& request, Time deadline);
  bool await(Lock& lock, const Pending& pending, const std::stop_token& stop, Time deadline);
  void read_some(Lock& lock, const Pending& reader, Time deadline);
  void take_all();
  bool take(Frame& frame);
  void stop_call(Lock& lock, std::uint64_t id, Pending& pending);
  std::size_t send(Lock& lock, std::string_view bytes, const std::stop_token& stop, Time deadline);
  bool send_frame(Lock& lock, const Frame& frame, const std::stop_token& stop, std::chrono::milliseconds patience);
  void kill_group();
  bool wait_for_end(Lock& lock);
  void give_up_reading(std::string why);

  void wake() const;
  void watch();

  const pid_t pid_;
  const int socket_, wake_;
  const std::string name_;
  const ProcessOptions options_;
  mutable std::mutex mutex_;
  std::condition_variable_any changed_;
  std::map<std::uint64_t, Pending*> pending_;
  std::atomic<std::uint64_t> next_call_{1};
  FrameReader frames_;               ///< Of who reads.
  tools::BriefWait brief_;           ///< Of who reads.
  const Pending* reader_ = nullptr;  ///< For which call somebody reads now.
  bool leaving_ = false;             ///< The process has ended: who reads is to stop.
  bool closed_ = false;              ///< There is nothing more to read.
  bool sending_ = false;             ///< Somebody writes, without the lock.
  bool dead_ = false, reaped_ = false;
  std::string kill_reason_, why_dead_;
  std::thread watcher_;
};

}  // namespace kontor::plugins
