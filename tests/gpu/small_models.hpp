#pragma once
// Models that a test makes: real widths of heads where they matter, few layers, few heads, random weights.

#include "inference/dequantize.hpp"
#include "inference/quantize_blocks.hpp"
#include "inference/sampler.hpp"
#include "tests/support/gguf_builder.hpp"

#include <cmath>
#include <cstdint>
#include <functional>
#include <string>
#include <utility>
#include <vector>

namespace kontor::test {

/// DeepSeek's layers: latent attention, the first layer dense, the others with experts.
struct LatentModel {
  std::uint32_t width = 64, layers = 2, heads = 5, inner = 64, vocabulary = 96, context = 4096;
  std::uint32_t query_rank = 32;  ///< 0: queries come directly from the state.
  std::uint32_t rank = 512, rotary = 64, plain = 128, value = 128;
  std::uint32_t experts = 4, used = 2, expert_inner = 32;
  inference::TensorType type = inference::TensorType::f32;
  bool expert_tensors = false;    ///< One tensor for each expert.
  /// The type of a matrix where it is not `type`; may be empty.
  std::function<inference::TensorType(const std::string& name)> type_of;
};

/// The bytes of a GGUF file. A matrix has the same values whatever the tensors that it is cut into.
class SmallModel {
 public:
  explicit SmallModel(const LatentModel& m) : type_(m.type), type_of_(m.type_of) {
    file_.string("general.architecture", "deepseek2");
    const std::pair<const char*, std::uint32_t> numbers[] = {
        {"block_count", m.layers}, {"context_length", m.context}, {"embedding_length", m.width}, {"feed_forward_length", m.inner},
        {"attention.head_count", m.heads}, {"attention.head_count_kv", 1}, {"attention.q_lora_rank", m.query_rank},
        {"attention.kv_lora_rank", m.rank}, {"rope.dimension_count", m.rotary}, {"attention.key_length", m.plain + m.rotary},
        {"attention.value_length", m.value}, {"leading_dense_block_count", 1}, {"expert_count", m.experts},
        {"expert_used_count", m.used}, {"expert_shared_count", 1}, {"expert_feed_forward_length", m.expert_inner},
        {"expert_gating_func", 2}};
    for (const auto& [key, value] : numbers) file_.u32(std::string("deepseek2.") + key, value);
    file_.boolean("deepseek2.expert_weights_norm", true);
    file_.scalar<float>("deepseek2.attention.layer_norm_rms_epsilon", 6, 1e-6f);
    add("token_embd.weight", {m.width, m.vocabulary}, m.type);
    add("output.weight", {m.width, m.vocabulary}, m.type);
    norm("output_norm.weight", m.width);
    for (std::uint32_t layer = 0; layer < m.layers; ++layer) add_layer(m, layer);
  }

  std::string bytes() const { return file_.bytes(); }

 private:
  void add_layer(const LatentModel& m, std::uint32_t layer) {
    const std::string p = "blk." + std::to_string(layer) + ".";
    norm(p + "attn_norm.weight", m.width);
    norm(p + "ffn_norm.weight", m.width);
    const std::uint64_t queries = m.heads * (m.plain + m.rotary);
    if (m.query_rank > 0) {
      add(p + "attn_q_a.weight", {m.width, m.query_rank}, m.type);
      norm(p + "attn_q_a_norm.weight", m.query_rank);
      add(p + "attn_q_b.weight", {m.query_rank, queries}, m.type);
    } else {
      add(p + "attn_q.weight", {m.width, queries}, m.type);
    }
    add(p + "attn_kv_a_mqa.weight", {m.width, m.rank + m.rotary}, m.type);
    norm(p + "attn_kv_a_norm.weight", m.rank);
    add(p + "attn_k_b.weight", {m.plain, m.rank, m.heads}, m.type);
    add(p + "attn_v_b.weight", {m.rank, m.value, m.heads}, m.type);
    add(p + "attn_output.weight", {m.heads * m.value, m.width}, m.type);
    if (layer == 0) return add_feed_forward(p, ".weight", m.width, m.inner);
    add(p + "ffn_gate_inp.weight", {m.width, m.experts}, inference::TensorType::f32);
    add_feed_forward(p, "_shexp.weight", m.width, m.expert_inner);
    for (const auto& [name, from, to] : {Part{"ffn_gate", m.width, m.expert_inner}, {"ffn_up", m.width, m.expert_inner}, {"ffn_down", m.expert_inner, m.width}}) {
      const std::string stem = p + name;
      const std::vector<float> values = random(std::uint64_t{from} * to * m.experts, from);
      if (!m.expert_tensors) {
        put(stem + "_exps.weight", {from, to, m.experts}, m.type, values.data(), values.size());
        continue;
      }
      for (std::uint32_t e = 0; e < m.experts; ++e)
        put(stem + "." + std::to_string(e) + ".weight", {from, to}, m.type, values.data() + std::size_t{e} * from * to, std::size_t{from} * to);
    }
  }

  struct Part {
    const char* name;
    std::uint32_t from, to;
  };
  void add_feed_forward(const std::string& p, const std::string& suffix, std::uint32_t width, std::uint32_t inner) {
    add(p + "ffn_gate" + suffix, {width, inner}, type_);
    add(p + "ffn_up" + suffix, {width, inner}, type_);
    add(p + "ffn_down" + suffix, {inner, width}, type_);
  }

  void norm(const std::string& name, std::uint64_t length) {
    std::vector<float> values;
    for (std::uint64_t i = 0; i < length; ++i) values.push_back(1 + 0.2f * draw());
    put(name, {length}, inference::TensorType::f32, values.data(), values.size());
  }
  void add(const std::string& name, const std::vector<std::uint64_t>& dims, inference::TensorType type) {
    std::uint64_t count = 1;
    for (const std::uint64_t d : dims) count *= d;
    const std::vector<float> values = random(count, dims[0]);
    put(name, dims, type, values.data(), values.size());
  }
  /// Rows of unit length in the mean, so that no layer drowns the others.
  std::vector<float> random(std::uint64_t count, std::uint64_t columns) {
    std::vector<float> values;
    const float scale = 1.7f / std::sqrt(static_cast<float>(columns));
    for (std::uint64_t i = 0; i < count; ++i) values.push_back(scale * draw());
    return values;
  }
  float draw() { return static_cast<float>(inference::random_uniform(11, drawn_++) * 2 - 1); }
  void put(const std::string& name, const std::vector<std::uint64_t>& dims, inference::TensorType type, const float* values, std::size_t count) {
    if (dims.size() > 1 && type_of_) type = type_of_(name);
    file_.tensor(name, dims, static_cast<std::uint32_t>(type), file_.data.size());
    const inference::TensorTypeInfo& kind = inference::info(type);
    std::string blocks(count / static_cast<std::size_t>(kind.block_elements) * static_cast<std::size_t>(kind.block_bytes), '\0');
    inference::find_quantizer(type)(values, static_cast<std::int64_t>(count), reinterpret_cast<std::byte*>(blocks.data()));
    file_.data += blocks;
    file_.data.append((32 - file_.data.size() % 32) % 32, '\0');
  }

  inference::TensorType type_;
  std::function<inference::TensorType(const std::string&)> type_of_;
  GgufBuilder file_;
  std::uint64_t drawn_ = 0;
};

}  // namespace kontor::test
