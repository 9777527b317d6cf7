#pragma once
// What people and the planner want to know of a model file: size, quantisation, which prompt format it was trained on.

#include "inference/model_config.hpp"
#include "inference/text_model.hpp"
#include "inference/tokenizer.hpp"
#include "inference/weight_file.hpp"

#include <string>
#include <string_view>

namespace kontor::inference {

/// `device` and `context` are left to the caller.
ModelInfo describe_model(const WeightFile& file, const ModelConfig& config, const Tokenizer& tokenizer);

/// Key of the prompt format. Metadata `kontor.dialect` decides where present; else tokens of the vocabulary, the chat
/// template and the name do: "r1", "r1-distill", "r1-0528", "r1-0528-qwen3", "v3", "v3.1", "v3.2", "qwen3", "qwq", "hermes", or
/// "plain" for a model without a known format.
std::string guess_dialect(const WeightFile& file, const Tokenizer& tokenizer);

/// The same from nothing but a name such as "deepseek-ai/DeepSeek-R1-Distill-Qwen-7B", as servers give it; "" when the
/// name tells no known family.
std::string dialect_of_name(std::string_view name);

/// The type that most weights have: "F16", "Q8_0", or "mixed Q4_K" where another type holds more than a tenth.
std::string describe_quantization(const WeightFile& file);

}  // namespace kontor::inference
