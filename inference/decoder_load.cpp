// From the tensors of a model file to the layers of a decoder. Every tensor is checked before the first one is packed,
// so that a file that does not fit together costs no time and no memory.

#include "inference/decoder_loader.hpp"

#include "inference/dequantize.hpp"
#include "inference/expert_store.hpp"
#include "inference/file_mapping.hpp"

#include <new>

namespace kontor::inference {
namespace {

std::string shape_of(const Tensor& tensor) {
  std::string text = "[";
  for (int i = 0; i < tensor.rank; ++i) text += (i ? ", " : "") + std::to_string(tensor.shape[static_cast<std::size_t>(i)]);
  return text + "]";
}

Error wrong_shape(const Tensor& tensor, const std::string& expected) {
  return fail(Errc::malformed, printable(tensor.name) + " has shape " + shape_of(tensor) + "; the hyperparameters ask for " + expected,
              "shape_mismatch");
}

}  // namespace

Result<std::unique_ptr<Backend>> open_cpu_backend(const WeightFile& file, const BackendOptions& options) {
  try {
    return Decoder::create(file, options);
  } catch (const std::bad_alloc&) {
    return fail(Errc::memory, "no memory left while loading " + file.path(), "out_of_memory");
  }
}

Result<std::unique_ptr<Backend>> Decoder::create(const WeightFile& file, const BackendOptions& options) {
  auto config = read_model_config(file);
  if (!config) return config.error();
  if (options.kv == KvType::q8_0 && (config->key_length % cpu::kBlock != 0 || config->value_length % cpu::kBlock != 0))
    return fail(Errc::unsupported, "a KV cache in q8_0 needs heads of a multiple of 32 values; those of this model have " +
                std::to_string(config->key_length) + " and " + std::to_string(config->value_length) + "; leave the type out", "kv_type");
  std::unique_ptr<Decoder> decoder(new Decoder(file, std::move(*config), options));
  if (const auto loaded = decoder->load(); !loaded) return loaded.error();
  return std::unique_ptr<Backend>(std::move(decoder));
}

Result<void> Decoder::load() {
  layers_.resize(static_cast<std::size_t>(config_.layers));
  for (const bool only_check : {true, false}) {
    Loader loader(*this, only_check);
    loader.whole_model();
    for (std::int64_t i = 0; i < config_.layers && !loader.failed(); ++i) loader.layer(i, layers_[static_cast<std::size_t>(i)]);
    if (loader.failed()) return loader.error();
    if (only_check && config_.experts.count > 0)
      experts_ = std::make_unique<ExpertStore>(loader.expert_bytes(), expert_limit_,
                                               (config_.layers - config_.experts.first_layer) * config_.experts.used);
  }
  scratch_ = std::make_unique<Scratch>();
  return {};
}

const Tensor* Decoder::Loader::find(const std::string& name) const { return decoder_.file_.find_tensor(prefix_ + name); }

const Tensor* Decoder::Loader::checked(const std::string& name, std::initializer_list<std::int64_t> shape) {
  if (failed()) return nullptr;
  const Tensor* tensor = find(name);
  if (!tensor) {
    error_ = fail(Errc::malformed, "tensor " + prefix_ + name + " is missing", "missing_tensor");
    return nullptr;
  }
  std::string expected;
  std::size_t at = 0;
  bool same = tensor->rank <= static_cast<int>(shape.size());
  for (const std::int64_t length : shape) {
    same = same && tensor->shape[at++] == length;
    expected += (expected.empty() ? "[" : ", ") + std::to_string(length);
  }
  if (!same) error_ = wrong_shape(*tensor, expected + "]");
  return same ? tensor : nullptr;
}

void Decoder::Loader::vector(const float*& to, const std::string& name, std::int64_t length, bool required) {
  if (failed() || (!required && !find(name))) return;
  const Tensor* tensor = find(name);
  if (tensor && tensor->type != TensorType::f32)
    error_ = fail(Errc::malformed, prefix_ + name + " has type " + std::string(to_string(tensor->type)) + "; norms and biases must be F32",
                  "bad_tensor_type");
  if ((tensor = checked(name, {length}))) to = reinterpret_cast<const float*>(tensor->data);
}

void Decoder::Loader::take(cpu::Matrix& to, const Tensor& tensor) {
  if (failed()) return;
  if (only_check_) {
    if (!can_expand(tensor.type))
      error_ = fail(Errc::unsupported, printable(tensor.name) + " has type " + std::string(to_string(tensor.type)) + ", which cannot be computed with",
                    "bad_tensor_type");
    return;
  }
  auto matrix = cpu::Matrix::create(tensor, decoder_.compute_ == Compute::f32, *decoder_.pool_);
  if (!matrix) {
    error_ = matrix.error();
    return;
  }
  decoder_.forms_ = decoder_.forms_ | matrix->activations();
  to = std::move(*matrix);
  // What was copied is not read from the file any more.
  if (cpu::Matrix::bytes_in_memory(tensor, decoder_.compute_ == Compute::f32) > 0) advise({tensor.data, tensor.bytes}, PageAdvice::release);
}

void Decoder::Loader::matrix(cpu::Matrix& to, const std::string& name, std::int64_t columns, std::int64_t rows) {
  if (const Tensor* tensor = checked(name, {columns, rows})) take(to, *tensor);
}

void Decoder::Loader::whole_model() {
  const ModelConfig& c = decoder_.config_;
  const bool encoder = c.architecture->encoder;
  prefix_.clear();
  decoder_.embedding_ = checked("token_embd.weight", {c.width, c.vocabulary});
  if (decoder_.embedding_ && !can_expand(decoder_.embedding_->type)) {
    cpu::Matrix unused;
    take(unused, *decoder_.embedding_);
  }
  if (encoder) {
    vector(decoder_.embedding_norm_, "token_embd_norm.weight", c.width, true);
    vector(decoder_.embedding_norm_bias_, "token_embd_norm.bias", c.width, false);
    if (c.rope_pairs == RopePairs::none || find("position_embd.weight"))
      decoder_.position_vectors_ = checked("position_embd.weight", {c.width, c.context});
    type_vector();
    return;
  }
  matrix(decoder_.output_, find("output.weight") ? "output.weight" : "token_embd.weight", c.width, c.vocabulary);
  vector(decoder_.final_norm_, "output_norm.weight", c.width, true);
}

void Decoder::Loader::type_vector() {
  const Tensor* types = find("token_types.weight");
  if (failed() || !types) return;
  const std::int64_t width = decoder_.config_.width;
  if (types->shape[0] != width || types->rank > 2) {
    error_ = wrong_shape(*types, "[" + std::to_string(width) + ", types]");
    return;
  }
  decoder_.type_vector_.resize(static_cast<std::size_t>(width));
  if (const auto read = dequantize_row(*types, 0, decoder_.type_vector_.data()); !read) error_ = read.error();
}

void Decoder::Loader::layer(std::int64_t index, Layer& layer) {
  const ModelConfig& c = decoder_.config_;
  prefix_ = "blk." + std::to_string(index) + ".";
  const bool encoder = c.architecture->encoder;
  const std::string attention_norm = encoder ? "attn_output_norm" : "attn_norm", feed_norm = encoder ? "layer_output_norm" : "ffn_norm";
  vector(layer.attention_norm, attention_norm + ".weight", c.width, true);
  vector(layer.feed_forward_norm, feed_norm + ".weight", c.width, true);
  if (encoder) {
    vector(layer.attention_norm_bias, attention_norm + ".bias", c.width, false);
    vector(layer.feed_forward_norm_bias, feed_norm + ".bias", c.width, false);
  }
  if (c.architecture->latent) latent_attention(layer);
  else grouped_attention(layer);
  if (c.is_expert_layer(index)) experts(layer);
  else feed_forward(layer.dense, "", c.feed_forward);
}

void Decoder::Loader::grouped_attention(Layer& layer) {
  const ModelConfig& c = decoder_.config_;
  const std::int64_t q = c.heads * c.key_length, k = c.kv_heads * c.key_length, v = c.kv_heads * c.value_length;
  if (find("attn_qkv.weight")) {
    if (const Tensor* all = checked("attn_qkv.weight", {c.width, q + k + v})) {
      take(layer.query, rows_of(*all, 0, q));
      take(layer.key, rows_of(*all, q, k));
      take(layer.value, rows_of(*all, q + k, v));
    }
    const float* bias = nullptr;
    vector(bias, "attn_qkv.bias", q + k + v, false);
    if (bias) layer.query_bias = bias, layer.key_bias = bias + q, layer.value_bias = bias + q + k;
  } else {
    matrix(layer.query, "attn_q.weight", c.width, q);
    matrix(layer.key, "attn_k.weight", c.width, k);
    matrix(layer.value, "attn_v.weight", c.width, v);
    vector(layer.query_bias, "attn_q.bias", q, false);
    vector(layer.key_bias, "attn_k.bias", k, false);
    vector(layer.value_bias, "attn_v.bias", v, false);
  }
  matrix(layer.output, "attn_output.weight", c.heads * c.value_length, c.width);
  vector(layer.output_bias, "attn_output.bias", c.width, false);
  vector(layer.query_norm, "attn_q_norm.weight", c.key_length, false);
  vector(layer.key_norm, "attn_k_norm.weight", c.key_length, false);
}

void Decoder::Loader::feed_forward(FeedForward& to, const std::string& suffix, std::int64_t inner) {
  const ModelConfig& c = decoder_.config_;
  // Encoders have models with and without a gate.
  if (!c.architecture->encoder || find("ffn_gate" + suffix + ".weight")) matrix(to.gate, "ffn_gate" + suffix + ".weight", c.width, inner);
  matrix(to.up, "ffn_up" + suffix + ".weight", c.width, inner);
  matrix(to.down, "ffn_down" + suffix + ".weight", inner, c.width);
  vector(to.up_bias, "ffn_up" + suffix + ".bias", inner, false);
  vector(to.down_bias, "ffn_down" + suffix + ".bias", c.width, false);
}

}  // namespace kontor::inference
