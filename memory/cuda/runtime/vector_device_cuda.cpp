// The device of CUDA's runtime.

#include "memory/vector_device.hpp"

#include <cuda_runtime_api.h>

#include <string>

namespace kontor::memory {
namespace {

class CudaVectorDevice final : public VectorDevice {
 public:
  ~CudaVectorDevice() override {
    if (stream_) (void)cudaStreamDestroy(stream_);
  }
  std::string set_up() {
    note(cudaSetDevice(0));
    note(cudaDeviceGetAttribute(&processors_, cudaDevAttrMultiProcessorCount, 0));
    int major = 0;
    note(cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, 0));
    if (problem_.empty() && major < 8) problem_ = "its compute capability is below 8.0 (Ampere)";
    note(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking));
    return problem_;
  }
  std::uint64_t free_bytes() const override {
    std::size_t free = 0, total = 0;
    return cudaSetDevice(0) == cudaSuccess && cudaMemGetInfo(&free, &total) == cudaSuccess ? free : 0;
  }
  int processors() const override { return processors_; }
  /// For launches, which go to the thread's current device: a decoder may have chosen another.
  void* stream() const override {
    (void)cudaSetDevice(0);
    return stream_;
  }
  Result<void*> allocate(std::uint64_t bytes) override {
    void* data = nullptr;
    note(cudaSetDevice(0));
    if (const cudaError_t error = cudaMalloc(&data, bytes); error != cudaSuccess) {
      (void)cudaGetLastError();
      return fail(Errc::memory, "the GPU has no memory left for " + std::to_string(bytes >> 20) + " MiB of vectors: " + cudaGetErrorString(error), "out_of_memory");
    }
    return data;
  }
  void release(void* data) override { (void)cudaFree(data); }
  /// Waits, because a copy from pageable memory need not be over when the call returns.
  void copy_in(void* to, const void* from, std::uint64_t bytes) override {
    note(cudaMemcpyAsync(to, from, bytes, cudaMemcpyHostToDevice, stream_));
    note(cudaStreamSynchronize(stream_));
  }
  void copy_out(void* to, const void* from, std::uint64_t bytes) override { note(cudaMemcpyAsync(to, from, bytes, cudaMemcpyDeviceToHost, stream_)); }
  Result<void> wait() override {
    note(cudaGetLastError());
    note(cudaStreamSynchronize(stream_));
    if (problem_.empty()) return {};
    return fail(Errc::internal, "vector search on the GPU: " + problem_, "device_error");
  }

 private:
  void note(cudaError_t error) {
    if (error != cudaSuccess && problem_.empty()) problem_ = cudaGetErrorString(error);
  }
  int processors_ = 1;
  cudaStream_t stream_ = nullptr;
  std::string problem_;
};

}  // namespace

Result<std::unique_ptr<VectorDevice>> open_vector_device() {
  int count = 0, driver = 0;
  if (cudaDriverGetVersion(&driver) != cudaSuccess || driver == 0 || cudaGetDeviceCount(&count) != cudaSuccess || count == 0)
    return fail(Errc::unsupported, "this machine has no GPU that can be used", "no_device");
  auto device = std::make_unique<CudaVectorDevice>();
  if (const std::string problem = device->set_up(); !problem.empty()) return fail(Errc::unsupported, "the GPU cannot be used: " + problem, "no_device");
  return std::unique_ptr<VectorDevice>(std::move(device));
}

}  // namespace kontor::memory
