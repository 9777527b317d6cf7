// The golden models of every architecture that has no folder among the references, written as a Hugging Face folder
// with the names of the published checkpoints: the same bits as from the GGUF file.

#include "base/json.hpp"
#include "inference/golden.hpp"
#include "inference/weight_file.hpp"
#include "tests/support/catch.hpp"
#include "tests/support/safetensors_builder.hpp"

#include <nlohmann/json.hpp>

#include <filesystem>
#include <fstream>
#include <iostream>
#include <iterator>
#include <map>

#include <unistd.h>

namespace kontor::inference {
namespace {

namespace fs = std::filesystem;

struct Family {
  const char* id;      ///< Of the golden model.
  const char* config;  ///< config.json
  const char* pooling = nullptr;  ///< 1_Pooling/config.json
};

const Family kFamilies[] = {
    {"ds-v3-old.f16", R"({"model_type":"deepseek_v3","hidden_size":128,"intermediate_size":128,"num_hidden_layers":2,
      "num_attention_heads":4,"num_key_value_heads":4,"max_position_embeddings":1024,"rms_norm_eps":1e-6,"rope_theta":10000,
      "q_lora_rank":64,"kv_lora_rank":64,"qk_nope_head_dim":32,"qk_rope_head_dim":16,"v_head_dim":32,"first_k_dense_replace":1,
      "n_routed_experts":12,"n_shared_experts":1,"num_experts_per_tok":4,"moe_intermediate_size":32,"moe_layer_freq":1,
      "norm_topk_prob":true,"routed_scaling_factor":2.5,"scoring_func":"sigmoid","topk_method":"noaux_tc","n_group":3,"topk_group":2,
      "rope_scaling":{"type":"yarn","factor":40,"original_max_position_embeddings":256,"beta_fast":32,"beta_slow":1,"mscale":1.0,"mscale_all_dim":1.0}})"},
    {"ds-lite-old.f32", R"({"model_type":"deepseek_v2","hidden_size":128,"intermediate_size":128,"num_hidden_layers":2,
      "num_attention_heads":4,"num_key_value_heads":4,"max_position_embeddings":1024,"rms_norm_eps":1e-6,"rope_theta":10000,
      "q_lora_rank":null,"kv_lora_rank":64,"qk_nope_head_dim":32,"qk_rope_head_dim":16,"v_head_dim":32,"first_k_dense_replace":1,
      "n_routed_experts":8,"n_shared_experts":2,"num_experts_per_tok":3,"moe_intermediate_size":32,"moe_layer_freq":1,
      "norm_topk_prob":false,"routed_scaling_factor":1.0,"scoring_func":"softmax","topk_method":"greedy","n_group":1,"topk_group":1,
      "tie_word_embeddings":true,
      "rope_scaling":{"type":"yarn","factor":40,"original_max_position_embeddings":256,"beta_fast":32,"beta_slow":1,"mscale":0.707,"mscale_all_dim":0.707}})"},
    {"qwen3moe.f32", R"({"model_type":"qwen3_moe","hidden_size":128,"intermediate_size":160,"num_hidden_layers":2,
      "num_attention_heads":4,"num_key_value_heads":2,"head_dim":32,"max_position_embeddings":1024,"rms_norm_eps":1e-6,"rope_theta":1000000.0,
      "num_experts":8,"num_experts_per_tok":3,"moe_intermediate_size":32,"norm_topk_prob":true,"decoder_sparse_step":1,"mlp_only_layers":[]})"},
    {"bert-cls.f32", R"({"model_type":"bert","hidden_size":128,"intermediate_size":160,"num_hidden_layers":2,"num_attention_heads":4,
      "max_position_embeddings":192,"layer_norm_eps":1e-12,"hidden_act":"gelu","position_embedding_type":"absolute"})",
      R"({"word_embedding_dimension":128,"pooling_mode_cls_token":true,"pooling_mode_mean_tokens":false})"},
    {"nomic-mean.f32", R"({"model_type":"nomic_bert","n_embd":128,"n_inner":160,"n_layer":1,"n_head":4,"n_positions":192,
      "layer_norm_epsilon":1e-3,"rotary_emb_base":1000,"rotary_emb_fraction":1.0,"rotary_emb_interleaved":false,"activation_function":"swiglu"})",
      R"({"word_embedding_dimension":128,"pooling_mode_cls_token":false,"pooling_mode_mean_tokens":true})"},
};

