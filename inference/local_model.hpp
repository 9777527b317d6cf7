#pragma once
// The local engine behind the interface that the planner sees.

#include "base/error.hpp"
#include "inference/engine.hpp"
#include "inference/session.hpp"
#include "inference/text_model.hpp"

#include <memory>
#include <string>
#include <vector>

namespace kontor::inference {

class LocalModel final : public TextModel {
 public:
  explicit LocalModel(std::shared_ptr<Engine> engine);

  const ModelInfo& info() const override { return engine_->info(); }
  /// Also: internal (kind nonfinite_logits) where the weights give values that are not numbers, and usage (bad_token,
  /// empty_prompt).
  Result<Generation> generate(const GenerateRequest& request, const std::function<bool(const Piece&)>& sink) override;
  Result<std::vector<float>> embed(std::string_view text) override;
  std::int64_t count_tokens(std::string_view text) const override;

  const std::shared_ptr<Engine>& engine() const { return engine_; }

 private:
  Result<void> decode(const GenerateRequest& request, const std::function<bool(const Piece&)>& sink, Generation& out);

  std::shared_ptr<Engine> engine_;
  Session session_;
};

struct LocalModelOptions {
  std::string device = "auto";
  int threads = 0;           ///< 0: as many as there are processors.
  std::int64_t context = 0;  ///< 0: what the model allows.
};

/// Loads a model file. Errors: those of Engine::open.
Result<std::unique_ptr<TextModel>> open_local_model(const std::string& path, const LocalModelOptions& options = {});

}  // namespace kontor::inference
