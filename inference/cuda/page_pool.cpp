#include "inference/cuda/page_pool.hpp"

#include <algorithm>

namespace kontor::inference::cuda {

PagePool::PagePool(Device& device, DeviceBuffer memory, std::uint64_t page_bytes, std::int64_t pages)
    : device_(&device), memory_(std::move(memory)), page_bytes_(page_bytes), pages_(pages) {
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

void PagePool::fill(std::int32_t number, std::span<const std::byte> content) {
  device_->copy_in(at(number), content.data(), std::min<std::uint64_t>(content.size(), page_bytes_));
}

PagePool::Page::~Page() { pool_->give_back(number_); }

void PagePool::Page::copy_to(std::span<std::byte> out) const {
  pool_->device_->copy_out(out.data(), pool_->at(number_), std::min<std::uint64_t>(out.size(), pool_->page_bytes_));
  (void)pool_->device_->wait();  // A broken device shows at the next forward pass.
}

}  // namespace kontor::inference::cuda
