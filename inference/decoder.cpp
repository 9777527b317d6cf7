#include "inference/decoder.hpp"

#include "inference/decoder_parts.hpp"
#include "inference/dequantize.hpp"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <thread>

namespace kontor::inference {
namespace {

/// Tokens computed together: large enough that weights are read once for many, small enough for the caches.
constexpr std::int64_t kBatch = 256;
/// Attention that one thread computes sooner than it is handed to others, in multiply-adds.
constexpr std::int64_t kAttentionAlone = 300'000;

}  // namespace

Decoder::Decoder(const WeightFile& file, ModelConfig config, const BackendOptions& options)
    : file_(file), config_(std::move(config)), compute_(options.compute), kernels_(&cpu::best_kernels()) {
  if (const cpu::KernelSet* named = cpu::find_kernels(options.kernels)) kernels_ = named;
  set_threads(options.threads);
}

Decoder::~Decoder() = default;

void Decoder::set_threads(int threads) {
  const int wanted = threads > 0 ? threads : static_cast<int>(std::max(1u, std::thread::hardware_concurrency()));
  if (!pool_ || pool_->threads() != wanted) pool_ = std::make_unique<cpu::ThreadPool>(wanted);
}

KvShape Decoder::kv_shape() const {
  return {config_.layers, config_.kv_heads, config_.key_length, config_.value_length, compute_ == Compute::native};
}

std::unique_ptr<Sequence> Decoder::create_sequence() { return std::make_unique<Timeline>(kv_shape()); }

Result<KvPageRef> Decoder::load_page(std::span<const std::byte> content) {
  auto page = HostPage::create(page_bytes());
  if (!page) return fail(Errc::memory, "no memory left for the KV cache", "out_of_memory");
  std::memcpy(page->data(), content.data(), std::min<std::size_t>(content.size(), page_bytes()));
  return KvPageRef(std::move(page));
}

std::uint64_t Decoder::weight_bytes_per_token() const {
  std::uint64_t total = output_.bytes();
  for (const Layer& l : layers_)
    for (const cpu::Matrix* m : {&l.query, &l.key, &l.value, &l.output, &l.gate, &l.up, &l.down}) total += m->bytes();
  return total;
}

Result<void> Decoder::forward(std::span<const Extension> extensions) {
  // Everything that can fail is done before the first sequence changes.
  for (const Extension& extension : extensions) {
    auto& timeline = static_cast<Timeline&>(*extension.sequence);
    for (const TokenId token : extension.tokens)
      if (token < 0 || token >= config_.vocabulary)
        return fail(Errc::usage, "token " + std::to_string(token) + " is outside the vocabulary of " +
                    std::to_string(config_.vocabulary), "bad_token");
    const std::int64_t end = timeline.length() + static_cast<std::int64_t>(extension.tokens.size());
    if (end > config_.context)
      return fail(Errc::limit, std::to_string(end) + " tokens do not fit into the context of " + std::to_string(config_.context),
                  "context_full");
    if (const auto reserved = timeline.cache.reserve(timeline.length(), end); !reserved) return reserved.error();
  }
  std::vector<Row> rows;
  for (const Extension& extension : extensions) {
    auto& timeline = static_cast<Timeline&>(*extension.sequence);
    const std::size_t n = extension.tokens.size();
    for (std::size_t i = 0; i < n; ++i) {
      Row row{&timeline, timeline.length() + static_cast<std::int64_t>(i), extension.tokens[i], nullptr, nullptr};
      if (extension.output == Output::all_hidden) row.hidden = extension.out + static_cast<std::int64_t>(i) * config_.width;
      if (extension.output == Output::all_logits) row.logits = extension.out + static_cast<std::int64_t>(i) * config_.vocabulary;
      if (extension.output == Output::last_logits && i + 1 == n) row.logits = extension.out;
      rows.push_back(row);
    }
  }
  for (std::size_t at = 0; at < rows.size(); at += kBatch) {
    const auto done = run_batch(std::span(rows).subspan(at, std::min<std::size_t>(kBatch, rows.size() - at)));
    if (!done) return done.error();
  }
  for (const Extension& extension : extensions) {
    auto& timeline = static_cast<Timeline&>(*extension.sequence);
    timeline.positions += static_cast<std::int64_t>(extension.tokens.size());
  }
  return {};
}

Result<void> Decoder::run_batch(std::span<const Row> rows) {
  std::int64_t longest = 0;
  for (const Row& row : rows) longest = std::max(longest, row.position + 1);
  if (!scratch_->reserve(static_cast<std::int64_t>(rows.size()), longest, config_, pool_->threads()))
    return fail(Errc::memory, "no memory left for activations", "out_of_memory");
  embed(rows);
  for (std::int64_t i = 0; i < config_.layers; ++i) {
    const Layer& layer = layers_[static_cast<std::size_t>(i)];
    attention(layer, i, rows);
    feed_forward(layer, static_cast<std::int64_t>(rows.size()));
  }
  write_outputs(rows);
  return {};
}

void Decoder::embed(std::span<const Row> rows) {
  Scratch& s = *scratch_;
  const std::int64_t pairs = config_.rope.dimensions / 2;
  for (std::size_t i = 0; i < rows.size(); ++i) {
    (void)dequantize_row(*embedding_, rows[i].token, s.stream.data() + static_cast<std::int64_t>(i) * config_.width);
    float* table = s.rotation.data() + static_cast<std::int64_t>(i) * 2 * pairs;
    for (std::int64_t p = 0; p < pairs; ++p) {
      const double angle = static_cast<double>(rows[i].position) * config_.rope.frequencies[static_cast<std::size_t>(p)];
      table[p] = static_cast<float>(std::cos(angle)) * config_.rope.magnitude;
      table[pairs + p] = static_cast<float>(std::sin(angle)) * config_.rope.magnitude;
    }
  }
}

cpu::Activations Decoder::prepare(const float* values, std::int64_t count, std::int64_t columns, bool quantized) {
  cpu::Activations result{values, {}, count};
  if (quantized) {
    Scratch& s = *scratch_;
    result.quantized = {s.codes.data(), s.scales.data(), s.sums.data(), s.half_sums.data(), columns};
    cpu::quantize_rows(result, *kernels_, *pool_);
  }
  return result;
}

void Decoder::rotate(float* head, std::int64_t row) const {
  const std::int64_t pairs = config_.rope.dimensions / 2;
  const float* cosine = scratch_->rotation.data() + row * 2 * pairs;
  const float* sine = cosine + pairs;
  const bool halves = config_.architecture->rope_pairs == RopePairs::halves;
  const std::int64_t step = halves ? 1 : 2, gap = halves ? pairs : 1;
  for (std::int64_t p = 0; p < pairs; ++p) {
    float& a = head[p * step];
    float& b = head[p * step + gap];
    const float x = a, y = b;
    a = x * cosine[p] - y * sine[p];
    b = x * sine[p] + y * cosine[p];
  }
}

void Decoder::attention(const Layer& layer, std::int64_t index, std::span<const Row> rows) {
  Scratch& s = *scratch_;
  const auto n = static_cast<std::int64_t>(rows.size());
  const std::int64_t width = config_.width, length = config_.key_length;
  const std::int64_t q_size = config_.heads * length, k_size = config_.kv_heads * length,
                     v_size = config_.kv_heads * config_.value_length, total = q_size + k_size + v_size;
  pool_->parallel_for(n, 4, [&](std::int64_t begin, std::int64_t end, int) {
    for (std::int64_t i = begin; i < end; ++i)
      kernels_->rms_norm(s.stream.data() + i * width, layer.attention_norm, config_.norm_epsilon, width, s.normed.data() + i * width);
  });
  const bool quantized = layer.query.packed() || layer.key.packed() || layer.value.packed();
  const cpu::Activations input = prepare(s.normed.data(), n, width, quantized);
  float* projected = s.projected.data();
  const cpu::Product products[] = {
      {&layer.query, projected, total}, {&layer.key, projected + q_size, total}, {&layer.value, projected + q_size + k_size, total}};
  cpu::multiply(products, input, *kernels_, *pool_);
  pool_->parallel_for(n, 4, [&](std::int64_t begin, std::int64_t end, int) {
    for (std::int64_t i = begin; i < end; ++i) {
      float* q = projected + i * total;
      float* k = q + q_size;
      float* v = k + k_size;
      if (layer.query_bias) kernels_->add(q, layer.query_bias, q_size);
      if (layer.key_bias) kernels_->add(k, layer.key_bias, k_size);
      if (layer.value_bias) kernels_->add(v, layer.value_bias, v_size);
      for (std::int64_t h = 0; h < config_.heads + config_.kv_heads; ++h) {
        float* head = q + h * length;  // Keys follow the queries.
        const float* norm = h < config_.heads ? layer.query_norm : layer.key_norm;
        if (norm) kernels_->rms_norm(head, norm, config_.norm_epsilon, length, head);
        rotate(head, i);
      }
      rows[static_cast<std::size_t>(i)].timeline->cache.store(index, rows[static_cast<std::size_t>(i)].position, k, v);
    }
  });
  attend(index, rows);
  const cpu::Activations mixed = prepare(s.mixed.data(), n, config_.heads * config_.value_length, layer.output.packed());
  const cpu::Product out[] = {{&layer.output, s.normed.data(), width}};
  cpu::multiply(out, mixed, *kernels_, *pool_);
  for (std::int64_t i = 0; i < n; ++i) {
    if (layer.output_bias) kernels_->add(s.stream.data() + i * width, layer.output_bias, width);
    kernels_->add(s.stream.data() + i * width, s.normed.data() + i * width, width);
  }
}

void Decoder::attend(std::int64_t layer, std::span<const Row> rows) {
  const std::vector<QueryBlock> blocks = query_blocks(rows.size(), [&](std::size_t i) { return rows[i].timeline; },
                                                      config_.heads / config_.kv_heads);
  const std::int64_t units = static_cast<std::int64_t>(blocks.size()) * config_.kv_heads;
  // Short timelines are done sooner by one thread than handed to another.
  std::int64_t places = 0;
  for (const Row& row : rows) places += row.position + 1;
  const bool alone = places * config_.heads * (config_.key_length + config_.value_length) < kAttentionAlone;
  pool_->parallel_for(units, alone ? units : 1, [&](std::int64_t begin, std::int64_t end, int thread) {
    for (std::int64_t unit = begin; unit < end; ++unit) {
      const QueryBlock& block = blocks[static_cast<std::size_t>(unit / config_.kv_heads)];
      attend_block(layer, unit % config_.kv_heads, rows.subspan(block.first, block.count),
                   static_cast<std::int64_t>(block.first), thread);
    }
  });
}

void Decoder::feed_forward(const Layer& layer, std::int64_t n) {
  Scratch& s = *scratch_;
  const std::int64_t width = config_.width, inner = config_.feed_forward;
  pool_->parallel_for(n, 4, [&](std::int64_t begin, std::int64_t end, int) {
    for (std::int64_t i = begin; i < end; ++i)
      kernels_->rms_norm(s.stream.data() + i * width, layer.feed_forward_norm, config_.norm_epsilon, width, s.normed.data() + i * width);
  });
  const cpu::Activations input = prepare(s.normed.data(), n, width, layer.gate.packed() || layer.up.packed());
  const cpu::Product products[] = {{&layer.gate, s.gate.data(), inner}, {&layer.up, s.up.data(), inner}};
  cpu::multiply(products, input, *kernels_, *pool_);
  pool_->parallel_for(n, 4, [&](std::int64_t begin, std::int64_t end, int) {
    for (std::int64_t i = begin; i < end; ++i) kernels_->silu_mul(s.gate.data() + i * inner, s.up.data() + i * inner, inner);
  });
  const cpu::Activations activated = prepare(s.gate.data(), n, inner, layer.down.packed());
  const cpu::Product out[] = {{&layer.down, s.normed.data(), width}};
  cpu::multiply(out, activated, *kernels_, *pool_);
  for (std::int64_t i = 0; i < n; ++i) kernels_->add(s.stream.data() + i * width, s.normed.data() + i * width, width);
}

void Decoder::write_outputs(std::span<const Row> rows) {
  Scratch& s = *scratch_;
  const std::int64_t width = config_.width;
  std::vector<float*> wanted;
  for (std::size_t i = 0; i < rows.size(); ++i) {
    const float* state = s.stream.data() + static_cast<std::int64_t>(i) * width;
    if (rows[i].hidden) kernels_->rms_norm(state, final_norm_, config_.norm_epsilon, width, rows[i].hidden);
    if (!rows[i].logits) continue;
    kernels_->rms_norm(state, final_norm_, config_.norm_epsilon, width, s.normed.data() + static_cast<std::int64_t>(wanted.size()) * width);
    wanted.push_back(rows[i].logits);
  }
  if (wanted.empty()) return;
  const cpu::Activations states = prepare(s.normed.data(), static_cast<std::int64_t>(wanted.size()), width, output_.packed());
  // The rows of one extension lie behind one another in the caller's memory; others get a product of their own.
  for (std::size_t first = 0; first < wanted.size();) {
    std::size_t last = first + 1;
    while (last < wanted.size() && wanted[last] == wanted[last - 1] + config_.vocabulary) ++last;
    const cpu::Activations part = slice(states, static_cast<std::int64_t>(first), static_cast<std::int64_t>(last - first), width);
    const cpu::Product product[] = {{&output_, wanted[first], config_.vocabulary}};
    cpu::multiply(product, part, *kernels_, *pool_);
    first = last;
  }
}

}  // namespace kontor::inference
