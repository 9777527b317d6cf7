#include "inference/cpu/bandwidth.hpp"

#include "inference/cpu/buffer.hpp"
#include "inference/cpu/kernels.hpp"
#include "inference/cpu/thread_pool.hpp"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstring>

namespace kontor::inference::cpu {

double measure_read_bandwidth(int threads, std::size_t bytes) {
  constexpr int kPasses = 7;
  constexpr std::int64_t kPiece = std::int64_t{1} << 20;
  const std::int64_t pieces = static_cast<std::int64_t>(bytes) / kPiece;
  Buffer memory = Buffer::allocate(bytes);
  if (!memory || pieces == 0) return 0;
  ThreadPool pool(threads);
  pool.parallel_for(pieces, 1, [&](std::int64_t begin, std::int64_t end, int) {
    std::memset(memory.data() + begin * kPiece, 0, static_cast<std::size_t>((end - begin) * kPiece));
  });
  const KernelSet& kernels = best_kernels();
  std::atomic<float> sink{0};  // The sums are used, so that no compiler leaves the reading out.
  double best = 0;
  for (int pass = 0; pass < kPasses; ++pass) {
    const auto start = std::chrono::steady_clock::now();
    pool.parallel_for(pieces, 2, [&](std::int64_t begin, std::int64_t end, int) {
      const auto* first = reinterpret_cast<const float*>(memory.data() + begin * kPiece);
      sink.store(kernels.sum(first, (end - begin) * kPiece / 4), std::memory_order_relaxed);
    });
    const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    best = std::max(best, static_cast<double>(pieces * kPiece) / seconds);
  }
  return best;
}

}  // namespace kontor::inference::cpu
