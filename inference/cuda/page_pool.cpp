#include "inference/cuda/page_pool.hpp"

#include <algorithm>

namespace kontor::inference::cuda {

PagePool::PagePool(std::vector<Part> parts, std::int64_t pages) : parts_(std::move(parts)), pages_(pages) {
  for (const Part& part : parts_) page_bytes_ += part.bytes;
  free_.reserve(static_cast<std::size_t>(pages));
  for (std::int64_t i = pages; i-- > 0;) free_.push_back(static_cast<std::int32_t>(i));
}

PagePool::PageRef PagePool::take() {
  std::int32_t number = 0;
  {
    const std::lock_guard lock(mutex_);
    if (free_.empty()) return nullptr;
    number = free_.back();
    free_.pop_back();
  }
  return std::make_shared<Page>(shared_from_this(), number);
}

void PagePool::give_back(std::int32_t number) {
  const std::lock_guard lock(mutex_);
  free_.push_back(number);
}

void PagePool::copy(std::int32_t from, std::int32_t to) {
  for (const Part& part : parts_) part.device->copy_within(at(part, to), at(part, from), part.bytes);
}

void PagePool::fill(std::int32_t number, std::span<const std::byte> content) {
  for (const Part& part : parts_) {
    const std::uint64_t take = std::min<std::uint64_t>(content.size(), part.bytes);
    part.device->copy_in(at(part, number), content.data(), take);
    content = content.subspan(take);
  }
}

PagePool::Page::~Page() { pool_->give_back(number_); }

void PagePool::Page::copy_to(std::span<std::byte> out) const {
  for (const Part& part : pool_->parts_) {
    const std::uint64_t take = std::min<std::uint64_t>(out.size(), part.bytes);
    part.device->copy_out(out.data(), at(part, number_), take);
    out = out.subspan(take);
  }
  for (const Part& part : pool_->parts_) (void)part.device->wait();  // A broken device shows at the next forward pass.
}

}  // namespace kontor::inference::cuda
