// Attention over the pages of the KV cache. Positions are taken in spans of fixed length; each span gives a partial
// result (softmax without its denominator), and partial results are merged in the order of positions. Spans begin at
// multiples of their length, so that a token's result depends neither on its batch nor on the number of threads, and a
// long timeline can be shared out among more threads than there are key heads. (Flash decoding: Dao et al., 2023.)

#include "inference/decoder_parts.hpp"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <new>

namespace kontor::inference {
namespace {

/// Positions of a span: a multiple of the page. The scores of a block of queries fit into the first-level cache.
constexpr std::int64_t kSpan = 8 * cpu::kPage;
/// About this many queries pass over the keys together.
constexpr std::int64_t kQueries = 24;
/// How queries meet keys in codes.
constexpr cpu::ActivationForm kCodedQueries{true, false, false};
/// Attention that one thread computes sooner than it is handed to others, in multiply-adds.
constexpr std::int64_t kAttentionAlone = 300'000;

/// What some positions contribute to queries: out = mixed / total once all are merged. Weights are e^(score - top).
struct Partial {
  float* top;    ///< (queries)
  float* total;  ///< (queries)
  float* mixed;  ///< (queries, value_length)

  static std::int64_t floats(std::int64_t queries, std::int64_t value_length) { return queries * (value_length + 2); }
  static Partial at(float* memory, std::int64_t queries) { return {memory, memory + queries, memory + 2 * queries}; }
};

/// Adds `part`, which belongs to later positions, to `sum`.
void merge(const Partial& part, const Partial& sum, std::int64_t query, std::int64_t value_length) {
  const float top = std::max(sum.top[query], part.top[query]);
  const float kept = std::exp(sum.top[query] - top), added = std::exp(part.top[query] - top);
  sum.top[query] = top;
  sum.total[query] = sum.total[query] * kept + part.total[query] * added;
  float* into = sum.mixed + query * value_length;
  const float* from = part.mixed + query * value_length;
  for (std::int64_t i = 0; i < value_length; ++i) into[i] = into[i] * kept + from[i] * added;
}

}  // namespace

/// Queries that pass over the keys together: some heads of one key head, for neighbouring rows of one timeline.
struct Decoder::AttentionUnit {
  std::span<const Row> rows;
  std::int64_t first_row;
  std::int64_t kv_head;
  std::int64_t first_head, heads;  ///< Among those that share the key head.

