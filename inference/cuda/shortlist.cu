// The best tokens of each row of logits under a mask, and the sums that sampling needs. Pieces of 2,048 logits are sorted, each
// leaves its best 64, and pieces of these again until one list is left. Sums follow the order of inference/sampler.cpp (eight
// lanes over chunks of 512, products and sums rounded one by one), so that their bits are the same.

#include "base/cuda/ranking.cuh"
#include "base/cuda/warp.cuh"
#include "inference/cuda/kernels.hpp"

namespace kontor::inference::cuda {
namespace {

constexpr int kThreads = 256;
constexpr int kPiece = 2048;                       ///< Keys sorted by a block.
constexpr int kLists = kPiece / kShortlistLength;  ///< Lists that become one.
constexpr int kSumThreads = 128;
constexpr int kLanes = 8, kChunk = 512;
constexpr int kSumChunks = kSumThreads / kLanes;   ///< Chunks of a block.

/// e^(x - top) for x <= top, as inference/sampler.cpp computes it, bit for bit.
__device__ float fast_exp(float x, float top) {
  const float below = add_rounded(x, -top), z = below > -80.0f ? below : -80.0f;
  const float y = multiply_rounded(z, 1.44269504f), rounded = add_rounded(add_rounded(y, 12582912.0f), -12582912.0f);
  const float r = multiply_rounded(add_rounded(y, -rounded), 0.69314718f);
  float p = 1.0f / 120;
  const float coefficients[] = {1.0f / 24, 1.0f / 6, 1.0f / 2, 1.0f, 1.0f};
#pragma unroll
  for (const float c : coefficients) p = add_rounded(c, multiply_rounded(r, p));
  return multiply_rounded(p, __builtin_bit_cast(float, (static_cast<std::int32_t>(rounded) + 127) << 23));
}

__device__ bool allowed(const std::uint32_t* mask, std::int64_t id) { return !mask || (mask[id / 32] >> (id % 32) & 1u) != 0; }

__device__ const std::uint32_t* mask_of(const ShortlistWork& w, std::int64_t row) { return w.masked[row] ? w.masks + row * w.mask_words : nullptr; }

__global__ void __launch_bounds__(kThreads) best_kernel(const float* logits, ShortlistWork w) {
  begin_kernel();
  __shared__ std::uint64_t keys[kPiece];
  const std::int64_t row = blockIdx.y, first = static_cast<std::int64_t>(blockIdx.x) * kPiece;
  const std::uint32_t* mask = mask_of(w, row);
  float top = -HUGE_VALF;
  float bad = 0;
  for (int i = static_cast<int>(threadIdx.x); i < kPiece; i += kThreads) {
    const std::int64_t id = first + i;
    std::uint64_t key = 0;
    if (id < w.vocabulary) {
      const float x = logits[row * w.vocabulary + id];
      if (!(x < HUGE_VALF)) bad = 1;
      else if (x > top) top = x;
      if (x > -HUGE_VALF && x < HUGE_VALF && allowed(mask, id)) key = rank_key(x, id);
    }
    keys[i] = key;
  }
  top = block_max(top);
  bad = block_max(bad);
  sort_descending<kPiece, kThreads>(keys);
  for (int i = static_cast<int>(threadIdx.x); i < kShortlistLength; i += kThreads)
    w.lists[0][(row * w.pieces + blockIdx.x) * kShortlistLength + i] = keys[i];
  if (threadIdx.x == 0) w.seen[row * w.pieces + blockIdx.x] = {top, bad};
}

__global__ void __launch_bounds__(kThreads) merge_kernel(ShortlistWork w, int from, std::int64_t lists) {
  begin_kernel();
  __shared__ std::uint64_t keys[kPiece];
  const std::int64_t row = blockIdx.y, first = static_cast<std::int64_t>(blockIdx.x) * kPiece, held = lists * kShortlistLength;
  for (int i = static_cast<int>(threadIdx.x); i < kPiece; i += kThreads)
    keys[i] = first + i < held ? w.lists[from][row * w.pieces * kShortlistLength + first + i] : 0;
  __syncthreads();
  sort_descending<kPiece, kThreads>(keys);
  for (int i = static_cast<int>(threadIdx.x); i < kShortlistLength; i += kThreads)
    w.lists[1 - from][(row * w.pieces + blockIdx.x) * kShortlistLength + i] = keys[i];
}

__global__ void __launch_bounds__(kSumThreads) sum_kernel(const float* logits, ShortlistWork w, int from) {
  begin_kernel();
  const std::int64_t row = blockIdx.y;
  float top = -HUGE_VALF;
  for (std::int64_t i = threadIdx.x; i < w.pieces; i += kSumThreads) top = fmaxf(top, w.seen[row * w.pieces + i].top);
  top = block_max(top);
  const std::int64_t chunk = static_cast<std::int64_t>(blockIdx.x) * kSumChunks + threadIdx.x / kLanes, lane = threadIdx.x % kLanes;
  const std::int64_t whole = w.vocabulary / kLanes * kLanes;
  if (chunk * kChunk >= whole) return;
  const std::int64_t end = chunk * kChunk + kChunk < whole ? chunk * kChunk + kChunk : whole;
  const std::uint32_t* mask = mask_of(w, row);
  const float allowed_top = key_value(w.lists[from][row * w.pieces * kShortlistLength]);
  float all = 0, left = 0;
  for (std::int64_t i = chunk * kChunk + lane; i < end; i += kLanes) {
    const float x = logits[row * w.vocabulary + i];
    all = add_rounded(all, fast_exp(x, top));
    if (mask) left = add_rounded(left, fast_exp(allowed(mask, i) ? x : -HUGE_VALF, allowed_top));
  }
  float* to = w.sums + row * 2 * w.chunks * kLanes + chunk * kLanes + lane;
  to[0] = all;
  if (mask) to[w.chunks * kLanes] = left;
}

/// One after the other, as the sampler does: a tree would round differently.
__device__ double total_of(const float* sums, std::int64_t count, float* staged) {
  double total = 0;
  for (std::int64_t first = 0; first < count; first += kPiece) {
    const std::int64_t n = count - first < kPiece ? count - first : kPiece;
    __syncthreads();
    for (std::int64_t i = threadIdx.x; i < n; i += kThreads) staged[i] = sums[first + i];
    __syncthreads();
    if (threadIdx.x == 0)
      for (std::int64_t i = 0; i < n; ++i) total += static_cast<double>(staged[i]);
  }
  return total;
}

__global__ void __launch_bounds__(kThreads) finish_kernel(const float* logits, ShortlistWork w, int from) {
  begin_kernel();
  __shared__ float staged[kPiece];
  const std::int64_t row = blockIdx.x, count = w.chunks * kLanes;
  const std::uint32_t* mask = mask_of(w, row);
  const float* sums = w.sums + row * 2 * w.chunks * kLanes;
  const std::uint64_t* list = w.lists[from] + row * w.pieces * kShortlistLength;
  ShortlistResult& out = w.results[row];
  float top = -HUGE_VALF, bad = 0;
  for (std::int64_t i = threadIdx.x; i < w.pieces; i += kThreads) {
    top = fmaxf(top, w.seen[row * w.pieces + i].top);
    bad = fmaxf(bad, w.seen[row * w.pieces + i].bad);
  }
  top = block_max(top);
  bad = block_max(bad);
  for (int i = static_cast<int>(threadIdx.x); i < kShortlistLength; i += kThreads) {
    out.logits[i] = key_value(list[i]);
    out.ids[i] = list[i] == 0 ? -1 : static_cast<std::int32_t>(key_number(list[i]));
  }
  double all = total_of(sums, count, staged);
  double left = mask ? total_of(sums + w.chunks * kLanes, count, staged) : 0;
  if (threadIdx.x != 0) return;
  const float allowed_top = key_value(list[0]);
  for (std::int64_t i = w.vocabulary / kLanes * kLanes; i < w.vocabulary; ++i) {
    const float x = logits[row * w.vocabulary + i];
    all += exp(static_cast<double>(x) - static_cast<double>(top));
    if (mask && allowed(mask, i)) left += exp(static_cast<double>(x) - static_cast<double>(allowed_top));
  }
  out.total = mask ? left : all;
  out.all_total = all;
  out.all_top = top;
  out.bad = bad != 0;
}

}  // namespace

void find_shortlists(const float* logits, std::int64_t rows, const ShortlistWork& w, Stream stream) {
  const auto grid = [&](std::int64_t x) { return dim3(static_cast<unsigned>(x), static_cast<unsigned>(rows)); };
  KONTOR_LAUNCH(best_kernel, grid(w.pieces), dim3(kThreads), 0, stream, logits, w);
  int from = 0;
  for (std::int64_t lists = w.pieces; lists > 1; from = 1 - from) {
    const std::int64_t next = (lists + kLists - 1) / kLists;
    KONTOR_LAUNCH(merge_kernel, grid(next), dim3(kThreads), 0, stream, w, from, lists);
    lists = next;
  }
  if (w.chunks > 0)
    KONTOR_LAUNCH(sum_kernel, grid((w.chunks + kSumChunks - 1) / kSumChunks), dim3(kSumThreads), 0, stream, logits, w, from);
  KONTOR_LAUNCH(finish_kernel, dim3(static_cast<unsigned>(rows)), dim3(kThreads), 0, stream, logits, w, from);
}

std::int64_t shortlist_pieces(std::int64_t vocabulary) { return (vocabulary + kPiece - 1) / kPiece; }
std::int64_t shortlist_chunks(std::int64_t vocabulary) { return (vocabulary / kLanes * kLanes + kChunk - 1) / kChunk; }

}  // namespace kontor::inference::cuda
