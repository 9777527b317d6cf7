#include "agent/model_embedder.hpp"

#include "base/hash.hpp"

#include <algorithm>
#include <array>

namespace kontor::agent {
namespace {

/// What is put before texts by those who trained a family of models; recognised by a part of the name in lower case.
struct Family {
  std::string_view word, query, document;
};
constexpr std::array kFamilies = {
    Family{"nomic-embed", "search_query: ", "search_document: "},
    Family{"qwen3-embedding", "Instruct: Given a question or a task, retrieve the notes that help with it\nQuery:", ""},
    Family{"e5-", "query: ", "passage: "},
};

std::string lower_dashed(std::string text) {
  for (char& c : text) {
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c + 32);
    if (c == ' ' || c == '_') c = '-';
  }
  return text;
}

/// `text` cut so that it holds whole characters.
std::string_view cut(std::string_view text, std::size_t bytes) {
  if (text.size() <= bytes) return text;
  while (bytes > 0 && (static_cast<unsigned char>(text[bytes]) & 0xC0) == 0x80) --bytes;
  return text.substr(0, bytes);
}

}  // namespace

Result<std::unique_ptr<ModelEmbedder>> ModelEmbedder::create(std::unique_ptr<inference::TextModel> model, const ModelSpec& spec, Budget* budget) {
  std::unique_ptr<ModelEmbedder> embedder(new ModelEmbedder(std::move(model), budget));
  const inference::ModelInfo& info = embedder->model_->info();
  const std::string known = lower_dashed(info.name);
  for (const Family& family : kFamilies) {
    if (known.find(family.word) == std::string::npos) continue;
    embedder->query_prefix_ = family.query;
    embedder->document_prefix_ = family.document;
    break;
  }
  if (spec.query_prefix) embedder->query_prefix_ = *spec.query_prefix;
  if (spec.document_prefix) embedder->document_prefix_ = *spec.document_prefix;
  // Before the first fact: a model without vectors is an error where it is named, not where it is used.
  auto probe = embedder->model_->embed("kontor");
  if (!probe) {
    if (probe.error().code != Errc::unsupported) return probe.error();
    return fail(Errc::unsupported, "model '" + info.name + "' gives no embeddings: " + probe.error().message, "no_embeddings");
  }
  embedder->width_ = probe->size();
  embedder->name_ = info.name + " " + info.architecture + (info.quantization.empty() ? "" : " " + info.quantization) + " " + std::to_string(probe->size());
  if (!embedder->document_prefix_.empty()) embedder->name_ += " " + sha256_hex(embedder->document_prefix_).substr(0, 8);
  return embedder;
}

/// A text that is too long for the model is embedded by its beginning.
Result<std::vector<float>> ModelEmbedder::vector_of(const std::string& prefix, std::string_view text) {
  constexpr std::size_t kLeastBytes = 64;
  const std::lock_guard lock(mutex_);
  for (std::size_t bytes = text.size();; bytes /= 2) {
    const std::string whole = prefix + std::string(cut(text, bytes));
    const std::int64_t tokens = budget_ ? model_->count_tokens(whole) : 0;
    if (budget_) {
      if (auto room = budget_->reserve_embedding(tokens); !room) return room.error();
    }
    auto vector = model_->embed(whole);
    if (budget_) budget_->end_embedding(tokens, vector.has_value());
    if (vector || vector.error().code != Errc::limit || bytes < kLeastBytes) return vector;
  }
}

}  // namespace kontor::agent
