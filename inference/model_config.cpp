#include "inference/model_config.hpp"

#include "inference/dequantize.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <filesystem>
#include <numbers>

namespace kontor::inference {
namespace {

constexpr std::array kArchitectures{
    Architecture{"llama", RopePairs::adjacent},
    Architecture{"qwen2", RopePairs::halves},
    Architecture{"qwen3", RopePairs::halves},
    Architecture{.name = "qwen3moe", .rope_pairs = RopePairs::halves, .experts = true},
    Architecture{.name = "deepseek2", .rope_pairs = RopePairs::adjacent, .latent = true, .experts = true},
    Architecture{.name = "bert", .rope_pairs = RopePairs::none, .encoder = true},
    Architecture{.name = "nomic-bert", .rope_pairs = RopePairs::halves, .encoder = true},
};

// Far above any model, low enough that products of two of them fit into 64 bits.
constexpr std::int64_t kMaxLayers = 4096;
constexpr std::int64_t kMaxWidth = 1 << 20;
constexpr std::int64_t kMaxHeads = 1 << 16;
constexpr std::int64_t kMaxHeadLength = 1 << 14;
constexpr std::int64_t kMaxExperts = 1 << 14;
constexpr std::int64_t kMaxContext = std::int64_t{1} << 31;

/// Reads the keys of one architecture; the first error is kept and everything after it is skipped.
class Reader {
 public:
  Reader(const WeightFile& file, std::string prefix) : file_(file), prefix_(std::move(prefix)) {}

  std::string key(std::string_view name) const { return prefix_ + "." + std::string(name); }
  bool has(std::string_view name) const { return file_.has(key(name)); }
  bool failed() const { return error_.code != Errc::none; }
  const Error& error() const { return error_; }

  void refuse(std::string_view name, std::string_view why) {
    if (!failed()) error_ = fail(Errc::malformed, printable(key(name)) + " " + std::string(why), "bad_hparam");
  }

  /// An integer in [low, high]. An array of one value, or of one value for each layer that are all the same, will do.
  std::int64_t integer(std::string_view name, std::int64_t low, std::int64_t high, std::int64_t layers = 1) {
    if (failed()) return low;
    const auto values = file_.integers(key(name));
    if (!values) return error_ = values.error(), low;
    const bool uniform = !values->empty() && std::count(values->begin(), values->end(), values->front()) ==
                                                 static_cast<std::ptrdiff_t>(values->size());
    if (!uniform || (values->size() != 1 && static_cast<std::int64_t>(values->size()) != layers))
      return refuse(name, "must be one number, or the same number for each layer"), low;
    const std::int64_t value = values->front();
    if (value < low || value > high)
      return refuse(name, "is " + std::to_string(value) + "; it must lie between " + std::to_string(low) + " and " +
                              std::to_string(high)), low;
    return value;
  }

  std::int64_t integer_or(std::string_view name, std::int64_t low, std::int64_t high, std::int64_t fallback,
                          std::int64_t layers = 1) {
    return has(name) ? integer(name, low, high, layers) : fallback;
  }

  double number(std::string_view name) {
    if (failed()) return 0;
    const auto value = file_.number(key(name));
    if (!value) return error_ = value.error(), 0.0;
    if (!std::isfinite(*value)) refuse(name, "is not a finite number");
    return *value;
  }
  double number_or(std::string_view name, double fallback) { return has(name) ? number(name) : fallback; }

  bool boolean_or(std::string_view name, bool fallback) {
    if (failed()) return fallback;
    const auto value = file_.boolean_or(key(name), fallback);
    if (!value) return error_ = value.error(), fallback;
    return *value;
  }

  /// Experts whose scores make up a group's: two, unless the file says one.
  std::int64_t leaders() const {
    const auto value = file_.integer_or("kontor.expert_group_leaders", 2);
    return value && *value == 1 ? 1 : 2;
  }

  std::string_view text_or(std::string_view name, std::string_view fallback) {
    if (failed()) return fallback;
    const auto value = file_.text_or(key(name), fallback);
    if (!value) return error_ = value.error(), fallback;
    return *value;
  }

