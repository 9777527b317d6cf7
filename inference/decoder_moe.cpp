// Mixture of experts: each token is computed by the experts that its router chooses, and by the shared ones.

#include "inference/decoder_loader.hpp"
#include "inference/expert_choice.hpp"

#include <cstring>

namespace kontor::inference {
namespace {

/// A token that an expert computes.
struct Assignment {
  std::int64_t row;
  float weight;
};

}  // namespace

void Decoder::Loader::experts(Layer& layer) {
  const ModelConfig& c = decoder_.config_;
  const ExpertShape& shape = c.experts;
  layer.routed = std::make_unique<ExpertWeights>();
  ExpertWeights& w = *layer.routed;
  matrix(w.router, "ffn_gate_inp.weight", c.width, shape.count);
  vector(w.selection_bias, "exp_probs_b.bias", shape.count, false);
  if (shape.shared > 0) feed_forward(w.shared, "_shexp", shape.shared);
  w.experts.resize(static_cast<std::size_t>(shape.count));
  if (!find("ffn_gate_exps.weight") && find("ffn_gate.0.weight")) {
    for (std::int64_t e = 0; e < shape.count && !failed(); ++e)
      feed_forward(w.experts[static_cast<std::size_t>(e)], "." + std::to_string(e), shape.feed_forward);
    return;
  }
  const Tensor* gate = checked("ffn_gate_exps.weight", {c.width, shape.feed_forward, shape.count});
  const Tensor* up = checked("ffn_up_exps.weight", {c.width, shape.feed_forward, shape.count});
  const Tensor* down = checked("ffn_down_exps.weight", {shape.feed_forward, c.width, shape.count});
  for (std::int64_t e = 0; e < shape.count && !failed(); ++e) {
    FeedForward& expert = w.experts[static_cast<std::size_t>(e)];
    take(expert.gate, rows_of(*gate, e * shape.feed_forward, shape.feed_forward));
    take(expert.up, rows_of(*up, e * shape.feed_forward, shape.feed_forward));
    take(expert.down, rows_of(*down, e * c.width, c.width));
  }
}

void Decoder::routed_feed_forward(const ExpertWeights& weights, std::int64_t rows, float* out) {
  Scratch& s = *scratch_;
  const ExpertShape& shape = config_.experts;
  const std::int64_t width = config_.width;
  const float* input = s.normed.data();

  const cpu::Product routing[] = {{&weights.router, s.router.data(), shape.count}};
  cpu::multiply(routing, prepare(input, rows, width, weights.router.packed()), *kernels_, *pool_);
  std::vector<std::vector<Assignment>> assigned(static_cast<std::size_t>(shape.count));
  std::vector<ExpertChoice> chosen(static_cast<std::size_t>(shape.used));
  for (std::int64_t i = 0; i < rows; ++i) {
    choose_experts(shape, std::span(s.router).subspan(static_cast<std::size_t>(i * shape.count), static_cast<std::size_t>(shape.count)),
                   weights.selection_bias, chosen);
    for (const ExpertChoice& choice : chosen) assigned[static_cast<std::size_t>(choice.expert)].push_back({i, choice.weight});
  }

  if (shape.shared > 0) feed(weights.shared, prepare(input, rows, width, weights.shared.up.packed() || weights.shared.gate.packed()), out);
  else std::fill(out, out + rows * width, 0.0f);
  // In the order of the experts, so that a token's sum does not depend on what it is computed together with.
  for (std::size_t e = 0; e < assigned.size(); ++e) {
    const std::vector<Assignment>& mine = assigned[e];
    if (mine.empty()) continue;
    const FeedForward& expert = weights.experts[e];
    const auto n = static_cast<std::int64_t>(mine.size());
    for (std::int64_t i = 0; i < n; ++i)
      std::memcpy(s.gathered.data() + i * width, input + mine[static_cast<std::size_t>(i)].row * width, static_cast<std::size_t>(width) * sizeof(float));
    feed(expert, prepare(s.gathered.data(), n, width, expert.gate.packed() || expert.up.packed()), s.expert_out.data());
    pool_->parallel_for(n, 16, [&](std::int64_t begin, std::int64_t end, int) {
      for (std::int64_t i = begin; i < end; ++i) {
        const auto [row, weight] = mine[static_cast<std::size_t>(i)];
        const float* from = s.expert_out.data() + i * width;
        float* to = out + row * width;
        for (std::int64_t j = 0; j < width; ++j) to[j] += weight * from[j];
      }
    });
  }
}

}  // namespace kontor::inference
