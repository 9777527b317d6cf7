// The device of CUDA's runtime. cuBLAS is loaded when the first device is opened: linking it would cost every start of the
// program tens of milliseconds, also where no GPU is used.

#include "inference/backend.hpp"
#include "inference/cuda/decoder_cuda.hpp"
#include "inference/cuda/device.hpp"
#include "inference/cuda/staging.hpp"
#include "inference/host_memory.hpp"

#include <cublas_v2.h>
#include <cuda_runtime_api.h>
#include <dlfcn.h>

#include <algorithm>
#include <cstring>
#include <optional>
#include <set>
#include <unordered_map>
#include <vector>

namespace kontor::inference {
namespace cuda {
namespace {

/// The functions of cuBLAS that are used, by their own types.
struct Blas {
  decltype(&cublasCreate_v2) create = nullptr;
  decltype(&cublasDestroy_v2) destroy = nullptr;
  decltype(&cublasSetStream_v2) set_stream = nullptr;
  decltype(&cublasSetWorkspace_v2) set_workspace = nullptr;
  using Multiply = cublasStatus_t(cublasHandle_t, cublasOperation_t, cublasOperation_t, int, int, int, const void*, const void*, cudaDataType, int,
                                  long long, const void*, cudaDataType, int, long long, const void*, void*, cudaDataType, int, long long, int,
                                  cublasComputeType_t, cublasGemmAlgo_t);
  Multiply* multiply = nullptr;  // Overloaded in the header, so that its type has to be spelt.

  /// Null with the reason in `why`. Never unloaded.
  static const Blas* get(std::string& why) {
    static std::string problem;
    static const Blas* loaded = []() -> const Blas* {
      static Blas blas;
      const std::string name = "libcublas.so." + std::to_string(CUBLAS_VER_MAJOR);
      void* library = nullptr;
      for (const std::string& path : {name, "/usr/local/cuda/lib64/" + name})
        if (!library) library = dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
      if (!library) {
        problem = name + " cannot be loaded (" + std::string(dlerror()) + "); install the CUDA Toolkit's cuBLAS";
        return nullptr;
      }
      const auto find = [&](auto& function, const char* symbol) {
        function = reinterpret_cast<std::remove_reference_t<decltype(function)>>(dlsym(library, symbol));
        if (!function) problem = name + " has no function " + symbol;
      };
      find(blas.create, "cublasCreate_v2");
      find(blas.destroy, "cublasDestroy_v2");
      find(blas.set_stream, "cublasSetStream_v2");
      find(blas.set_workspace, "cublasSetWorkspace_v2");
      find(blas.multiply, "cublasGemmStridedBatchedEx");
      return problem.empty() ? &blas : nullptr;
    }();
    why = problem;
    return loaded;
  }
};

class CudaDevice final : public Device {
 public:
  static Result<std::unique_ptr<Device>> open(int index) {
    std::unique_ptr<CudaDevice> device(new CudaDevice(index));
    std::string why;
    device->blas_ = Blas::get(why);
    if (!device->blas_) return fail(Errc::unsupported, why, "no_device");
    if (const auto set = device->set_up(); !set) return set.error();
    return std::unique_ptr<Device>(std::move(device));
  }
  ~CudaDevice() override {
    (void)cudaSetDevice(index_);
    if (stream_) (void)cudaStreamSynchronize(stream_);  // Copies under way read the staging area.
    for (auto& [key, recording] : graphs_)
      if (recording.graph) (void)cudaGraphExecDestroy(recording.graph);
    for (const cudaEvent_t event : ticks_) (void)cudaEventDestroy(event);
    if (handle_) (void)blas_->destroy(handle_);
    if (workspace_) (void)cudaFree(workspace_);
    for (const cudaEvent_t event : port_.left)
      if (event) (void)cudaEventDestroy(event);
    if (mark_) (void)cudaEventDestroy(mark_);
    if (staged_) (void)cudaFreeHost(staged_);
    if (stream_) (void)cudaStreamDestroy(stream_);
  }

  std::string name() const override { return "cuda:" + std::to_string(index_); }
  int index() const override { return index_; }
  void use() override { note(cudaSetDevice(index_)); }
  Stream stream() const override { return stream_; }
  int processors() const override { return processors_; }
  std::uint64_t free_bytes() const override {
    std::size_t free = 0, total = 0;
    return cudaSetDevice(index_) == cudaSuccess && cudaMemGetInfo(&free, &total) == cudaSuccess ? free : 0;
  }

