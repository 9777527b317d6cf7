#pragma once
// The KV pages of a backend, handed out by number. A page lies in parts, one on each device, with the keys and values of its layers.

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
  /// Page n of a part begins n * bytes behind base.
  struct Part {
    Device* device;
    std::byte* base;
    std::uint64_t bytes;
  };
  PagePool(std::vector<Part> parts, std::int64_t pages);

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
  std::uint64_t page_bytes() const { return page_bytes_; }
  std::int64_t pages() const { return pages_; }
  void copy(std::int32_t from, std::int32_t to);
  /// The parts one behind the other, so that snapshots do not depend on how layers are split.
  void fill(std::int32_t number, std::span<const std::byte> content);

 private:
  void give_back(std::int32_t number);

  static std::byte* at(const Part& part, std::int32_t number) { return part.base + static_cast<std::uint64_t>(number) * part.bytes; }

  std::vector<Part> parts_;
  std::uint64_t page_bytes_ = 0;
  std::int64_t pages_;
  std::mutex mutex_;
  std::vector<std::int32_t> free_;
};

}  // namespace kontor::inference::cuda
