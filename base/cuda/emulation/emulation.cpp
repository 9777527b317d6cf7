#include "base/cuda/emulation/emulation.hpp"

#include <boost/context/fiber.hpp>
#include <boost/context/fixedsize_stack.hpp>
#include <boost/context/preallocated.hpp>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <vector>

namespace kontor::gpu::emulation {
namespace {

namespace ctx = boost::context;

constexpr unsigned kWarp = 32;
constexpr std::size_t kStackBytes = 64 << 10;

/// Arrivals at a barrier; a generation ends when all have come.
struct Barrier {
  unsigned expected = 0, arrived = 0, generation = 0;
};

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

void arrive(Barrier& barrier) {
  const unsigned mine = barrier.generation;
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

void run_block(Block& block, const std::function<void()>& body) {
  const unsigned threads = block.place.block_size.x;
  block.all = {threads, 0, 0};
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
  while (alive > 0) {
    const unsigned before = block.progress;
    for (unsigned t = 0; t < threads; ++t) {
      if (!block.fibers[t]) continue;
      block.running = t;
      block.place.thread = dim3(t);
      block.fibers[t] = std::move(block.fibers[t]).resume();
    }
    if (block.progress == before && alive > 0) {
      std::fputs("emulated kernel: threads of a block wait for each other at different barriers\n", stderr);
      std::abort();
    }
  }
}

}  // namespace

const Place& place() { return current->place; }
void block_barrier() { arrive(current->all); }
void warp_barrier() { arrive(current->warps[current->running / kWarp]); }
void* dynamic_shared() { return current->shared.data(); }

/// Words of two exchanges: who comes to the next one has read nobody's word of this one yet, but all have read that of the one
/// before.
std::uint32_t exchange(std::uint32_t word, unsigned lane) {
  Block& block = *current;
  const unsigned self = block.running, first = self / kWarp * kWarp;
  Barrier& barrier = block.warps[self / kWarp];
  std::vector<std::uint32_t>& words = block.words[barrier.generation % 2];
  words[self] = word;
  arrive(barrier);
  return words[first + lane];
}

void run_grid(dim3 grid, dim3 block_size, std::size_t shared_bytes, const std::function<void()>& body) {
  Block block;
  block.place.grid = grid;
  block.place.block_size = block_size;
  block.shared.resize(shared_bytes / sizeof(double) + 1);
  Block* const outer = current;
  current = &block;
  for (unsigned z = 0; z < grid.z; ++z)
    for (unsigned y = 0; y < grid.y; ++y)
      for (unsigned x = 0; x < grid.x; ++x) {
        block.place.block = dim3(x, y, z);
        run_block(block, body);
      }
  current = outer;
}

}  // namespace kontor::gpu::emulation
