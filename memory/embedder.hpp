#pragma once
#include "base/error.hpp"

#include <string>
#include <string_view>
#include <vector>

namespace kontor::memory {

/// Turns text into a unit vector. `agent` connects it to the loaded model; memory knows no models.
class Embedder {
 public:
  virtual ~Embedder() = default;
  virtual std::string name() const = 0;   ///< Vectors of different names are never compared.
  virtual std::size_t width() const = 0;  ///< Floats per vector.
  virtual Result<std::vector<float>> embed(std::string_view text) = 0;
};

}  // namespace kontor::memory
