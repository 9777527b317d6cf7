#include "inference/cuda/memory_plan.hpp"

#include "inference/tensor_names.hpp"

#include <limits>
#include <set>

namespace kontor::inference::cuda {
namespace {

std::string mib(std::uint64_t bytes) { return std::to_string((bytes + (1 << 20) - 1) >> 20) + " MiB"; }

/// What the kernels compute.
Result<void> check_shapes(const ModelConfig& c, KvFormat kv) {
  const bool latent = c.latent.rank > 0;
  if (latent && (c.value_length > kMaxLatentValue || c.key_length > kMaxLatentKey || c.latent.rotary % 8 != 0))
    return fail(Errc::unsupported, "latent attention with " + std::to_string(c.latent.rank) + " + " + std::to_string(c.latent.rotary) +
                " values is outside what the CUDA backend computes (512 + 128 in multiples of 8); use --device cpu", "unsupported_arch");
  if (kv == KvFormat::q8 && (c.key_length % kSpan != 0 || c.value_length % kSpan != 0))
    return fail(Errc::unsupported, "a KV cache in q8_0 needs heads of a multiple of 32 values; those of this model have " +
                std::to_string(c.key_length) + " and " + std::to_string(c.value_length) + "; leave the type out", "kv_type");
  if (c.key_length % 4 != 0)
    return fail(Errc::unsupported, "heads of " + std::to_string(c.key_length) + " values are no multiple of 4, which the CUDA backend needs; use --device cpu",
                "unsupported_arch");
  if (c.experts.count > kMaxExperts)
    return fail(Errc::unsupported, std::to_string(c.experts.count) + " experts are more than the " + std::to_string(kMaxExperts) +
                " that the CUDA backend computes; use --device cpu", "unsupported_arch");
  if (!latent && (c.value_length > kMaxHead || c.key_length > kMaxHead))
    return fail(Errc::unsupported, "heads of " + std::to_string(std::max(c.key_length, c.value_length)) +
                " values are more than the 256 that the CUDA backend computes; use --device cpu", "unsupported_arch");
  return {};
}

/// Bytes of a layer: what stays on the device, its matrices but experts, its experts.
struct LayerBytes {
  std::uint64_t vectors = 0, rest = 0, experts = 0;
};
struct ModelBytes {
  std::vector<LayerBytes> layers;
  std::uint64_t embedding = 0, output = 0, norm = 0;
};

Result<ModelBytes> weigh(const ModelTensors& tensors) {
  const ModelConfig& c = tensors.config();
  ModelBytes model;
  model.layers.resize(static_cast<std::size_t>(c.layers));
  std::set<std::string, std::less<>> experts;
  for (std::int64_t i = 0; i < c.layers; ++i) {
    if (!c.is_expert_layer(i)) continue;
    for (const ExpertMatrix& matrix : tensors.expert_matrices()) {
      const auto parts = tensors.expert_parts(i, matrix);
      if (!parts) return parts.error();
      const auto layout = tensors.layout_of(*parts);
      if (!layout) return layout.error();
      model.layers[static_cast<std::size_t>(i)].experts += layout->total;
      for (const Tensor& part : *parts) experts.emplace(part.name);
    }
  }
  for (const Tensor& t : tensors.file().tensors()) {
    if (experts.contains(t.name)) continue;
    std::uint64_t bytes = t.bytes;
    if (t.rank > 1) {
      const auto layout = plane_layout(t, tensors.exact());
      if (!layout) continue;  // Whoever loads it says why.
      bytes = layout->total;
    }
    // Older files have keys and values in one tensor; the keys are turned and held in 16 or 32 bits.
    if (c.latent.rank > 0 && t.name.ends_with("attn_kv_b.weight")) bytes += static_cast<std::uint64_t>(t.elements) * (tensors.exact() || t.type == TensorType::f32 ? 4 : 2);
    if (const auto layer = layer_of(t.name); layer && *layer < c.layers) {
      LayerBytes& to = model.layers[static_cast<std::size_t>(*layer)];
      (t.rank > 1 ? to.rest : to.vectors) += bytes;
    }
    if (t.name == "token_embd.weight") model.embedding = bytes;
    if (t.name == "output.weight") model.output = bytes;
    if (t.name == "output_norm.weight") model.norm = bytes;
  }
  if (tensors.tied()) model.output = model.embedding;
  return model;
}

class Planner {
 public:
  Planner(const ModelTensors& tensors, std::span<const DeviceMemory> devices, const PlanOptions& options, ModelBytes model)
      : config_(tensors.config()), tied_(tensors.tied()), devices_(devices), options_(options), model_(std::move(model)) {
    const ModelConfig& c = config_;
    const bool latent = c.latent.rank > 0;
    const KvFormat kv = options.arithmetic.kv;
    const std::int64_t keys = kv_bytes(kv, c.key_length), values = latent ? 0 : kv_bytes(kv, c.value_length);
    layer_page_ = static_cast<std::uint64_t>(latent ? keys : c.kv_heads * (keys + values));
    pages_most_ = (c.context + kPagePositions - 1) / kPagePositions * 16;
  }

