#pragma once
// What a model file says about its decoder, checked before anything is computed from it.

#include "base/error.hpp"
#include "inference/weight_file.hpp"

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace kontor::inference {

/// Which two values of a head turn together: (2i, 2i+1) or (i, i + n/2).
enum class RopePairs { adjacent, halves };

/// What distinguishes the architectures that the decoder computes. Biases, norms of queries and keys and a separate
/// output matrix are recognised by their tensors, so that they need no entry here.
struct Architecture {
  std::string_view name;  ///< general.architecture
  RopePairs rope_pairs;
};

/// Null where the decoder does not know the architecture.
const Architecture* find_architecture(std::string_view name);

/// Rotary position embedding, ready to use: angle of pair i at position p is p * frequencies[i].
struct Rope {
  int dimensions = 0;               ///< Leading values of a head that are rotated; even.
  std::vector<double> frequencies;  ///< dimensions / 2, with every scaling applied.
  float magnitude = 1.0f;           ///< Factor on cosine and sine (YaRN).
};

struct ModelConfig {
  const Architecture* architecture = nullptr;
  std::string name;           ///< general.name, or the file's name.
  std::int64_t layers = 0;
  std::int64_t width = 0;
  std::int64_t heads = 0;
  std::int64_t kv_heads = 0;  ///< Divides `heads`.
  std::int64_t key_length = 0;
  std::int64_t value_length = 0;
  std::int64_t feed_forward = 0;
  std::int64_t vocabulary = 0;
  std::int64_t context = 0;   ///< As the file says; memory is taken by use.
  float norm_epsilon = 0;
  Rope rope;
};

/// Reads and checks the metadata. Errors are malformed, unsupported or limit with the kinds missing_key,
/// wrong_key_type, unsupported_arch, bad_hparam, missing_split, shape_mismatch, bad_tensor_type, limit_exceeded.
Result<ModelConfig> read_model_config(const WeightFile& file);

}  // namespace kontor::inference
