#pragma once
// Splits loops over threads. Threads start with the first loop that needs them, spin briefly between loops (a token is
// some hundred short loops) and sleep when nothing comes. A thread that the system holds up costs nothing unless it
// has taken a piece: on a busy machine the others do its work.

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

namespace kontor::inference::cpu {

/// One caller at a time. Pieces are handed out dynamically; a body must not depend on which thread runs a piece, so
/// results are the same for every number of threads.
class ThreadPool {
 public:
  /// `threads` includes the caller; at least 1.
  explicit ThreadPool(int threads);
  ~ThreadPool();
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  int threads() const { return threads_; }

  /// Calls body(begin, end, thread) over [0, count) in pieces of at most `grain`; returns when all are done. `thread`
  /// is below threads() and unique among the pieces that run at the same time. Bodies must not throw.
  template <class Body>
  void parallel_for(std::int64_t count, std::int64_t grain, const Body& body) {
    if (grain < 1) grain = 1;
    if (threads_ == 1 || count <= grain) {
      if (count > 0) body(std::int64_t{0}, count, 0);
      return;
    }
    run(count, grain, [](const void* context, std::int64_t begin, std::int64_t end, int thread) {
      (*static_cast<const Body*>(context))(begin, end, thread);
    }, &body);
  }

 private:
  using Call = void (*)(const void* context, std::int64_t begin, std::int64_t end, int thread);

  void run(std::int64_t count, std::int64_t grain, Call call, const void* context);
  void start();
  void work(int thread);
  /// Takes pieces of the current loop until none is left.
  void take_pieces(int thread);

  const int threads_;
  bool started_ = false;
  std::vector<std::jthread> workers_;

  // The loop in progress. The caller writes these while no piece is taken; whoever has taken one may read them.
  Call call_ = nullptr;
  const void* context_ = nullptr;
  std::int64_t count_ = 0;
  std::int64_t grain_ = 1;

  /// Loop number (24 bits), its pieces (20), the next piece (20): who moves it from n to n + 1 has taken piece n. In one
  /// word, so that a thread that was held up since an earlier loop can neither take a piece twice nor miss the change.
  alignas(64) std::atomic<std::uint64_t> state_{0};
  alignas(64) std::atomic<std::int64_t> done_{0};  ///< Pieces that are finished. The caller waits for these, not for threads.
  std::atomic<int> sleepers_{0};
  std::atomic<bool> stopping_{false};
  std::mutex mutex_;
  std::condition_variable wake_;
};

}  // namespace kontor::inference::cpu