  Result<MemoryPlan> plan() {
    MemoryPlan plan = split(true);
    if (place(plan) && plan.host_bytes == 0) return plan;
    // The rest lies in the host's memory: what every token reads decides where the line between two devices is.
    plan = split(false);
    if (place(plan)) return plan;
    return refusal(plan);
  }

 private:
  const LayerBytes& at(std::int64_t layer) const { return model_.layers[static_cast<std::size_t>(layer)]; }
  std::uint64_t cache(std::int64_t tokens) const { return static_cast<std::uint64_t>(std::min(pages_most_, tokens / kPagePositions)) * layer_page_; }
  static std::uint64_t usable(std::uint64_t free) { return free / 20 * 19; }

  std::uint64_t workspace(std::size_t device, bool outputs) const {
    Workspace work;
    work.splits = attention_splits(config_, devices_[device].processors);
    std::uint64_t bytes = options_.arithmetic.exact ? 0 : prefill_bytes(config_);
    for (const auto& [to, size] : work.entries(config_, options_.arithmetic.deterministic, outputs)) bytes += static_cast<std::uint64_t>(size);
    return bytes;
  }

  StagePlan stage(std::size_t device, std::int64_t first, std::int64_t end) const {
    StagePlan s;
    s.first = first;
    s.end = s.layers_from = s.experts_from = end;
    s.embeds = device == 0;
    s.outputs = device + 1 == devices_.size();
    s.free_bytes = devices_[device].free_bytes;
    s.workspace_bytes = workspace(device, s.outputs);
    if (s.embeds) s.weight_bytes += model_.embedding;
    if (s.outputs) s.weight_bytes += model_.norm + (tied_ && s.embeds ? 0 : model_.output);
    for (std::int64_t i = first; i < end; ++i) s.weight_bytes += at(i).vectors;
    s.page_bytes = static_cast<std::uint64_t>(end - first) * layer_page_;
    return s;
  }

  /// At least a layer on each device, so that the fullest one is as little full as can be beside the least cache.
  MemoryPlan split(bool with_experts) const {
    const std::size_t count = devices_.size();
    const auto layers = static_cast<std::size_t>(config_.layers);
    std::vector<std::uint64_t> before(layers + 1);  // Of the layers in front of each.
    for (std::size_t i = 0; i < layers; ++i)
      before[i + 1] = before[i] + at(static_cast<std::int64_t>(i)).vectors + at(static_cast<std::int64_t>(i)).rest +
                      (with_experts ? at(static_cast<std::int64_t>(i)).experts : 0) + cache(2048);
    constexpr double kNever = std::numeric_limits<double>::infinity();
    // full[d][e]: how full the fullest of devices 0 .. d is with layers 0 .. e; from[d][e]: where d begins.
    std::vector<std::vector<double>> full(count, std::vector<double>(layers + 1, kNever));
    std::vector<std::vector<std::size_t>> from(count, std::vector<std::size_t>(layers + 1, 0));
    for (std::size_t d = 0; d < count; ++d) {
      const StagePlan fixed = stage(d, 0, 0);
      const double room = std::max(1.0, static_cast<double>(usable(fixed.free_bytes)));
      for (std::size_t end = d + 1; end + (count - 1 - d) <= layers; ++end)
        for (std::size_t first = d; first < end && (d > 0 || first == 0); ++first) {
          const double own = static_cast<double>(fixed.weight_bytes + fixed.workspace_bytes + before[end] - before[first]) / room;
          const double worst = std::max(own, d > 0 ? full[d - 1][first] : 0.0);
          if (worst < full[d][end]) full[d][end] = worst, from[d][end] = first;
        }
    }
    MemoryPlan plan;
    plan.stages.resize(count);
    for (std::size_t d = count, end = layers; d-- > 0; end = from[d][end])
      plan.stages[d] = stage(d, static_cast<std::int64_t>(from[d][end]), static_cast<std::int64_t>(end));
    return plan;
  }

