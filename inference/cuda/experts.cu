// Mixture of experts, and the heads' matrices of latent attention: which slab multiplies which token, and the products. The
// choice follows the CPU's rules with its arithmetic (inference/expert_score.hpp) in double; only the sum of a softmax adds up
// in another order. Pairs of one expert are multiplied together, so that its weights are read once for eight of them.

#include "inference/cuda/kernels.hpp"
#include "inference/cuda/row_products.cuh"
#include "inference/expert_score.hpp"

namespace kontor::inference::cuda {
namespace {

__device__ double warp_sum_double(double value) {
  for (int mask = kWarp / 2; mask > 0; mask /= 2) value += __shfl_xor_sync(0xffffffffu, value, mask);
  return value;
}

/// A value and its number; the best of a warp's in ranks_before's order.
struct Ranked {
  double value;
  int number;
};
__device__ Ranked warp_best(Ranked mine) {
  for (int mask = kWarp / 2; mask > 0; mask /= 2) {
    const double value = __shfl_xor_sync(0xffffffffu, mine.value, mask);
    const int number = __shfl_xor_sync(0xffffffffu, mine.number, mask);
    if (ranks_before(value, number, mine.value, mine.number)) mine = {value, number};
  }
  return mine;
}

constexpr int kNobody = 0x7fffffff;

/// The best of values[0 .. count) that is not taken yet; marks it.
__device__ int take_best(const double* values, unsigned char* taken, int count, int lane) {
  Ranked mine{-HUGE_VAL, kNobody};
  for (int i = lane; i < count; i += kWarp)
    if (!taken[i] && ranks_before(values[i], i, mine.value, mine.number)) mine = {values[i], i};
  const int best = warp_best(mine).number;
  if (lane == 0) taken[best] = 1;
  __syncwarp();
  return best;
}

/// The sum of the best `leaders` of a group, one thread.
__device__ double group_score(const double* members, int size, int leaders) {
  double sum = 0, before = 0;
  int before_number = -1;
  for (int n = 0; n < leaders && n < size; ++n) {
    double value = -HUGE_VAL;
    int number = kNobody;
    for (int i = 0; i < size; ++i)
      if ((n == 0 || ranks_before(before, before_number, members[i], i)) && ranks_before(members[i], i, value, number)) {
        value = members[i];
        number = i;
      }
    sum += value;
    before = value;
    before_number = number;
  }
  return sum;
}

/// A warp for each token.
__global__ void route_kernel(const float* logits, RoutingShape shape, const float* bias, std::int32_t* chosen, float* weights) {
  begin_kernel();
  KONTOR_DYNAMIC_SHARED(double, scores);
  const int lane = static_cast<int>(threadIdx.x), experts = static_cast<int>(shape.experts), used = static_cast<int>(shape.used);
  const int groups = static_cast<int>(shape.groups), size = experts / groups;
  double* ranking = scores + experts;
  double* group_scores = ranking + experts;
  auto* taken = reinterpret_cast<unsigned char*>(group_scores + groups);
  unsigned char* group_taken = taken + experts;
  const float* from = logits + static_cast<std::int64_t>(blockIdx.x) * experts;

  float most = -HUGE_VALF;
  for (int e = lane; e < experts; e += kWarp) most = fmaxf(most, from[e]);
  const double largest = static_cast<double>(warp_max(most));
  double sum = 0;
  for (int e = lane; e < experts; e += kWarp) sum += scores[e] = expert_score(static_cast<double>(from[e]), largest, shape.sigmoid);
  sum = warp_sum_double(sum);
  for (int e = lane; e < experts; e += kWarp) {
    if (!shape.sigmoid) scores[e] /= sum;
    ranking[e] = bias ? scores[e] + static_cast<double>(bias[e]) : scores[e];
    taken[e] = 0;
  }
  __syncwarp();
  if (shape.groups_used < shape.groups) {
    for (int g = lane; g < groups; g += kWarp) {
      group_scores[g] = group_score(ranking + g * size, size, static_cast<int>(shape.leaders));
      group_taken[g] = 0;
    }
    __syncwarp();
    for (int n = 0; n < static_cast<int>(shape.groups_used); ++n) (void)take_best(group_scores, group_taken, groups, lane);
    for (int e = lane; e < experts; e += kWarp)
      if (!group_taken[e / size]) ranking[e] = -HUGE_VAL;
    __syncwarp();
  }
  std::int32_t* to = chosen + static_cast<std::int64_t>(blockIdx.x) * used;
  double total = 0;
  for (int n = 0; n < used; ++n) {
    const int best = take_best(ranking, taken, experts, lane);
    total += scores[best];
  }
  // In ascending order: what is added up does not depend on who was better.
  const double factor = expert_factor(total, shape.normalize, shape.scale);
  float* weight = weights + static_cast<std::int64_t>(blockIdx.x) * used;
  if (lane > 0) return;
  for (int e = 0, n = 0; e < experts && n < used; ++e) {
    if (!taken[e]) continue;
    to[n] = e;
    weight[n++] = static_cast<float>(scores[e] * factor);
  }
}

/// One block, a thread for each expert: a counting sort that keeps the order of the pairs.
__global__ void group_kernel(const std::int32_t* chosen, std::int64_t pairs, std::int64_t experts, std::int32_t* order, Tile* tiles,
                             std::int32_t* tile_count) {
  begin_kernel();
  __shared__ std::int32_t pair_sums[kMaxExperts];
  __shared__ std::int32_t tile_sums[kMaxExperts];
  const int e = static_cast<int>(threadIdx.x);
  std::int32_t mine = 0;
  for (std::int64_t p = 0; p < pairs; ++p) mine += chosen[p] == e;
  const std::int32_t my_tiles = (mine + kTilePairs - 1) / kTilePairs;
  pair_sums[e] = mine;
  tile_sums[e] = my_tiles;
  __syncthreads();
  for (int step = 1; step < static_cast<int>(blockDim.x); step *= 2) {  // Inclusive sums.
    const std::int32_t p = e >= step ? pair_sums[e - step] : 0, t = e >= step ? tile_sums[e - step] : 0;
    __syncthreads();
    pair_sums[e] += p;
    tile_sums[e] += t;
    __syncthreads();
  }
  if (e + 1 == static_cast<int>(blockDim.x)) *tile_count = tile_sums[e];
  if (e >= experts) return;
  const std::int32_t first = pair_sums[e] - mine, first_tile = tile_sums[e] - my_tiles;
  std::int32_t at = first;
  for (std::int64_t p = 0; p < pairs && at < first + mine; ++p)
    if (chosen[p] == e) order[at++] = static_cast<std::int32_t>(p);
  for (std::int32_t t = 0; t < my_tiles; ++t) {
    const std::int32_t done = t * kTilePairs;
    tiles[first_tile + t] = {e, first + done, mine - done < kTilePairs ? mine - done : kTilePairs};
  }
}

struct SlabArguments {
  SlabProducts products;
  Pairs pairs;
  ActivationView x;
  bool by_token;
};

template <int N>
__device__ void slab_rows(const SlabArguments& a, const SlabProduct& p, const Tile& tile, std::int64_t row) {
  const auto pair_at = [&](int t) -> std::int64_t {
    const std::int64_t i = tile.first + (t < tile.count ? t : tile.count - 1);
    return a.pairs.tiles ? a.pairs.order[i] : i * a.pairs.each + tile.slab;
  };
  std::int64_t pair[N], from[N];
#pragma unroll
  for (int t = 0; t < N; ++t) {
    pair[t] = pair_at(t);
    from[t] = a.by_token ? pair[t] / a.pairs.each : pair[t];
  }
  float sum[kWarpRows][N] = {};
  row_products<N>(p.matrix, a.x, tile.slab * p.rows + row, [&](int t) { return from[t]; }, sum);
  warp_sums<kWarpRows * N>(&sum[0][0]);
#pragma unroll
  for (int r = 0; r < kWarpRows; ++r)
#pragma unroll
    for (int t = 0; t < N; ++t) {
      const float total = sum[r][t];
      if (static_cast<int>(threadIdx.x) % kWarp != 0 || row + r >= p.rows || t >= tile.count) continue;
      p.out[pair[t] / a.pairs.each * p.token_step + pair[t] % a.pairs.each * p.pair_step + row + r] = total;
    }
}

/// N: the largest tile; smaller ones take no longer than they must.
template <int N>
__global__ void __launch_bounds__(kWarps* kWarp) slab_kernel(SlabArguments a) {
  begin_kernel();
  Tile tile;
  if (a.pairs.tiles) {
    if (static_cast<std::int32_t>(blockIdx.x) >= *a.pairs.tile_count) return;
    tile = a.pairs.tiles[blockIdx.x];
  } else {
    const auto slabs = static_cast<unsigned>(a.pairs.slabs);
    const std::int32_t first = static_cast<std::int32_t>(blockIdx.x / slabs) * N, left = static_cast<std::int32_t>(a.pairs.tokens) - first;
    tile = {static_cast<std::int32_t>(blockIdx.x % slabs), first, left < N ? left : N};
  }
  std::int64_t block = blockIdx.y;
  int index = 0;
  const std::int64_t blocks = (a.products.product[0].rows + kBlockRows - 1) / kBlockRows;
  if (a.products.count > 1 && block >= blocks) {
    block -= blocks;
    index = 1;
  }
  const SlabProduct& p = a.products.product[index];
  const std::int64_t row = block * kBlockRows + static_cast<int>(threadIdx.x) / kWarp * kWarpRows;
  if (row >= p.rows) return;
  if (N > 1 && tile.count == 1) return slab_rows<1>(a, p, tile, row);
  if (N > 2 && tile.count == 2) return slab_rows<2>(a, p, tile, row);
  if (N > 4 && tile.count <= 4) return slab_rows<4>(a, p, tile, row);
  slab_rows<N>(a, p, tile, row);
}

template <int N>
void launch_slabs(const SlabArguments& a, Stream stream) {
  std::int64_t blocks = 0;
  for (int i = 0; i < a.products.count; ++i) blocks += (a.products.product[i].rows + kBlockRows - 1) / kBlockRows;
  const std::int64_t tiles = a.pairs.tiles ? most_tiles(a.pairs.count(), a.pairs.slabs) : (a.pairs.tokens + N - 1) / N * a.pairs.slabs;
  const auto kernel = slab_kernel<N>;
  KONTOR_LAUNCH(kernel, dim3(static_cast<unsigned>(tiles), static_cast<unsigned>(blocks)), dim3(kWarps * kWarp), 0, stream, a);
}

/// The pair in a place of a padded block.
__device__ std::int64_t pair_in(const Pairs& pairs, const Tile* blocks, std::int64_t first_slab, std::int64_t block, std::int64_t i) {
  return blocks ? pairs.order[blocks[block].first + i] : i * pairs.each + first_slab + block;
}

__global__ void gather_pairs_kernel(const std::uint16_t* halves, std::int64_t columns, Pairs pairs, const Tile* blocks, bool by_token,
                                    std::uint16_t* out) {
  begin_kernel();
  const std::int64_t block = blockIdx.y, i = blockIdx.x;
  if (i >= blocks[block].count) return;
  const std::int64_t pair = pair_in(pairs, blocks, 0, block, i), row = by_token ? pair / pairs.each : pair;
  const Words4* from = reinterpret_cast<const Words4*>(halves + row * columns);
  Words4* to = reinterpret_cast<Words4*>(out + (block * gridDim.x + i) * columns);
  for (std::int64_t c = threadIdx.x; c < columns / 8; c += blockDim.x) to[c] = from[c];
}

__global__ void finish_pairs_kernel(const float* in, const float* factors, Pairs pairs, const Tile* blocks, std::int64_t first_slab, bool by_token,
                                    SlabProduct p) {
  begin_kernel();
  const std::int64_t block = blockIdx.z, i = blockIdx.y, r = static_cast<std::int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
  if (r >= p.rows || i >= (blocks ? blocks[block].count : pairs.tokens)) return;
  const std::int64_t pair = pair_in(pairs, blocks, first_slab, block, i), token = pair / pairs.each;
  p.out[token * p.token_step + pair % pairs.each * p.pair_step + r] = in[(block * gridDim.y + i) * p.rows + r] * factors[by_token ? token : pair];
}

__global__ void add_experts_kernel(const float* shared, const float* outs, const float* weights, std::int64_t used, std::int64_t width,
                                   float* stream_rows) {
  begin_kernel();
  const std::int64_t t = blockIdx.y, i = static_cast<std::int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
  if (i >= width) return;
  float sum = shared ? shared[t * width + i] : 0.0f;
  for (std::int64_t k = 0; k < used; ++k) sum += weights[t * used + k] * outs[(t * used + k) * width + i];
  stream_rows[t * width + i] += sum;
}

}  // namespace

void multiply_slabs(const SlabProducts& products, const Pairs& pairs, const ActivationView& x, bool by_token, Stream stream) {
  const SlabArguments arguments{products, pairs, x, by_token};
  // Tiles of a list may be as large as the list has them; without one they are cut to the tokens.
  if (pairs.tokens == 1) return launch_slabs<1>(arguments, stream);
  if (pairs.tokens == 2) return launch_slabs<2>(arguments, stream);
  if (pairs.tokens <= 4) return launch_slabs<4>(arguments, stream);
  launch_slabs<kTilePairs>(arguments, stream);
}

void gather_pairs(const std::uint16_t* halves, std::int64_t columns, const Pairs& pairs, const Tile* blocks, std::int64_t count, std::int64_t most,
                  bool by_token, std::uint16_t* out, Stream stream) {
  constexpr int kThreads = 128;
  const dim3 grid(static_cast<unsigned>(most), static_cast<unsigned>(count));
  KONTOR_LAUNCH(gather_pairs_kernel, grid, dim3(kThreads), 0, stream, halves, columns, pairs, blocks, by_token, out);
}

void finish_pairs(const float* in, const float* factors, const Pairs& pairs, const Tile* blocks, std::int64_t first_slab, std::int64_t count,
                  std::int64_t most, bool by_token, const SlabProduct& product, Stream stream) {
  constexpr int kThreads = 256;
  const dim3 grid(static_cast<unsigned>((product.rows + kThreads - 1) / kThreads), static_cast<unsigned>(most), static_cast<unsigned>(count));
  KONTOR_LAUNCH(finish_pairs_kernel, grid, dim3(kThreads), 0, stream, in, factors, pairs, blocks, first_slab, by_token, product);
}

void route(const float* logits, std::int64_t count, const RoutingShape& shape, const float* bias, std::int32_t* chosen, float* weights,
           Stream stream) {
  const auto bytes = static_cast<std::size_t>((2 * shape.experts + shape.groups) * 8 + shape.experts + shape.groups);
  KONTOR_LAUNCH(route_kernel, dim3(static_cast<unsigned>(count)), dim3(kWarp), bytes, stream, logits, shape, bias, chosen, weights);
}

void group_pairs(const std::int32_t* chosen, std::int64_t pairs, std::int64_t experts, std::int32_t* order, Tile* tiles,
                 std::int32_t* tile_count, Stream stream) {
  const auto threads = static_cast<unsigned>((experts + kWarp - 1) / kWarp * kWarp);
  KONTOR_LAUNCH(group_kernel, dim3(1), dim3(threads), 0, stream, chosen, pairs, experts, order, tiles, tile_count);
}

void add_experts(const float* shared, const float* outs, const float* weights, std::int64_t count, std::int64_t used, std::int64_t width,
                 float* stream_rows, Stream stream) {
  constexpr int kThreads = 256;
  const dim3 grid(static_cast<unsigned>((width + kThreads - 1) / kThreads), static_cast<unsigned>(count));
  KONTOR_LAUNCH(add_experts_kernel, grid, dim3(kThreads), 0, stream, shared, outs, weights, used, width, stream_rows);
}

}  // namespace kontor::inference::cuda