/// The published names of what GGUF calls `part`, without layer and ending.
std::string published(const std::string& architecture, const std::string& part) {
  static const std::map<std::string, std::string> decoder = {
      {"token_embd", "model.embed_tokens"}, {"output_norm", "model.norm"}, {"output", "lm_head"},
      {"attn_norm", "input_layernorm"}, {"ffn_norm", "post_attention_layernorm"},
      {"attn_q", "self_attn.q_proj"}, {"attn_k", "self_attn.k_proj"}, {"attn_v", "self_attn.v_proj"}, {"attn_output", "self_attn.o_proj"},
      {"attn_q_norm", "self_attn.q_norm"}, {"attn_k_norm", "self_attn.k_norm"},
      {"attn_q_a", "self_attn.q_a_proj"}, {"attn_q_a_norm", "self_attn.q_a_layernorm"}, {"attn_q_b", "self_attn.q_b_proj"},
      {"attn_kv_a_mqa", "self_attn.kv_a_proj_with_mqa"}, {"attn_kv_a_norm", "self_attn.kv_a_layernorm"}, {"attn_kv_b", "self_attn.kv_b_proj"},
      {"ffn_gate", "mlp.gate_proj"}, {"ffn_up", "mlp.up_proj"}, {"ffn_down", "mlp.down_proj"}, {"ffn_gate_inp", "mlp.gate"},
      {"ffn_gate_shexp", "mlp.shared_experts.gate_proj"}, {"ffn_up_shexp", "mlp.shared_experts.up_proj"}, {"ffn_down_shexp", "mlp.shared_experts.down_proj"},
      {"ffn_gate_exps", "mlp.experts.N.gate_proj"}, {"ffn_up_exps", "mlp.experts.N.up_proj"}, {"ffn_down_exps", "mlp.experts.N.down_proj"},
      {"exp_probs_b", "mlp.gate.e_score_correction_bias"}};
  static const std::map<std::string, std::string> bert = {
      {"token_embd", "embeddings.word_embeddings"}, {"token_types", "embeddings.token_type_embeddings"},
      {"position_embd", "embeddings.position_embeddings"}, {"token_embd_norm", "embeddings.LayerNorm"},
      {"attn_q", "attention.self.query"}, {"attn_k", "attention.self.key"}, {"attn_v", "attention.self.value"},
      {"attn_output", "attention.output.dense"}, {"attn_output_norm", "attention.output.LayerNorm"},
      {"ffn_up", "intermediate.dense"}, {"ffn_down", "output.dense"}, {"layer_output_norm", "output.LayerNorm"}};
  static const std::map<std::string, std::string> nomic = {
      {"token_embd", "embeddings.word_embeddings"}, {"token_types", "embeddings.token_type_embeddings"}, {"token_embd_norm", "emb_ln"},
      {"attn_qkv", "attn.Wqkv"}, {"attn_output", "attn.out_proj"}, {"attn_output_norm", "norm1"}, {"layer_output_norm", "norm2"},
      {"ffn_up", "mlp.fc11"}, {"ffn_gate", "mlp.fc12"}, {"ffn_down", "mlp.fc2"}};
  const auto& names = architecture == "bert" ? bert : architecture == "nomic-bert" ? nomic : decoder;
  const auto at = names.find(part);
  if (at == names.end()) throw std::runtime_error("no published name for " + part);
  return at->second;
}

std::string folder_name(const std::string& architecture, std::string name) {
  std::string ending = name.substr(name.rfind('.'));
  name.resize(name.size() - ending.size());
  std::string layers;
  if (name.starts_with("blk.")) {
    const auto dot = name.find('.', 4);
    const char* prefix = architecture == "bert" ? "encoder.layer." : architecture == "nomic-bert" ? "encoder.layers." : "model.layers.";
    layers = prefix + name.substr(4, dot - 4) + ".";
    name.erase(0, dot + 1);
  }
  if (name == "exp_probs_b") ending.clear();
  return layers + published(architecture, name) + ending;
}

