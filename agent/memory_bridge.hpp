#pragma once
// Connects builtin.memory, which knows no store, with a memory::Store.

#include "memory/store.hpp"
#include "tools/builtin/memory_tool.hpp"

#include <memory>
#include <mutex>

namespace kontor::agent {

/// Thread-safe. `store` and `embedder` (may be null: full text only) outlive the bridge; the embedder is called by one
/// thread at a time.
class MemoryBridge final : public tools::MemoryAccess {
 public:
  explicit MemoryBridge(memory::Store& store, memory::Embedder* embedder = nullptr) : store_(store), embedder_(embedder) {}

  Result<std::int64_t> remember(const std::string& space, const std::string& text, const std::string& source, bool trusted) override;
  Result<std::vector<tools::MemoryFact>> recall(const std::string& space, const std::string& query, std::size_t limit) override;
  Result<std::vector<tools::MemoryFact>> list(const std::string& space, std::size_t limit) override;
  Result<bool> forget(const std::string& space, std::int64_t id) override;

 private:
  memory::Store& store_;
  memory::Embedder* embedder_;
  std::mutex embedding_;
};

}  // namespace kontor::agent