  std::int64_t queries() const { return heads * static_cast<std::int64_t>(rows.size()); }
  std::int64_t longest() const { return rows.back().visible; }
  std::int64_t spans() const { return (longest() + kSpan - 1) / kSpan; }
};

bool Decoder::Scratch::reserve(std::int64_t rows, const ModelConfig& c, int threads, cpu::ActivationForm form, KvElement element) {
  const auto grow = [](auto& vector, std::int64_t size) {
    if (static_cast<std::int64_t>(vector.size()) < size) vector.resize(static_cast<std::size_t>(size));
  };
  const std::int64_t mixed_width = c.heads * c.value_length;
  const LatentShape& latent = c.latent;
  const std::int64_t inner = std::max({c.feed_forward, c.experts.shared, c.experts.feed_forward});
  const std::int64_t widest = std::max({c.width, mixed_width, inner, latent.query_rank, c.heads * latent.value});
  try {
    grow(stream, rows * c.width);
    grow(normed, rows * c.width);
    grow(rotation, rows * c.rope.dimensions);
    grow(projected, rows * (c.heads * c.key_length + c.kv_heads * (c.key_length + c.value_length)));
    grow(mixed, rows * mixed_width);
    grow(gate, rows * inner);
    grow(up, rows * inner);
    grow(step, rows * c.width);
    converted.grow(rows * widest, form);
    grow(attention, threads);
    const std::int64_t queries = kQueries, partial = Partial::floats(queries, c.value_length);
    for (Attention& part : attention) {
      grow(part.queries, queries * c.key_length);
      if (element == KvElement::q8_0) part.coded.grow(queries * c.key_length, kCodedQueries);
      grow(part.scores, queries * kSpan);
      grow(part.partials, 2 * partial);
    }
    if (latent.rank > 0) reserve_latent(rows, c, threads, form);
    if (c.experts.count > 0) {
      grow(router, rows * c.experts.count);
      grow(gathered, rows * c.width);
      grow(expert_out, rows * c.width);
    }
  } catch (const std::bad_alloc&) {
    return false;
  }
  return true;
}

void Decoder::attend(std::int64_t layer, std::span<const Row> rows) {
  const std::int64_t group = config_.heads / config_.kv_heads, heads = std::min(group, kQueries);
  const auto rows_max = static_cast<std::size_t>(kQueries / heads);
  std::vector<AttentionUnit> units;
  std::int64_t places = 0, longest = 0;
  for (std::size_t first = 0; first < rows.size();) {
    std::size_t count = 1;
    while (first + count < rows.size() && count < rows_max && rows[first + count].timeline == rows[first].timeline) ++count;
    const auto part = rows.subspan(first, count);
    for (std::int64_t kv_head = 0; kv_head < config_.kv_heads; ++kv_head)
      for (std::int64_t head = 0; head < group; head += heads)
        units.push_back({part, static_cast<std::int64_t>(first), kv_head, head, std::min(heads, group - head)});
    for (const Row& row : part) places += row.visible;
    longest = std::max(longest, part.back().visible);
    first += count;
  }
  const auto count = static_cast<std::int64_t>(units.size());
  const bool alone = places * config_.heads * (config_.key_length + config_.value_length) < kAttentionAlone;
  if (!alone && longest > kSpan && count < 4 * pool_->threads() && pool_->threads() > 1) return attend_split(layer, units);
  pool_->parallel_for(count, alone ? count : 1, [&](std::int64_t begin, std::int64_t end, int thread) {
    for (std::int64_t i = begin; i < end; ++i) attend_unit(layer, units[static_cast<std::size_t>(i)], thread);
  });
}

void Decoder::attend_unit(std::int64_t layer, const AttentionUnit& unit, int thread) {
  const std::int64_t queries = unit.queries(), length = config_.value_length;
  float* memory = scratch_->attention[static_cast<std::size_t>(thread)].partials.data();
  const Partial sum = Partial::at(memory, queries), part = Partial::at(memory + Partial::floats(queries, length), queries);
  for (std::int64_t span = 0; span < unit.spans(); ++span) {
    attend_span(layer, unit, span, thread, (span == 0 ? sum : part).top);
    for (std::int64_t q = 0; span > 0 && q < queries; ++q)
      if (unit.rows[static_cast<std::size_t>(q / unit.heads)].visible > span * kSpan) merge(part, sum, q, length);
  }
  finish_unit(unit, sum.top);
}

/// Few units over long timelines: the spans are shared out, then merged.
void Decoder::attend_split(std::int64_t layer, std::span<const AttentionUnit> units) {
  struct Piece {
    const AttentionUnit* unit;
    std::int64_t span;
    std::size_t offset;
  };
  const std::int64_t length = config_.value_length;
  std::vector<Piece> pieces;
  std::vector<std::size_t> firsts;
  std::size_t size = 0;
  for (const AttentionUnit& unit : units) {
    firsts.push_back(pieces.size());
    for (std::int64_t span = 0; span < unit.spans(); ++span, size += static_cast<std::size_t>(Partial::floats(unit.queries(), length)))
      pieces.push_back({&unit, span, size});
  }
  std::vector<float>& memory = scratch_->split;
  if (memory.size() < size) memory.resize(size);
  pool_->parallel_for(static_cast<std::int64_t>(pieces.size()), 1, [&](std::int64_t begin, std::int64_t end, int thread) {
    for (std::int64_t i = begin; i < end; ++i) {
      const Piece& piece = pieces[static_cast<std::size_t>(i)];
      attend_span(layer, *piece.unit, piece.span, thread, memory.data() + piece.offset);
    }
  });
  for (std::size_t u = 0; u < units.size(); ++u) {
    const AttentionUnit& unit = units[u];
    const Partial sum = Partial::at(memory.data() + pieces[firsts[u]].offset, unit.queries());
    for (std::int64_t span = 1; span < unit.spans(); ++span) {
      const Partial part = Partial::at(memory.data() + pieces[firsts[u] + static_cast<std::size_t>(span)].offset, unit.queries());
      for (std::int64_t q = 0; q < unit.queries(); ++q)
        if (unit.rows[static_cast<std::size_t>(q / unit.heads)].visible > span * kSpan) merge(part, sum, q, length);
    }
    finish_unit(unit, sum.top);
  }
}

void Decoder::score_pages(std::int64_t layer, const AttentionUnit& unit, PageRange pages, int thread) {
  Scratch::Attention& scratch = scratch_->attention[static_cast<std::size_t>(thread)];
  const KvCache& cache = unit.rows.front().timeline->cache;
  const std::int64_t key_length = config_.key_length, queries = unit.queries();
  const bool coded = cache.element() == KvElement::q8_0;
  const auto scores_kernel = cache.element() == KvElement::f16 ? kernels_->scores_f16 : kernels_->scores_f32;
  cpu::Activations coded_queries{scratch.queries.data(), {}, nullptr, queries};
  if (coded) {
    scratch.coded.lend(coded_queries, key_length, kCodedQueries);
    cpu::convert_rows_here(coded_queries, key_length, kCodedQueries, 0, queries, *kernels_);
  }
  for (std::int64_t p = pages.first; p < pages.last; ++p) {
    const void* keys = cache.keys(layer, p, unit.kv_head);
    const void* next = p + 1 < pages.last ? cache.keys(layer, p + 1, unit.kv_head) : cache.values(layer, pages.first, unit.kv_head);
    float* scores = scratch.scores.data() + (p - pages.first) * cpu::kPage;
    if (coded) cpu::multiply_page(keys, next, coded_queries.quantized, queries, scores, kSpan, *kernels_);
    else scores_kernel(scratch.queries.data(), key_length, static_cast<int>(queries), keys, next, static_cast<int>(key_length), scores, kSpan);
  }
}

void Decoder::attend_span(std::int64_t layer, const AttentionUnit& unit, std::int64_t span, int thread, float* out) {
  const ModelConfig& c = config_;
  Scratch::Attention& scratch = scratch_->attention[static_cast<std::size_t>(thread)];
  const std::int64_t group = c.heads / c.kv_heads, key_length = c.key_length, value_length = c.value_length;
  const std::int64_t queries = unit.queries(), begin = span * kSpan, end = std::min(begin + kSpan, unit.longest());
  const Partial part = Partial::at(out, queries);

  const std::int64_t total = c.heads * key_length + c.kv_heads * (key_length + value_length);
  for (std::int64_t i = 0; i < static_cast<std::int64_t>(unit.rows.size()); ++i) {
    const float* from = scratch_->projected.data() + (unit.first_row + i) * total + (unit.kv_head * group + unit.first_head) * key_length;
    std::memcpy(scratch.queries.data() + i * unit.heads * key_length, from, static_cast<std::size_t>(unit.heads * key_length) * sizeof(float));
  }
  const PageRange pages{begin / cpu::kPage, (end + cpu::kPage - 1) / cpu::kPage};
  score_pages(layer, unit, pages, thread);
  for (std::int64_t q = 0; q < queries; ++q) {
    const std::int64_t visible = std::clamp<std::int64_t>(unit.rows[static_cast<std::size_t>(q / unit.heads)].visible - begin, 0, end - begin);
    float* scores = scratch.scores.data() + q * kSpan;
    part.total[q] = visible > 0 ? kernels_->exp_weights(scores, c.attention_scale, visible, &part.top[q]) : 0.0f;
    std::fill(scores + visible, scores + (end - begin), 0.0f);
  }
  std::fill(part.mixed, part.mixed + queries * value_length, 0.0f);
  const KvCache& cache = unit.rows.front().timeline->cache;
  const auto mix_kernel = cache.element() == KvElement::q8_0  ? kernels_->mix_q8
                          : cache.element() == KvElement::f16 ? kernels_->mix_f16
                                                              : kernels_->mix_f32;
  for (std::int64_t p = pages.first; p < pages.last; ++p) {
    const void* next = p + 1 < pages.last ? cache.values(layer, p + 1, unit.kv_head)
                       : end < unit.longest() ? cache.keys(layer, p + 1, unit.kv_head) : nullptr;
    mix_kernel(scratch.scores.data() + (p - pages.first) * cpu::kPage, kSpan, static_cast<int>(queries),
               cache.values(layer, p, unit.kv_head), next, static_cast<int>(value_length),
               static_cast<int>(std::min<std::int64_t>(cpu::kPage, end - p * cpu::kPage)), part.mixed, value_length);
  }
}

void Decoder::finish_unit(const AttentionUnit& unit, const float* merged) {
  const std::int64_t length = config_.value_length, group = config_.heads / config_.kv_heads;
  const float* total = merged + unit.queries();
  const float* mixed = merged + 2 * unit.queries();
  for (std::int64_t q = 0; q < unit.queries(); ++q) {
    const std::int64_t row = unit.first_row + q / unit.heads, head = unit.kv_head * group + unit.first_head + q % unit.heads;
    float* to = scratch_->mixed.data() + (row * config_.heads + head) * length;
    const float share = 1.0f / total[q];
    for (std::int64_t i = 0; i < length; ++i) to[i] = mixed[q * length + i] * share;
  }
}

}  // namespace kontor::inference