std::string as_safetensors(const WeightFile& file, const std::string& architecture) {
  test::SafetensorsBuilder builder;
  for (const Tensor& tensor : file.tensors()) {
    const char* const type = tensor.type == TensorType::f16 ? "F16" : "F32";
    const std::string_view data(reinterpret_cast<const char*>(tensor.data), tensor.bytes);
    std::vector<std::int64_t> shape;
    for (int i = tensor.rank; i > 0; --i) shape.push_back(tensor.shape[i - 1]);
    const std::string name = folder_name(architecture, std::string(tensor.name));
    const auto expert = name.find(".N.");
    if (expert == std::string::npos) {
      builder.add(name, type, shape, std::string(data));
      continue;
    }
    const std::size_t bytes = data.size() / static_cast<std::size_t>(shape[0]);
    for (std::int64_t i = 0; i < shape[0]; ++i) {
      std::string one = name;
      one.replace(expert + 1, 1, std::to_string(i));
      builder.add(one, type, {shape[1], shape[2]}, std::string(data.substr(static_cast<std::size_t>(i) * bytes, bytes)));
    }
  }
  return builder.bytes();
}

}  // namespace

TEST_CASE("a checkpoint's folder of every architecture gives the bits of its GGUF file", "[safetensors]") {
  const std::string golden = test::shared_dir() + "/golden/";
  std::ifstream in(golden + "manifest.json");
  const auto manifest = parse_json(std::string{std::istreambuf_iterator<char>(in), std::istreambuf_iterator<char>()});
  if (!manifest) return test::count_cases("safetensors-folders", 0, 0, static_cast<int>(std::size(kFamilies)));
  const fs::path folder = fs::temp_directory_path() / ("kontor-folders-" + std::to_string(::getpid()));
  int passed = 0, failed = 0;
  for (const Family& family : kFamilies) {
    const Json* model = nullptr;
    for (const Json& entry : manifest->at("models"))
      if (entry.at("id") == family.id) model = &entry;
    REQUIRE(model);
    const auto file = WeightFile::open(golden + model->at("file").get<std::string>());
    REQUIRE(file.has_value());
    fs::remove_all(folder);
    fs::create_directories(folder / "1_Pooling");
    std::ofstream(folder / "config.json") << family.config;
    if (family.pooling) std::ofstream(folder / "1_Pooling" / "config.json") << family.pooling;
    std::ofstream(folder / "model.safetensors", std::ios::binary) << as_safetensors(*file, model->at("architecture").get<std::string>());
    GoldenInput input;
    input.one = model->at("sequences").at("seq1").get<std::vector<TokenId>>();
    input.some = model->at("sequences").at("seq17").get<std::vector<TokenId>>();
    input.many = model->at("sequences").at("seq130").get<std::vector<TokenId>>();
    if (!family.pooling) {
      input.chunks = model->at("chunks").get<std::vector<std::int64_t>>();
      input.positions = model->at("rows").at("seq130_at").at("positions").get<std::vector<std::int64_t>>();
    }
    const auto output = [&](const WeightFile& weights) {
      auto backend = open_backend(weights, {"cpu", 2, Compute::f32, ""});
      if (!backend) throw std::runtime_error(backend.error().describe());
      auto rows = family.pooling ? run_golden_embedding(**backend, weights, input) : run_golden(**backend, input);
      if (!rows) throw std::runtime_error(rows.error().describe());
      return std::move(*rows);
    };
    const auto opened = WeightFile::open(folder.string());
    INFO(family.id << " " << (opened ? "" : opened.error().describe()));
    REQUIRE(opened.has_value());
    const GoldenOutput expected = output(*file), got = output(*opened);
    const bool same = !expected.rows.empty() && got.rows == expected.rows && got.greedy == expected.greedy;
    (same ? passed : failed) += 1;
    if (!same) std::cout << "safetensors-folders: " << family.id << " differs from the GGUF file\n";
  }
  fs::remove_all(folder);
  test::count_cases("safetensors-folders", passed, failed, 0);
  REQUIRE(failed == 0);
}

}  // namespace kontor::inference
