// What a model needs of the device's memory and the host's, reckoned from the file's directory before anything is loaded.

#include "inference/cuda/decoder_parts.hpp"
#include "inference/tensor_names.hpp"

#include <set>

namespace kontor::inference::cuda {
namespace {

std::string mib(std::uint64_t bytes) { return std::to_string((bytes + (1 << 20) - 1) >> 20) + " MiB"; }

}  // namespace

Result<void> CudaDecoder::check_shapes() const {
  const ModelConfig& c = config_;
  const bool latent = c.latent.rank > 0;
  if (latent && (c.value_length > kMaxLatentValue || c.key_length > kMaxLatentKey || c.latent.rotary % 8 != 0))
    return fail(Errc::unsupported, "latent attention with " + std::to_string(c.latent.rank) + " + " + std::to_string(c.latent.rotary) +
                " values is outside what the CUDA backend computes (512 + 128 in multiples of 8); use --device cpu", "unsupported_arch");
  if (kv_format_ == KvFormat::q8 && (c.key_length % kSpan != 0 || c.value_length % kSpan != 0))
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

/// Also adds up what is in no layer, and all vectors: they stay on the device.
Result<std::vector<CudaDecoder::LayerBytes>> CudaDecoder::weigh_layers() {
  const ModelConfig& c = config_;
  std::vector<LayerBytes> layers(static_cast<std::size_t>(c.layers));
  std::set<std::string, std::less<>> experts;
  for (std::int64_t i = 0; i < c.layers; ++i) {
    if (!c.is_expert_layer(i)) continue;
    for (const ExpertMatrix& matrix : expert_matrices()) {
      const auto parts = expert_parts(i, matrix);
      if (!parts) return parts.error();
      const auto layout = layout_of(*parts);
      if (!layout) return layout.error();
      layers[static_cast<std::size_t>(i)].experts += layout->total;
      for (const Tensor& part : *parts) experts.emplace(part.name);
    }
  }
  for (const Tensor& t : file_.tensors()) {
    if (experts.contains(t.name)) continue;
    const auto layer = layer_of(t.name);
    const bool placed = t.rank > 1 && layer && *layer < c.layers;
    std::uint64_t& to = placed ? layers[static_cast<std::size_t>(*layer)].rest : plan_.weight_bytes;
    if (t.rank == 1) to += t.bytes;
    else if (const auto layout = plane_layout(t, exact_)) to += layout->total;
    // Older files have keys and values in one tensor; the keys are turned and held in 16 or 32 bits.
    if (c.latent.rank > 0 && t.name.ends_with("attn_kv_b.weight")) to += static_cast<std::uint64_t>(t.elements) * (exact_ || t.type == TensorType::f32 ? 4 : 2);
  }
  return layers;
}

Result<void> CudaDecoder::make_plan() {
  const ModelConfig& c = config_;
  const bool latent = c.latent.rank > 0;
  if (const auto fits = check_shapes(); !fits) return fits.error();
  const auto layers = weigh_layers();
  if (!layers) return layers.error();
  plan_.workspace_bytes = 0;
  for (const auto& [to, bytes] : work_->entries(c, deterministic_)) plan_.workspace_bytes += static_cast<std::uint64_t>(bytes);
  if (!exact_) {
    // Attention of many tokens: scores and weights, then queries, results, and what grows with the timeline.
    plan_.workspace_bytes += 2 * kScoreBytes;
    if (latent) plan_.workspace_bytes += static_cast<std::uint64_t>(kBatch * c.heads * (2 * c.key_length + 4 * c.value_length));
  }
  const std::int64_t keys = kv_bytes(kv_format_, c.key_length), values = latent ? 0 : kv_bytes(kv_format_, c.value_length);
  plan_.page_bytes = static_cast<std::uint64_t>(c.layers * (latent ? keys : c.kv_heads * (keys + values)));
  plan_.free_bytes = device_->free_bytes();
  const std::int64_t wanted_most = (c.context + kPagePositions - 1) / kPagePositions * 16;
  const auto cache = [&](std::int64_t tokens) { return static_cast<std::uint64_t>(std::min(wanted_most, tokens / kPagePositions)) * plan_.page_bytes; };
  const std::uint64_t usable = plan_.free_bytes / 20 * 19;
  if (const auto placed = place_layers(*layers, usable, cache(2048), cache(16384)); !placed) return placed.error();
  const std::uint64_t fixed = plan_.weight_bytes + plan_.workspace_bytes;
  plan_.pages = std::min<std::int64_t>(wanted_most, static_cast<std::int64_t>((usable - fixed) / plan_.page_bytes));
  return {};
}

/// Everything on the device where it fits beside the least cache. Else, beside a comfortable one where that is possible, what every token
/// reads comes first, layer by layer, then experts, which are read now and then; the rest goes to the host.
Result<void> CudaDecoder::place_layers(std::span<const LayerBytes> layers, std::uint64_t usable, std::uint64_t least, std::uint64_t comfortable) {
  std::uint64_t rest = 0, experts = 0;
  for (const LayerBytes& layer : layers) rest += layer.rest, experts += layer.experts;
  const std::uint64_t fixed = plan_.weight_bytes + plan_.workspace_bytes, limit = expert_limit_ > 0 ? expert_limit_ : experts;
  const std::uint64_t host_free = device_->host_free_bytes();
  const auto at = [&](std::int64_t i) { return layers[static_cast<std::size_t>(i)]; };
  for (const std::uint64_t cache : {fixed + rest + experts + least <= usable ? least : std::max(least, comfortable), least}) {
    if (fixed + cache > usable) continue;
    std::uint64_t room = usable - fixed - cache, here = 0, experts_here = 0;
    plan_.layers_from = plan_.experts_from = 0;
    while (plan_.layers_from < config_.layers && here + at(plan_.layers_from).rest <= room) here += at(plan_.layers_from++).rest;
    room = std::min(room - here, limit);
    while (plan_.experts_from < plan_.layers_from && experts_here + at(plan_.experts_from).experts <= room)
      experts_here += at(plan_.experts_from++).experts;
    plan_.host_bytes = rest - here + experts - experts_here;
    // Below half of what every token reads, the processor is faster than the bus.
    if (plan_.host_bytes <= host_free && here >= rest / 2) return plan_.weight_bytes += here + experts_here, Result<void>();
  }
  std::string needs = device_->name() + " has " + mib(plan_.free_bytes) + " free; this model needs " + mib(fixed + rest + least) + " (weights " +
                      mib(plan_.weight_bytes + rest) + ", workspace " + mib(plan_.workspace_bytes) + ", KV cache for 2,048 tokens " + mib(least) + ")";
  if (experts > 0) needs += " and " + mib(experts) + " for its experts";
  if (host_free > 0) needs += "; the host can lend " + mib(host_free) + ", at most for experts and half of the layers";
  return fail(Errc::memory, needs + "; use --device cpu or a smaller quantisation", "out_of_memory");
}

}  // namespace kontor::inference::cuda
