#include "agent/call_threads.hpp"

#include <condition_variable>
#include <deque>
#include <mutex>
#include <thread>

namespace kontor::agent {

struct CallThreads::Shared {
  std::mutex mutex;
  std::condition_variable changed;
  std::deque<std::function<void()>> waiting;
  std::size_t idle = 0;
  bool over = false;
};

CallThreads::CallThreads() : shared_(std::make_shared<Shared>()) {}

CallThreads::~CallThreads() {
  std::lock_guard guard(shared_->mutex);
  shared_->over = true;
  shared_->changed.notify_all();
}

void CallThreads::start(std::function<void()> work) {
  std::unique_lock lock(shared_->mutex);
  shared_->waiting.push_back(std::move(work));
  if (shared_->idle >= shared_->waiting.size()) {
    shared_->changed.notify_one();
    return;
  }
  lock.unlock();
  std::thread([shared = shared_] {
    std::unique_lock inner(shared->mutex);
    for (;;) {
      if (!shared->waiting.empty()) {
        const auto next = std::move(shared->waiting.front());
        shared->waiting.pop_front();
        inner.unlock();
        next();
        inner.lock();
      } else if (shared->over) {
        return;
      } else {
        ++shared->idle;
        shared->changed.wait(inner);
        --shared->idle;
      }
    }
  }).detach();
}

}  // namespace kontor::agent
