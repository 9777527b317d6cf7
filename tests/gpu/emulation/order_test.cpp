// The emulation finds what it is there to find: missing barriers, barriers that not all reach, memory that is not the kernel's.

#include "base/cuda/portable.hpp"
#include "base/cuda/warp.cuh"
#include "inference/cuda/decoder_cuda.hpp"
#include "inference/cuda/kernels.hpp"
#include "tests/gpu/device/device.hpp"
#include "tests/gpu/small_models.hpp"
#include "tests/support/catch.hpp"

#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <cstring>
#include <functional>
#include <memory>
#include <vector>

using namespace kontor;
using namespace kontor::inference;

namespace {

constexpr std::uint64_t kOrders = 6;

struct Order {
  explicit Order(std::uint64_t seed) : before(gpu::emulation::set_order(seed)) {}
  ~Order() { (void)gpu::emulation::set_order(before); }
  std::uint64_t before;
};

/// Each thread takes its left neighbour's number, in shared memory.
template <bool Barrier>
__global__ void shift_kernel(int* out) {
  gpu::begin_kernel();
  KONTOR_DYNAMIC_SHARED(int, numbers);
  const int i = static_cast<int>(threadIdx.x);
  numbers[i] = 100 + i;
  if constexpr (Barrier) __syncthreads();
  out[i] = numbers[i == 0 ? 0 : i - 1];
}

/// A warp's sum goes to the others without a barrier of the block.
template <bool Barrier>
__global__ void first_sum_kernel(float* out) {
  gpu::begin_kernel();
  KONTOR_DYNAMIC_SHARED(float, sums);
  const float sum = gpu::warp_sum(1.0f);
  if (threadIdx.x % 32 == 0) sums[threadIdx.x / 32] = sum;
  if constexpr (Barrier) __syncthreads();
  out[threadIdx.x] = sums[0];
}

template <class T, class Kernel>
bool right(Kernel kernel, int threads, const std::function<T(int)>& expected) {
  std::vector<T> out(static_cast<std::size_t>(threads));
  T* to = out.data();
  KONTOR_LAUNCH(kernel, dim3(1), dim3(static_cast<unsigned>(threads)), 4096, nullptr, to);
  for (int i = 0; i < threads; ++i)
    if (!(out[static_cast<std::size_t>(i)] == expected(i))) return false;
  return true;
}

/// How a process that does this ends: the signal, or 0.
int signal_of(const std::function<void()>& work) {
  const pid_t child = fork();
  if (child == 0) {
    for (const int number : {SIGSEGV, SIGABRT, SIGBUS}) std::signal(number, SIG_DFL);
    (void)freopen("/dev/null", "w", stderr);
    work();
    _exit(0);
  }
  int status = 0;
  waitpid(child, &status, 0);
  return WIFSIGNALED(status) ? WTERMSIG(status) : 0;
}

__global__ void half_meets_kernel(int* out) {
  gpu::begin_kernel();
  if (threadIdx.x < 64) __syncthreads();
  out[threadIdx.x] = 1;
}
__global__ void two_places_kernel(int* out) {
  gpu::begin_kernel();
  if (threadIdx.x < 64) {
    __syncthreads();
  } else {
    __syncthreads();
  }
  out[threadIdx.x] = 1;
}
__global__ void touch_kernel(int* at) { gpu::begin_kernel(), *at += 1; }

__global__ void early_kernel(int* out) { *out = 1; }
__global__ void early_meeting_kernel(int* out) {
  __syncthreads();
  gpu::begin_kernel();
  *out = 1;
}

}  // namespace

TEST_CASE("a missing barrier shows in some order, a kernel that has it is right in all", "[emulation]") {
  const auto shifted = [](int i) { return 100 + (i == 0 ? 0 : i - 1); };
  const auto warp_size = [](int) { return 32.0f; };
  {
    const Order order(0);
    CHECK(right<int>(shift_kernel<false>, 128, shifted));  // In the threads' order nothing shows.
  }
  int shift_wrong = 0, sum_wrong = 0;
  for (std::uint64_t seed = 0; seed < kOrders; ++seed) {
    const Order order(seed);
    CHECK(right<int>(shift_kernel<true>, 128, shifted));
    CHECK(right<float>(first_sum_kernel<true>, 128, warp_size));
    shift_wrong += !right<int>(shift_kernel<false>, 128, shifted);
    sum_wrong += !right<float>(first_sum_kernel<false>, 128, warp_size);
  }
  CHECK(shift_wrong > 0);
  CHECK(sum_wrong > 0);
  test::count_cases("gpu orders", 2 * static_cast<int>(kOrders), 0);
}

