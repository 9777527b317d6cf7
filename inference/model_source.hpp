#pragma once
// Internal: what a WeightFile holds, whatever it was read from.

#include "inference/file_mapping.hpp"
#include "inference/gguf.hpp"

#include <deque>
#include <string>
#include <vector>

namespace kontor::inference {

struct ModelSource {
  std::vector<FileMapping> mappings;
  GgufDirectory directory;  ///< Views point into the mappings and into `texts` and `values`.
  std::deque<std::string> texts;
  std::deque<std::vector<float>> values;
  bool folder = false;      ///< A Hugging Face folder.
  Error incomplete;         ///< Errc::none, or why the model is not all there: parts of a split file are missing.
};

/// A GGUF file with the other parts of a split model. A missing or wrong part is no error yet: see `incomplete`.
Result<ModelSource> open_gguf(const std::string& path);

/// A folder with config.json and safetensors files, presented as the GGUF file that it would be converted to: same
/// keys, same tensor names. Errors: those of read_safetensors, and not_regular_file (no config.json), not_found, json_syntax, missing_key,
/// wrong_key_type, unsupported_arch, bad_hparam, bad_index, path_outside_model_root, duplicate_tensor, missing_tensor.
Result<ModelSource> open_safetensors_folder(const std::string& path);

}  // namespace kontor::inference
