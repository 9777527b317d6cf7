#pragma once
// `kontor memory bench`: how long adding a fact and searching take on this machine.

#include "memory/embedder.hpp"

#include <cstddef>

namespace kontor::agent::cli {

struct MemoryBenchOptions {
  std::size_t facts = 10'000, width = 768, queries = 100, limit = 10;
  bool json = false;
};

/// In a memory of its own, which is removed. `embedder`: null makes vectors from the words of a text, `width` floats. The exit code.
int bench_memory(const MemoryBenchOptions& options, memory::Embedder* embedder);

}  // namespace kontor::agent::cli