TEST_CASE("barriers that not all reach, launches that CUDA refuses and memory of others end the program", "[emulation]") {
  std::vector<int> room(256);
  int* out = room.data();
  for (std::uint64_t seed = 0; seed < 3; ++seed) {
    const Order order(seed);
    CHECK(signal_of([&] { KONTOR_LAUNCH(half_meets_kernel, dim3(1), dim3(128), 0, nullptr, out); }) == SIGABRT);
    CHECK(signal_of([&] { KONTOR_LAUNCH(two_places_kernel, dim3(1), dim3(128), 0, nullptr, out); }) == SIGABRT);
  }
  CHECK(signal_of([&] { KONTOR_LAUNCH(early_kernel, dim3(1), dim3(1), 0, nullptr, out); }) == SIGABRT);
  CHECK(signal_of([&] { KONTOR_LAUNCH(early_meeting_kernel, dim3(1), dim3(32), 0, nullptr, out); }) == SIGABRT);
  CHECK(signal_of([&] { KONTOR_LAUNCH(touch_kernel, dim3(1, 65536), dim3(1), 0, nullptr, out); }) == SIGABRT);
  CHECK(signal_of([&] { KONTOR_LAUNCH(touch_kernel, dim3(1), dim3(1), (48 << 10) + 8, nullptr, out); }) == SIGABRT);
  CHECK(signal_of([&] { KONTOR_LAUNCH(touch_kernel, dim3(1), dim3(1), 48 << 10, nullptr, out); }) == 0);

  auto device = test::make_device();
  auto whole = device->allocate(1024), odd = device->allocate(1000);
  REQUIRE((whole && odd));
  CHECK(signal_of([&] { KONTOR_LAUNCH(touch_kernel, dim3(1), dim3(1), 0, nullptr, whole->as<int>() + 255); }) == 0);
  CHECK(signal_of([&] { KONTOR_LAUNCH(touch_kernel, dim3(1), dim3(1), 0, nullptr, whole->as<int>() + 256); }) == SIGSEGV);
  CHECK(signal_of([&] {
          KONTOR_LAUNCH(touch_kernel, dim3(1), dim3(1), 0, nullptr, odd->as<int>() + 250);
          odd = device->allocate(1);  // The old one is looked at when it is given back.
          cuda::DeviceBuffer gone = std::move(*odd);
        }) == SIGABRT);
  const int* late = whole->as<int>();
  CHECK(signal_of([&] {
          *whole = cuda::DeviceBuffer();
          KONTOR_LAUNCH(touch_kernel, dim3(1), dim3(1), 0, nullptr, const_cast<int*>(late));
        }) == SIGSEGV);
  test::count_cases("gpu guards", 15, 0);
}

TEST_CASE("a model's logits have the same bits in whatever order the threads run", "[emulation]") {
  test::LatentModel shape;
  shape.heads = 3;
  shape.rank = shape.rotary = shape.plain = shape.value = 32;
  shape.type = TensorType::q8_0;
  const test::AlignedBytes bytes(test::SmallModel(shape).bytes());
  const auto file = WeightFile::parse(bytes.span(), "small");
  REQUIRE(file.has_value());
  std::vector<std::vector<float>> first;
  int passed = 0;
  for (std::uint64_t seed = 0; seed < kOrders; ++seed) {
    const Order order(seed);
    auto backend = cuda::CudaDecoder::create(*file, {}, test::make_device());
    REQUIRE(backend.has_value());
    const auto sequence = (*backend)->create_sequence();
    std::vector<std::vector<float>> rows;
    for (const std::size_t count : {std::size_t{70}, std::size_t{9}, std::size_t{1}}) {  // Prefill, a small batch, a step.
      std::vector<TokenId> tokens;
      for (std::size_t i = 0; i < count; ++i) tokens.push_back(static_cast<TokenId>((i * 31 + count) % 96));
      std::vector<float> logits(96);
      const Extension extension{sequence.get(), tokens, Output::last_logits, logits.data()};
      REQUIRE((*backend)->forward(std::span(&extension, 1)).has_value());
      rows.push_back(logits);
    }
    if (seed == 0) first = rows;
    const bool same = rows == first;
    CHECK(same);
    passed += same;
  }
  test::count_cases("gpu orders of a model", passed, static_cast<int>(kOrders) - passed);
}
