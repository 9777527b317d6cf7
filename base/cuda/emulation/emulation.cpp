#include "base/cuda/emulation/emulation.hpp"

#include <boost/context/fiber.hpp>
#include <boost/context/fixedsize_stack.hpp>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <utility>
#include <vector>

namespace kontor::gpu::emulation {
namespace {

namespace ctx = boost::context;

constexpr unsigned kWarp = 32;
constexpr std::size_t kStackBytes = 64 << 10;
constexpr std::size_t kNone = ~std::size_t{0};

/// Arrivals at a barrier; a generation ends when all have come.
struct Barrier {
  unsigned expected = 0, arrived = 0, generation = 0;
  int line = 0;  ///< Of the source, where the first one arrived.
};

/// Numbers that look random and are the same for a seed: the order in which fibers run.
class Draws {
 public:
  explicit Draws(std::uint64_t seed) : state_(seed) {}
  unsigned below(unsigned limit) {
    std::uint64_t x = state_ += 0x9e3779b97f4a7c15u;
    x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9u;
    x = (x ^ x >> 27) * 0x94d049bb133111ebu;
    return static_cast<unsigned>((x ^ x >> 31) % limit);
  }

 private:
  std::uint64_t state_;
};

std::uint64_t order_from_environment() {
  const char* text = std::getenv("KONTOR_EMULATION_ORDER");
  return text ? std::strtoull(text, nullptr, 10) : 0;
}
thread_local std::uint64_t order = order_from_environment();

struct Block {
  Place place;
  const std::function<void()>* body = nullptr;
  std::vector<std::size_t> fibers;     ///< Of each thread that began: its fiber in the pool.
  std::vector<const Barrier*> waits;   ///< Of each thread: the barrier that it waits at, in which generation;
  std::vector<unsigned> waits_for;
  std::vector<char> began, ended;      ///< began: as begin_kernel() says.
  std::vector<Barrier> warps;
  Barrier all;
  std::vector<std::uint32_t> words[2]; ///< One for each thread.
  std::vector<float*> reduced;         ///< Of each thread: the values that its warp sums.
  std::vector<double> shared;
  unsigned begun = 0, alive = 0;
  unsigned running = 0;
  unsigned progress = 0;               ///< Barriers that ended and threads that finished.
};

thread_local Block* current = nullptr;

[[noreturn]] void stop(const char* why, int line, int other) {
  std::fprintf(stderr, "emulated kernel: %s (source lines %d and %d)\n", why, line, other);
  std::abort();
}

/// Fibers that live as long as the thread. One runs a thread of a block to its end, then the next that has not begun: a kernel without
/// barriers needs one of them.
class Fibers {
 public:
  /// Begins thread `t` of the block on a fiber that has nothing to do.
  void begin(Block& block, unsigned t) {
    if (idle_.empty()) {
      idle_.push_back(fibers_.size());
      const std::size_t own = fibers_.size();
      fibers_.emplace_back(ctx::fiber(std::allocator_arg, ctx::fixedsize_stack(kStackBytes), [this, own](ctx::fiber&& from) {
        back_ = std::move(from);
        while (true) work(own);
        return std::move(back_);
      }));
    }
    const std::size_t own = idle_.back();
    idle_.pop_back();
    block.fibers[t] = own;
    block.running = t;
    block.place.thread = dim3(t);
    resume(own);
  }
  void go_on(Block& block, unsigned t) {
    block.running = t;
    block.place.thread = dim3(t);
    resume(block.fibers[t]);
  }
  /// From the running fiber to whoever resumed it.
  void give_way() { back_ = std::move(back_).resume(); }

 private:
  void resume(std::size_t fiber) { fibers_[fiber] = std::move(fibers_[fiber]).resume(); }
  void work(std::size_t own);

