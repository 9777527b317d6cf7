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

constexpr int kPieceBits = 20;
constexpr std::int64_t kPiecesMax = (std::int64_t{1} << kPieceBits) - 1;

std::int64_t next_of(std::uint64_t state) { return static_cast<std::int64_t>(state & kPiecesMax); }
std::int64_t pieces_of(std::uint64_t state) { return static_cast<std::int64_t>(state >> kPieceBits & kPiecesMax); }

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
  std::uint64_t state = state_.load();
  while (next_of(state) < pieces_of(state)) {
    if (!state_.compare_exchange_weak(state, state + 1)) continue;
    const std::int64_t begin = next_of(state) * grain_;
    call_(context_, begin, std::min(begin + grain_, count_), thread);
    done_.fetch_add(1, std::memory_order_release);
    state = state_.load();
  }
}

void ThreadPool::run(std::int64_t count, std::int64_t grain, Call call, const void* context) {
  if (!started_) start();
  grain = std::max(grain, count / kPiecesMax + 1);
  const std::int64_t pieces = (count + grain - 1) / grain;
  call_ = call;
  context_ = context;
  count_ = count;
  grain_ = grain;
  done_.store(0, std::memory_order_relaxed);
  const std::uint64_t loop = (state_.load(std::memory_order_relaxed) >> 2 * kPieceBits) + 1;
  // Sequentially consistent with the sleepers' check: either they see it or we see them.
  state_.store(loop << 2 * kPieceBits | static_cast<std::uint64_t>(pieces) << kPieceBits);
  if (sleepers_.load() > 0) {
    { const std::lock_guard lock(mutex_); }
    wake_.notify_all();
  }
  take_pieces(0);
  for (int spins = 0; done_.load(std::memory_order_acquire) < pieces; ++spins) {
    if (spins < kSpinsBeforeYield) pause_briefly();
    else std::this_thread::yield();
  }
}

void ThreadPool::work(int thread) {
  const auto something = [this] {
    const std::uint64_t state = state_.load();
    return next_of(state) < pieces_of(state) || stopping_;
  };
  for (;;) {
    int spins = 0;
    while (!something() && spins < kSpins) ++spins, pause_briefly();
    if (!something()) {
      std::unique_lock lock(mutex_);
      sleepers_.fetch_add(1);
      wake_.wait(lock, something);
      sleepers_.fetch_sub(1);
    }
    if (stopping_) return;
    take_pieces(thread);
  }
}

}  // namespace kontor::inference::cpu