  Result<DeviceBuffer> allocate(std::uint64_t bytes) override {
    void* data = nullptr;
    use();
    if (const cudaError_t error = cudaMalloc(&data, bytes ? bytes : 1); error != cudaSuccess) {
      (void)cudaGetLastError();
      if (error != cudaErrorMemoryAllocation) note(error);  // The device is broken, not full: wait() says so as well.
      return fail(Errc::memory, name() + " has no memory left for " + std::to_string(bytes >> 20) + " MiB (" +
                  std::to_string(free_bytes() >> 20) + " MiB free): " + cudaGetErrorString(error), "out_of_memory");
    }
    return DeviceBuffer(this, data, bytes);
  }
  void release(void* data) override { (void)cudaFree(data); }

  Result<DeviceBuffer> allocate_host(std::uint64_t bytes) override {
    void *data = nullptr, *seen = nullptr;
    use();
    cudaError_t error = cudaHostAlloc(&data, bytes ? bytes : 1, cudaHostAllocMapped | cudaHostAllocPortable);
    if (error == cudaSuccess) error = cudaHostGetDevicePointer(&seen, data, 0);
    if (error == cudaSuccess && seen == data) return DeviceBuffer(this, data, bytes, true);
    (void)cudaGetLastError();
    if (data) (void)cudaFreeHost(data);
    return fail(Errc::memory, "the host has no " + std::to_string(bytes >> 20) + " MiB left that " + name() + " could read in place (" +
                std::to_string(host_free_bytes() >> 20) + " MiB available): " +
                (error == cudaSuccess ? "the device sees them at another address" : cudaGetErrorString(error)), "out_of_memory");
  }
  void release_host(void* data) override { (void)cudaFreeHost(data); }
  std::uint64_t host_free_bytes() const override { return available_host_bytes() / 5 * 4; }  // Page-locked memory is lost to all others.

  void copy_in(void* to, const void* from, std::uint64_t bytes) override { staging_->copy_in(to, from, bytes); }
  void copy_out(void* to, const void* from, std::uint64_t bytes) override { note(cudaMemcpyAsync(to, from, bytes, cudaMemcpyDeviceToHost, stream_)); }
  void copy_within(void* to, const void* from, std::uint64_t bytes) override {
    note(cudaMemcpyAsync(to, from, bytes, cudaMemcpyDeviceToDevice, stream_));
  }

  void* mark() override {
    use();
    note(cudaEventRecord(mark_, stream_));
    return mark_;
  }
  void follow(void* mark) override {
    use();
    note(cudaStreamWaitEvent(stream_, static_cast<cudaEvent_t>(mark), 0));
  }
  /// Directly where the two reach each other's memory, else the driver carries it through the host's.
  void copy_from(const Device& other, void* to, const void* from, std::uint64_t bytes) override {
    use();
    if (peers_.insert(other.index()).second) {
      int reaches = 0;
      if (cudaDeviceCanAccessPeer(&reaches, index_, other.index()) == cudaSuccess && reaches) (void)cudaDeviceEnablePeerAccess(other.index(), 0);
      (void)cudaGetLastError();  // Enabled before, or not at all: the copy is slower then.
    }
    note(cudaMemcpyPeerAsync(to, index_, from, other.index(), bytes, stream_));
  }

  /// The library counts columns first: what lies here as (rows, columns) is its (columns x rows) matrix. So C^T = B * A^T.
  void multiply(const MatrixProduct& p) override {
    const float one = 1, zero = 0;
    const cudaDataType type = p.bfloat ? CUDA_R_16BF : CUDA_R_16F;
    use();
    const cublasStatus_t status = blas_->multiply(
        handle_, p.b_turned ? CUBLAS_OP_N : CUBLAS_OP_T, CUBLAS_OP_N, static_cast<int>(p.rows), static_cast<int>(p.count),
        static_cast<int>(p.columns), &one, p.b, type, static_cast<int>(p.b_length), p.b_step, p.a, type, static_cast<int>(p.a_length), p.a_step,
        &zero, p.c, CUDA_R_32F, static_cast<int>(p.c_length), p.c_step, static_cast<int>(p.batch),
        CUBLAS_COMPUTE_32F, CUBLAS_GEMM_DEFAULT);
    if (status != CUBLAS_STATUS_SUCCESS && problem_.empty()) problem_ = "cuBLAS reports status " + std::to_string(status);
  }

