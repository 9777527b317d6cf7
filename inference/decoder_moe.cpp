// Mixture of experts: each token is computed by the experts that its router chooses, and by the shared ones.

#include "inference/decoder_loader.hpp"
#include "inference/dequantize.hpp"
#include "inference/expert_choice.hpp"
#include "inference/expert_store.hpp"

#include <algorithm>
#include <cstring>

namespace kontor::inference {
namespace {

/// A token that an expert computes.
struct Assignment {
  std::int64_t row;
  float weight;
};

/// Tokens for which the next layer's experts are guessed: with more of them most experts are needed anyway.
constexpr std::int64_t kPredictedRows = 4;

}  // namespace

bool Decoder::Loader::expert_source(ExpertWeights::Source& to, std::int64_t expert) {
  const std::int64_t width = decoder_.config_.width, inner = decoder_.config_.experts.feed_forward, count = decoder_.config_.experts.count;
  const bool single = !find("ffn_gate_exps.weight") && find("ffn_gate.0.weight");
  const auto take_one = [&](Tensor& out, const std::string& name, std::int64_t columns, std::int64_t rows) {
    const Tensor* tensor = single ? checked(name + "." + std::to_string(expert) + ".weight", {columns, rows})
                                  : checked(name + "_exps.weight", {columns, rows, count});
    if (tensor) out = single ? *tensor : rows_of(*tensor, expert * rows, rows);
  };
  take_one(to.gate, "ffn_gate", width, inner);
  take_one(to.up, "ffn_up", width, inner);
  take_one(to.down, "ffn_down", inner, width);
  return !failed();
}

void Decoder::Loader::experts(Layer& layer) {
  const ModelConfig& c = decoder_.config_;
  const ExpertShape& shape = c.experts;
  layer.routed = std::make_unique<ExpertWeights>();
  ExpertWeights& w = *layer.routed;
  matrix(w.router, "ffn_gate_inp.weight", c.width, shape.count);
  vector(w.selection_bias, "exp_probs_b.bias", shape.count, false);
  if (shape.shared > 0) feed_forward(w.shared, "_shexp", shape.shared);
  const auto count = static_cast<std::size_t>(shape.count);
  w.experts.resize(count);
  const bool mapped = !only_check_ && !decoder_.experts_->all_resident(), as_f32 = decoder_.compute_ == Compute::f32;
  if (mapped) w.sources.resize(count), w.uses.resize(count), w.packed.resize(count);
  for (std::size_t e = 0; e < count; ++e) {
    ExpertWeights::Source source;
    if (!expert_source(source, static_cast<std::int64_t>(e))) return;
    FeedForward& expert = w.experts[e];
    for (const auto& [to, tensor] : {std::pair{&expert.gate, &source.gate}, {&expert.up, &source.up}, {&expert.down, &source.down}}) {
      if (only_check_) expert_bytes_ += cpu::Matrix::bytes_in_memory(*tensor, as_f32);
      if (!mapped) {
        take(*to, *tensor);
        continue;
      }
      auto matrix = cpu::Matrix::mapped(*tensor, as_f32);
      if (matrix) decoder_.forms_ = decoder_.forms_ | matrix->activations(), *to = std::move(*matrix);
      else error_ = matrix.error();
    }
    if (mapped) w.sources[e] = source;
    if (failed()) return;
  }
}

void Decoder::route(const ExpertWeights& weights, const float* input, std::int64_t rows) {
  const cpu::Product routing[] = {{&weights.router, scratch_->router.data(), config_.experts.count}};
  cpu::multiply(routing, prepare(input, rows, config_.width, weights.router.activations()), *kernels_, *pool_);
}

void Decoder::read_ahead(std::int64_t layer, std::int64_t rows, const std::vector<std::int32_t>& active) {
  ExpertWeights& weights = *layers_[static_cast<std::size_t>(layer)].routed;
  for (const std::int32_t e : active) experts_->counts.predicted_right += std::binary_search(weights.predicted.begin(), weights.predicted.end(), e);
  ExpertStore::read_ahead(weights, active);
  if (rows > kPredictedRows || layer + 1 >= config_.layers) return;
  // What goes into the next layer differs little from what went into this one, so that its router can be asked now.
  const Layer& next = layers_[static_cast<std::size_t>(layer + 1)];
  Scratch& s = *scratch_;
  const ExpertShape& shape = config_.experts;
  for (std::int64_t i = 0; i < rows; ++i)
    kernels_->rms_norm(s.stream.data() + i * config_.width, next.feed_forward_norm, config_.norm_epsilon, config_.width, s.gathered.data() + i * config_.width);
  route(*next.routed, s.gathered.data(), rows);
  std::vector<ExpertChoice> chosen(static_cast<std::size_t>(shape.used));
  std::vector<std::int32_t> likely;
  for (std::int64_t i = 0; i < rows; ++i) {
    choose_experts(shape, std::span(s.router).subspan(static_cast<std::size_t>(i * shape.count), static_cast<std::size_t>(shape.count)),
                   next.routed->selection_bias, chosen);
    for (const ExpertChoice& choice : chosen) likely.push_back(choice.expert);
  }
  std::sort(likely.begin(), likely.end());
  likely.erase(std::unique(likely.begin(), likely.end()), likely.end());
  ExpertStore::read_ahead(*next.routed, likely);
  experts_->counts.predicted += static_cast<std::int64_t>(likely.size());
  next.routed->predicted = std::move(likely);
}

ExpertUse Decoder::expert_use() const { return experts_ ? experts_->counts : ExpertUse{}; }

void Decoder::routed_feed_forward(std::int64_t layer, std::int64_t rows, float* out) {
  Scratch& s = *scratch_;
  ExpertWeights& weights = *layers_[static_cast<std::size_t>(layer)].routed;
  const ExpertShape& shape = config_.experts;
  const std::int64_t width = config_.width;
  const float* input = s.normed.data();

  route(weights, input, rows);
  std::vector<std::vector<Assignment>> assigned(static_cast<std::size_t>(shape.count));
  std::vector<ExpertChoice> chosen(static_cast<std::size_t>(shape.used));
  for (std::int64_t i = 0; i < rows; ++i) {
    choose_experts(shape, std::span(s.router).subspan(static_cast<std::size_t>(i * shape.count), static_cast<std::size_t>(shape.count)),
                   weights.selection_bias, chosen);
    for (const ExpertChoice& choice : chosen) assigned[static_cast<std::size_t>(choice.expert)].push_back({i, choice.weight});
  }
  std::vector<std::int32_t> active;
  for (std::size_t e = 0; e < assigned.size(); ++e)
    if (!assigned[e].empty()) active.push_back(static_cast<std::int32_t>(e));
  const bool mapped = !experts_->all_resident();
  if (mapped) read_ahead(layer, rows, active);

  if (shape.shared > 0) feed(weights.shared, prepare(input, rows, width, weights.shared.up.activations() | weights.shared.gate.activations()), out);
  else std::fill(out, out + rows * width, 0.0f);
  // In the order of the experts, so that a token's sum does not depend on what it is computed together with.
  for (const std::int32_t e : active) {
    const std::vector<Assignment>& mine = assigned[static_cast<std::size_t>(e)];
    const FeedForward& expert = experts_->use(weights, e, compute_ == Compute::f32, *pool_);
    const auto n = static_cast<std::int64_t>(mine.size());
    for (std::int64_t i = 0; i < n; ++i)
      std::memcpy(s.gathered.data() + i * width, input + mine[static_cast<std::size_t>(i)].row * width, static_cast<std::size_t>(width) * sizeof(float));
    feed(expert, prepare(s.gathered.data(), n, width, expert.gate.activations() | expert.up.activations()), s.expert_out.data());
    pool_->parallel_for(n, 16, [&](std::int64_t begin, std::int64_t end, int) {
      for (std::int64_t i = begin; i < end; ++i) {
        const auto [row, weight] = mine[static_cast<std::size_t>(i)];
        const float* from = s.expert_out.data() + i * width;
        float* to = out + row * width;
        for (std::int64_t j = 0; j < width; ++j) to[j] += weight * from[j];
      }
    });
    if (mapped && !weights.packed[static_cast<std::size_t>(e)]) ExpertStore::release(weights, e);
  }
}

}  // namespace kontor::inference
