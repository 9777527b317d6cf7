#pragma once
// The local engine behind the interface that the planner sees.

#include "base/error.hpp"
#include "inference/engine.hpp"
#include "inference/engine_pool.hpp"
#include "inference/session.hpp"
#include "inference/text_model.hpp"

#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <string>
#include <vector>

namespace kontor::inference {

/// Any number of threads may call generate() at the same time: every call has a session of its own, the engine's
/// scheduler computes them together, and all share what was computed before through the tenant's prefix cache. The sink
/// is called on the scheduler's thread.
class LocalModel final : public TextModel {
 public:
  explicit LocalModel(std::shared_ptr<Engine> engine, const std::string& tenant = "");

  const ModelInfo& info() const override { return engine_->info(); }
  /// Also: limit (kind queue_full), internal (kind nonfinite_logits) where the weights give values that are not numbers,
  /// and usage (bad_token, empty_prompt).
  Result<Generation> generate(const GenerateRequest& request, const std::function<bool(const Piece&)>& sink) override;
  Prefilled prefill(const GenerateRequest& request, Prefilled before) override;
  bool computes_ahead() const override { return true; }
  Result<std::vector<float>> embed(std::string_view text) override;
  std::int64_t count_tokens(std::string_view text) const override;
  bool is_concurrent() const override { return true; }
  Result<void> save_state(const std::string& path) override;
  Result<void> load_state(const std::string& path) override;
  const Tokenizer* tokenizer() const override { return &engine_->tokenizer(); }
  std::shared_ptr<const TokenTrie> token_trie() const override { return engine_->token_trie(); }

  const std::shared_ptr<Engine>& engine() const { return engine_; }

 private:
  Session take_session();
  void give_back(Session session, std::span<const TokenId> prompt);

  std::shared_ptr<Engine> engine_;
  std::shared_ptr<PrefixCache> cache_;
  std::mutex mutex_;
  std::optional<Session> idle_;  ///< One is kept: it needs nothing of the cache to go on with its own timeline.
  struct Timeline {
    std::vector<TokenId> tokens;
    std::size_t prompt = 0;  ///< Leading tokens that were the prompt.
  };
  std::vector<Timeline> timelines_;  ///< The latest of each conversation, for save_state().
};

struct LocalModelOptions {
  std::string device = "auto";
  int threads = 0;           ///< 0: as many as there are processors.
  std::int64_t context = 0;  ///< 0: what the model allows.
  KvType kv = KvType::f16;   ///< Type of the KV cache.
  std::string tenant;        ///< Whose prefix cache it uses.
};

/// Loads a model file. `pool`: engines are shared through it. Errors: those of Engine::open.
Result<std::unique_ptr<TextModel>> open_local_model(const std::string& path, const LocalModelOptions& options = {}, EnginePool* pool = nullptr);

}  // namespace kontor::inference
