// Mixture of experts on the device: the router's choice, grouping and products of experts never leave it.

#include "inference/cuda/decoder_parts.hpp"

namespace kontor::inference::cuda {

Pairs CudaDecoder::expert_pairs(std::int64_t count) const {
  const Workspace& w = *work_;
  return {count, config_.experts.used, config_.experts.count, w.tiles.as<const Tile>(), w.tile_count.as<const std::int32_t>(), w.order.as<const std::int32_t>()};
}

/// Also starts the chosen experts' products with w.normed: its int8 form does not outlive the shared experts.
void CudaDecoder::choose_experts(const Layer& l, std::int64_t n) {
  Workspace& w = *work_;
  const ExpertShape& e = config_.experts;
  const ActivationView x = view(w.normed.as<const float>(), n, config_.width);
  // Never in half precision: it decides who computes the token.
  ProductsView routing;
  routing.product[routing.count++] = {l.router.view, nullptr, w.router.as<float>(), e.count, false};
  multiply(routing, x, device_->stream());
  const RoutingShape shape{e.count, e.used, e.groups, e.groups_used, e.group_leaders, e.sigmoid, e.normalize, e.scale};
  route(w.router.as<const float>(), n, shape, l.selection_bias.data(), w.chosen.as<std::int32_t>(), w.chosen_weights.as<float>(), device_->stream());
  group_pairs(w.chosen.as<const std::int32_t>(), n * e.used, e.count, w.order.as<std::int32_t>(), w.tiles.as<Tile>(), w.tile_count.as<std::int32_t>(),
              device_->stream());
  SlabProducts in;
  for (const auto& [matrix, out] : {std::pair{&l.experts_gate, &w.expert_gate}, {&l.experts_up, &w.expert_up}})
    in.product[in.count++] = {matrix->view, e.feed_forward, out->as<float>(), e.used * e.feed_forward, e.feed_forward};
  const Pairs pairs = expert_pairs(n);
  w.experts_tiled = slabs_tiled(pairs, e.feed_forward, config_.width) && slabs_tiled(pairs, config_.width, e.feed_forward);
  if (w.experts_tiled) take_blocks(pairs.count());
  w.experts_tiled ? project_slabs_tiled(in, pairs, x, true) : multiply_slabs(in, pairs, x, true, device_->stream());
}

void CudaDecoder::add_routed(const Layer& l, std::int64_t n) {
  Workspace& w = *work_;
  const ExpertShape& e = config_.experts;
  const std::int64_t pairs = n * e.used, width = config_.width;
  silu_mul(w.expert_gate.as<const float>(), w.expert_up.as<const float>(), pairs, e.feed_forward, target(w.expert_gate.as<float>()), device_->stream());
  SlabProducts out;
  out.product[out.count++] = {l.experts_down.view, width, w.expert_out.as<float>(), e.used * width, width};
  const ActivationView inner = view(w.expert_gate.as<const float>(), pairs, e.feed_forward);
  w.experts_tiled ? project_slabs_tiled(out, expert_pairs(n), inner, false) : multiply_slabs(out, expert_pairs(n), inner, false, device_->stream());
  add_experts(e.shared > 0 ? w.shared.as<const float>() : nullptr, w.expert_out.as<const float>(), w.chosen_weights.as<const float>(), n, e.used, width,
              w.stream.as<float>(), device_->stream());
}

std::array<CudaDecoder::ExpertMatrix, 3> CudaDecoder::expert_matrices() const {
  const std::int64_t width = config_.width, inner = config_.experts.feed_forward;
  return {{{"ffn_gate", width, inner, &Layer::experts_gate}, {"ffn_up", width, inner, &Layer::experts_up}, {"ffn_down", inner, width, &Layer::experts_down}}};
}

Result<std::vector<Tensor>> CudaDecoder::expert_parts(std::int64_t layer, const ExpertMatrix& m) const {
  const std::string prefix = "blk." + std::to_string(layer) + ".";
  const std::int64_t count = config_.experts.count;
  std::vector<Tensor> parts;
  if (file_.find_tensor(prefix + "ffn_gate_exps.weight") || !file_.find_tensor(prefix + "ffn_gate.0.weight")) {
    const auto tensor = checked(prefix + m.name + "_exps.weight", m.columns, m.rows, count);
    if (!tensor) return tensor.error();
    for (std::int64_t i = 0; i < count; ++i) parts.push_back(rows_of(**tensor, i * m.rows, m.rows));
    return parts;
  }
  for (std::int64_t i = 0; i < count; ++i) {
    const auto tensor = checked(prefix + m.name + "." + std::to_string(i) + ".weight", m.columns, m.rows, 1);
    if (!tensor) return tensor.error();
    parts.push_back(**tensor);
  }
  return parts;
}

Result<void> CudaDecoder::load_experts(std::int64_t index, Layer& l) {
  const std::string prefix = "blk." + std::to_string(index) + ".";
  const std::int64_t count = config_.experts.count;
  if (const auto loaded = load_matrix(prefix + "ffn_gate_inp.weight", config_.width, count, l.on_host, l.router); !loaded) return loaded.error();
  if (const auto loaded = load_vector(prefix + "exp_probs_b.bias", count, false, l.selection_bias); !loaded) return loaded.error();
  for (const ExpertMatrix& matrix : expert_matrices()) {
    const auto parts = expert_parts(index, matrix);
    if (!parts) return parts.error();
    if (const auto loaded = load_parts(*parts, index >= plan_.experts_from, l.*matrix.to); !loaded) return loaded.error();
  }
  return {};
}

}  // namespace kontor::inference::cuda
