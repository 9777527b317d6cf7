#include "inference/cpu/thread_pool.hpp"

#include <algorithm>
#include <system_error>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace kontor::inference::cpu {
namespace {

/// Spins before sleeping: some 50 microseconds, longer than the gap between two loops of one token.
constexpr int kSpins = 2000;
/// Spins of the caller before it gives its time slice away (other programs may hold the workers' cores).
constexpr int kSpinsBeforeYield = 4000;

void pause_briefly() {
#if defined(__x86_64__)
  _mm_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

}  // namespace

ThreadPool::ThreadPool(int threads) : threads_(std::clamp(threads, 1, 256)) {}

ThreadPool::~ThreadPool() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
    generation_.fetch_add(1);
  }
  wake_.notify_all();
}

void ThreadPool::start() {
  workers_.reserve(static_cast<std::size_t>(threads_ - 1));
  try {
    for (int thread = 1; thread < threads_; ++thread) workers_.emplace_back([this, thread] { work(thread); });
  } catch (const std::system_error&) {
    // The system gives no more threads: those that run do the work.
  }
  started_ = true;
}

void ThreadPool::take_pieces(int thread) {
  for (;;) {
    const std::int64_t begin = next_.fetch_add(grain_, std::memory_order_relaxed);
    if (begin >= count_) return;
    call_(context_, begin, std::min(begin + grain_, count_), thread);
  }
}

void ThreadPool::run(std::int64_t count, std::int64_t grain, Call call, const void* context) {
  if (!started_) start();
  call_ = call;
  context_ = context;
  count_ = count;
  grain_ = grain;
  next_.store(0, std::memory_order_relaxed);
  busy_.store(static_cast<int>(workers_.size()), std::memory_order_relaxed);
  generation_.fetch_add(1);  // Sequentially consistent with the sleepers' check: either they see it or we see them.
  if (sleepers_.load() > 0) {
    { const std::lock_guard lock(mutex_); }
    wake_.notify_all();
  }
  take_pieces(0);
  for (int spins = 0; busy_.load(std::memory_order_acquire) > 0; ++spins) {
    if (spins < kSpinsBeforeYield) pause_briefly();
    else std::this_thread::yield();
  }
}

void ThreadPool::work(int thread) {
  std::uint32_t seen = 0;
  for (;;) {
    int spins = 0;
    while (generation_.load(std::memory_order_acquire) == seen && spins < kSpins) ++spins, pause_briefly();
    if (generation_.load() == seen) {
      std::unique_lock lock(mutex_);
      sleepers_.fetch_add(1);
      wake_.wait(lock, [&] { return generation_.load() != seen; });
      sleepers_.fetch_sub(1);
    }
    if (stopping_) return;
    ++seen;  // A loop ends only after every worker has seen it, so generations come one by one.
    take_pieces(thread);
    busy_.fetch_sub(1, std::memory_order_release);
  }
}

}  // namespace kontor::inference::cpu