  bool place(MemoryPlan& plan) const {
    std::uint64_t host_left = options_.host_free_bytes;
    plan.pages = pages_most_;
    for (StagePlan& s : plan.stages) {
      if (!place(s, host_left)) return false;
      host_left -= s.host_bytes;
      plan.weight_bytes += s.weight_bytes;
      plan.host_bytes += s.host_bytes;
      plan.workspace_bytes += s.workspace_bytes;
      plan.page_bytes += s.page_bytes;
      plan.pages = std::min(plan.pages, static_cast<std::int64_t>((usable(s.free_bytes) - s.weight_bytes - s.workspace_bytes) / s.page_bytes));
    }
    return true;
  }

  /// Everything on the device where it fits beside the least cache. Else, beside a comfortable one where that is possible, what every token
  /// reads comes first, layer by layer, then experts, which are read now and then; the rest goes to the host.
  bool place(StagePlan& s, std::uint64_t host_free) const {
    std::uint64_t rest = 0, experts = 0;
    for (std::int64_t i = s.first; i < s.end; ++i) rest += at(i).rest, experts += at(i).experts;
    const auto layers = static_cast<std::uint64_t>(s.end - s.first);
    const std::uint64_t fixed = s.weight_bytes + s.workspace_bytes, limit = options_.expert_bytes > 0 ? options_.expert_bytes : experts;
    const std::uint64_t least = layers * cache(2048), comfortable = layers * cache(16384), room_here = usable(s.free_bytes);
    for (const std::uint64_t wanted : {fixed + rest + experts + least <= room_here ? least : std::max(least, comfortable), least}) {
      if (fixed + wanted > room_here) continue;
      std::uint64_t room = room_here - fixed - wanted, here = 0, experts_here = 0;
      s.layers_from = s.experts_from = s.first;
      while (s.layers_from < s.end && here + at(s.layers_from).rest <= room) here += at(s.layers_from++).rest;
      room = std::min(room - here, limit);
      while (s.experts_from < s.layers_from && experts_here + at(s.experts_from).experts <= room) experts_here += at(s.experts_from++).experts;
      s.host_bytes = rest - here + experts - experts_here;
      // Below half of what every token reads, the processor is faster than the bus.
      if (s.host_bytes <= host_free && here >= rest / 2) return s.weight_bytes += here + experts_here, true;
    }
    return false;
  }

  Error refusal(const MemoryPlan& plan) const {
    std::uint64_t weights = 0, rest = 0, experts = 0, work = 0;
    std::string free;
    for (std::size_t d = 0; d < plan.stages.size(); ++d) {
      const StagePlan fixed = stage(d, plan.stages[d].first, plan.stages[d].end);
      weights += fixed.weight_bytes;
      work += fixed.workspace_bytes;
      free += (d > 0 ? ", " : "") + devices_[d].name + " has " + mib(devices_[d].free_bytes) + " free";
    }
    for (const LayerBytes& layer : model_.layers) rest += layer.rest, experts += layer.experts;
    const std::uint64_t least = static_cast<std::uint64_t>(config_.layers) * cache(2048);
    std::string needs = free + "; this model needs " + mib(weights + rest + work + least) + " (weights " + mib(weights + rest) + ", workspace " + mib(work) +
                        ", KV cache for 2,048 tokens " + mib(least) + ")";
    if (experts > 0) needs += " and " + mib(experts) + " for its experts";
    if (options_.host_free_bytes > 0) needs += "; the host can lend " + mib(options_.host_free_bytes) + ", at most for experts and half of the layers";
    return fail(Errc::memory, needs + "; use --device cpu or a smaller quantisation", "out_of_memory");
  }

  const ModelConfig& config_;
  bool tied_;
  std::span<const DeviceMemory> devices_;
  const PlanOptions& options_;
  ModelBytes model_;
  std::uint64_t layer_page_ = 0;
  std::int64_t pages_most_ = 0;
};

}  // namespace

Result<MemoryPlan> plan_memory(const ModelTensors& tensors, std::span<const DeviceMemory> devices, const PlanOptions& options) {
  if (const auto fits = check_shapes(tensors.config(), options.arithmetic.kv); !fits) return fits.error();
  auto model = weigh(tensors);
  if (!model) return model.error();
  return Planner(tensors, devices, options, std::move(*model)).plan();
}

}  // namespace kontor::inference::cuda
