#pragma once
// The device of the tests, watched.

#include "inference/cuda/device.hpp"

#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

namespace kontor::test {

/// Counts, and fails one allocation.
struct Watch {
  int allocations = 0;
  int copies = 0;
  int handed_over = 0;                ///< Copies from another device.
  std::vector<std::int64_t> batches;  ///< Of matrix products.
  std::uint64_t bytes = 0, host_bytes = 0;
  int fails_at = -1;
};

class WatchedDevice final : public inference::cuda::Device {
 public:
  WatchedDevice(std::unique_ptr<inference::cuda::Device> inner, Watch& watch) : inner_(std::move(inner)), watch_(watch) {}
  std::string name() const override { return inner_->name(); }
  int index() const override { return inner_->index(); }
  void use() override { inner_->use(); }
  inference::cuda::Stream stream() const override { return inner_->stream(); }
  int processors() const override { return inner_->processors(); }
  std::uint64_t free_bytes() const override { return inner_->free_bytes(); }
  Result<inference::cuda::DeviceBuffer> allocate(std::uint64_t bytes) override {
    if (watch_.allocations++ == watch_.fails_at) return fail(Errc::memory, "no memory left, says the test", "out_of_memory");
    watch_.bytes += bytes;
    return inner_->allocate(bytes);
  }
  void release(void* data) override { inner_->release(data); }
  Result<inference::cuda::DeviceBuffer> allocate_host(std::uint64_t bytes) override {
    if (watch_.allocations++ == watch_.fails_at) return fail(Errc::memory, "no memory left, says the test", "out_of_memory");
    watch_.host_bytes += bytes;
    return inner_->allocate_host(bytes);
  }
  void release_host(void* data) override { inner_->release_host(data); }
  std::uint64_t host_free_bytes() const override { return inner_->host_free_bytes(); }
  void copy_in(void* to, const void* from, std::uint64_t bytes) override { ++watch_.copies, inner_->copy_in(to, from, bytes); }
  void copy_out(void* to, const void* from, std::uint64_t bytes) override { inner_->copy_out(to, from, bytes); }
  void copy_within(void* to, const void* from, std::uint64_t bytes) override { inner_->copy_within(to, from, bytes); }
  void multiply(const inference::cuda::MatrixProduct& product) override { watch_.batches.push_back(product.batch), inner_->multiply(product); }
  void* mark() override { return inner_->mark(); }
  void follow(void* mark) override { inner_->follow(mark); }
  void copy_from(const Device& other, void* to, const void* from, std::uint64_t bytes) override { ++watch_.handed_over, inner_->copy_from(other, to, from, bytes); }
  Result<void> wait() override { return inner_->wait(); }

 private:
  std::unique_ptr<inference::cuda::Device> inner_;
  Watch& watch_;
};

}  // namespace kontor::test