 private:
  const WeightFile& file_;
  std::string prefix_;
  Error error_;
};

/// YaRN (Peng et al., 2023): high frequencies stay, low ones are interpolated, a ramp lies between.
void apply_yarn(Rope& rope, Reader& keys, double base, double factor, double original_context, bool latent) {
  const double beta_fast = keys.number_or("rope.scaling.yarn_beta_fast", 32);
  const double beta_slow = keys.number_or("rope.scaling.yarn_beta_slow", 1);
  if (!(beta_fast > 0) || !(beta_slow > 0)) return keys.refuse("rope.scaling.yarn_beta_fast", "must be above 0");
  const int n = rope.dimensions;
  const auto dimension_of = [&](double rotations) {
    return n * std::log(original_context / (rotations * 2 * std::numbers::pi)) / (2 * std::log(base));
  };
  const double low = std::max(0.0, std::floor(dimension_of(beta_fast)));
  const double high = std::min(n - 1.0, std::ceil(dimension_of(beta_slow)));
  for (int i = 0; i < n / 2; ++i) {
    const double ramp = 1 - std::clamp((i - low) / std::max(0.001, high - low), 0.0, 1.0);
    auto& frequency = rope.frequencies[static_cast<std::size_t>(i)];
    frequency = frequency / factor * (1 - ramp) + frequency * ramp;
  }
  const double attention = keys.number_or("rope.scaling.attn_factor", 1.0);
  // DeepSeek moves the factor from cosine and sine, where it would enter twice, to the scores. The file has a tenth of
  // the published mscale_all_dim.
  const double logarithmic = latent ? keys.number_or("rope.scaling.yarn_log_multiplier", 0.0) : 0.0;
  const double on_scores = attention * (1 + logarithmic * std::log(factor));
  rope.magnitude = static_cast<float>(logarithmic != 0 ? attention : attention * (1 + 0.1 * std::log(factor)));
  rope.score_factor = static_cast<float>(logarithmic != 0 ? on_scores * on_scores : 1.0);
}

/// Llama 3 stores one divisor for each frequency as a tensor.
Result<void> apply_factors(Rope& rope, const WeightFile& file) {
  const Tensor* factors = file.find_tensor("rope_freqs.weight");
  if (!factors) return {};
  if (factors->type != TensorType::f32)
    return fail(Errc::malformed, "rope_freqs.weight must be F32", "bad_tensor_type");
  if (factors->rank != 1 || factors->elements != rope.dimensions / 2)
    return fail(Errc::malformed, "rope_freqs.weight must have " + std::to_string(rope.dimensions / 2) + " values", "shape_mismatch");
  std::vector<float> values(rope.frequencies.size());
  if (const auto read = dequantize_row(*factors, 0, values.data()); !read) return read.error();
  for (std::size_t i = 0; i < values.size(); ++i) {
    if (!(values[i] > 0) || !std::isfinite(values[i]))
      return fail(Errc::malformed, "rope_freqs.weight holds a value that is not a positive number", "bad_hparam");
    rope.frequencies[i] /= double{values[i]};
  }
  return {};
}

void read_rope(ModelConfig& config, Reader& keys) {
  Rope& rope = config.rope;
  if (config.architecture->rope_pairs == RopePairs::none) return;
  rope.dimensions = static_cast<int>(config.latent.rank > 0 ? config.latent.rotary
                                     : keys.integer_or("rope.dimension_count", 2, kMaxHeadLength, config.key_length));
  if (keys.failed()) return;
  if (rope.dimensions % 2 != 0) return keys.refuse("rope.dimension_count", "must be even");
  if (rope.dimensions > config.key_length) return keys.refuse("rope.dimension_count", "is larger than a head");
  const double base = keys.number_or("rope.freq_base", 10000.0);
  if (keys.failed()) return;
  if (!(base > 1)) return keys.refuse("rope.freq_base", "must be above 1");
  for (int i = 0; i < rope.dimensions / 2; ++i) rope.frequencies.push_back(std::pow(base, -2.0 * i / rope.dimensions));

  const std::string_view type = keys.text_or("rope.scaling.type", keys.has("rope.scaling.factor") ? "linear" : "none");
  if (keys.failed() || type == "none" || type.empty()) return;
  if (type != "linear" && type != "yarn")
    return keys.refuse("rope.scaling.type", "is '" + printable(type) + "'; known are none, linear and yarn");
  const double factor = keys.number_or("rope.scaling.factor", 1.0);
  if (keys.failed()) return;
  if (!(factor > 0) || factor > 1e6) return keys.refuse("rope.scaling.factor", "must be above 0 and at most 1e6");
  if (type == "linear") {
    for (double& frequency : rope.frequencies) frequency /= factor;
  } else {
    const auto original = keys.integer_or("rope.scaling.original_context_length", 1, kMaxContext, config.context);
    if (!keys.failed()) apply_yarn(rope, keys, base, factor, static_cast<double>(original), config.latent.rank > 0);
  }
}

/// Ordinary heads: lengths of keys and values.
void read_heads(ModelConfig& config, Reader& keys) {
  if (config.heads % config.kv_heads != 0) keys.refuse("attention.head_count_kv", "must divide the number of heads");
  if (!keys.has("attention.key_length") && config.width % config.heads != 0)
    keys.refuse("attention.head_count", "must divide the width where no head length is given");
  const std::int64_t length = config.width / config.heads;
  config.key_length = keys.integer_or("attention.key_length", 1, kMaxHeadLength, length);
  config.value_length = keys.integer_or("attention.value_length", 1, kMaxHeadLength, length);
  if (config.key_length > kMaxHeadLength || config.value_length > kMaxHeadLength)
    keys.refuse("attention.head_count", "gives heads that are too long");
  config.attention_scale = 1.0f / std::sqrt(static_cast<float>(config.key_length));
}

/// Latent attention. Newer files give the heads' lengths as *_mla and those of the cache under the plain names.
void read_latent(ModelConfig& config, Reader& keys) {
  LatentShape& latent = config.latent;
  latent.query_rank = keys.integer_or("attention.q_lora_rank", 0, kMaxWidth, 0);
  latent.rank = keys.integer("attention.kv_lora_rank", 1, kMaxHeadLength / 2);
  latent.rotary = keys.integer("rope.dimension_count", 2, kMaxHeadLength / 2);
  const auto length = [&](const char* name, const char* newer) {
    return keys.integer(keys.has(newer) ? newer : name, 1, kMaxHeadLength);
  };
  const std::int64_t key = length("attention.key_length", "attention.key_length_mla");
  latent.value = length("attention.value_length", "attention.value_length_mla");
  latent.plain = key - latent.rotary;
  if (!keys.failed() && latent.plain < 1) keys.refuse("rope.dimension_count", "is not smaller than a head");
  config.kv_heads = 1;
  config.key_length = latent.rank + latent.rotary;
  config.value_length = latent.rank;
  config.attention_scale = 1.0f / std::sqrt(static_cast<float>(key));
}

void read_experts(ModelConfig& config, Reader& keys) {
  ExpertShape& experts = config.experts;
  experts.count = keys.integer_or("expert_count", 0, kMaxExperts, 0);
  if (keys.failed() || experts.count == 0) return;
  experts.used = keys.integer("expert_used_count", 1, experts.count);
  experts.feed_forward = keys.integer("expert_feed_forward_length", 1, 4 * kMaxWidth);
  experts.first_layer = keys.integer_or("leading_dense_block_count", 0, config.layers, 0);
  const std::int64_t shared = keys.integer_or("expert_shared_count", 0, kMaxExperts, 0);
  experts.shared = keys.integer_or("expert_shared_feed_forward_length", 1, 4 * kMaxWidth, experts.feed_forward) * shared;
  experts.groups = std::max<std::int64_t>(1, keys.integer_or("expert_group_count", 0, experts.count, 1));
  experts.groups_used = keys.integer_or("expert_group_used_count", 0, experts.groups, experts.groups);
  if (experts.groups_used == 0) experts.groups_used = experts.groups;
  if (keys.failed()) return;
  if (experts.count % experts.groups != 0) keys.refuse("expert_group_count", "must divide the number of experts");
  if (experts.used > experts.count / experts.groups * experts.groups_used)
    keys.refuse("expert_used_count", "is larger than the groups that are considered");
  if (experts.shared > 4 * kMaxWidth) keys.refuse("expert_shared_count", "is too large");
  experts.group_leaders = keys.leaders();
  // What qwen3moe does is not in its files.
  const bool fixed = config.architecture->name == "qwen3moe";
  const std::int64_t gating = keys.integer_or("expert_gating_func", 0, 3, 1);
  if (gating == 3) keys.refuse("expert_gating_func", "is 3; known are 1 (softmax) and 2 (sigmoid)");
  experts.sigmoid = gating == 2;
  experts.normalize = keys.boolean_or("expert_weights_norm", fixed);
  const double scale = keys.number_or("expert_weights_scale", 1.0);
  if (!keys.failed() && !(std::fabs(scale) < 1e6)) keys.refuse("expert_weights_scale", "is too large");
  experts.scale = scale == 0 ? 1.0f : static_cast<float>(scale);
}

Result<std::int64_t> read_vocabulary(const WeightFile& file) {
  if (const MetadataEntry* tokens = file.find("tokenizer.ggml.tokens")) {
    if (tokens->type != MetadataType::array || tokens->element_type != MetadataType::text)
      return fail(Errc::malformed, "tokenizer.ggml.tokens must be an array of texts", "wrong_key_type");
    if (tokens->count == 0) return fail(Errc::malformed, "tokenizer.ggml.tokens is empty", "bad_vocab");
    return static_cast<std::int64_t>(tokens->count);
  }
  const auto embedding = file.tensor("token_embd.weight");
  if (!embedding) return embedding.error();
  return (*embedding)->rows();
}

}  // namespace

const Architecture* find_architecture(std::string_view name) {
  const auto* found = std::find_if(kArchitectures.begin(), kArchitectures.end(), [&](const auto& a) { return a.name == name; });
  return found == kArchitectures.end() ? nullptr : found;
}

Result<ModelConfig> read_model_config(const WeightFile& file) {
  if (const auto whole = file.complete(); !whole) return whole.error();
  const auto architecture = file.text("general.architecture");
  if (!architecture) return architecture.error();
  ModelConfig config;
  config.architecture = find_architecture(*architecture);
  if (!config.architecture)
    return fail(Errc::unsupported, "architecture '" + printable(*architecture) + "' is not supported", "unsupported_arch");
  Reader keys(file, std::string(*architecture));
  config.layers = keys.integer("block_count", 1, kMaxLayers);
  config.width = keys.integer("embedding_length", 1, kMaxWidth);
  config.heads = keys.integer("attention.head_count", 1, kMaxHeads, config.layers);
  config.kv_heads = keys.integer_or("attention.head_count_kv", 1, kMaxHeads, config.heads, config.layers);
  config.feed_forward = keys.integer("feed_forward_length", 1, 4 * kMaxWidth, config.layers);
  config.context = keys.integer("context_length", 1, kMaxContext);
  const char* epsilon = config.architecture->encoder ? "attention.layer_norm_epsilon" : "attention.layer_norm_rms_epsilon";
  config.norm_epsilon = static_cast<float>(keys.number(epsilon));
  if (keys.failed()) return keys.error();
  if (!(config.norm_epsilon >= 0) || config.norm_epsilon > 1) keys.refuse(epsilon, "must lie between 0 and 1");
  config.rope_pairs = config.architecture->rope_pairs;
  const auto rows = file.text_or("kontor.rope_rows", "");
  if (!rows) return rows.error();
  if (*rows == "halves" && config.rope_pairs == RopePairs::adjacent) config.rope_pairs = RopePairs::halves_to_adjacent;
  if (config.architecture->latent) read_latent(config, keys);
  else read_heads(config, keys);
  if (config.architecture->experts) read_experts(config, keys);
  if (keys.failed()) return keys.error();
  read_rope(config, keys);
  if (keys.failed()) return keys.error();
  config.attention_scale *= config.rope.score_factor;
  if (config.rope.dimensions > 0)
    if (const auto applied = apply_factors(config.rope, file); !applied) return applied.error();

  const auto vocabulary = read_vocabulary(file);
  if (!vocabulary) return vocabulary.error();
  config.vocabulary = *vocabulary;
  // A name that is not UTF-8 is no reason to refuse a model.
  const MetadataEntry* name = file.find("general.name");
  config.name = name && name->type == MetadataType::text && !name->payload.empty()
                    ? printable(name->payload, 200)
                    : std::filesystem::path(file.path()).filename().string();
  return config;
}

}  // namespace kontor::inference