  std::vector<ctx::fiber> fibers_;
  std::vector<std::size_t> idle_;
  ctx::fiber back_;
};
thread_local Fibers fibers;

void Fibers::work(std::size_t own) {
  Block& block = *current;
  (*block.body)();
  if (!block.began[block.running]) stop("a kernel does not begin with begin_kernel()", 0, 0);
  block.ended[block.running] = 1;
  --block.alive;
  ++block.progress;
  if (order == 0 && block.begun < block.ended.size()) {  // The next one without a detour.
    const unsigned next = block.begun++;
    block.fibers[next] = own;
    block.running = next;
    block.place.thread = dim3(next);
    return;
  }
  idle_.push_back(own);
  give_way();
}

/// True for the one that ends the wait: it runs on before the others do.
bool arrive(Barrier& barrier, int line) {
  const unsigned mine = barrier.generation;
  if (!current->began[current->running]) stop("a kernel waits before begin_kernel()", line, 0);
  if (barrier.arrived == 0) barrier.line = line;
  else if (barrier.line != line) stop("threads wait for each other at different barriers", barrier.line, line);
  if (++barrier.arrived == barrier.expected) {
    barrier.arrived = 0;
    ++barrier.generation;
    ++current->progress;
    return true;
  }
  Block& block = *current;
  block.waits[block.running] = &barrier;
  block.waits_for[block.running] = mine;
  fibers.give_way();
  return false;
}

/// Every warp once, in a drawn order, each as far ahead of the others as was drawn; its lanes in another order each time.
template <class Resume>
void run_warps(Block& block, unsigned threads, Draws& draws, const Resume& resume) {
  const auto warps = static_cast<unsigned>(block.warps.size()), first = draws.below(warps);
  const bool backwards = draws.below(2) == 1;
  for (unsigned i = 0; i < warps; ++i) {
    const unsigned warp = (first + (backwards ? warps - i : i)) % warps, lanes = draws.below(kWarp);
    const unsigned rounds = draws.below(2) == 0 ? 1 + draws.below(8) : ~0u;
    for (unsigned round = 0; round < rounds; ++round) {
      const unsigned before = block.progress;
      for (unsigned lane = 0; lane < kWarp; ++lane)
        if (const unsigned t = warp * kWarp + (lane ^ lanes); t < threads) resume(t);
      if (block.progress == before) break;  // All wait for another warp.
    }
  }
}

void run_block(Block& block, Draws& draws) {
  const unsigned threads = block.place.block_size.x;
  block.all = {threads, 0, 0, 0};
  block.warps.assign((threads + kWarp - 1) / kWarp, {});
  for (unsigned w = 0; w < block.warps.size(); ++w) block.warps[w].expected = std::min(kWarp, threads - w * kWarp);
  for (auto& words : block.words) words.assign(threads, 0);
  block.reduced.assign(threads, nullptr);
  block.fibers.assign(threads, kNone);
  block.waits.assign(threads, nullptr);
  block.waits_for.assign(threads, 0);
  block.began.assign(threads, 0);
  block.ended.assign(threads, 0);
  block.begun = 0;
  block.alive = threads;
  const auto resume = [&](unsigned t) {
    if (block.ended[t] || (block.waits[t] && block.waits[t]->generation == block.waits_for[t])) return;
    if (block.fibers[t] != kNone) return fibers.go_on(block, t);
    if (order == 0) ++block.begun;
    fibers.begin(block, t);
  };
  while (block.alive > 0) {
    const unsigned before = block.progress;
    if (order == 0)
      for (unsigned t = 0; t < threads; ++t) resume(t);
    else
      run_warps(block, threads, draws, resume);
    if (block.progress == before && block.alive > 0)
      stop("threads of a block wait for each other at different barriers, or after others have ended", block.all.line, 0);
  }
}

}  // namespace

const Place& place() { return current->place; }
std::uint64_t set_order(std::uint64_t seed) { return std::exchange(order, seed); }
void begin_thread() { current->began[current->running] = 1; }
void block_barrier(int line) { (void)arrive(current->all, line); }
void warp_barrier(int line) { (void)arrive(current->warps[current->running / kWarp], line); }
void* dynamic_shared() { return current->shared.data(); }

/// Words of two exchanges: who comes to the next one has read nobody's word of this one yet, but all have read that of the one
/// before.
std::uint32_t exchange(unsigned mask, std::uint32_t word, unsigned lane, int line) {
  Block& block = *current;
  if (mask != 0xffffffffu) stop("an exchange names some lanes of a warp only", line, line);
  const unsigned self = block.running, first = self / kWarp * kWarp;
  Barrier& barrier = block.warps[self / kWarp];
  std::vector<std::uint32_t>& words = block.words[barrier.generation % 2];
  words[self] = word;
  arrive(barrier, line);
  if (first + lane >= words.size()) stop("an exchange asks for a lane that the block does not have", line, line);
  return words[first + lane];
}

bool in_order() { return order == 0; }

/// The same additions, or maxima, of the same pairs as exchanges make, all by the lane that comes last: it writes to the others, who wait.
void reduce(float* values, int count, bool sum, int line) {
  Block& block = *current;
  const unsigned self = block.running, first = self / kWarp * kWarp;
  Barrier& barrier = block.warps[self / kWarp];
  if (barrier.expected != kWarp) stop("a sum over a warp asks for lanes that the block does not have", line, line);
  block.reduced[self] = values;
  if (!arrive(barrier, line)) return;
  float* const* lanes = block.reduced.data() + first;
  for (int i = 0; i < count; ++i) {
    float now[kWarp];
    for (unsigned k = 0; k < kWarp; ++k) now[k] = lanes[k][i];
    for (unsigned half = kWarp / 2; half > 0; half /= 2)
      for (unsigned k = 0; k < half; ++k) now[k] = sum ? now[k] + now[k + half] : std::fmax(now[k], now[k + half]);
    for (unsigned k = 0; k < kWarp; ++k) lanes[k][i] = now[0];
  }
}

void run_grid(dim3 grid, dim3 block_size, std::size_t shared_bytes, const std::function<void()>& body) {
  constexpr unsigned kMostBlocks = 0x7fffffff, kMostOther = 65535, kMostThreads = 1024;
  constexpr std::size_t kMostShared = 48 << 10;  // Without opting in, which no kernel does.
  const bool none = grid.x == 0 || grid.y == 0 || grid.z == 0 || block_size.x == 0;
  if (none || grid.x > kMostBlocks || grid.y > kMostOther || grid.z > kMostOther || block_size.x > kMostThreads || shared_bytes > kMostShared) {
    std::fprintf(stderr, "emulated kernel: a launch that CUDA refuses: grid %u x %u x %u, %u threads, %zu bytes of shared memory\n", grid.x, grid.y,
                 grid.z, block_size.x, shared_bytes);
    std::abort();
  }
  Block block;
  block.place.grid = grid;
  block.place.block_size = block_size;
  block.body = &body;
  block.shared.resize(shared_bytes / sizeof(double) + 1);
  Block* const outer = current;
  current = &block;
  Draws draws(order);
  const std::uint64_t blocks = std::uint64_t{grid.x} * grid.y * grid.z;
  const bool backwards = order != 0 && draws.below(2) == 1;
  for (std::uint64_t i = 0; i < blocks; ++i) {
    const std::uint64_t at = backwards ? blocks - 1 - i : i;
    block.place.block = dim3(static_cast<unsigned>(at % grid.x), static_cast<unsigned>(at / grid.x % grid.y), static_cast<unsigned>(at / grid.x / grid.y));
    std::memset(block.shared.data(), 0xff, block.shared.size() * sizeof(double));  // NaN: what is read before it is written shows.
    run_block(block, draws);
  }
  current = outer;
}

}  // namespace kontor::gpu::emulation
