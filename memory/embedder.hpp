#pragma once
#include "base/error.hpp"

#include <string>
#include <string_view>
#include <vector>

namespace kontor::memory {

/// Turns text into a unit vector. `agent` connects it to a model; memory knows none. Thread-safe.
class Embedder {
 public:
  virtual ~Embedder() = default;
  virtual std::string name() const = 0;   ///< Vectors of different names are never compared.
  virtual std::size_t width() const = 0;  ///< Floats per vector.
  virtual Result<std::vector<float>> embed(std::string_view text) = 0;
  /// The vector of a question; models that tell questions from texts make another one.
  virtual Result<std::vector<float>> embed_query(std::string_view text) { return embed(text); }
};

}  // namespace kontor::memory
