#pragma once
// Items of a loop on several threads. Only one of them has the run's baton; the others wait for tools, models, the disk.

#include "agent/run_context.hpp"

#include <cstddef>
#include <functional>

namespace kontor::agent {

/// How many threads a loop may use: bounded by its own limit, by its items and by what the run already uses. 1: none.
int loop_threads(const RunContext& run, std::int64_t max_parallel, std::size_t items);

/// Calls `work(thread, index)` for ascending indices until one returns false; returns when all threads are done. Called
/// with the baton, returns with it; `work` runs with it too.
void run_parallel(RunContext& run, std::size_t threads, std::size_t items, const std::function<bool(std::size_t thread, std::size_t index)>& work);

}  // namespace kontor::agent
