#include "inference/kv_cache.hpp"

#include "inference/cpu/packed.hpp"
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

constexpr std::int64_t kBlock = cpu::kBlock;
constexpr std::int64_t kKeyGroup = cpu::kTileRows * (2 + kBlock);  ///< Bytes of 16 positions of a block of keys.

/// A block of 32 in codes of 8 bit.
struct CodedBlock {
  CodedBlock(const float* values, const cpu::KernelSet& kernels) {
    float exact_scale, sum;
    std::int32_t half_sums[2], half_starts[2];
    cpu::QuantizedRows rows;
    rows.values = codes, rows.scales = &exact_scale, rows.sums = &sum, rows.half_sums = half_sums, rows.half_starts = half_starts, rows.k = kBlock;
    kernels.quantize(values, 0, rows);
    scale = float_to_half(exact_scale);
  }
  std::int8_t codes[kBlock];
  std::uint16_t scale;
};

void store_coded_key(std::byte* tiles, std::int64_t slot, const float* key, std::int64_t length, const cpu::KernelSet& kernels) {
  const std::int64_t lane = slot % cpu::kTileRows;
  std::byte* out = tiles + slot / cpu::kTileRows * (length / kBlock) * kKeyGroup;
  for (std::int64_t at = 0; at < length; at += kBlock, out += kKeyGroup) {
    const CodedBlock block(key + at, kernels);
    std::memcpy(out + 2 * lane, &block.scale, 2);
    for (std::int64_t word = 0; word < kBlock / 4; ++word)
      for (std::int64_t i = 0; i < 4; ++i)
        out[2 * cpu::kTileRows + 64 * word + 4 * lane + i] = static_cast<std::byte>(block.codes[4 * word + i] + 128);
  }
}

void store_coded_value(std::byte* out, std::int64_t slot, const float* value, std::int64_t length, const cpu::KernelSet& kernels) {
  for (std::int64_t at = 0; at < length; at += kBlock, out += cpu::kValueGroup) {
    const CodedBlock block(value + at, kernels);
    std::memcpy(out + 2 * slot, &block.scale, 2);
    std::memcpy(out + 2 * kPage + kBlock * slot, block.codes, kBlock);
  }
}

/// Bytes of a head of this length in a page.
std::size_t head_bytes(KvElement element, std::int64_t length) {
  if (element != KvElement::q8_0) return static_cast<std::size_t>(kPage * length) * (element == KvElement::f16 ? 2 : 4);
  return static_cast<std::size_t>(length / kBlock * cpu::kValueGroup);
}
static_assert(kPage / cpu::kTileRows * kKeyGroup == cpu::kValueGroup);

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
      key_bytes_(head_bytes(shape.element, shape.key_length)),
      value_bytes_(head_bytes(shape.element, shape.value_length)),
      layer_bytes_(static_cast<std::size_t>(shape.kv_heads) * (key_bytes_ + value_bytes_)),
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
  return static_cast<std::size_t>(layer) * layer_bytes_ + static_cast<std::size_t>(head) * key_bytes_;
}

std::size_t KvCache::value_offset(std::int64_t layer, std::int64_t head) const {
  return static_cast<std::size_t>(layer) * layer_bytes_ + static_cast<std::size_t>(shape_.kv_heads) * key_bytes_ +
         static_cast<std::size_t>(head) * value_bytes_;
}

const void* KvCache::keys(std::int64_t layer, std::int64_t page, std::int64_t head) const {
  return pages_[static_cast<std::size_t>(page)]->data() + key_offset(layer, head);
}

const void* KvCache::values(std::int64_t layer, std::int64_t page, std::int64_t head) const {
  return pages_[static_cast<std::size_t>(page)]->data() + value_offset(layer, head);
}

void KvCache::store(std::int64_t layer, std::int64_t position, const float* keys, const float* values, const cpu::KernelSet& kernels) {
  std::byte* page = pages_[static_cast<std::size_t>(position / kPage)]->data();
  const std::int64_t slot = position % kPage;
  std::byte* k = page + key_offset(layer, 0);
  std::byte* v = page + value_offset(layer, 0);
  switch (shape_.element) {
    case KvElement::f32: return store_as<float>(shape_, k, v, slot, keys, values);
    case KvElement::f16: return store_as<std::uint16_t>(shape_, k, v, slot, keys, values);
    case KvElement::q8_0:
      for (std::int64_t head = 0; head < shape_.kv_heads; ++head) {
        store_coded_key(k + static_cast<std::size_t>(head) * key_bytes_, slot, keys + head * shape_.key_length, shape_.key_length, kernels);
        store_coded_value(v + static_cast<std::size_t>(head) * value_bytes_, slot, values + head * shape_.value_length, shape_.value_length, kernels);
      }
  }
}

}  // namespace kontor::inference
