// What a model needs of the device's memory and the host's, reckoned from the file's directory before anything is loaded.

#include "inference/cuda/decoder_parts.hpp"

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
  if (c.experts.count > kMaxExperts)
    return fail(Errc::unsupported, std::to_string(c.experts.count) + " experts are more than the " + std::to_string(kMaxExperts) +
                " that the CUDA backend computes; use --device cpu", "unsupported_arch");
  if (!latent && (c.value_length > kMaxHead || c.key_length > kMaxHead))
    return fail(Errc::unsupported, "heads of " + std::to_string(std::max(c.key_length, c.value_length)) +
                " values are more than the 256 that the CUDA backend computes; use --device cpu", "unsupported_arch");
  return {};
}

Result<void> CudaDecoder::make_plan() {
  const ModelConfig& c = config_;
  const bool latent = c.latent.rank > 0;
  if (const auto fits = check_shapes(); !fits) return fits.error();
  std::vector<std::uint64_t> experts(static_cast<std::size_t>(c.layers));
  std::set<std::string, std::less<>> names;
  for (std::int64_t i = 0; i < c.layers; ++i) {
    if (!c.is_expert_layer(i)) continue;
    for (const ExpertMatrix& matrix : expert_matrices()) {
      const auto parts = expert_parts(i, matrix);
      if (!parts) return parts.error();
      const auto layout = layout_of(*parts);
      if (!layout) return layout.error();
      experts[static_cast<std::size_t>(i)] += layout->total;
      for (const Tensor& part : *parts) names.emplace(part.name);
    }
  }
  for (const Tensor& t : file_.tensors()) {
    if (names.contains(t.name)) continue;
    if (t.rank == 1) plan_.weight_bytes += t.bytes;
    else if (const auto layout = plane_layout(t, exact_)) plan_.weight_bytes += layout->total;
    // Older files have keys and values in one tensor; the keys are turned and held in 16 or 32 bits.
    if (latent && t.name.ends_with("attn_kv_b.weight")) plan_.weight_bytes += static_cast<std::uint64_t>(t.elements) * (exact_ || t.type == TensorType::f32 ? 4 : 2);
  }
  plan_.workspace_bytes = 0;
  for (const auto& [to, bytes] : work_->entries(c, deterministic_)) plan_.workspace_bytes += static_cast<std::uint64_t>(bytes);
  if (!exact_) {
    // Attention of many tokens: scores and weights, then queries, results, and what grows with the timeline.
    plan_.workspace_bytes += 2 * kScoreBytes;
    if (latent) plan_.workspace_bytes += static_cast<std::uint64_t>(kBatch * c.heads * (2 * c.key_length + 4 * c.value_length));
  }
  const std::int64_t position = latent ? c.key_length : c.kv_heads * (c.key_length + c.value_length);
  plan_.page_bytes = static_cast<std::uint64_t>(c.layers * kPagePositions * position) * (exact_ ? 4 : 2);
  plan_.free_bytes = device_->free_bytes();
  const std::int64_t wanted_most = (c.context + kPagePositions - 1) / kPagePositions * 16;
  const auto cache = [&](std::int64_t tokens) { return static_cast<std::uint64_t>(std::min(wanted_most, tokens / kPagePositions)) * plan_.page_bytes; };
  const std::uint64_t usable = plan_.free_bytes / 20 * 19;
  if (const auto placed = place_experts(experts, usable, cache(2048), cache(16384)); !placed) return placed.error();
  const std::uint64_t fixed = plan_.weight_bytes + plan_.workspace_bytes;
  plan_.pages = std::min<std::int64_t>(wanted_most, static_cast<std::int64_t>((usable - fixed) / plan_.page_bytes));
  return {};
}

/// All experts on the device where they fit beside the least cache; else as many layers' as leave room for a comfortable one, the others'
/// in memory of the host.
Result<void> CudaDecoder::place_experts(std::span<const std::uint64_t> layers, std::uint64_t usable, std::uint64_t least, std::uint64_t comfortable) {
  std::uint64_t all = 0;
  for (const std::uint64_t bytes : layers) all += bytes;
  const std::uint64_t fixed = plan_.weight_bytes + plan_.workspace_bytes, limit = expert_limit_ > 0 ? std::min(expert_limit_, all) : all;
  const auto room_beside = [&](std::uint64_t cache) { return std::min(limit, usable > fixed + cache ? usable - fixed - cache : 0); };
  std::uint64_t room = room_beside(least);
  if (room < all) room = room_beside(comfortable);
  std::uint64_t here = 0;
  plan_.host_from = 0;
  while (plan_.host_from < config_.layers && here + layers[static_cast<std::size_t>(plan_.host_from)] <= room)
    here += layers[static_cast<std::size_t>(plan_.host_from++)];
  plan_.host_bytes = all - here;
  const std::uint64_t host_free = device_->host_free_bytes();
  if (usable >= fixed + least && plan_.host_bytes <= host_free) return plan_.weight_bytes += here, Result<void>();
  std::string needs = device_->name() + " has " + mib(plan_.free_bytes) + " free; this model needs " + mib(fixed + least) +
                      " (weights " + mib(plan_.weight_bytes) + ", workspace " + mib(plan_.workspace_bytes) + ", KV cache for 2,048 tokens " + mib(least) + ")";
  if (all > 0) needs += " and " + mib(all) + " for its experts, of which " + mib(plan_.host_bytes) + " would lie in the host's memory, where " + mib(host_free) + " can be taken";
  return fail(Errc::memory, needs + "; use --device cpu or a smaller quantisation", "out_of_memory");
}

}  // namespace kontor::inference::cuda
