#include "inference/cuda/stage.hpp"

namespace kontor::inference::cuda {

std::uint64_t Stage::weight_bytes_per_token() const {
  std::uint64_t total = 0;
  if (plan_.outputs) total += output_.view.rows > 0 ? output_.buffer.bytes() : embedding_.buffer.bytes();
  for (const Layer& l : layers_) {
    for (const Matrix* m : {&l.query, &l.key, &l.value, &l.output, &l.gate, &l.up, &l.down, &l.query_down, &l.keys_down, &l.key_heads, &l.value_heads, &l.router})
      total += m->buffer.bytes();
    for (const Matrix* m : {&l.experts_gate, &l.experts_up, &l.experts_down})
      if (m->view.rows > 0) total += m->buffer.bytes() / static_cast<std::uint64_t>(config_.experts.count) * static_cast<std::uint64_t>(config_.experts.used);
  }
  return total;
}

bool Stage::tiled(std::int64_t count) const { return !deterministic_ && count >= kTiledRows; }

KvView Stage::cache_of(std::int64_t layer) const {
  const bool latent = config_.latent.rank > 0;
  const auto step = static_cast<std::int64_t>(plan_.page_bytes);
  std::byte* base = pages() + (layer - plan_.first) * (step / (plan_.end - plan_.first));
  return {base, latent ? base : base + config_.kv_heads * kv_bytes(kv_format_, config_.key_length), step, kv_format_, latent};
}

ActivationTarget Stage::target(float* values) const {
  if (exact_) return {values, nullptr, nullptr, nullptr};
  return {values, work_.codes.as<std::int8_t>(), work_.scales.as<float>(), work_.sums.as<float>()};
}

ActivationView Stage::view(const float* values, std::int64_t count, std::int64_t columns) const {
  return {values, work_.codes.as<std::int8_t>(), work_.scales.as<float>(), work_.sums.as<float>(), count, columns};
}

/// Page tables and places of the rows go to the device; neighbouring rows of a timeline share a table.
Result<void> Stage::send(std::span<const Row> rows) {
  device_->use();
  Workspace& w = work_;
  std::vector<std::int32_t> tables;
  std::vector<std::size_t>& starts = w.starts;
  starts.clear();
  for (std::size_t i = 0; i < rows.size(); ++i) {
    if (i > 0 && rows[i].timeline == rows[i - 1].timeline) {
      starts.push_back(starts.back());
      continue;
    }
    starts.push_back(tables.size());
    for (const auto& page : rows[i].timeline->held) tables.push_back(page->number());
  }
  if (tables.size() * 4 > w.tables.bytes()) {  // Timelines that share pages may have more entries than there are pages.
    if (const auto idle = device_->wait(); !idle) return idle.error();
    auto larger = device_->allocate(tables.size() * 8);
    if (!larger) return larger.error();
    w.tables = std::move(*larger);
  }
  std::vector<RowInfo> info;
  for (std::size_t i = 0; i < rows.size(); ++i)
    info.push_back({rows[i].token, static_cast<std::int32_t>(rows[i].position), w.tables.as<std::int32_t>() + starts[i]});
  device_->copy_in(w.tables.data(), tables.data(), tables.size() * 4);
  device_->copy_in(w.info.data(), info.data(), info.size() * sizeof(RowInfo));
  return {};
}

Result<void> Stage::compute(std::span<const Row> rows) {
  device_->use();
  const auto count = static_cast<std::int64_t>(rows.size());
  if (tiled(count)) {
    std::int64_t longest = 0;
    for (const Row& row : rows) longest = std::max(longest, row.position + 1);
    if (const auto grown = grow_prefill(longest); !grown) return grown.error();
    device_->start_clock();
    compute_layers(rows);
  } else {
    // Every pass over as many tokens puts the same kernels with the same arguments onto the stream.
    device_->start_clock();
    device_->replay(static_cast<std::uint64_t>(count), [&] { compute_layers(rows); });
  }
  device_->stop_clock();
  return {};
}

void Stage::compute_layers(std::span<const Row> rows) {
  Workspace& w = work_;
  const auto n = static_cast<std::int64_t>(rows.size());
  const auto* info = w.info.as<const RowInfo>();
  if (plan_.embeds) embed(embedding_.view, info, n, w.stream.as<float>(), device_->stream());
  fill_rope(frequencies_.as<const double>(), config_.rope.magnitude, config_.rope.dimensions / 2, info, n, w.cosines.as<float>(),
            w.sines.as<float>(), device_->stream());
  for (std::int64_t i = plan_.first; i < plan_.end; ++i) {
    const Layer& layer = layers_[static_cast<std::size_t>(i - plan_.first)];
    attention(layer, i, rows);
    feed_forward(layer, i, n);
  }
}

void Stage::project(std::span<const ProductView> products, const ActivationView& x) {
  if (tiled(x.count)) {
    // The library reads bfloat16 as it lies, where a batch is small enough for two rows of activations each: twice the arithmetic
    // takes less time then than another copy of the weights.
    const bool pair = 2 * x.count <= kBatch && std::all_of(products.begin(), products.end(), [](const ProductView& p) {
      return p.matrix.format == Format::bf16 && !p.matrix.on_host;
    });
    if (pair) to_bfloats(x.values, x.count, x.columns, work_.halves.as<std::uint16_t>(), device_->stream());
    else to_half(x.values, x.count, x.columns, work_.halves.as<std::uint16_t>(), work_.factors.as<float>(), device_->stream());
    for (const ProductView& product : products) project_tiled(product, x, pair);
    return;
  }
  ProductsView all;
  for (const ProductView& product : products) all.product[all.count++] = product;
  multiply(all, x, device_->stream());
}

/// Expands as many rows of weights as the workspace holds, multiplies, goes on: no second copy of the model exists. What the library reads
/// as it lies is bound by the room for results alone. `pair`: the activations are pairs of bfloat16.
void Stage::project_tiled(const ProductView& p, const ActivationView& x, bool pair) {
  Workspace& w = work_;
  const bool expands = !pair && (p.matrix.format != Format::f16 || p.matrix.on_host);  // The library reads a weight more than once.
  const std::int64_t lines = pair ? 2 * x.count : x.count, results = static_cast<std::int64_t>(w.product.bytes()) / (4 * lines);
  const std::int64_t most = expands ? std::min<std::int64_t>(static_cast<std::int64_t>(w.tile.bytes()) / (2 * x.columns), results) : results;
  for (std::int64_t first = 0; first < p.matrix.rows; first += most) {
    const std::int64_t rows = std::min(most, p.matrix.rows - first);
    const std::uint16_t* weights = static_cast<const std::uint16_t*>(p.matrix.codes) + first * x.columns;
    if (expands) {
      expand_rows(p.matrix, first, rows, w.tile.as<std::uint16_t>(), device_->stream());
      weights = w.tile.as<const std::uint16_t>();
    }
    MatrixProduct product;
    product.a = w.halves.as<const std::uint16_t>();
    product.b = weights;
    product.c = w.product.as<float>();
    product.bfloat = pair;
    product.count = lines;
    product.rows = rows;
    product.columns = product.a_length = product.b_length = x.columns;
    product.c_length = rows;
    device_->multiply(product);
    finish_product(w.product.as<const float>(), pair ? nullptr : w.factors.as<const float>(), p.bias ? p.bias + first : nullptr, x.count, rows,
                   p.out + first, p.out_stride, p.accumulate, pair, device_->stream());
  }
}

void Stage::attention(const Layer& l, std::int64_t index, std::span<const Row> rows) {
  Workspace& w = work_;
  const auto n = static_cast<std::int64_t>(rows.size());
  const AttentionShape s = shape();
  const std::int64_t q = s.heads * s.key_length, k = s.kv_heads * s.key_length, width = config_.width;
  float* projected = w.projected.as<float>();
  rms_norm(w.stream.as<const float>(), n, width, l.attention_norm.data(), config_.norm_epsilon, target(w.normed.as<float>()), device_->stream());
  const bool latent = config_.latent.rank > 0;
  if (latent) {
    project_latent(l, index, rows);
  } else {
    const ProductView inputs[] = {{l.query.view, l.query_bias.data(), projected, s.total(), false},
                                  {l.key.view, l.key_bias.data(), projected + q, s.total(), false},
                                  {l.value.view, l.value_bias.data(), projected + q + k, s.total(), false}};
    project(inputs, view(w.normed.as<const float>(), n, width));
    const RopeView rope{w.cosines.as<const float>(), w.sines.as<const float>(), config_.rope.dimensions / 2,
                        config_.rope_pairs == RopePairs::halves};
    place_heads(projected, n, s, l.query_norm.data(), l.key_norm.data(), config_.norm_epsilon, rope, w.info.as<const RowInfo>(),
                cache_of(index), device_->stream());
  }
  mix(index, rows);
  if (latent) expand_values(l, n);
  float* mixed = (latent ? w.head_values : w.mixed).as<float>();
  if (!exact_ && (latent || !joins_codes(n))) quantize(mixed, n, heads_width(config_), target(mixed), device_->stream());
  const ProductView out[] = {{l.output.view, l.output_bias.data(), w.stream.as<float>(), width, true}};
  project(out, view(mixed, n, heads_width(config_)));
}

/// Whether attention leaves its results in int8 as well.
bool Stage::joins_codes(std::int64_t count) const { return !exact_ && !tiled(count) && config_.value_length % kSpan == 0; }

ActivationTarget Stage::mixed_at(std::int64_t row, bool codes) const {
  const std::int64_t from = row * config_.heads * config_.value_length;
  ActivationTarget to{work_.mixed.as<float>() + from, nullptr, nullptr, nullptr};
  if (codes) to = {to.values, work_.codes.as<std::int8_t>() + from, work_.scales.as<float>() + from / kSpan, work_.sums.as<float>() + from / kSpan};
  return to;
}

void Stage::mix(std::int64_t layer, std::span<const Row> rows) {
  Workspace& w = work_;
  const KvView cache = cache_of(layer);
  const AttentionShape s = shape();
  const auto count = static_cast<std::int64_t>(rows.size());
  for (std::int64_t first = 0; first < count;) {
    std::int64_t last = first + 1;
    while (last < count && rows[static_cast<std::size_t>(last)].timeline == rows[static_cast<std::size_t>(first)].timeline) ++last;
    if (tiled(last - first)) {
      mix_prefill(cache, rows.subspan(static_cast<std::size_t>(first), static_cast<std::size_t>(last - first)), first);
      first = last;
      continue;
    }
    // Rows up to the next long stretch of one timeline.
    std::int64_t end = last;
    while (end < count && end - first < kDecodeRows) {
      std::int64_t next = end + 1;
      while (next < count && rows[static_cast<std::size_t>(next)].timeline == rows[static_cast<std::size_t>(end)].timeline) ++next;
      if (tiled(next - end)) break;
      end = next;
    }
    for (std::int64_t at = first; at < end; at += kDecodeRows) {
      const std::int64_t n = std::min(kDecodeRows, end - at);
      attend(w.projected.as<const float>() + at * s.total(), n, s, config_.attention_scale, w.info.as<const RowInfo>() + at, cache, w.splits, w.partial.as<float>(),
             mixed_at(at, joins_codes(count)), device_->stream());
    }
    first = end;
  }
}

/// Room for attention of many tokens over `positions`; doubled each time so that a growing timeline seldom comes here.
Result<void> Stage::grow_prefill(std::int64_t positions) {
  Workspace& w = work_;
  const AttentionShape s = shape();
  if (positions > w.gathered) {
    const std::int64_t room = (std::min(std::max(positions, 2 * w.gathered), config_.context) + kPagePositions - 1) / kPagePositions * kPagePositions;
    if (const auto idle = device_->wait(); !idle) return idle.error();
    const std::int64_t value_room = config_.latent.rank > 0 ? 0 : room;  // Latent keys begin with their values.
    for (auto [to, bytes] : {std::pair{&w.keys, s.kv_heads * room * s.key_length * 2}, {&w.values, s.kv_heads * value_room * s.value_length * 2}}) {
      *to = DeviceBuffer();
      auto buffer = device_->allocate(static_cast<std::uint64_t>(bytes));
      if (!buffer) return w.gathered = 0, buffer.error();
      *to = std::move(*buffer);
    }
    w.gathered = room;
  }
  // One token's scores always fit: heads * context floats.
  const std::uint64_t row = static_cast<std::uint64_t>(s.heads * w.gathered) * 4, bytes = std::max(row, kScoreBytes / row * row);
  if (w.scores.bytes() >= row && w.scores.bytes() >= std::min<std::uint64_t>(bytes, kBatch * row)) return {};
  const std::uint64_t take = std::min<std::uint64_t>(bytes, kBatch * row);
  // The scores last: their size says that all are there.
  w.scores = DeviceBuffer();
  for (auto [to, size] : {std::pair{&w.weights, take / 2}, {&w.queries, static_cast<std::uint64_t>(kBatch * s.heads * s.key_length * 2)},
                          {&w.blended, static_cast<std::uint64_t>(kBatch * s.heads * s.value_length * 4)}, {&w.scores, take}}) {
    *to = DeviceBuffer();
    auto buffer = device_->allocate(size);
    if (!buffer) return buffer.error();
    *to = std::move(*buffer);
  }
  return {};
}

void Stage::mix_prefill(const KvView& cache, std::span<const Row> rows, std::int64_t first) {
  Workspace& w = work_;
  const AttentionShape s = shape();
  const std::int64_t group = s.heads / s.kv_heads, length = rows.back().position + 1;
  const std::int64_t stride = (length + 7) / 8 * 8;  // Matrix products want rows of 16 bytes.
  auto* keys = w.keys.as<std::uint16_t>();
  auto* values = w.values.as<std::uint16_t>();
  const std::int32_t* pages = w.tables.as<const std::int32_t>() + w.starts[static_cast<std::size_t>(first)];
  gather_cache(cache, pages, s, length, stride, keys, values, device_->stream());
  const std::int64_t most = std::max<std::int64_t>(1, static_cast<std::int64_t>(w.scores.bytes()) / (4 * s.heads * stride));
  for (std::int64_t at = 0; at < static_cast<std::int64_t>(rows.size()); at += most) {
    const std::int64_t n = std::min(most, static_cast<std::int64_t>(rows.size()) - at), lines = n * group;
    gather_queries(w.projected.as<const float>() + (first + at) * s.total(), n, s, config_.attention_scale, w.queries.as<std::uint16_t>(), device_->stream());
    MatrixProduct scores;  // (kv_heads) x (n * group, length) = queries * keys
    scores.a = w.queries.as<const std::uint16_t>();
    scores.b = keys;
    scores.c = w.scores.as<float>();
    scores.b_turned = !cache.latent;
    scores.count = lines;
    scores.rows = scores.c_length = stride;
    scores.b_length = cache.latent ? s.key_length : stride;
    scores.columns = scores.a_length = s.key_length;
    scores.a_step = lines * s.key_length;
    scores.b_step = s.key_length * stride;
    scores.c_step = lines * stride;
    scores.batch = s.kv_heads;
    device_->multiply(scores);
    causal_softmax(scores.c, s.kv_heads * lines, n, group, rows[static_cast<std::size_t>(at)].position, stride, w.weights.as<std::uint16_t>(),
                   device_->stream());
    MatrixProduct blend;  // (kv_heads) x (n * group, value_length) = weights * values
    blend.a = w.weights.as<const std::uint16_t>();
    blend.b = cache.latent ? keys : values;
    blend.c = w.blended.as<float>();
    blend.b_turned = true;
    blend.count = lines;
    blend.rows = blend.c_length = s.value_length;
    blend.b_length = cache.latent ? s.key_length : s.value_length;
    blend.columns = length;
    blend.a_length = stride;
    blend.a_step = lines * stride;
    blend.b_step = length * s.value_length;
    blend.c_step = lines * s.value_length;
    blend.batch = s.kv_heads;
    device_->multiply(blend);
    scatter_mixed(blend.c, n, s, w.mixed.as<float>() + (first + at) * s.heads * s.value_length, device_->stream());
  }
}

void Stage::feed_forward(const Layer& l, std::int64_t index, std::int64_t n) {
  Workspace& w = work_;
  const bool routed = config_.is_expert_layer(index);
  const std::int64_t width = config_.width, inner = routed ? config_.experts.shared : config_.feed_forward;
  rms_norm(w.stream.as<const float>(), n, width, l.feed_forward_norm.data(), config_.norm_epsilon, target(w.normed.as<float>()), device_->stream());
  if (routed) choose_experts(l, n);
  if (inner > 0) {
    const ProductView in[] = {{l.gate.view, nullptr, w.gate.as<float>(), inner, false}, {l.up.view, nullptr, w.up.as<float>(), inner, false}};
    project(in, view(w.normed.as<const float>(), n, width));
    silu_mul(w.gate.as<const float>(), w.up.as<const float>(), n, inner, target(w.gate.as<float>()), device_->stream());
    const ProductView out[] = {{l.down.view, nullptr, (routed ? w.shared : w.stream).as<float>(), width, !routed}};
    project(out, view(w.gate.as<const float>(), n, inner));
  }
  if (routed) add_routed(l, n);
}

Result<void> Stage::write_outputs(std::span<const Row> rows) {
  device_->use();
  Workspace& w = work_;
  const std::int64_t width = config_.width, vocabulary = config_.vocabulary;
  float* normed = w.normed.as<float>();
  if (std::any_of(rows.begin(), rows.end(), [](const Row& row) { return row.hidden; })) {
    rms_norm(w.stream.as<const float>(), static_cast<std::int64_t>(rows.size()), width, final_norm_.data(), config_.norm_epsilon,
             {normed, nullptr, nullptr, nullptr}, device_->stream());
    for (std::size_t i = 0; i < rows.size(); ++i)
      if (rows[i].hidden) device_->copy_out(rows[i].hidden, normed + static_cast<std::int64_t>(i) * width, static_cast<std::uint64_t>(width) * 4);
    if (const auto done = device_->wait(); !done) return done.error();
  }
  std::vector<std::int32_t> index;
  std::vector<const Row*> wanted;
  for (std::size_t i = 0; i < rows.size(); ++i)
    if (rows[i].logits) {
      index.push_back(static_cast<std::int32_t>(i));
      wanted.push_back(&rows[i]);
    }
  for (std::size_t first = 0; first < index.size(); first += kDecodeRows) {
    const auto n = static_cast<std::int64_t>(std::min<std::size_t>(kDecodeRows, index.size() - first));
    const auto part = std::span(wanted).subspan(first, static_cast<std::size_t>(n));
    device_->copy_in(w.index.data(), index.data() + first, static_cast<std::uint64_t>(n) * 4);
    device_->start_clock();
    gather_rows(w.stream.as<const float>(), w.index.as<const std::int32_t>(), n, width, w.picked.as<float>(), device_->stream());
    rms_norm(w.picked.as<const float>(), n, width, final_norm_.data(), config_.norm_epsilon, target(normed), device_->stream());
    ProductsView products;
    products.product[products.count++] = {output_.view.rows > 0 ? output_.view : embedding_.view, nullptr, w.logits.as<float>(), vocabulary, false};
    multiply(products, view(normed, n, width), device_->stream());
    device_->stop_clock();
    start_shortlists(part);
    for (std::int64_t i = 0; i < n; ++i)
      if (const Row& row = *part[static_cast<std::size_t>(i)]; !row.shortlist)
        device_->copy_out(row.logits, w.logits.as<float>() + i * vocabulary, static_cast<std::uint64_t>(vocabulary) * 4);
    if (const auto done = device_->wait(); !done) return done.error();
    if (const auto taken = take_shortlists(part); !taken) return taken.error();
  }
  return {};
}

}  // namespace kontor::inference::cuda
