#include "inference/cuda/device.hpp"

#include <utility>

namespace kontor::inference::cuda {

DeviceBuffer::DeviceBuffer(DeviceBuffer&& other) noexcept
    : device_(std::exchange(other.device_, nullptr)), data_(std::exchange(other.data_, nullptr)), bytes_(std::exchange(other.bytes_, 0)),
      host_(other.host_) {}

DeviceBuffer& DeviceBuffer::operator=(DeviceBuffer&& other) noexcept {
  std::swap(device_, other.device_);
  std::swap(data_, other.data_);
  std::swap(bytes_, other.bytes_);
  std::swap(host_, other.host_);
  return *this;
}

DeviceBuffer::~DeviceBuffer() {
  if (data_) host_ ? device_->release_host(data_) : device_->release(data_);
}

void hand_over(Device& from, const void* data, Device& to, void* out, std::uint64_t bytes) {
  to.follow(from.mark());
  to.copy_from(from, out, data, bytes);
  from.follow(to.mark());
}

}  // namespace kontor::inference::cuda
