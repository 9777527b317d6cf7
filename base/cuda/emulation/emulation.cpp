#include "base/cuda/emulation/emulation.hpp"

#include <boost/context/fiber.hpp>
#include <boost/context/fixedsize_stack.hpp>
#include <boost/context/preallocated.hpp>

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
  std::vector<ctx::fiber> fibers;
  std::vector<Barrier> warps;
  Barrier all;
  std::vector<std::uint32_t> words[2]; ///< One for each thread.
  std::vector<double> shared;
  unsigned running = 0;
  unsigned progress = 0;               ///< Barriers that ended and threads that finished.
  ctx::fiber back;
};

thread_local Block* current = nullptr;

void give_way() {
  Block& block = *current;
  block.back = std::move(block.back).resume();
}

[[noreturn]] void stop(const char* why, int line, int other) {
  std::fprintf(stderr, "emulated kernel: %s (source lines %d and %d)\n", why, line, other);
  std::abort();
}

void arrive(Barrier& barrier, int line) {
  const unsigned mine = barrier.generation;
  if (barrier.arrived == 0) barrier.line = line;
  else if (barrier.line != line) stop("threads wait for each other at different barriers", barrier.line, line);
  if (++barrier.arrived == barrier.expected) {
    barrier.arrived = 0;
    ++barrier.generation;
    ++current->progress;
    return;
  }
  while (barrier.generation == mine) give_way();
}

/// Stacks live as long as the thread, one for each fiber of a block.
class StackPool {
 public:
  ctx::stack_context at(std::size_t index) {
    ctx::fixedsize_stack allocator(kStackBytes);
    while (stacks_.size() <= index) stacks_.push_back(allocator.allocate());
    return stacks_[index];
  }

 private:
  std::vector<ctx::stack_context> stacks_;
};
thread_local StackPool stacks;

struct KeptStack {
  ctx::stack_context context;
  ctx::stack_context allocate() { return context; }
  void deallocate(ctx::stack_context&) {}
};

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

void run_block(Block& block, Draws& draws, const std::function<void()>& body) {
  const unsigned threads = block.place.block_size.x;
  block.all = {threads, 0, 0, 0};
  block.warps.assign((threads + kWarp - 1) / kWarp, {});
  for (unsigned w = 0; w < block.warps.size(); ++w) block.warps[w].expected = std::min(kWarp, threads - w * kWarp);
  for (auto& words : block.words) words.assign(threads, 0);
  block.fibers.clear();
  unsigned alive = threads;
  for (unsigned t = 0; t < threads; ++t) {
    KeptStack stack{stacks.at(t)};
    const ctx::preallocated place(stack.context.sp, stack.context.size, stack.context);
    block.fibers.emplace_back(std::allocator_arg, place, stack, [&block, &body, &alive](ctx::fiber&& from) {
      block.back = std::move(from);
      body();
      --alive;
      ++block.progress;
      return std::move(block.back);
    });
  }
  const auto resume = [&](unsigned t) {
    if (!block.fibers[t]) return;
    block.running = t;
    block.place.thread = dim3(t);
    block.fibers[t] = std::move(block.fibers[t]).resume();
  };
  while (alive > 0) {
    const unsigned before = block.progress;
    if (order == 0)
      for (unsigned t = 0; t < threads; ++t) resume(t);
    else
      run_warps(block, threads, draws, resume);
    if (block.progress == before && alive > 0) stop("threads of a block wait for each other at different barriers, or after others have ended", block.all.line, 0);
  }
}

}  // namespace

const Place& place() { return current->place; }
std::uint64_t set_order(std::uint64_t seed) { return std::exchange(order, seed); }
void block_barrier(int line) { arrive(current->all, line); }
void warp_barrier(int line) { arrive(current->warps[current->running / kWarp], line); }
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
    run_block(block, draws, body);
  }
  current = outer;
}

}  // namespace kontor::gpu::emulation
