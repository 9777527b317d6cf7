#include "inference/decoder_parts.hpp"

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

/// Errors of the whole load are reported before the first weight is read or packed.
Result<void> check_matrix(const WeightFile& file, const std::string& name, std::int64_t columns, std::int64_t rows) {
  const auto tensor = file.tensor(name);
  if (!tensor) return tensor.error();
  const Tensor& t = **tensor;
  if (t.rank > 2 || t.shape[0] != columns || t.elements != columns * rows)
    return wrong_shape(t, "[" + std::to_string(columns) + ", " + std::to_string(rows) + "]");
  return {};
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
  std::unique_ptr<Decoder> decoder(new Decoder(file, std::move(*config), options));
  if (const auto loaded = decoder->load(); !loaded) return loaded.error();
  return std::unique_ptr<Backend>(std::move(decoder));
}

Result<const float*> Decoder::vector_of(const std::string& name, std::int64_t length, bool required) {
  const Tensor* tensor = file_.find_tensor(name);
  if (!tensor) {
    if (!required) return nullptr;
    return fail(Errc::malformed, "tensor " + name + " is missing", "missing_tensor");
  }
  if (tensor->type != TensorType::f32)
    return fail(Errc::malformed, name + " has type " + std::string(to_string(tensor->type)) + "; norms and biases must be F32",
                "bad_tensor_type");
  if (tensor->rank != 1 || tensor->elements != length) return wrong_shape(*tensor, "[" + std::to_string(length) + "]");
  return reinterpret_cast<const float*>(tensor->data);
}

Result<cpu::Matrix> Decoder::matrix_of(const std::string& name, std::int64_t columns, std::int64_t rows) {
  if (const auto checked = check_matrix(file_, name, columns, rows); !checked) return checked.error();
  return cpu::Matrix::create(*file_.find_tensor(name), compute_ == Compute::f32, *pool_);
}

Result<void> Decoder::load() {
  const ModelConfig& c = config_;
  if (const auto checked = check_matrix(file_, "token_embd.weight", c.width, c.vocabulary); !checked) return checked.error();
  const bool tied = !file_.find_tensor("output.weight");
  const std::string output = tied ? "token_embd.weight" : "output.weight";
  if (const auto checked = check_matrix(file_, output, c.width, c.vocabulary); !checked) return checked.error();
  for (std::int64_t i = 0; i < c.layers; ++i)
    if (const auto checked = check_layer(i); !checked) return checked.error();

  embedding_ = file_.find_tensor("token_embd.weight");
  auto norm = vector_of("output_norm.weight", c.width, true);
  if (!norm) return norm.error();
  final_norm_ = *norm;
  auto matrix = matrix_of(output, c.width, c.vocabulary);
  if (!matrix) return matrix.error();
  output_ = std::move(*matrix);
  layers_.resize(static_cast<std::size_t>(c.layers));
  for (std::int64_t i = 0; i < c.layers; ++i)
    if (const auto loaded = load_layer(i, layers_[static_cast<std::size_t>(i)]); !loaded) return loaded.error();
  scratch_ = std::make_unique<Scratch>();
  return {};
}

Decoder::LayerShapes Decoder::layer_shapes() const {
  const ModelConfig& c = config_;
  const std::int64_t q = c.heads * c.key_length, k = c.kv_heads * c.key_length, v = c.kv_heads * c.value_length;
  return {{
      {"attn_q.weight", c.width, q, &Layer::query}, {"attn_k.weight", c.width, k, &Layer::key},
      {"attn_v.weight", c.width, v, &Layer::value}, {"attn_output.weight", c.heads * c.value_length, c.width, &Layer::output},
      {"ffn_gate.weight", c.width, c.feed_forward, &Layer::gate}, {"ffn_up.weight", c.width, c.feed_forward, &Layer::up},
      {"ffn_down.weight", c.feed_forward, c.width, &Layer::down},
  }, {
      {"attn_norm.weight", c.width, true, &Layer::attention_norm}, {"ffn_norm.weight", c.width, true, &Layer::feed_forward_norm},
      {"attn_q.bias", q, false, &Layer::query_bias}, {"attn_k.bias", k, false, &Layer::key_bias},
      {"attn_v.bias", v, false, &Layer::value_bias}, {"attn_output.bias", c.width, false, &Layer::output_bias},
      {"attn_q_norm.weight", c.key_length, false, &Layer::query_norm}, {"attn_k_norm.weight", c.key_length, false, &Layer::key_norm},
  }};
}

Result<void> Decoder::check_layer(std::int64_t index) {
  const std::string prefix = "blk." + std::to_string(index) + ".";
  const LayerShapes shapes = layer_shapes();
  for (const auto& m : shapes.matrices)
    if (const auto checked = check_matrix(file_, prefix + m.name, m.columns, m.rows); !checked) return checked.error();
  for (const auto& v : shapes.vectors)
    if (const auto checked = vector_of(prefix + v.name, v.length, v.required); !checked) return checked.error();
  return {};
}

Result<void> Decoder::load_layer(std::int64_t index, Layer& layer) {
  const std::string prefix = "blk." + std::to_string(index) + ".";
  const LayerShapes shapes = layer_shapes();
  for (const auto& m : shapes.matrices) {
    auto matrix = matrix_of(prefix + m.name, m.columns, m.rows);
    if (!matrix) return matrix.error();
    layer.*m.member = std::move(*matrix);
  }
  for (const auto& v : shapes.vectors) {
    const auto vector = vector_of(prefix + v.name, v.length, v.required);
    if (!vector) return vector.error();
    layer.*v.member = *vector;
  }
  return {};
}

}  // namespace kontor::inference
