#pragma once
// A model's matrices as its file has them, checked against the hyperparameters, and the form that a device holds them in.

#include "base/error.hpp"
#include "inference/cuda/upload.hpp"
#include "inference/model_config.hpp"
#include "inference/weight_file.hpp"

#include <array>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

namespace kontor::inference::cuda {

/// A matrix that every expert of a layer has, by the end of its tensor's name.
struct ExpertMatrix {
  const char* name;
  std::int64_t columns, rows;
};

class ModelTensors {
 public:
  /// `exact`: everything is held in float32.
  ModelTensors(const WeightFile& file, const ModelConfig& config, bool exact) : file_(file), config_(config), exact_(exact) {}
  const WeightFile& file() const { return file_; }
  const ModelConfig& config() const { return config_; }
  bool exact() const { return exact_; }
  bool tied() const { return !file_.find_tensor("output.weight"); }

  /// Errors: malformed (missing_tensor, shape_mismatch).
  Result<const Tensor*> checked(const std::string& name, std::int64_t columns, std::int64_t rows, std::int64_t slabs) const;
  /// Of tensors of one type and width, one below the other. Errors: unsupported (unsupported_arch, bad_tensor_type).
  Result<PlaneLayout> layout_of(std::span<const Tensor> parts) const;
  /// Gate, up, down.
  std::array<ExpertMatrix, 3> expert_matrices() const;
  /// Expert by expert, whether the file has them in one tensor or in one each. Errors: those of checked().
  Result<std::vector<Tensor>> expert_parts(std::int64_t layer, const ExpertMatrix& matrix) const;

 private:
  WeightFile file_;
  ModelConfig config_;
  bool exact_;
};

}  // namespace kontor::inference::cuda
