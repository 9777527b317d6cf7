#pragma once
// Threads on which tools are called, so that a call can be left behind when its time is over. Idle ones are used again.

#include <functional>
#include <memory>

namespace kontor::agent {

/// Thread-safe. Threads that are busy outlive the object; they own what they need.
class CallThreads {
 public:
  CallThreads();
  ~CallThreads();
  CallThreads(const CallThreads&) = delete;
  CallThreads& operator=(const CallThreads&) = delete;

  /// Starts `work` at once, on an idle thread or a new one.
  void start(std::function<void()> work);

 private:
  struct Shared;
  std::shared_ptr<Shared> shared_;
};

}  // namespace kontor::agent
