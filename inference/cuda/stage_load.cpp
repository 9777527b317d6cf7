#include "inference/cuda/stage.hpp"

namespace kontor::inference::cuda {

Result<void> Stage::load_matrix(const std::string& name, std::int64_t columns, std::int64_t rows, bool on_host, Matrix& out, std::int64_t slabs) {
  const auto tensor = tensors_.checked(name, columns, rows, slabs);
  if (!tensor) return tensor.error();
  std::vector<Tensor> parts;  // Slab by slab, so that the host never holds a second copy of all experts.
  for (std::int64_t i = 0; i < slabs; ++i) parts.push_back(slabs == 1 ? **tensor : rows_of(**tensor, i * rows, rows));
  return load_parts(parts, on_host, out);
}

Result<void> Stage::load_parts(std::span<const Tensor> parts, bool on_host, Matrix& out) {
  const auto layout = tensors_.layout_of(parts);
  if (!layout) return layout.error();
  auto buffer = on_host ? device_->allocate_host(layout->total) : device_->allocate(layout->total);
  if (!buffer) return buffer.error();
  auto* base = buffer->as<std::byte>();
  std::uint64_t codes = 0, high = layout->high_at, scales = layout->scales_at, super = layout->super_at;
  std::vector<std::byte> planes;
  for (const Tensor& part : parts) {
    const auto piece = plane_layout(part, exact_);
    if (!piece) return piece.error();
    planes.resize(piece->total);
    fill_planes(part, *piece, planes.data());
    struct Plane {
      std::uint64_t* to;
      std::uint64_t from, bytes;
    };
    for (const Plane& p : {Plane{&codes, 0, piece->codes_bytes}, {&high, piece->high_at, piece->high_bytes},
                           {&scales, piece->scales_at, piece->scales_bytes}, {&super, piece->super_at, piece->super_bytes}}) {
      if (on_host) std::copy_n(planes.data() + p.from, p.bytes, base + *p.to);
      else if (p.bytes > 0) device_->copy_in(base + *p.to, planes.data() + p.from, p.bytes);
      *p.to += p.bytes;
    }
  }
  out.view = layout->view(buffer->data());
  out.view.on_host = on_host;
  out.buffer = std::move(*buffer);
  return {};
}

Result<void> Stage::load_vector(const std::string& name, std::int64_t length, bool required, Vector& out) {
  const Tensor* tensor = tensors_.file().find_tensor(name);
  if (!tensor) {
    if (!required) return {};
    return fail(Errc::malformed, "tensor " + name + " is missing", "missing_tensor");
  }
  if (tensor->type != TensorType::f32) return fail(Errc::malformed, name + " must be F32", "bad_tensor_type");
  if (tensor->rank != 1 || tensor->elements != length) 
    return fail(Errc::malformed, printable(tensor->name) + " does not have the shape [" + std::to_string(length) + "] that the hyperparameters ask for", "shape_mismatch");
  auto buffer = device_->allocate(tensor->bytes);
  if (!buffer) return buffer.error();
  device_->copy_in(buffer->data(), tensor->data, tensor->bytes);
  out.buffer = std::move(*buffer);
  return {};
}

Result<void> Stage::load_attention(const std::string& prefix, Layer& l) {
  const ModelConfig& c = config_;
  const std::int64_t q = c.heads * c.key_length, k = c.kv_heads * c.key_length, v = c.kv_heads * c.value_length;
  struct MatrixEntry {
    const char* name;
    std::int64_t columns, rows;
    Matrix* to;
  };
  for (const MatrixEntry& e : {MatrixEntry{"attn_q", c.width, q, &l.query}, {"attn_k", c.width, k, &l.key}, {"attn_v", c.width, v, &l.value},
                               {"attn_output", heads_width(c), c.width, &l.output}})
    if (const auto loaded = load_matrix(prefix + e.name + ".weight", e.columns, e.rows, l.on_host, *e.to); !loaded) return loaded.error();
  struct VectorEntry {
    const char* name;
    std::int64_t length;
    Vector* to;
  };
  for (const VectorEntry& e : {VectorEntry{"attn_q.bias", q, &l.query_bias}, {"attn_k.bias", k, &l.key_bias}, {"attn_v.bias", v, &l.value_bias},
                               {"attn_output.bias", c.width, &l.output_bias}, {"attn_q_norm.weight", c.key_length, &l.query_norm},
                               {"attn_k_norm.weight", c.key_length, &l.key_norm}})
    if (const auto loaded = load_vector(prefix + e.name, e.length, false, *e.to); !loaded) return loaded.error();
  return {};
}

Result<void> Stage::load_layer(std::int64_t index, Layer& l) {
  const ModelConfig& c = config_;
  const std::string prefix = "blk." + std::to_string(index) + ".";
  l.on_host = index >= plan_.layers_from;
  if (const auto loaded = load_vector(prefix + "attn_norm.weight", c.width, true, l.attention_norm); !loaded) return loaded.error();
  if (const auto loaded = load_vector(prefix + "ffn_norm.weight", c.width, true, l.feed_forward_norm); !loaded) return loaded.error();
  if (const auto loaded = c.latent.rank > 0 ? load_latent(prefix, l) : load_attention(prefix, l); !loaded) return loaded.error();
  const bool routed = c.is_expert_layer(index);
  if (routed)
    if (const auto loaded = load_experts(index, l); !loaded) return loaded.error();
  const std::int64_t inner = routed ? c.experts.shared : c.feed_forward;
  if (inner == 0) return {};
  const std::string suffix = routed ? "_shexp.weight" : ".weight";
  if (const auto loaded = load_matrix(prefix + "ffn_gate" + suffix, c.width, inner, l.on_host, l.gate); !loaded) return loaded.error();
  if (const auto loaded = load_matrix(prefix + "ffn_up" + suffix, c.width, inner, l.on_host, l.up); !loaded) return loaded.error();
  return load_matrix(prefix + "ffn_down" + suffix, inner, c.width, l.on_host, l.down);
}

Result<void> Stage::load(std::int64_t pages) {
  device_->use();
  const ModelConfig& c = config_;
  if (plan_.embeds)
    if (const auto loaded = load_matrix("token_embd.weight", c.width, c.vocabulary, false, embedding_); !loaded) return loaded.error();
  if (plan_.outputs) {
    const bool own = !tensors_.tied() || !plan_.embeds;
    if (const auto loaded = own ? load_matrix(tensors_.tied() ? "token_embd.weight" : "output.weight", c.width, c.vocabulary, false, output_) : Result<void>(); !loaded)
      return loaded.error();
    if (const auto loaded = load_vector("output_norm.weight", c.width, true, final_norm_); !loaded) return loaded.error();
  }
  layers_.resize(static_cast<std::size_t>(plan_.end - plan_.first));
  for (std::int64_t i = plan_.first; i < plan_.end; ++i)
    if (const auto loaded = load_layer(i, layers_[static_cast<std::size_t>(i - plan_.first)]); !loaded) return loaded.error();
  return make_workspace(pages);
}

Result<void> Stage::make_workspace(std::int64_t pages) {
  const ModelConfig& c = config_;
  Workspace& w = work_;
  w.rows = kBatch;
  w.splits = attention_splits(c, device_->processors());
  auto all = w.entries(c, deterministic_, plan_.outputs);
  all.push_back({&w.tables, pages * 4});
  all.push_back({&frequencies_, static_cast<std::int64_t>(c.rope.frequencies.size() * sizeof(double))});
  all.push_back({&pages_, static_cast<std::int64_t>(plan_.page_bytes) * pages});
  for (const auto& [to, bytes] : all) {
    auto buffer = device_->allocate(static_cast<std::uint64_t>(bytes));
    if (!buffer) return buffer.error();
    *to = std::move(*buffer);
  }
  device_->copy_in(frequencies_.data(), c.rope.frequencies.data(), c.rope.frequencies.size() * sizeof(double));
  return device_->wait();
}

}  // namespace kontor::inference::cuda
