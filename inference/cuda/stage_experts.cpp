// Mixture of experts on the device: the router's choice, grouping and products of experts never leave it.

#include "inference/cuda/stage.hpp"

namespace kontor::inference::cuda {

Pairs Stage::expert_pairs(std::int64_t count) const {
  const Workspace& w = work_;
  return {count, config_.experts.used, config_.experts.count, w.tiles.as<const Tile>(), w.tile_count.as<const std::int32_t>(), w.order.as<const std::int32_t>()};
}

/// Also starts the chosen experts' products with w.normed: its int8 form does not outlive the shared experts.
void Stage::choose_experts(const Layer& l, std::int64_t n) {
  Workspace& w = work_;
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

void Stage::add_routed(const Layer& l, std::int64_t n) {
  Workspace& w = work_;
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

Result<void> Stage::load_experts(std::int64_t index, Layer& l) {
  const std::string prefix = "blk." + std::to_string(index) + ".";
  const std::int64_t count = config_.experts.count;
  if (const auto loaded = load_matrix(prefix + "ffn_gate_inp.weight", config_.width, count, l.on_host, l.router); !loaded) return loaded.error();
  if (const auto loaded = load_vector(prefix + "exp_probs_b.bias", count, false, l.selection_bias); !loaded) return loaded.error();
  Matrix* const to[] = {&l.experts_gate, &l.experts_up, &l.experts_down};
  for (std::size_t i = 0; i < std::size(to); ++i) {
    const auto parts = tensors_.expert_parts(index, tensors_.expert_matrices()[i]);
    if (!parts) return parts.error();
    if (const auto loaded = load_parts(*parts, index >= plan_.experts_from, *to[i]); !loaded) return loaded.error();
  }
  return {};
}

}  // namespace kontor::inference::cuda
