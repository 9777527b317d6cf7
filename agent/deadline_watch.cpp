#include "agent/deadline_watch.hpp"

#include <algorithm>
#include <condition_variable>
#include <mutex>
#include <thread>
#include <vector>

namespace kontor::agent {

struct DeadlineWatch::Shared {
  struct Watched {
    std::uint64_t number;
    std::stop_source stop;
    Clock::time_point limit;
  };
  std::mutex mutex;
  std::condition_variable changed;
  std::vector<Watched> calls;  // As many as threads that work: a few.
  std::uint64_t numbers = 0;
  Clock::time_point wakes = Clock::time_point::max();
  bool over = false;
  std::thread thread;

  void work() {
    std::unique_lock lock(mutex);
    while (!over) {
      wakes = Clock::time_point::max();
      for (const auto& call : calls) wakes = std::min(wakes, call.limit);
      if (wakes == Clock::time_point::max()) changed.wait(lock);
      else changed.wait_until(lock, wakes);
      std::vector<std::stop_source> late;
      const auto now = Clock::now();
      std::erase_if(calls, [&](Watched& call) {
        if (call.limit > now) return false;
        late.push_back(std::move(call.stop));
        return true;
      });
      if (late.empty()) continue;
      // What listens to the stop may take its time.
      lock.unlock();
      for (auto& stop : late) stop.request_stop();
      lock.lock();
    }
  }
};

DeadlineWatch::DeadlineWatch() : shared_(std::make_unique<Shared>()) {}

DeadlineWatch::~DeadlineWatch() {
  {
    std::lock_guard guard(shared_->mutex);
    shared_->over = true;
  }
  shared_->changed.notify_all();
  if (shared_->thread.joinable()) shared_->thread.join();
}

std::uint64_t DeadlineWatch::begin(std::stop_source stop, Clock::time_point limit) {
  Shared& shared = *shared_;
  std::lock_guard guard(shared.mutex);
  if (!shared.thread.joinable()) shared.thread = std::thread([&shared] { shared.work(); });
  shared.calls.push_back({++shared.numbers, std::move(stop), limit});
  if (limit < shared.wakes) shared.changed.notify_one();
  return shared.numbers;
}

bool DeadlineWatch::end(std::uint64_t watched) {
  std::lock_guard guard(shared_->mutex);
  return std::erase_if(shared_->calls, [&](const auto& call) { return call.number == watched; }) > 0;
}

}  // namespace kontor::agent
