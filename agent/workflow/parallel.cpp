#include "agent/workflow/parallel.hpp"

#include <algorithm>
#include <thread>
#include <vector>

namespace kontor::agent {
namespace {

constexpr int kThreadsOfARun = 64;

}  // namespace

int loop_threads(const RunContext& run, std::int64_t max_parallel, std::size_t items) {
  if (!run.log) return 1;  // A replay has nothing to wait for.
  const auto free = static_cast<std::int64_t>(kThreadsOfARun - run.loop_threads);
  return static_cast<int>(std::max<std::int64_t>(1, std::min({max_parallel, free, static_cast<std::int64_t>(items)})));
}

void run_parallel(RunContext& run, std::size_t threads, std::size_t items, const std::function<bool(std::size_t, std::size_t)>& work) {
  std::size_t next = 0;  // Under the baton.
  run.loop_threads += static_cast<int>(threads);
  {
    Pause others_may_work(run);
    std::vector<std::jthread> workers;
    for (std::size_t thread = 0; thread < threads; ++thread) {
      workers.emplace_back([&, thread] {
        std::lock_guard turn(run.baton);
        while (next < items) {
          if (!work(thread, next++)) next = items;
        }
      });
    }
  }
  run.loop_threads -= static_cast<int>(threads);
}

}  // namespace kontor::agent
