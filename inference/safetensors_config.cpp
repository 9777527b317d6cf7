#include "inference/safetensors_config.hpp"

#include <nlohmann/json.hpp>

#include <array>
#include <cmath>
#include <cstring>
#include <numbers>
#include <optional>

namespace kontor::inference {
namespace {

template <class T>
std::string bytes_of(T value) {
  std::string bytes(sizeof(T), '\0');
  std::memcpy(bytes.data(), &value, sizeof(T));
  return bytes;
}

/// Reads members of a JSON object; the first error is kept. A null counts as missing.
class Config {
 public:
  explicit Config(const Json& json) : json_(json) {}

  bool failed() const { return error_.code != Errc::none; }
  const Error& error() const { return error_; }
  void refuse(const char* key, const std::string& why) {
    if (!failed()) error_ = fail(Errc::unsupported, std::string("config.json: ") + key + " " + why, "bad_hparam");
  }

  const Json* find(const char* key) const {
    const auto at = json_.find(key);
    return at == json_.end() || at->is_null() ? nullptr : &*at;
  }
  std::optional<std::int64_t> integer(const char* key) {
    const Json* value = find(key);
    if (!value || failed()) return std::nullopt;
    if (!value->is_number_integer()) return wrong(key, "an integer"), std::nullopt;
    return value->get<std::int64_t>();
  }
  std::optional<double> number(const char* key) {
    const Json* value = find(key);
    if (!value || failed()) return std::nullopt;
    if (!value->is_number()) return wrong(key, "a number"), std::nullopt;
    return value->get<double>();
  }
  std::optional<bool> boolean(const char* key) {
    const Json* value = find(key);
    if (!value || failed()) return std::nullopt;
    if (!value->is_boolean()) return wrong(key, "true or false"), std::nullopt;
    return value->get<bool>();
  }
  std::string text_or(const char* key, const char* fallback) {
    const Json* value = find(key);
    if (!value || failed()) return fallback;
    if (!value->is_string()) return wrong(key, "a text"), std::string(fallback);
    return value->get<std::string>();
  }
  template <class T>
  T required(const char* key, const std::optional<T>& value) {
    if (!value && !failed()) error_ = fail(Errc::malformed, std::string("config.json: ") + key + " is missing", "missing_key");
    return value.value_or(T{});
  }

 private:
  void wrong(const char* key, const char* wanted) {
    error_ = fail(Errc::malformed, std::string("config.json: ") + key + " must be " + wanted, "wrong_key_type");
  }

  const Json& json_;
  Error error_;
};

class Converter {
 public:
  Converter(const Json& json, MetadataBuilder& out) : json_(json), config_(json), out_(out) {}

  Result<ConvertedConfig> convert() {
    const std::string type = config_.text_or("model_type", "");
    struct Family {
      const char *type, *architecture;
      void (Converter::*convert)();
    };
    static constexpr Family kFamilies[] = {
        {"llama", "llama", &Converter::decoder},          {"qwen2", "qwen2", &Converter::decoder},
        {"qwen3", "qwen3", &Converter::decoder},          {"qwen3_moe", "qwen3moe", &Converter::qwen3_moe},
        {"deepseek_v2", "deepseek2", &Converter::deepseek}, {"deepseek_v3", "deepseek2", &Converter::deepseek},
        {"bert", "bert", &Converter::bert},               {"nomic_bert", "nomic-bert", &Converter::nomic},
    };
    for (const Family& family : kFamilies) {
      if (type != family.type) continue;
      result_.architecture = family.architecture;
      out_.text("general.architecture", family.architecture);
      (this->*family.convert)();
      check_quantization();
      if (config_.failed()) return config_.error();
      return std::move(result_);
    }
    if (config_.failed()) return config_.error();
    return fail(Errc::unsupported, "config.json: model_type '" + printable(type) + "' is not supported", "unsupported_arch");
  }

 private:
  std::string key(const char* name) const { return result_.architecture + "." + name; }

  void integer(const char* name, const char* from) { out_.integer(key(name), config_.required(from, config_.integer(from))); }
  void integer_if_given(const char* name, const char* from) {
    if (const auto value = config_.integer(from)) out_.integer(key(name), *value);
  }
  void number(const char* name, const char* from) { out_.number(key(name), config_.required(from, config_.number(from))); }

  void common() {
    integer("block_count", "num_hidden_layers");
    integer("embedding_length", "hidden_size");
    integer("feed_forward_length", "intermediate_size");
    integer("attention.head_count", "num_attention_heads");
    integer("context_length", "max_position_embeddings");
  }

  void decoder() {
    common();
    integer_if_given("attention.head_count_kv", "num_key_value_heads");
    integer_if_given("attention.key_length", "head_dim");
    integer_if_given("attention.value_length", "head_dim");
    number("attention.layer_norm_rms_epsilon", "rms_norm_eps");
    if (const std::string act = config_.text_or("hidden_act", "silu"); act != "silu") config_.refuse("hidden_act", "is '" + printable(act) + "'; only silu is known");
    if (config_.boolean("use_sliding_window").value_or(false)) config_.refuse("use_sliding_window", "is true, which is not supported");
    // Rows of queries and keys are ordered for rotating halves; a GGUF file of a llama has them reordered.
    if (result_.architecture == "llama") out_.text("kontor.rope_rows", "halves");
    rope();
  }

