#include "inference/kv_cache.hpp"

#include "inference/cpu/kernels.hpp"
#include "inference/dequantize.hpp"

#include <algorithm>
#include <atomic>
#include <cstring>

namespace kontor::inference {
namespace {

constexpr std::int64_t kPage = cpu::kPage;
static_assert(kPage == kPagePositions);

template <class Element>
Element convert(float value) {
  if constexpr (sizeof(Element) == 2) return float_to_half(value);
  else return value;
}

template <class Element>
void store_as(const KvShape& shape, std::byte* keys_out, std::byte* values_out, std::int64_t slot, const float* keys,
              const float* values) {
  auto* k = reinterpret_cast<Element*>(keys_out);
  auto* v = reinterpret_cast<Element*>(values_out);
  for (std::int64_t i = 0; i < shape.kv_heads * shape.key_length; ++i) k[i * kPage + slot] = convert<Element>(keys[i]);
  for (std::int64_t h = 0; h < shape.kv_heads; ++h) {
    Element* out = v + (h * kPage + slot) * shape.value_length;
    for (std::int64_t i = 0; i < shape.value_length; ++i) out[i] = convert<Element>(values[h * shape.value_length + i]);
  }
}

/// Whether nobody else can see the page now; whatever others did with it before has happened.
bool is_only_holder(const std::shared_ptr<HostPage>& page) {
  if (page.use_count() != 1) return false;
#if !defined(__SANITIZE_THREAD__)  // Which does not know fences.
  std::atomic_thread_fence(std::memory_order_acquire);
#endif
  return true;
}

}  // namespace

KvCache::KvCache(const KvShape& shape)
    : shape_(shape),
      element_bytes_(shape.half ? 2 : 4),
      layer_bytes_(static_cast<std::size_t>(kPage * shape.kv_heads * (shape.key_length + shape.value_length)) * element_bytes_),
      page_bytes_(layer_bytes_ * static_cast<std::size_t>(shape.layers)) {}

std::shared_ptr<HostPage> HostPage::create(std::size_t bytes) {
  cpu::Buffer buffer = cpu::Buffer::zeroed(bytes);
  if (!buffer) return nullptr;
  return std::shared_ptr<HostPage>(new HostPage(std::move(buffer)));
}

void HostPage::copy_to(std::span<std::byte> out) const { std::memcpy(out.data(), buffer_.data(), std::min(out.size(), buffer_.size())); }

Result<void> KvCache::reserve(std::int64_t begin, std::int64_t end) {
  const auto needed = static_cast<std::size_t>((end + kPage - 1) / kPage);
  const auto no_memory = [&] {
    return fail(Errc::memory, "no memory left for the KV cache at position " + std::to_string(end), "out_of_memory");
  };
  for (auto p = static_cast<std::size_t>(begin / kPage); p < std::min(needed, pages_.size()); ++p) {
    if (is_only_holder(pages_[p])) continue;
    auto own = HostPage::create(page_bytes_);
    if (!own) return no_memory();
    std::memcpy(own->data(), pages_[p]->data(), page_bytes_);
    pages_[p] = std::move(own);
  }
  while (pages_.size() < needed) {
    auto page = HostPage::create(page_bytes_);
    if (!page) return no_memory();
    pages_.push_back(std::move(page));
  }
  return {};
}

void KvCache::shrink(std::int64_t positions) {
  const auto needed = static_cast<std::size_t>((positions + kPage - 1) / kPage);
  if (pages_.size() > needed) pages_.erase(pages_.begin() + static_cast<std::ptrdiff_t>(needed), pages_.end());
}

std::size_t KvCache::key_offset(std::int64_t layer, std::int64_t head) const {
  return static_cast<std::size_t>(layer) * layer_bytes_ +
         static_cast<std::size_t>(head * kPage * shape_.key_length) * element_bytes_;
}

std::size_t KvCache::value_offset(std::int64_t layer, std::int64_t head) const {
  return static_cast<std::size_t>(layer) * layer_bytes_ +
         static_cast<std::size_t>(kPage * (shape_.kv_heads * shape_.key_length + head * shape_.value_length)) * element_bytes_;
}

const void* KvCache::keys(std::int64_t layer, std::int64_t page, std::int64_t head) const {
  return pages_[static_cast<std::size_t>(page)]->data() + key_offset(layer, head);
}

const void* KvCache::values(std::int64_t layer, std::int64_t page, std::int64_t head) const {
  return pages_[static_cast<std::size_t>(page)]->data() + value_offset(layer, head);
}

void KvCache::store(std::int64_t layer, std::int64_t position, const float* keys, const float* values) {
  std::byte* page = pages_[static_cast<std::size_t>(position / kPage)]->data();
  std::byte* k = page + key_offset(layer, 0);
  std::byte* v = page + value_offset(layer, 0);
  if (shape_.half) store_as<std::uint16_t>(shape_, k, v, position % kPage, keys, values);
  else store_as<float>(shape_, k, v, position % kPage, keys, values);
}

}  // namespace kontor::inference
