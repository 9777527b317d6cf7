// Multi-head latent attention (DeepSeek-V2, 2024, section 2.1) in its absorbed form: a head's query is projected into the
// space of the latent vectors, so that all heads share one key and one value for each position. Files with one
// matrix for keys and values (attn_kv_b) are brought into the same form when they are loaded.

#include "inference/decoder_loader.hpp"
#include "inference/dequantize.hpp"

#include <cstring>

namespace kontor::inference {

void Decoder::Scratch::reserve_latent(std::int64_t rows, const ModelConfig& c, int threads, cpu::ActivationForm form) {
  const auto grow = [](auto& vector, std::int64_t size) {
    if (static_cast<std::int64_t>(vector.size()) < size) vector.resize(static_cast<std::size_t>(size));
  };
  const LatentShape& latent = c.latent;
  grow(low, rows * (latent.query_rank + latent.rank + latent.rotary));
  grow(queries, rows * c.heads * (latent.plain + latent.rotary));
  grow(values, rows * c.heads * latent.value);
  grow(heads, threads);
  const std::int64_t columns = kHeadRows * std::max(latent.plain, latent.rank);
  for (Head& head : heads) {
    grow(head.in, columns);
    head.converted.grow(columns, form);
  }
}

void Decoder::multiply_heads(const std::vector<cpu::Matrix>& matrices, Heads<const float> in, Heads<float> out, std::int64_t rows) {
  const std::int64_t blocks = (rows + kHeadRows - 1) / kHeadRows;
  pool_->parallel_for(static_cast<std::int64_t>(matrices.size()) * blocks, 1, [&](std::int64_t begin, std::int64_t end, int thread) {
    Scratch::Head& s = scratch_->heads[static_cast<std::size_t>(thread)];
    for (std::int64_t unit = begin; unit < end; ++unit) {
      const std::int64_t head = unit / blocks, first = unit % blocks * kHeadRows;
      const cpu::Matrix& matrix = matrices[static_cast<std::size_t>(head)];
      const std::int64_t columns = matrix.columns();
      cpu::Activations part{s.in.data(), {}, nullptr, std::min(kHeadRows, rows - first)};
      const cpu::ActivationForm form = cpu::usable(matrix.activations(), *kernels_);
      for (std::int64_t i = 0; i < part.count; ++i)
        std::memcpy(s.in.data() + i * columns, in.data + (first + i) * in.row + head * in.head, static_cast<std::size_t>(columns) * sizeof(float));
      s.converted.lend(part, columns, form);
      cpu::convert_rows_here(part, columns, form, 0, part.count, *kernels_);
      cpu::multiply_here({&matrix, out.data + first * out.row + head * out.head, out.row}, part, *kernels_);
    }
  });
}

void Decoder::project_latent(const Layer& layer, std::int64_t index, std::span<const Row> rows, const float* input) {
  Scratch& s = *scratch_;
  const LatentWeights& w = *layer.latent;
  const LatentShape& shape = config_.latent;
  const auto n = static_cast<std::int64_t>(rows.size());
  const std::int64_t length = shape.plain + shape.rotary, q_size = config_.heads * length;
  float* low_keys = s.low.data() + n * shape.query_rank;
  const std::int64_t low_length = shape.rank + shape.rotary;

  const bool direct = shape.query_rank == 0;
  const cpu::Matrix& first = direct ? layer.query : w.query_down;
  const cpu::Product down[] = {{&first, direct ? s.queries.data() : s.low.data(), direct ? q_size : shape.query_rank},
                               {&w.keys_down, low_keys, low_length}};
  cpu::multiply(down, prepare(input, n, config_.width, first.activations() | w.keys_down.activations()), *kernels_, *pool_);
  if (!direct) {
    for (std::int64_t i = 0; i < n; ++i) {
      float* low = s.low.data() + i * shape.query_rank;
      kernels_->rms_norm(low, w.query_norm, config_.norm_epsilon, shape.query_rank, low);
    }
    const cpu::Product up[] = {{&layer.query, s.queries.data(), q_size}};
    cpu::multiply(up, prepare(s.low.data(), n, shape.query_rank, layer.query.activations()), *kernels_, *pool_);
  }

  // A row of `projected`: heads * [query in the latent space | rotated], the key likewise, the latent as value.
  const std::int64_t key_length = config_.key_length;
  const std::int64_t total = config_.heads * key_length + key_length + config_.value_length;
  multiply_heads(w.key_heads, {s.queries.data(), q_size, length}, {s.projected.data(), total, key_length}, n);
  pool_->parallel_for(n, 4, [&](std::int64_t begin, std::int64_t end, int) {
    for (std::int64_t i = begin; i < end; ++i) {
      float* q = s.projected.data() + i * total;
      for (std::int64_t h = 0; h < config_.heads; ++h) {
        float* rotary = q + h * key_length + shape.rank;
        std::memcpy(rotary, s.queries.data() + i * q_size + h * length + shape.plain, static_cast<std::size_t>(shape.rotary) * sizeof(float));
        rotate(rotary, i);
      }
      float* key = low_keys + i * low_length;
      kernels_->rms_norm(key, w.latent_norm, config_.norm_epsilon, shape.rank, key);
      rotate(key + shape.rank, i);
      const Row& row = rows[static_cast<std::size_t>(i)];
      row.timeline->cache.store(index, row.position, key, key, *kernels_);
    }
  });
}

void Decoder::Loader::latent_attention(Layer& layer) {
  const ModelConfig& c = decoder_.config_;
  const LatentShape& shape = c.latent;
  layer.latent = std::make_unique<LatentWeights>();
  LatentWeights& w = *layer.latent;
  const std::int64_t queries = c.heads * (shape.plain + shape.rotary);
  if (shape.query_rank > 0) {
    matrix(w.query_down, "attn_q_a.weight", c.width, shape.query_rank);
    vector(w.query_norm, "attn_q_a_norm.weight", shape.query_rank, true);
    matrix(layer.query, "attn_q_b.weight", shape.query_rank, queries);
  } else {
    matrix(layer.query, "attn_q.weight", c.width, queries);
  }
  matrix(w.keys_down, "attn_kv_a_mqa.weight", c.width, shape.rank + shape.rotary);
  vector(w.latent_norm, "attn_kv_a_norm.weight", shape.rank, true);
  matrix(layer.output, "attn_output.weight", c.heads * shape.value, c.width);
  w.key_heads.resize(static_cast<std::size_t>(c.heads));
  w.value_heads.resize(static_cast<std::size_t>(c.heads));
  if (!find("attn_k_b.weight") && find("attn_kv_b.weight")) {
    if (const Tensor* both = checked("attn_kv_b.weight", {shape.rank, c.heads * (shape.plain + shape.value)})) split_latent(w, *both);
    return;
  }
  const Tensor* keys = checked("attn_k_b.weight", {shape.plain, shape.rank, c.heads});
  const Tensor* values = checked("attn_v_b.weight", {shape.rank, shape.value, c.heads});
  for (std::int64_t h = 0; h < c.heads && keys && values; ++h) {
    take(w.key_heads[static_cast<std::size_t>(h)], rows_of(*keys, h * shape.rank, shape.rank));
    take(w.value_heads[static_cast<std::size_t>(h)], rows_of(*values, h * shape.value, shape.value));
  }
}

void Decoder::Loader::split_latent(LatentWeights& to, const Tensor& both) {
  const ModelConfig& c = decoder_.config_;
  const LatentShape& shape = c.latent;
  std::vector<float> row(static_cast<std::size_t>(shape.rank)), turned(static_cast<std::size_t>(shape.rank * shape.plain));
  for (std::int64_t h = 0; h < c.heads && !failed(); ++h) {
    const std::int64_t first = h * (shape.plain + shape.value);
    take(to.value_heads[static_cast<std::size_t>(h)], rows_of(both, first + shape.plain, shape.value));
    if (only_check_ || failed()) continue;
    // Rows map the latent to a key; the query needs the way back.
    for (std::int64_t i = 0; i < shape.plain; ++i) {
      (void)dequantize_row(both, first + i, row.data());
      for (std::int64_t j = 0; j < shape.rank; ++j) turned[static_cast<std::size_t>(j * shape.plain + i)] = row[static_cast<std::size_t>(j)];
    }
    auto matrix = cpu::Matrix::of_values(turned, shape.plain, decoder_.compute_ == Compute::native && both.type != TensorType::f32);
    if (matrix) to.key_heads[static_cast<std::size_t>(h)] = std::move(*matrix);
    else error_ = matrix.error();
  }
}

const float* Decoder::expand_values(const Layer& layer, std::int64_t rows) {
  const std::int64_t heads = config_.heads, rank = config_.latent.rank, value = config_.latent.value;
  multiply_heads(layer.latent->value_heads, {scratch_->mixed.data(), heads * rank, rank}, {scratch_->values.data(), heads * value, value}, rows);
  return scratch_->values.data();
}

}  // namespace kontor::inference
