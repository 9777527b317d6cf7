#pragma once
// The KV pages of a device: one allocation, handed out by number.

#include "inference/backend.hpp"
#include "inference/cuda/device.hpp"

#include <cstdint>
#include <memory>
#include <mutex>
#include <vector>

namespace kontor::inference::cuda {

/// Pages may be given back from any thread; everything else belongs to the thread that uses the device. Outlives the pages.
class PagePool : public std::enable_shared_from_this<PagePool> {
 public:
  PagePool(Device& device, DeviceBuffer memory, std::uint64_t page_bytes, std::int64_t pages);

  class Page final : public KvPage {
   public:
    Page(std::shared_ptr<PagePool> pool, std::int32_t number) : pool_(std::move(pool)), number_(number) {}
    ~Page() override;
    void copy_to(std::span<std::byte> out) const override;
    std::int32_t number() const { return number_; }

   private:
    std::shared_ptr<PagePool> pool_;
    std::int32_t number_;
  };
  using PageRef = std::shared_ptr<Page>;

  /// Null where all pages are in use.
  PageRef take();
  std::byte* at(std::int32_t number) const { return memory_.as<std::byte>() + static_cast<std::uint64_t>(number) * page_bytes_; }
  std::byte* base() const { return memory_.as<std::byte>(); }
  std::uint64_t page_bytes() const { return page_bytes_; }
  std::int64_t pages() const { return pages_; }
  void copy(std::int32_t from, std::int32_t to) { device_->copy_within(at(to), at(from), page_bytes_); }
  void fill(std::int32_t number, std::span<const std::byte> content);

 private:
  void give_back(std::int32_t number);

  Device* device_;
  DeviceBuffer memory_;
  std::uint64_t page_bytes_;
  std::int64_t pages_;
  std::mutex mutex_;
  std::vector<std::int32_t> free_;
};

}  // namespace kontor::inference::cuda
