#pragma once
// A model as memory's embedder: vectors of texts and of questions, which many models want told apart.

#include "agent/spec/spec.hpp"
#include "inference/text_model.hpp"
#include "memory/embedder.hpp"

#include <atomic>
#include <functional>
#include <memory>
#include <mutex>
#include <string>

namespace kontor::agent {

/// Owns the model. One text at a time.
class ModelEmbedder final : public memory::Embedder {
 public:
  /// `spec`: its `embedding` replaces what is known of the model. Errors: unsupported (kind no_embeddings: the model gives
  /// none), and those of the model.
  static Result<std::unique_ptr<ModelEmbedder>> create(std::unique_ptr<inference::TextModel> model, const ModelSpec& spec);

  /// The model's name, architecture, quantisation and width, and what is put before a text.
  std::string name() const override { return name_; }
  std::size_t width() const override { return width_; }
  Result<std::vector<float>> embed(std::string_view text) override { return vector_of(document_prefix_, text); }
  Result<std::vector<float>> embed_query(std::string_view text) override { return vector_of(query_prefix_, text); }

  /// Of everything that was embedded since the last call.
  std::int64_t take_tokens() { return tokens_.exchange(0); }

 private:
  explicit ModelEmbedder(std::unique_ptr<inference::TextModel> model) : model_(std::move(model)) {}
  Result<std::vector<float>> vector_of(const std::string& prefix, std::string_view text);

  std::unique_ptr<inference::TextModel> model_;
  std::string name_, query_prefix_, document_prefix_;
  std::size_t width_ = 0;
  std::mutex mutex_;
  std::atomic<std::int64_t> tokens_{0};
};

}  // namespace kontor::agent
