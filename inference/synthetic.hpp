#pragma once
// Models of published shapes with synthetic weights in memory, for measuring speed where no file is at hand: the time of
// a matrix product does not depend on the values. The weights of block types are a pattern that is mapped again and
// again, so that the source of a model costs next to no memory beside the form in which a backend holds it.

#include "base/error.hpp"
#include "inference/weight_file.hpp"

#include <memory>
#include <string_view>
#include <vector>

namespace kontor::inference {

/// Owns the memory that `file()` views; must outlive every copy of it.
class SyntheticModel {
 public:
  /// `shape`: one of shapes(), or the end of exactly one ("7b", "llama-8b"). `quant`: a tensor type in any case ("q8_0",
  /// "iq4_xs", "f16"), or "q4_k_m": the usual recipe of Q4_K with Q6_K for the output and half of the value and down
  /// matrices. Matrices whose rows do not fill a type's blocks get Q8_0 or F16. Errors: usage (bad_shape, bad_quant),
  /// memory (out_of_memory).
  static Result<SyntheticModel> create(std::string_view shape, std::string_view quant);

  const WeightFile& file() const { return *file_; }

  /// Names of all shapes.
  static std::vector<std::string_view> shapes();

 private:
  class Memory;
  SyntheticModel() = default;

  std::shared_ptr<Memory> memory_;  // Before the file: released after it.
  std::unique_ptr<WeightFile> file_;
};

}  // namespace kontor::inference
