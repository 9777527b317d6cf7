#pragma once
// A model as memory's embedder: vectors of texts and of questions, which many models want told apart.

#include "agent/budget.hpp"
#include "agent/spec/spec.hpp"
#include "inference/text_model.hpp"
#include "memory/embedder.hpp"

#include <memory>
#include <mutex>
#include <string>

namespace kontor::agent {

/// Owns the model. One text at a time.
class ModelEmbedder final : public memory::Embedder {
 public:
  /// `spec`: its `embedding` replaces what is known of the model. Errors: unsupported (kind no_embeddings: the model gives
  /// none), and those of the model.
  /// `budget`: of the run, which the tokens count against; null where there is none. It must outlive the embedder.
  static Result<std::unique_ptr<ModelEmbedder>> create(std::unique_ptr<inference::TextModel> model, const ModelSpec& spec, Budget* budget = nullptr);

  /// The model's name, architecture, quantisation and width, and what is put before a text.
  std::string name() const override { return name_; }
  std::size_t width() const override { return width_; }
  Result<std::vector<float>> embed(std::string_view text) override { return vector_of(document_prefix_, text); }
  Result<std::vector<float>> embed_query(std::string_view text) override { return vector_of(query_prefix_, text); }

 private:
  ModelEmbedder(std::unique_ptr<inference::TextModel> model, Budget* budget) : model_(std::move(model)), budget_(budget) {}
  Result<std::vector<float>> vector_of(const std::string& prefix, std::string_view text);

  std::unique_ptr<inference::TextModel> model_;
  Budget* budget_;
  std::string name_, query_prefix_, document_prefix_;
  std::size_t width_ = 0;
  std::mutex mutex_;
};

}  // namespace kontor::agent