  Result<void> wait() override {
    use();
    note(cudaGetLastError());
    note(cudaStreamSynchronize(stream_));
    if (staging_) staging_->drained();
    for (std::size_t i = 0; i + 1 < ticked_; i += 2) {
      float milliseconds = 0;
      if (cudaEventElapsedTime(&milliseconds, ticks_[i], ticks_[i + 1]) == cudaSuccess) busy_ += double{milliseconds} / 1e3;
      else (void)cudaGetLastError();
    }
    ticked_ = 0;
    if (problem_.empty()) return {};
    return fail(Errc::internal, name() + ": " + problem_, "device_error");
  }

  void start_clock() override {
    if (ticked_ % 2 == 0) tick();
  }
  void stop_clock() override {
    if (ticked_ % 2 == 1) tick();
  }
  double busy_seconds() const override { return busy_; }

  /// The first time the work runs as it is: a kernel's code is loaded at its first launch, which a recording may not do. Few
  /// graphs are kept, because each takes memory of the device that no plan counts.
  void replay(std::uint64_t key, const std::function<void()>& work) override {
    const auto [found, fresh] = graphs_.try_emplace(key);
    Recording& recording = found->second;
    if (fresh || recording.refused) return work();
    if (!recording.graph) record(recording, work);
    if (recording.graph) note(cudaGraphLaunch(recording.graph, stream_));
    else work();
  }

 private:
  static constexpr int kOldest = 8;
  static constexpr int kMostGraphs = 64;
  static constexpr std::uint64_t kStagedBytes = 16 << 20;
  /// Staging's way to the stream.
  struct Port {
    CudaDevice& device;
    cudaEvent_t left[2] = {};
    void send(void* to, const void* from, std::uint64_t bytes) {
      device.note(cudaMemcpyAsync(to, from, bytes, cudaMemcpyHostToDevice, device.stream_));
    }
    void mark(int piece) { device.note(cudaEventRecord(left[piece], device.stream_)); }
    void await(int piece) { device.note(cudaEventSynchronize(left[piece])); }
  };
  struct Recording {
    cudaGraphExec_t graph = nullptr;
    bool refused = false;
  };

  explicit CudaDevice(int index) : index_(index) {}

