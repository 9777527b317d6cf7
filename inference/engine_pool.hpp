#pragma once
// Loaded models by file, so that a second run in the same process finds weights and prefix cache as the first left them.

#include "base/error.hpp"
#include "inference/engine.hpp"

#include <cstdint>
#include <filesystem>
#include <list>
#include <memory>
#include <mutex>
#include <string>

namespace kontor::inference {

/// Thread-safe. Keeps the engines opened last; one that is in use lives on elsewhere when it is dropped here.
class EnginePool {
 public:
  explicit EnginePool(std::size_t most = 2) : most_(most) {}

  /// An engine for the file as it is now: replaced or rewritten files are loaded anew. Errors: those of Engine::open.
  Result<std::shared_ptr<Engine>> open(const std::string& path, const EngineOptions& options);

 private:
  struct Key {
    std::string path, device;
    std::uintmax_t size = 0;
    std::filesystem::file_time_type changed;
    int threads = 0;
    std::int64_t context = 0;
    std::uint64_t cache_bytes = 0;
    Compute compute = Compute::native;
    KvType kv = KvType::f16;
    bool operator==(const Key&) const = default;
  };
  struct Entry {
    Key key;
    std::shared_ptr<Engine> engine;
  };

  const std::size_t most_;
  std::mutex mutex_;
  std::list<Entry> entries_;  ///< Used last stands first.
};

}  // namespace kontor::inference