  void experts(const char* count) {
    integer("expert_count", count);
    integer("expert_used_count", "num_experts_per_tok");
    integer("expert_feed_forward_length", "moe_intermediate_size");
  }

  void qwen3_moe() {
    decoder();
    experts("num_experts");
    out_.boolean(key("expert_weights_norm"), config_.boolean("norm_topk_prob").value_or(false));
    if (config_.integer("decoder_sparse_step").value_or(1) != 1) config_.refuse("decoder_sparse_step", "is not 1");
    if (const Json* dense = config_.find("mlp_only_layers"); dense && !dense->empty()) config_.refuse("mlp_only_layers", "is not empty");
  }

  void deepseek() {
    common();
    number("attention.layer_norm_rms_epsilon", "rms_norm_eps");
    integer_if_given("attention.q_lora_rank", "q_lora_rank");
    integer("attention.kv_lora_rank", "kv_lora_rank");
    integer("rope.dimension_count", "qk_rope_head_dim");
    const std::int64_t rotary = config_.integer("qk_rope_head_dim").value_or(0);
    const std::int64_t plain = config_.required("qk_nope_head_dim", config_.integer("qk_nope_head_dim"));
    if (plain < 0 || plain > 1 << 20 || rotary < 0 || rotary > 1 << 20) config_.refuse("qk_nope_head_dim", "is too large");
    else out_.integer(key("attention.key_length_mla"), plain + rotary);
    integer("attention.value_length_mla", "v_head_dim");
    if (config_.integer("n_routed_experts")) {
      experts("n_routed_experts");
      integer_if_given("expert_shared_count", "n_shared_experts");
      integer_if_given("leading_dense_block_count", "first_k_dense_replace");
      if (config_.integer("moe_layer_freq").value_or(1) != 1) config_.refuse("moe_layer_freq", "is not 1");
      out_.boolean(key("expert_weights_norm"), config_.boolean("norm_topk_prob").value_or(false));
      out_.number(key("expert_weights_scale"), config_.number("routed_scaling_factor").value_or(1.0));
      const std::string scores = config_.text_or("scoring_func", "softmax"), method = config_.text_or("topk_method", "greedy");
      if (scores != "softmax" && scores != "sigmoid") config_.refuse("scoring_func", "is '" + printable(scores) + "'; known are softmax and sigmoid");
      out_.integer(key("expert_gating_func"), scores == "sigmoid" ? 2 : 1);
      if (method != "greedy") {
        integer_if_given("expert_group_count", "n_group");
        integer_if_given("expert_group_used_count", "topk_group");
        // DeepSeek-V2 ranks groups by their best expert, V3 by the best two.
        if (method == "group_limited_greedy") out_.integer("kontor.expert_group_leaders", 1);
        else if (method != "noaux_tc") config_.refuse("topk_method", "is '" + printable(method) + "'; known are greedy, group_limited_greedy and noaux_tc");
      }
    }
    rope();
  }

  void encoder(const char* epsilon) {
    out_.number(key("attention.layer_norm_epsilon"), config_.required(epsilon, config_.number(epsilon)));
    out_.boolean(key("attention.causal"), false);
  }

  void bert() {
    common();
    encoder("layer_norm_eps");
    const std::string act = config_.text_or("hidden_act", "gelu"), positions = config_.text_or("position_embedding_type", "absolute");
    if (act != "gelu") config_.refuse("hidden_act", "is '" + printable(act) + "'; only gelu is known");
    if (positions != "absolute") config_.refuse("position_embedding_type", "is '" + printable(positions) + "'; only absolute is known");
  }

  void nomic() {
    integer("block_count", "n_layer");
    integer("embedding_length", "n_embd");
    integer("feed_forward_length", "n_inner");
    integer("attention.head_count", "n_head");
    integer("context_length", "n_positions");
    encoder("layer_norm_epsilon");
    out_.number(key("rope.freq_base"), config_.number("rotary_emb_base").value_or(10000.0));
    if (config_.boolean("rotary_emb_interleaved").value_or(false)) config_.refuse("rotary_emb_interleaved", "is true");
    if (config_.number("rotary_emb_fraction").value_or(1.0) != 1.0) config_.refuse("rotary_emb_fraction", "is not 1");
    if (const std::string act = config_.text_or("activation_function", "swiglu"); act != "swiglu") config_.refuse("activation_function", "is '" + printable(act) + "'; only swiglu is known");
  }