  Result<void> set_up() {
    constexpr std::size_t kWorkspace = 32 << 20;  // What the library recommends for Hopper; set so that it never allocates.
    if (const cudaError_t error = cudaSetDevice(index_); error != cudaSuccess)
      return fail(Errc::unsupported, name() + " cannot be used: " + cudaGetErrorString(error), "no_device");
    int major = 0, minor = 0;
    note(cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, index_));
    note(cudaDeviceGetAttribute(&minor, cudaDevAttrComputeCapabilityMinor, index_));
    if (problem_.empty() && major < kOldest)
      return fail(Errc::unsupported, name() + " has compute capability " + std::to_string(major) + "." + std::to_string(minor) +
                  "; Kontor's kernels need " + std::to_string(kOldest) + ".0 (Ampere) or newer; use --device cpu", "no_device");
    note(cudaDeviceGetAttribute(&processors_, cudaDevAttrMultiProcessorCount, index_));
    note(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking));
    cudaError_t memory = cudaMalloc(&workspace_, kWorkspace);
    if (memory == cudaSuccess) memory = cudaMallocHost(&staged_, 2 * kStagedBytes);
    if (memory != cudaSuccess) {
      (void)cudaGetLastError();
      return fail(Errc::memory, name() + " has no memory left for the workspace of cuBLAS and the copies to it (" +
                  std::to_string(free_bytes() >> 20) + " MiB free): " + cudaGetErrorString(memory), "out_of_memory");
    }
    staging_.emplace(port_, static_cast<std::byte*>(staged_), static_cast<std::byte*>(staged_) + kStagedBytes, kStagedBytes);
    for (cudaEvent_t* event : {&port_.left[0], &port_.left[1], &mark_}) note(cudaEventCreateWithFlags(event, cudaEventDisableTiming));
    if (const cublasStatus_t status = blas_->create(&handle_); status != CUBLAS_STATUS_SUCCESS)
      return fail(Errc::unsupported, name() + ": cuBLAS cannot be started (status " + std::to_string(status) + "; " +
                  std::to_string(free_bytes() >> 20) + " MiB free)", "no_device");
    // In this order: a change of the stream takes the workspace away again.
    if (blas_->set_stream(handle_, stream_) != CUBLAS_STATUS_SUCCESS || blas_->set_workspace(handle_, workspace_, kWorkspace) != CUBLAS_STATUS_SUCCESS)
      return fail(Errc::unsupported, name() + ": cuBLAS does not take the stream and workspace", "no_device");
    return wait();
  }
  void record(Recording& recording, const std::function<void()>& work) {
    recording.refused = true;
    if (recorded_ == kMostGraphs) return;
    cudaGraph_t graph = nullptr;
    if (cudaStreamBeginCapture(stream_, cudaStreamCaptureModeThreadLocal) == cudaSuccess) {
      work();
      if (cudaStreamEndCapture(stream_, &graph) == cudaSuccess && cudaGraphInstantiate(&recording.graph, graph, 0) == cudaSuccess) {
        recording.refused = false;
        ++recorded_;
      } else {
        recording.graph = nullptr;
      }
      if (graph) (void)cudaGraphDestroy(graph);
    }
    (void)cudaGetLastError();  // Work that cannot be recorded is launched piece by piece.
  }
  /// Events are made once and used again after each wait().
  void tick() {
    if (ticked_ == ticks_.size()) {
      cudaEvent_t event = nullptr;
      if (cudaEventCreate(&event) != cudaSuccess) return note(cudaGetLastError());
      ticks_.push_back(event);
    }
    note(cudaEventRecord(ticks_[ticked_++], stream_));
  }
  void note(cudaError_t error) {
    if (error != cudaSuccess && problem_.empty()) problem_ = cudaGetErrorString(error);
  }

  int index_;
  const Blas* blas_ = nullptr;
  cublasHandle_t handle_ = nullptr;
  void* workspace_ = nullptr;
  cudaStream_t stream_ = nullptr;
  int processors_ = 1;
  cudaEvent_t mark_ = nullptr;
  std::set<int> peers_;             ///< Devices whose memory it was asked to reach.
  std::vector<cudaEvent_t> ticks_;  ///< Pairs of start and stop.
  std::size_t ticked_ = 0;          ///< Of them recorded since the last wait().
  double busy_ = 0;
  std::string problem_;  ///< The first error; device errors stay.
  Port port_{*this};
  void* staged_ = nullptr;  ///< Page-locked.
  std::optional<Staging<Port>> staging_;
  std::unordered_map<std::uint64_t, Recording> graphs_;
  int recorded_ = 0;
};

}  // namespace

Result<std::unique_ptr<Device>> open_device(int index) {
  int count = 0;
  int driver = 0;
  if (cudaDriverGetVersion(&driver) != cudaSuccess || driver == 0)
    return fail(Errc::unsupported, "no GPU can be used: this machine has no NVIDIA driver; use --device cpu", "no_device");
  if (const cudaError_t error = cudaGetDeviceCount(&count); error != cudaSuccess)
    return fail(Errc::unsupported, std::string("no GPU can be used: ") + cudaGetErrorString(error) + "; use --device cpu", "no_device");
  if (index >= count)
    return fail(Errc::unsupported, "there is no device cuda:" + std::to_string(index) + "; this machine has " + std::to_string(count), "no_device");
  return CudaDevice::open(index);
}

}  // namespace cuda

Result<std::unique_ptr<Backend>> open_cuda_backend(const WeightFile& file, const BackendOptions& options, std::span<const int> numbers) {
  cuda::DeviceSource source;
  source.all = !numbers.empty();
  source.count = source.all ? numbers.size() : static_cast<std::size_t>(std::max(1, cuda_device_count()));
  source.open = [numbers](std::size_t i) { return cuda::open_device(numbers.empty() ? static_cast<int>(i) : numbers[i]); };
  return cuda::CudaDecoder::create(file, options, source);
}

int cuda_device_count() {
  int count = 0;
  return cudaGetDeviceCount(&count) == cudaSuccess ? count : 0;
}

}  // namespace kontor::inference
