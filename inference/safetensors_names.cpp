#include "inference/safetensors_names.hpp"

#include <algorithm>
#include <cctype>
#include <utility>

namespace kontor::inference {
namespace {

using Pair = std::pair<std::string_view, std::string_view>;

// Without the prefix ("model.", "bert.") and the ending (".weight", ".bias").
constexpr Pair kGlobal[] = {
    {"embed_tokens", "token_embd"}, {"norm", "output_norm"}, {"lm_head", "output"},
    {"embeddings.word_embeddings", "token_embd"}, {"embeddings.position_embeddings", "position_embd"},
    {"embeddings.token_type_embeddings", "token_types"}, {"embeddings.LayerNorm", "token_embd_norm"},
    {"emb_ln", "token_embd_norm"},
};

// Behind the number of the layer.
constexpr Pair kLayer[] = {
    {"input_layernorm", "attn_norm"}, {"post_attention_layernorm", "ffn_norm"},
    {"self_attn.q_proj", "attn_q"}, {"self_attn.k_proj", "attn_k"}, {"self_attn.v_proj", "attn_v"},
    {"self_attn.o_proj", "attn_output"}, {"self_attn.q_norm", "attn_q_norm"}, {"self_attn.k_norm", "attn_k_norm"},
    {"self_attn.q_a_proj", "attn_q_a"}, {"self_attn.q_a_layernorm", "attn_q_a_norm"}, {"self_attn.q_b_proj", "attn_q_b"},
    {"self_attn.kv_a_proj_with_mqa", "attn_kv_a_mqa"}, {"self_attn.kv_a_layernorm", "attn_kv_a_norm"},
    {"self_attn.kv_b_proj", "attn_kv_b"},
    {"mlp.gate_proj", "ffn_gate"}, {"mlp.up_proj", "ffn_up"}, {"mlp.down_proj", "ffn_down"},
    {"mlp.gate", "ffn_gate_inp"},
    {"mlp.shared_experts.gate_proj", "ffn_gate_shexp"}, {"mlp.shared_experts.up_proj", "ffn_up_shexp"},
    {"mlp.shared_experts.down_proj", "ffn_down_shexp"},
    // BERT
    {"attention.self.query", "attn_q"}, {"attention.self.key", "attn_k"}, {"attention.self.value", "attn_v"},
    {"attention.output.dense", "attn_output"}, {"attention.output.LayerNorm", "attn_output_norm"},
    {"intermediate.dense", "ffn_up"}, {"output.dense", "ffn_down"}, {"output.LayerNorm", "layer_output_norm"},
    // nomic-bert
    {"attn.Wqkv", "attn_qkv"}, {"attn.out_proj", "attn_output"}, {"mlp.fc11", "ffn_up"}, {"mlp.fc12", "ffn_gate"},
    {"mlp.fc2", "ffn_down"}, {"norm1", "attn_output_norm"}, {"norm2", "layer_output_norm"},
};

constexpr Pair kExpert[] = {{"gate_proj", "ffn_gate"}, {"up_proj", "ffn_up"}, {"down_proj", "ffn_down"}};

template <std::size_t n>
std::string_view lookup(const Pair (&table)[n], std::string_view name) {
  const auto* found = std::find_if(std::begin(table), std::end(table), [&](const Pair& p) { return p.first == name; });
  return found == std::end(table) ? std::string_view() : found->second;
}

bool take_prefix(std::string_view& name, std::string_view prefix) {
  if (!name.starts_with(prefix)) return false;
  name.remove_prefix(prefix.size());
  return true;
}

/// "12.rest" -> "12" and "rest".
std::string_view take_number(std::string_view& name) {
  std::size_t digits = 0;
  while (digits < name.size() && digits < 9 && std::isdigit(static_cast<unsigned char>(name[digits]))) ++digits;
  if (digits == 0 || digits >= name.size() || name[digits] != '.') return {};
  const std::string_view number = name.substr(0, digits);
  name.remove_prefix(digits + 1);
  return number;
}

std::string layer_name(std::string_view layer, std::string_view rest, std::string_view ending) {
  const std::string block = "blk." + std::string(layer) + ".";
  if (rest == "mlp.gate.e_score_correction_bias") return block + "exp_probs_b.bias";
  std::string_view inner = rest;
  if (take_prefix(inner, "mlp.experts.")) {
    const std::string_view expert = take_number(inner);
    const std::string_view matrix = lookup(kExpert, inner);
    return expert.empty() || matrix.empty() ? "" : block + std::string(matrix) + "." + std::string(expert) + std::string(ending);
  }
  const std::string_view found = lookup(kLayer, rest);
  return found.empty() ? "" : block + std::string(found) + std::string(ending);
}

}  // namespace

std::string gguf_tensor_name(std::string_view name) {
  take_prefix(name, "model.") || take_prefix(name, "bert.");
  std::string_view ending;
  for (const std::string_view known : {".weight", ".bias"})
    if (name.ends_with(known)) ending = known;
  name.remove_suffix(ending.size());
  if (take_prefix(name, "layers.") || take_prefix(name, "encoder.layers.") || take_prefix(name, "encoder.layer.")) {
    const std::string_view layer = take_number(name);
    return layer.empty() ? "" : layer_name(layer, name, ending);
  }
  const std::string_view found = lookup(kGlobal, name);
  return found.empty() ? "" : std::string(found) + std::string(ending);
}

}  // namespace kontor::inference
