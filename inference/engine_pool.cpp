#include "inference/engine_pool.hpp"

#include <algorithm>

namespace kontor::inference {

Result<std::shared_ptr<Engine>> EnginePool::open(const std::string& path, const EngineOptions& options) {
  Key key{{}, options.backend.device, 0, {}, options.backend.threads, options.context, options.prefix_cache_bytes, options.backend.compute, options.backend.kv};
  std::error_code code;
  const auto real = std::filesystem::canonical(path, code);
  if (!code) key.size = std::filesystem::file_size(real, code);
  if (!code) key.changed = std::filesystem::last_write_time(real, code);
  if (code) return Engine::open(path, options);  // Which says what is wrong.
  key.path = real.string();
  // Held while loading: two runs that start together load a file once.
  const std::lock_guard lock(mutex_);
  const auto found = std::find_if(entries_.begin(), entries_.end(), [&](const Entry& entry) { return entry.key == key; });
  if (found != entries_.end()) {
    entries_.splice(entries_.begin(), entries_, found);
    return entries_.front().engine;
  }
  auto engine = Engine::open(path, options);
  if (!engine) return engine;
  entries_.push_front({std::move(key), *engine});
  if (entries_.size() > most_) entries_.pop_back();
  return engine;
}

}  // namespace kontor::inference
