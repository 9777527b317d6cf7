// Exact search: a block takes a stretch of rows, a warp a row at a time with all queries; every 256 rows the best so far and the
// new ones are sorted together. Which rows are best is found in one pass, nothing but the rows is read.

#include "memory/cuda/vector_kernels.hpp"

#include "base/cuda/ranking.cuh"
#include "base/cuda/warp.cuh"

namespace kontor::memory {
namespace {

using namespace gpu;

constexpr int kThreads = 256;
constexpr int kWarps = kThreads / kWarp;
constexpr int kStep = 256;       ///< Rows between two looks at the best.
constexpr int kRowsAtOnce = 4;   ///< Of a warp: loads that are under way together.
constexpr int kPiece = 2048;
constexpr int kLists = kPiece / kBestRows;

/// Read from shared memory 16 bytes at a time: lanes that read single values this far apart would wait for each other's bank.
struct alignas(16) Four {
  float at[4];
};

struct alignas(16) Sixteen {
  std::uint32_t at[4];
};

/// Sums of one lane: rows times queries.
template <bool Codes, int Q>
__device__ void add_products(const VectorRows& rows, std::int64_t first, std::int64_t end, const float* queries, int lane,
                             float (&sum)[kRowsAtOnce][Q]) {
  constexpr int kValues = Codes ? 16 : 8;
  for (std::int64_t c = lane * kValues; c < rows.width; c += kWarp * kValues) {
    Sixteen words[kRowsAtOnce];
#pragma unroll
    for (int r = 0; r < kRowsAtOnce; ++r) {
      const std::int64_t row = first + r < end ? first + r : end - 1;
      words[r] = *reinterpret_cast<const Sixteen*>(static_cast<const char*>(rows.values) + (row * rows.width + c) * (Codes ? 1 : 2));
    }
#pragma unroll
    for (int part = 0; part < kValues / 4; ++part) {
      Four x[Q];
#pragma unroll
      for (int q = 0; q < Q; ++q) x[q] = *reinterpret_cast<const Four*>(queries + q * rows.width + c + 4 * part);
#pragma unroll
      for (int j = 0; j < 4; ++j) {
        const int i = 4 * part + j;
#pragma unroll
        for (int r = 0; r < kRowsAtOnce; ++r) {
          const std::uint32_t word = words[r].at[Codes ? i / 4 : i / 2];
          const float v = Codes ? static_cast<float>(static_cast<std::int8_t>(word >> 8 * (i % 4))) : half_value(static_cast<std::uint16_t>(word >> 16 * (i % 2)));
#pragma unroll
          for (int q = 0; q < Q; ++q) sum[r][q] += v * x[q].at[j];
        }
      }
    }
  }
}

template <bool Codes, int Q>
__global__ void __launch_bounds__(kThreads) search_kernel(VectorRows rows, const float* queries, std::int64_t share, std::uint64_t* lists) {
  begin_kernel();
  KONTOR_DYNAMIC_SHARED(float, own);
  __shared__ std::uint64_t best[Q][kBestRows];
  __shared__ std::uint64_t fresh[Q][kStep];
  __shared__ std::uint64_t both[kBestRows + kStep];
  const int thread = static_cast<int>(threadIdx.x), warp = thread / kWarp, lane = thread % kWarp;
  for (std::int64_t i = thread; i < Q * rows.width; i += kThreads) own[i] = queries[i];
  for (int q = 0; q < Q; ++q) best[q][thread] = 0;
  __syncthreads();
  const std::int64_t begin = static_cast<std::int64_t>(blockIdx.x) * share, end = begin + share < rows.count ? begin + share : rows.count;
  for (std::int64_t step = begin; step < end; step += kStep) {
    for (int i = warp * kRowsAtOnce; i < kStep; i += kWarps * kRowsAtOnce) {
      const std::int64_t first = step + i;
      float sum[kRowsAtOnce][Q] = {};
      if (first < end) add_products<Codes, Q>(rows, first, end, own, lane, sum);
      warp_sums<kRowsAtOnce * Q>(&sum[0][0]);
#pragma unroll
      for (int r = 0; r < kRowsAtOnce; ++r)
#pragma unroll
        for (int q = 0; q < Q; ++q) {
          const float total = sum[r][q];
          if (lane != 0) continue;
          fresh[q][i + r] = first + r < end ? rank_key(Codes ? total * rows.scales[first + r] : total, first + r) : 0;
        }
    }
    __syncthreads();
    for (int q = 0; q < Q; ++q) {
      // All threads see the same: the worst of the best does not change before they meet.
      const bool better = block_max(fresh[q][thread] > best[q][kBestRows - 1] ? 1.0f : 0.0f) > 0;
      if (!better) continue;
      both[thread] = best[q][thread];
      both[kBestRows + thread] = fresh[q][thread];
      sort_descending<kBestRows + kStep, kThreads>(both);
      best[q][thread] = both[thread];
      __syncthreads();
    }
    __syncthreads();
  }
  for (int q = 0; q < Q; ++q) lists[(static_cast<std::int64_t>(q) * gridDim.x + blockIdx.x) * kBestRows + thread] = best[q][thread];
}

/// Eight lists of a query become one.
__global__ void __launch_bounds__(kThreads) merge_rows_kernel(const std::uint64_t* from, std::int64_t blocks, std::int64_t held, std::uint64_t* to) {
  begin_kernel();
  __shared__ std::uint64_t keys[kPiece];
  const std::int64_t query = blockIdx.y, first = static_cast<std::int64_t>(blockIdx.x) * kPiece;
  for (int i = static_cast<int>(threadIdx.x); i < kPiece; i += kThreads)
    keys[i] = first + i < held * kBestRows ? from[query * blocks * kBestRows + first + i] : 0;
  sort_descending<kPiece, kThreads>(keys);
  to[(query * blocks + blockIdx.x) * kBestRows + threadIdx.x] = keys[threadIdx.x];
}

template <bool Codes, int Q>
void launch(const VectorRows& rows, const float* queries, std::int64_t blocks, std::uint64_t* lists, void* stream) {
  const std::int64_t share = (rows.count + blocks - 1) / blocks;
  const auto kernel = search_kernel<Codes, Q>;
  KONTOR_LAUNCH(kernel, dim3(static_cast<unsigned>(blocks)), dim3(kThreads), static_cast<std::size_t>(Q * rows.width) * sizeof(float), stream, rows, queries,
                share, lists);
}

}  // namespace

static_assert(kThreads == kBestRows && kThreads == kStep);

std::int64_t search_blocks(std::int64_t rows, int processors) {
  const std::int64_t steps = (rows + kStep - 1) / kStep, most = std::int64_t{4} * processors;
  return steps < 1 ? 1 : steps < most ? steps : most;
}

const std::uint64_t* find_rows(const VectorRows& rows, const float* queries, std::int64_t count, std::int64_t blocks,
                               std::uint64_t* const (&lists)[2], void* stream) {
  for (std::int64_t q = 0; q < count;) {
    const bool together = count - q >= kQueriesTogether && rows.width <= kWidthTogether;
    const float* from = queries + q * rows.width;
    std::uint64_t* to = lists[0] + q * blocks * kBestRows;
    if (rows.scales) together ? launch<true, kQueriesTogether>(rows, from, blocks, to, stream) : launch<true, 1>(rows, from, blocks, to, stream);
    else together ? launch<false, kQueriesTogether>(rows, from, blocks, to, stream) : launch<false, 1>(rows, from, blocks, to, stream);
    q += together ? kQueriesTogether : 1;
  }
  int at = 0;
  for (std::int64_t held = blocks; held > 1; at = 1 - at) {
    const std::int64_t next = (held + kLists - 1) / kLists;
    KONTOR_LAUNCH(merge_rows_kernel, dim3(static_cast<unsigned>(next), static_cast<unsigned>(count)), dim3(kThreads), 0, stream, lists[at], blocks, held,
                  lists[1 - at]);
    held = next;
  }
  return lists[at];
}

}  // namespace kontor::memory