  void rope() {
    const Json* given = config_.find("rope_parameters");  // Newer configurations gather everything here.
    if (!given) given = config_.find("rope_scaling");
    if (given && !given->is_object()) return config_.refuse("rope_scaling", "is no object");
    static const Json kNothing = Json::object();
    Config scaling(given ? *given : kNothing);
    const double base = scaling.number("rope_theta").value_or(config_.number("rope_theta").value_or(10000.0));
    out_.number(key("rope.freq_base"), base);
    const std::string type = scaling.text_or("rope_type", scaling.text_or("type", "default").c_str());
    if (type == "linear" || type == "yarn") {
      out_.text(key("rope.scaling.type"), type);
      out_.number(key("rope.scaling.factor"), scaling.required("factor", scaling.number("factor")));
      if (type == "yarn") yarn(scaling);
    } else if (type == "llama3") {
      llama3(scaling, base);
    } else if (type != "default") {
      config_.refuse("rope_scaling", "has type '" + printable(type) + "'; known are linear, yarn and llama3");
    }
    if (scaling.failed() && !config_.failed()) config_.refuse("rope_scaling", "cannot be read: " + scaling.error().message);
  }

  void yarn(Config& scaling) {
    if (const auto original = scaling.integer("original_max_position_embeddings")) out_.integer(key("rope.scaling.original_context_length"), *original);
    if (const auto fast = scaling.number("beta_fast")) out_.number(key("rope.scaling.yarn_beta_fast"), *fast);
    if (const auto slow = scaling.number("beta_slow")) out_.number(key("rope.scaling.yarn_beta_slow"), *slow);
    const double factor = scaling.number("factor").value_or(1.0);
    if (const auto all = scaling.number("mscale_all_dim"); all && *all != 0) {
      if (scaling.number("mscale").value_or(1.0) != *all) config_.refuse("rope_scaling", "has mscale and mscale_all_dim that differ");
      out_.number(key("rope.scaling.yarn_log_multiplier"), 0.1 * *all);
    } else if (const auto attention = scaling.number("attention_factor"); attention && factor > 0) {
      out_.number(key("rope.scaling.attn_factor"), *attention / (1 + 0.1 * std::log(factor)));
    }
  }

  /// Llama 3.1: long wavelengths are stretched, short ones stay, a ramp lies between.
  void llama3(Config& scaling, double base) {
    const double factor = scaling.required("factor", scaling.number("factor"));
    const double low = scaling.required("low_freq_factor", scaling.number("low_freq_factor"));
    const double high = scaling.required("high_freq_factor", scaling.number("high_freq_factor"));
    const double original = scaling.required("original_max_position_embeddings", scaling.number("original_max_position_embeddings"));
    const std::int64_t heads = config_.integer("num_attention_heads").value_or(0);
    const std::int64_t length = config_.integer("head_dim").value_or(heads > 0 ? config_.integer("hidden_size").value_or(0) / heads : 0);
    if (scaling.failed()) return;
    if (!(factor > 0) || !(low > 0) || !(high > low) || !(original > 0) || !(base > 1) || length < 2 || length > 1 << 14)
      return config_.refuse("rope_scaling", "has factors that make no sense");
    for (std::int64_t i = 0; i < length / 2; ++i) {
      const double wavelength = 2 * std::numbers::pi * std::pow(base, 2.0 * static_cast<double>(i) / static_cast<double>(length));
      double divisor = 1;
      if (wavelength > original / low) {
        divisor = factor;
      } else if (wavelength > original / high) {
        const double smooth = (original / wavelength - low) / (high - low);
        divisor = 1 / ((1 - smooth) / factor + smooth);
      }
      result_.rope_factors.push_back(static_cast<float>(divisor));
    }
  }

  void check_quantization() {
    const Json* given = config_.find("quantization_config");
    if (!given) return;
    if (!given->is_object()) return config_.refuse("quantization_config", "is no object");
    Config quantization(*given);
    const std::string method = quantization.text_or("quant_method", "");
    const Json* block = quantization.find("weight_block_size");
    if (method != "fp8" || !block || *block != Json::array({128, 128}))
      config_.refuse("quantization_config", "has quant_method '" + printable(method) + "'; only fp8 with blocks of 128 by 128 is known");
  }

  const Json& json_;
  Config config_;
  MetadataBuilder& out_;
  ConvertedConfig result_;
};

}  // namespace

void MetadataBuilder::add(std::string_view key, MetadataType type, std::string payload) {
  MetadataEntry entry;
  entry.key = texts_.emplace_back(key);
  entry.type = entry.element_type = type;
  entry.payload = texts_.emplace_back(std::move(payload));
  entries_.push_back(entry);
}

void MetadataBuilder::text(std::string_view key, std::string_view value) { add(key, MetadataType::text, std::string(value)); }
void MetadataBuilder::integer(std::string_view key, std::int64_t value) { add(key, MetadataType::i64, bytes_of(value)); }
void MetadataBuilder::number(std::string_view key, double value) { add(key, MetadataType::f32, bytes_of(static_cast<float>(value))); }
void MetadataBuilder::boolean(std::string_view key, bool value) { add(key, MetadataType::boolean, std::string(1, value ? '\1' : '\0')); }

Result<ConvertedConfig> convert_config(const Json& config, MetadataBuilder& out) {
  if (!config.is_object()) return fail(Errc::malformed, "config.json is no object", "wrong_key_type");
  return Converter(config, out).convert();
}

}  // namespace kontor::inference
