#pragma once
// A loaded model: file, vocabulary and weights on a device, shared by any number of sessions.

#include "base/error.hpp"
#include "inference/backend.hpp"
#include "inference/prefix_cache.hpp"
#include "inference/snapshot.hpp"
#include "inference/text_model.hpp"
#include "inference/token_trie.hpp"
#include "inference/tokenizer.hpp"

#include <future>
#include <map>
#include <memory>
#include <mutex>
#include <span>
#include <string>

namespace kontor::inference {

struct EngineOptions {
  BackendOptions backend;
  std::int64_t context = 0;  ///< Longest timeline; 0 or more than the model's: what the model allows.
  /// Memory of each tenant's prefix cache at most; 0: an eighth of the machine's memory, at most 4 GiB.
  std::uint64_t prefix_cache_bytes = 0;
};

class Scheduler;

/// Thread-safe: calls are carried out one after the other.
class Engine {
 public:
  /// Errors: those of WeightFile::open, Tokenizer::create and open_backend; each has a stable kind.
  static Result<std::shared_ptr<Engine>> open(const std::string& path, const EngineOptions& options = {});
  static Result<std::shared_ptr<Engine>> create(const WeightFile& file, const EngineOptions& options = {});
  /// Over a backend that has loaded `file`; options.backend plays no part.
  static Result<std::shared_ptr<Engine>> create(const WeightFile& file, std::unique_ptr<Backend> backend, const EngineOptions& options = {});

  ~Engine();

  const ModelInfo& info() const { return info_; }
  const ModelConfig& config() const { return backend_->config(); }
  const Tokenizer& tokenizer() const { return tokenizer_; }
  /// For constraints. Made beside the loading of the weights; waits where that is faster.
  std::shared_ptr<const TokenTrie> token_trie() const { return trie_.get(); }
  const WeightFile& file() const { return file_; }
  std::int64_t context() const { return info_.context; }

  /// Where generations share forward passes.
  Scheduler& scheduler() { return *scheduler_; }

  std::unique_ptr<Sequence> create_sequence();
  std::uint64_t page_bytes() const { return backend_->page_bytes(); }
  /// What a snapshot of this engine's pages belongs to. Reads the whole model file the first time.
  SnapshotKey snapshot_key();
  /// What the sessions of one tenant share. Made at the first use, lives as long as the engine.
  std::shared_ptr<PrefixCache> prefix_cache(const std::string& tenant);
  Result<KvPageRef> load_page(std::span<const std::byte> content);
  Result<void> forward(std::span<const Extension> extensions);
  /// Final states of the tokens in a sequence of their own: tokens x width floats.
  Result<std::vector<float>> hidden_states(std::span<const TokenId> tokens);

  std::uint64_t weight_bytes_per_token() const { return backend_->weight_bytes_per_token(); }
  bool shortlists() const { return backend_->shortlists(); }
  double device_seconds() const { return backend_->device_seconds(); }
  void set_threads(int threads);
  int threads() const { return backend_->threads(); }

 private:
  using Trie = std::shared_future<std::shared_ptr<const TokenTrie>>;
  Engine(const WeightFile& file, Tokenizer tokenizer, Trie trie, std::unique_ptr<Backend> backend, const EngineOptions& options);

  WeightFile file_;
  Tokenizer tokenizer_;
  Trie trie_;
  std::unique_ptr<Backend> backend_;
  ModelInfo info_;
  std::uint64_t prefix_cache_bytes_;
  std::map<std::string, std::shared_ptr<PrefixCache>> prefix_caches_;
  std::mutex mutex_;
  std::once_flag hashed_;
  std::string sha256_;
  std::unique_ptr<Scheduler> scheduler_;  ///< Last: its thread uses all of the above.
};

}  // namespace kontor::inference
