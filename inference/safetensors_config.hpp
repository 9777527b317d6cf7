#pragma once
// Internal: config.json of a Hugging Face folder as the metadata that the same model has in a GGUF file.

#include "base/json.hpp"
#include "inference/weight_file.hpp"

#include <cstdint>
#include <deque>
#include <string>
#include <string_view>
#include <vector>

namespace kontor::inference {

/// Metadata that did not come from a GGUF file. Keys and values live in `texts`, which must outlive the entries.
class MetadataBuilder {
 public:
  explicit MetadataBuilder(std::deque<std::string>& texts) : texts_(texts) {}
  void text(std::string_view key, std::string_view value);
  void integer(std::string_view key, std::int64_t value);
  void number(std::string_view key, double value);  ///< As float32, like a converter writes it.
  void boolean(std::string_view key, bool value);
  std::vector<MetadataEntry> take() { return std::move(entries_); }

 private:
  void add(std::string_view key, MetadataType type, std::string payload);

  std::deque<std::string>& texts_;
  std::vector<MetadataEntry> entries_;
};

struct ConvertedConfig {
  std::string architecture;
  /// Llama 3: what rope_freqs.weight holds in a GGUF file; empty elsewhere.
  std::vector<float> rope_factors;
};

/// Writes the hyperparameters. Ranges are left to read_model_config. Errors: missing_key, wrong_key_type,
/// unsupported_arch, bad_hparam (a setting that would be computed wrongly), with the JSON key in the message.
Result<ConvertedConfig> convert_config(const Json& config, MetadataBuilder& out);

}  // namespace kontor::inference
