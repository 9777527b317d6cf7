#include "inference/model_info.hpp"

#include <algorithm>
#include <cctype>
#include <map>

namespace kontor::inference {
namespace {

std::string lower(std::string_view text) {
  std::string result(text);
  std::transform(result.begin(), result.end(), result.begin(), [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  return result;
}

bool contains(std::string_view text, std::string_view part) { return text.find(part) != std::string_view::npos; }

/// A text of the metadata, or "" where it is missing or no text.
std::string_view raw_text(const WeightFile& file, std::string_view key) {
  const MetadataEntry* entry = file.find(key);
  return entry && entry->type == MetadataType::text ? entry->payload : std::string_view();
}

/// The 671B family: its vocabulary has the call markers as tokens of their own.
std::string guess_large(const std::string& name, std::string_view chat) {
  if (contains(name, "v3.2") || contains(chat, "DSML")) return "v3.2";
  if (contains(name, "v3.1") || contains(chat, "thinking")) return "v3.1";
  if (contains(name, "0528")) return "r1-0528";
  if (contains(name, "v3")) return "v3";
  if (contains(name, "r1") || contains(chat, "<think>")) return "r1";
  return "v3";
}

}  // namespace

std::string guess_dialect(const WeightFile& file, const Tokenizer& tokenizer) {
  if (const auto given = file.text_or("kontor.dialect", ""); given && !given->empty()) return printable(*given, 40);
  const std::string name = lower(raw_text(file, "general.name")) + " " + lower(raw_text(file, "general.basename"));
  const std::string_view chat = raw_text(file, "tokenizer.chat_template");
  const bool deepseek_turns = tokenizer.find("<｜User｜>").has_value();
  if (tokenizer.find("<｜tool▁calls▁begin｜>")) return guess_large(name, chat);
  if (deepseek_turns) {
    // Both Qwen3-8B distillates and the first distillates lack the call tokens; the newer one has 0528 in its name.
    if (contains(name, "0528") || (raw_text(file, "general.architecture") == "qwen3")) return "r1-0528-qwen3";
    return "r1-distill";
  }
  if (tokenizer.find("<|im_start|>")) {
    if (contains(name, "qwq")) return "qwq";
    return tokenizer.find("<think>") || contains(raw_text(file, "general.architecture"), "qwen3") ? "qwen3" : "hermes";  // Qwen2.5 writes Hermes calls.
  }
  // Distillates on Llama carry the turn markers only in their template.
  if (contains(chat, "<｜User｜>")) return "r1-distill";
  return "plain";
}

std::string dialect_of_name(std::string_view full_name) {
  const std::string name = lower(full_name);
  // The first word that is found decides: the names of distillates hold those of their bases too.
  static constexpr std::pair<std::string_view, std::string_view> kWords[] = {
      {"0528-qwen3", "r1-0528-qwen3"}, {"r1-0528", "r1-0528"}, {"r1-distill", "r1-distill"}, {"deepseek-v4", "v4"}, {"deepseek-v3.2", "v3.2"},
      {"deepseek-v3.1", "v3.1"}, {"deepseek-v3", "v3"}, {"deepseek-r1", "r1"}, {"qwq", "qwq"}, {"qwen3", "qwen3"}, {"hermes", "hermes"}, {"qwen2.5", "hermes"}};
  for (const auto& [word, dialect] : kWords) {
    if (contains(name, word)) return std::string(dialect);
  }
  return {};
}

std::string describe_quantization(const WeightFile& file) {
  std::map<TensorType, std::int64_t> elements;
  std::int64_t total = 0;
  for (const Tensor& tensor : file.tensors()) {
    if (tensor.rank < 2) continue;
    elements[tensor.type] += tensor.elements;
    total += tensor.elements;
  }
  if (elements.empty()) return "none";
  const auto most = std::max_element(elements.begin(), elements.end(), [](const auto& a, const auto& b) { return a.second < b.second; });
  const std::string name(to_string(most->first));
  return (total - most->second) * 10 > total ? "mixed " + name : name;
}

ModelInfo describe_model(const WeightFile& file, const ModelConfig& config, const Tokenizer& tokenizer) {
  ModelInfo info;
  info.name = config.name;
  info.description = std::string(raw_text(file, "general.description").substr(0, 500));
  info.architecture = std::string(config.architecture->name);
  info.quantization = describe_quantization(file);
  info.dialect = guess_dialect(file, tokenizer);
  for (const Tensor& tensor : file.tensors()) info.parameters += tensor.elements;
  info.context = config.context;
  info.embedding_width = config.width;
  // The markers of the model's own notation: the first distillates have Qwen's <tool_call> left over, but write R1 blocks.
  const bool hermes = contains(info.dialect, "qwen") || info.dialect == "qwq" || info.dialect == "hermes";
  const auto marker = tokenizer.find(hermes ? "<tool_call>" : "<｜tool▁calls▁begin｜>");
  info.has_call_tokens = marker && tokenizer.is_added(*marker);
  return info;
}

}  // namespace kontor::inference
