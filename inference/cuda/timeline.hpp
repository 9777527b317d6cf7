#pragma once
// The KV cache of one sequence: numbers of pages of the pool.

#include "inference/cuda/page_pool.hpp"

#include <memory>
#include <span>
#include <utility>
#include <vector>

namespace kontor::inference::cuda {

class Timeline final : public Sequence {
 public:
  explicit Timeline(std::shared_ptr<PagePool> pool) : pool_(std::move(pool)) {}
  std::int64_t length() const override { return positions; }
  void truncate(std::int64_t length) override {
    if (length < 0 || length >= positions) return;
    positions = length;
    held.resize(static_cast<std::size_t>((length + kPagePositions - 1) / kPagePositions));
  }
  std::unique_ptr<Sequence> fork() const override { return std::make_unique<Timeline>(*this); }
  std::vector<KvPageRef> pages() const override { return {held.begin(), held.end()}; }
  void adopt(std::span<const KvPageRef> pages, std::int64_t length) override {
    held.clear();
    for (const KvPageRef& page : pages) held.push_back(std::static_pointer_cast<PagePool::Page>(page));
    positions = length;
  }
  std::uint64_t bytes() const override { return held.size() * pool_->page_bytes(); }

  /// Makes positions [length(), end) writable. False where the pool is empty; what was taken stays.
  bool reserve(std::int64_t end) {
    const std::size_t first = static_cast<std::size_t>(positions / kPagePositions);
    if (positions % kPagePositions != 0 && end > positions && held[first].use_count() > 1) {
      PagePool::PageRef own = pool_->take();
      if (!own) return false;
      pool_->copy(held[first]->number(), own->number());
      held[first] = std::move(own);
    }
    while (static_cast<std::int64_t>(held.size()) * kPagePositions < end) {
      PagePool::PageRef page = pool_->take();
      if (!page) return false;
      held.push_back(std::move(page));
    }
    return true;
  }

  std::vector<PagePool::PageRef> held;
  std::int64_t positions = 0;

 private:
  std::shared_ptr<PagePool> pool_;
};

}  // namespace kontor::inference::cuda
