// The best tokens of each row of logits under a mask, and the sums that sampling needs. Pieces of 2,048 logits are sorted, each
// leaves its best 64, and pieces of these again until one list is left. Sums follow the order of inference/sampler.cpp (eight
// lanes over chunks of 512, products and sums rounded one by one), so that their bits are the same.

#include "inference/cuda/kernels.hpp"
#include "inference/cuda/warp.cuh"

namespace kontor::inference::cuda {
namespace {

constexpr int kThreads = 256;
constexpr int kPiece = 2048;                       ///< Keys sorted by a block.
constexpr int kLists = kPiece / kShortlistLength;  ///< Lists that become one.
constexpr int kSumThreads = 128;
constexpr int kLanes = 8, kChunk = 512;
constexpr int kSumChunks = kSumThreads / kLanes;   ///< Chunks of a block.

/// Larger logit first, smaller id among equals, as one number; 0: nothing.
__device__ std::uint64_t key_of(float logit, std::int64_t id) {
  const std::uint32_t bits = __builtin_bit_cast(std::uint32_t, logit + 0.0f);  // No negative zero: it equals the other.
  const std::uint32_t ordered = bits & 0x80000000u ? ~bits : bits | 0x80000000u;
  return static_cast<std::uint64_t>(ordered) << 32 | (0xffffffffu - static_cast<std::uint32_t>(id));
}

/// Descending, by a block.
__device__ void sort_piece(std::uint64_t* keys) {
  for (int size = 2; size <= kPiece; size *= 2)
    for (int step = size / 2; step > 0; step /= 2) {
      for (int i = static_cast<int>(threadIdx.x); i < kPiece / 2; i += kThreads) {
        const int a = i / step * 2 * step + i % step, b = a + step;
        const bool descending = (a & size) == 0;
        const std::uint64_t x = keys[a], y = keys[b];
        if ((x < y) == descending) {
          keys[a] = y;
          keys[b] = x;
        }
      }
      __syncthreads();
    }
}

__device__ bool allowed(const std::uint32_t* mask, std::int64_t id) { return !mask || (mask[id / 32] >> (id % 32) & 1u) != 0; }

__device__ const std::uint32_t* mask_of(const ShortlistWork& w, std::int64_t row) { return w.masked[row] ? w.masks + row * w.mask_words : nullptr; }

__global__ void __launch_bounds__(kThreads) best_kernel(const float* logits, ShortlistWork w) {
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
      if (x > -HUGE_VALF && x < HUGE_VALF && allowed(mask, id)) key = key_of(x, id);
    }
    keys[i] = key;
  }
  top = block_max(top);
  bad = block_max(bad);
  sort_piece(keys);
  for (int i = static_cast<int>(threadIdx.x); i < kShortlistLength; i += kThreads)
    w.lists[0][(row * w.pieces + blockIdx.x) * kShortlistLength + i] = keys[i];
  if (threadIdx.x == 0) w.seen[row * w.pieces + blockIdx.x] = {top, bad};
}

__global__ void __launch_bounds__(kThreads) merge_kernel(ShortlistWork w, int from, std::int64_t lists) {
  __shared__ std::uint64_t keys[kPiece];
  const std::int64_t row = blockIdx.y, first = static_cast<std::int64_t>(blockIdx.x) * kPiece, held = lists * kShortlistLength;
  for (int i = static_cast<int>(threadIdx.x); i < kPiece; i += kThreads)
    keys[i] = first + i < held ? w.lists[from][row * w.pieces * kShortlistLength + first + i] : 0;
  __syncthreads();
  sort_piece(keys);
  for (int i = static_cast<int>(threadIdx.x); i < kShortlistLength; i += kThreads)
    w.lists[1 - from][(row * w.pieces + blockIdx.x) * kShortlistLength + i] = keys[i];
}

__device__ float logit_of(std::uint64_t key) {
  const auto ordered = static_cast<std::uint32_t>(key >> 32);
  return __builtin_bit_cast(float, ordered & 0x80000000u ? ordered & 0x7fffffffu : ~ordered);
}

__global__ void __launch_bounds__(kSumThreads) sum_kernel(const float* logits, ShortlistWork w, int from) {
  const std::int64_t row = blockIdx.y;
  float top = -HUGE_VALF;
  for (std::int64_t i = threadIdx.x; i < w.pieces; i += kSumThreads) top = fmaxf(top, w.seen[row * w.pieces + i].top);
  top = block_max(top);
  const std::int64_t chunk = static_cast<std::int64_t>(blockIdx.x) * kSumChunks + threadIdx.x / kLanes, lane = threadIdx.x % kLanes;
  const std::int64_t whole = w.vocabulary / kLanes * kLanes;
  if (chunk * kChunk >= whole) return;
  const std::int64_t end = chunk * kChunk + kChunk < whole ? chunk * kChunk + kChunk : whole;
  const std::uint32_t* mask = mask_of(w, row);
  const float allowed_top = logit_of(w.lists[from][row * w.pieces * kShortlistLength]);
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
    out.logits[i] = logit_of(list[i]);
    out.ids[i] = list[i] == 0 ? -1 : static_cast<std::int32_t>(0xffffffffu - static_cast<std::uint32_t>(list[i]));
  }
  double all = total_of(sums, count, staged);
  double left = mask ? total_of(sums + w.chunks * kLanes, count, staged) : 0;
  if (threadIdx.x != 0) return;
  const float allowed_top = logit_of(list[0]);
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
