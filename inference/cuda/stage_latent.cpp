// Multi-head latent attention on the device, absorbed: queries are projected into the space of the latent vectors, which are
// all that the cache holds (one row of rank + rotary values for each position).

#include "inference/cuda/stage.hpp"

#include "inference/dequantize.hpp"

#include <cmath>

namespace kontor::inference::cuda {

void Stage::project_latent(const Layer& l, std::int64_t index, std::span<const Row> rows) {
  Workspace& w = work_;
  const LatentShape& latent = config_.latent;
  const auto n = static_cast<std::int64_t>(rows.size());
  const std::int64_t length = latent.plain + latent.rotary, queries = config_.heads * length;
  float* whole = w.queries_whole.as<float>();
  const bool direct = latent.query_rank == 0;
  const ProductView down[] = {{direct ? l.query.view : l.query_down.view, nullptr, direct ? whole : w.low.as<float>(), direct ? queries : latent.query_rank, false},
                              {l.keys_down.view, nullptr, w.low_keys.as<float>(), latent.rank + latent.rotary, false}};
  project(down, view(w.normed.as<const float>(), n, config_.width));
  if (!direct) {
    rms_norm(w.low.as<const float>(), n, latent.query_rank, l.query_down_norm.data(), config_.norm_epsilon, target(w.low.as<float>()), device_->stream());
    const ProductView up[] = {{l.query.view, nullptr, whole, queries, false}};
    project(up, view(w.low.as<const float>(), n, latent.query_rank));
  }
  const AttentionShape s = shape();
  take_columns(whole, n * config_.heads, length, latent.plain, target(w.head_values.as<float>()), device_->stream());
  SlabProducts products;
  products.product[products.count++] = {l.key_heads.view, latent.rank, w.projected.as<float>(), s.total(), s.key_length};
  project_heads(products, n, w.head_values.as<const float>(), latent.plain);
  const RopeView rope{w.cosines.as<const float>(), w.sines.as<const float>(), config_.rope.dimensions / 2, config_.rope_pairs == RopePairs::halves};
  place_latent(w.projected.as<float>(), whole, w.low_keys.as<float>(), n, s, {latent.rank, latent.plain, latent.rotary}, l.latent_norm.data(),
               config_.norm_epsilon, rope, w.info.as<const RowInfo>(), cache_of(index), device_->stream());
}

/// From the mixed latent vectors to the heads' values.
void Stage::expand_values(const Layer& l, std::int64_t n) {
  Workspace& w = work_;
  const LatentShape& latent = config_.latent;
  if (!exact_ && !joins_codes(n)) quantize(w.mixed.as<const float>(), n * config_.heads, latent.rank, target(w.mixed.as<float>()), device_->stream());
  SlabProducts products;
  products.product[products.count++] = {l.value_heads.view, latent.value, w.head_values.as<float>(), heads_width(config_), latent.value};
  project_heads(products, n, w.mixed.as<const float>(), latent.rank);
}

Result<void> Stage::load_latent(const std::string& prefix, Layer& l) {
  const ModelConfig& c = config_;
  const LatentShape& latent = c.latent;
  const std::int64_t queries = c.heads * (latent.plain + latent.rotary);
  const bool direct = latent.query_rank == 0;
  if (!direct) {
    if (const auto loaded = load_matrix(prefix + "attn_q_a.weight", c.width, latent.query_rank, l.on_host, l.query_down); !loaded) return loaded.error();
    if (const auto loaded = load_vector(prefix + "attn_q_a_norm.weight", latent.query_rank, true, l.query_down_norm); !loaded) return loaded.error();
  }
  if (const auto loaded = load_matrix(prefix + (direct ? "attn_q.weight" : "attn_q_b.weight"), direct ? c.width : latent.query_rank, queries, l.on_host, l.query); !loaded)
    return loaded.error();
  if (const auto loaded = load_matrix(prefix + "attn_kv_a_mqa.weight", c.width, latent.rank + latent.rotary, l.on_host, l.keys_down); !loaded) return loaded.error();
  if (const auto loaded = load_vector(prefix + "attn_kv_a_norm.weight", latent.rank, true, l.latent_norm); !loaded) return loaded.error();
  if (const auto loaded = load_matrix(prefix + "attn_output.weight", heads_width(c), c.width, l.on_host, l.output); !loaded) return loaded.error();
  if (!tensors_.file().find_tensor(prefix + "attn_k_b.weight") && tensors_.file().find_tensor(prefix + "attn_kv_b.weight")) {
    const auto both = tensors_.checked(prefix + "attn_kv_b.weight", latent.rank, c.heads * (latent.plain + latent.value), 1);
    if (!both) return both.error();
    return load_both_heads(**both, l);
  }
  if (const auto loaded = load_matrix(prefix + "attn_k_b.weight", latent.plain, latent.rank, l.on_host, l.key_heads, c.heads); !loaded) return loaded.error();
  return load_matrix(prefix + "attn_v_b.weight", latent.rank, latent.value, l.on_host, l.value_heads, c.heads);
}

/// From the one tensor that older files have for keys and values, as on the CPU.
Result<void> Stage::load_both_heads(const Tensor& both, Layer& l) {
  const LatentShape& latent = config_.latent;
  std::vector<Tensor> values;
  std::vector<float> row(static_cast<std::size_t>(latent.rank)), turned(static_cast<std::size_t>(config_.heads * latent.rank * latent.plain));
  bool half = !exact_ && both.type != TensorType::f32;
  for (std::int64_t h = 0; h < config_.heads; ++h) {
    const std::int64_t first = h * (latent.plain + latent.value);
    values.push_back(rows_of(both, first + latent.plain, latent.value));
    // Rows map the latent to a key; the query needs the way back.
    for (std::int64_t i = 0; i < latent.plain; ++i) {
      if (const auto read = dequantize_row(both, first + i, row.data()); !read) return read.error();
      for (std::int64_t j = 0; j < latent.rank; ++j) {
        const float value = row[static_cast<std::size_t>(j)];
        half = half && !(std::fabs(value) > 65504.0f);
        turned[static_cast<std::size_t>((h * latent.rank + j) * latent.plain + i)] = value;
      }
    }
  }
  if (const auto loaded = load_parts(values, l.on_host, l.value_heads); !loaded) return loaded.error();
  std::vector<std::uint16_t> halves(half ? turned.size() : 0);
  if (half) std::transform(turned.begin(), turned.end(), halves.begin(), half_bits);
  Tensor keys;
  keys.name = both.name;
  keys.type = half ? TensorType::f16 : TensorType::f32;
  keys.rank = 2;
  keys.shape = {latent.plain, config_.heads * latent.rank, 1, 1};
  keys.elements = static_cast<std::int64_t>(turned.size());
  keys.data = half ? reinterpret_cast<const std::byte*>(halves.data()) : reinterpret_cast<const std::byte*>(turned.data());
  keys.bytes = turned.size() * (half ? 2 : 4);
  return load_parts(std::span(&keys, 1), l.on_host, l.key_heads);
}

}  // namespace kontor::inference::cuda
