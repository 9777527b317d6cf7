#pragma once
// Writes a model again with its matrices in another type.

#include "base/error.hpp"
#include "inference/weight_file.hpp"

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

namespace kontor::inference {

struct QuantizeOptions {
  std::string type = "q4_k_m";  ///< One of quantization_names(); any case.
  int threads = 0;              ///< 0: as many as there are processors.
  /// Called now and then with the bytes read so far and in total; false stops.
  std::function<bool(std::uint64_t done, std::uint64_t total)> progress;
};

struct QuantizeReport {
  std::uint64_t bytes_before = 0, bytes_after = 0;  ///< Of all tensors.
  std::int64_t quantized = 0;   ///< Tensors in a new type.
  std::int64_t kept = 0;        ///< Norms, biases, routers and what was asked to stay.
  std::int64_t fallbacks = 0;   ///< Matrices whose rows do not divide into blocks of the type; they became Q8_0 or F16.
};

/// f16, bf16, q8_0, q4_0, q4_k, q5_k, q6_k, and the mixes q4_k_m and q5_k_m: Q6_K for the output, and for the values
/// and the second feed-forward matrix of half of the layers.
std::vector<std::string_view> quantization_names();

/// `out` must not be the file that is read. Norms, biases, routers and position vectors stay as they are. Tensors of
/// split models come together in one file. Errors: usage (bad_quantization), unsupported (bad_tensor_type), malformed
/// (nonfinite_weights), cancelled, io, memory.
Result<QuantizeReport> quantize_model(const WeightFile& in, const std::string& out, const QuantizeOptions& options);

}  // namespace kontor::inference
