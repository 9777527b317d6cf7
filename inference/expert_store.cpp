#include "inference/expert_store.hpp"

#include "inference/file_mapping.hpp"
#include "inference/host_memory.hpp"

#include <algorithm>
#include <cmath>

namespace kontor::inference {
namespace {

constexpr double kHalfLifeTokens = 16;

}  // namespace

Decoder::ExpertStore::ExpertStore(std::uint64_t needed_bytes, std::uint64_t limit_bytes, std::int64_t uses_per_token)
    : half_life_(kHalfLifeTokens * static_cast<double>(std::max<std::int64_t>(1, uses_per_token))) {
  const std::uint64_t available = available_host_bytes();
  // What is packed is read from the page cache first: leave room for that, for the cache of keys and for others.
  limit_ = limit_bytes > 0 ? limit_bytes : available / 10 * 6;
  all_resident_ = needed_bytes <= limit_;
}

void Decoder::ExpertStore::read_ahead(const ExpertWeights& weights, std::span<const std::int32_t> experts) {
  for (const std::int32_t e : experts) {
    const auto at = static_cast<std::size_t>(e);
    if (weights.packed[at]) continue;
    for (const Tensor* tensor : {&weights.sources[at].gate, &weights.sources[at].up, &weights.sources[at].down}) advise({tensor->data, tensor->bytes}, PageAdvice::read_ahead);
  }
}

void Decoder::ExpertStore::release(const ExpertWeights& weights, std::int32_t expert) {
  const auto& source = weights.sources[static_cast<std::size_t>(expert)];
  for (const Tensor* tensor : {&source.gate, &source.up, &source.down}) advise({tensor->data, tensor->bytes}, PageAdvice::release);
}

double Decoder::ExpertStore::score(const ExpertWeights& weights, std::int32_t expert) const {
  const auto& use = weights.uses[static_cast<std::size_t>(expert)];
  return use.score * std::exp2(-static_cast<double>(clock_ - use.last) / half_life_);
}

bool Decoder::ExpertStore::make_room(std::uint64_t bytes, double wanted) {
  while (counts.packed_bytes + bytes > limit_) {
    const auto least = std::min_element(held_.begin(), held_.end(), [&](const Held& a, const Held& b) {
      return score(*a.weights, a.expert) < score(*b.weights, b.expert);
    });
    // A use more than the other: packing an expert takes about as long as using it twice.
    if (least == held_.end() || score(*least->weights, least->expert) + 1 > wanted) return false;
    least->weights->packed[static_cast<std::size_t>(least->expert)].reset();
    counts.packed_bytes -= least->bytes;
    *least = held_.back();
    held_.pop_back();
  }
  return true;
}

const Decoder::FeedForward& Decoder::ExpertStore::use(ExpertWeights& weights, std::int32_t expert, bool as_f32, cpu::ThreadPool& pool) {
  const auto at = static_cast<std::size_t>(expert);
  ++counts.uses;
  if (all_resident_) {
    ++counts.packed;
    return weights.experts[at];
  }
  ++clock_;
  auto& use = weights.uses[at];
  use = {score(weights, expert) + 1, clock_};
  if (weights.packed[at]) {
    ++counts.packed;
    return *weights.packed[at];
  }
  const FeedForward& mapped = weights.experts[at];
  // Types without a packed form gain nothing from a copy.
  const std::uint64_t bytes = mapped.gate.packed_bytes() + mapped.up.packed_bytes() + mapped.down.packed_bytes();
  if (bytes == 0 || use.score < 1.5 || !make_room(bytes, use.score)) return mapped;
  auto packed = std::make_unique<FeedForward>();
  const auto& source = weights.sources[at];
  for (const auto& [to, tensor] : {std::pair{&packed->gate, &source.gate}, {&packed->up, &source.up}, {&packed->down, &source.down}}) {
    auto matrix = cpu::Matrix::create(*tensor, as_f32, pool);
    if (!matrix) return mapped;  // No memory: the mapped one does as well.
    *to = std::move(*matrix);
  }
  counts.packed_bytes += bytes;
  held_.push_back({&weights, expert, bytes});
  weights.packed[at] = std::move(packed);
  release(weights, expert);
  return *weights.packed[at];
}

}  // namespace kontor::inference
