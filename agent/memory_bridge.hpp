#pragma once
// Connects builtin.memory, which knows no store, with a memory::Store.

#include "memory/store.hpp"
#include "tools/builtin/memory_tool.hpp"

#include <functional>

namespace kontor::agent {

/// Thread-safe. `store` outlives the bridge.
class MemoryBridge final : public tools::MemoryAccess {
 public:
  /// Called at the first use; what it gives outlives the bridge. Empty: full text only.
  using Source = std::function<Result<memory::Embedder*>()>;
  explicit MemoryBridge(memory::Store& store, Source embedder = {}) : store_(store), embedder_(std::move(embedder)) {}

  Result<std::int64_t> remember(const std::string& space, const std::string& text, const std::string& source, const tools::Labels& labels) override;
  Result<std::vector<tools::MemoryFact>> recall(const std::string& space, const std::string& query, std::size_t limit) override;
  Result<std::vector<tools::MemoryFact>> list(const std::string& space, std::size_t limit) override;
  Result<bool> forget(const std::string& space, std::int64_t id) override;

 private:
  /// Null: compare words only.
  Result<memory::Embedder*> embedder() const;

  memory::Store& store_;
  Source embedder_;
};

}  // namespace kontor::agent
