#include "inference/decoder.hpp"

#include "inference/cpu/cores.hpp"
#include "inference/decoder_parts.hpp"
#include "inference/dequantize.hpp"
#include "inference/expert_store.hpp"

#include <algorithm>
#include <cmath>
#include <cstring>

namespace kontor::inference {
namespace {

/// Tokens computed together: large enough that weights are read once for many, small enough for the caches.
constexpr std::int64_t kBatch = 256;
/// Layer norm of the BERT family. Few and small: kept simple, in double precision.
void layer_norm(float* x, const float* weight, const float* bias, double epsilon, std::int64_t n) {
  double mean = 0, variance = 0;
  for (std::int64_t i = 0; i < n; ++i) mean += double{x[i]};
  mean /= static_cast<double>(n);
  for (std::int64_t i = 0; i < n; ++i) variance += (double{x[i]} - mean) * (double{x[i]} - mean);
  const double scale = 1 / std::sqrt(variance / static_cast<double>(n) + epsilon);
  for (std::int64_t i = 0; i < n; ++i)
    x[i] = static_cast<float>((double{x[i]} - mean) * scale * double{weight[i]} + (bias ? double{bias[i]} : 0.0));
}

/// The exact form, not its tanh approximation.
void gelu(float* x, std::int64_t n) {
  for (std::int64_t i = 0; i < n; ++i) x[i] = 0.5f * x[i] * (1.0f + std::erf(x[i] * 0.70710678f));
}

}  // namespace

Decoder::Decoder(const WeightFile& file, ModelConfig config, const BackendOptions& options)
    : file_(file), config_(std::move(config)), compute_(options.compute), kv_(options.kv), kernels_(&cpu::best_kernels()), expert_limit_(options.expert_bytes) {
  if (const cpu::KernelSet* named = cpu::find_kernels(options.kernels)) kernels_ = named;
  set_threads(options.threads);
}

Decoder::~Decoder() = default;

void Decoder::set_threads(int threads) {
  const int wanted = threads > 0 ? threads : cpu::available_cores();
  if (!pool_ || pool_->threads() != wanted) pool_ = std::make_unique<cpu::ThreadPool>(wanted);
}

KvShape Decoder::kv_shape() const {
  const KvElement element = compute_ == Compute::f32 ? KvElement::f32 : kv_ == KvType::q8_0 ? KvElement::q8_0 : KvElement::f16;
  return {config_.layers, config_.kv_heads, config_.key_length, config_.value_length, element};
}

std::unique_ptr<Sequence> Decoder::create_sequence() { return std::make_unique<Timeline>(kv_shape()); }

std::string Decoder::arithmetic() const {
  if (compute_ == Compute::f32) return "cpu " + std::string(kernels_->name) + " f32";
  return "cpu " + std::string(kernels_->name) + " native" + (kv_ == KvType::f16 ? "" : " kv " + std::string(to_string(kv_)));
}

Result<KvPageRef> Decoder::load_page(std::span<const std::byte> content) {
  auto page = HostPage::create(page_bytes());
  if (!page) return fail(Errc::memory, "no memory left for the KV cache", "out_of_memory");
  std::memcpy(page->data(), content.data(), std::min<std::size_t>(content.size(), page_bytes()));
  return KvPageRef(std::move(page));
}

std::uint64_t Decoder::weight_bytes_per_token() const {
  const auto bytes = [](const FeedForward& f) { return f.gate.bytes() + f.up.bytes() + f.down.bytes(); };
  std::uint64_t total = output_.bytes();
  for (const Layer& l : layers_) {
    for (const cpu::Matrix* m : {&l.query, &l.key, &l.value, &l.output}) total += m->bytes();
    if (l.latent) {
      total += l.latent->query_down.bytes() + l.latent->keys_down.bytes();
      for (const cpu::Matrix& m : l.latent->key_heads) total += m.bytes();
      for (const cpu::Matrix& m : l.latent->value_heads) total += m.bytes();
    }
    total += bytes(l.dense);
    if (l.routed)
      total += l.routed->router.bytes() + bytes(l.routed->shared) +
               bytes(l.routed->experts.front()) * static_cast<std::uint64_t>(config_.experts.used);
  }
  return total;
}

Result<void> Decoder::forward(std::span<const Extension> extensions) {
  // Everything that can fail is done before the first sequence changes.
  const bool encoder = config_.architecture->encoder;
  for (const Extension& extension : extensions) {
    auto& timeline = static_cast<Timeline&>(*extension.sequence);
    if (encoder && (extension.output == Output::last_logits || extension.output == Output::all_logits))
      return fail(Errc::unsupported, "a model of architecture " + std::string(config_.architecture->name) + " computes embeddings, not next tokens", "no_logits");
    if (encoder && timeline.length() > 0)
      return fail(Errc::usage, "an encoder sees its text at once; nothing can be appended", "not_appendable");
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
      const std::int64_t position = timeline.length() + static_cast<std::int64_t>(i);
      Row row{&timeline, position, encoder ? static_cast<std::int64_t>(n) : position + 1, extension.tokens[i], nullptr, nullptr};
      if (extension.output == Output::all_hidden) row.hidden = extension.out + static_cast<std::int64_t>(i) * config_.width;
      if (extension.output == Output::all_logits) row.logits = extension.out + static_cast<std::int64_t>(i) * config_.vocabulary;
      if (extension.output == Output::last_logits && i + 1 == n) row.logits = extension.out;
      rows.push_back(row);
    }
  }
  for (std::size_t at = 0, count; at < rows.size(); at += count) {
    count = std::min<std::size_t>(kBatch, rows.size() - at);
    if (encoder) count = static_cast<std::size_t>(rows[at].visible);  // The whole text: its tokens need each other.
    if (const auto done = run_batch(std::span(rows).subspan(at, count)); !done) return done.error();
  }
  for (const Extension& extension : extensions) {
    auto& timeline = static_cast<Timeline&>(*extension.sequence);
    timeline.positions += static_cast<std::int64_t>(extension.tokens.size());
  }
  return {};
}

Result<void> Decoder::run_batch(std::span<const Row> rows) {
  if (!scratch_->reserve(static_cast<std::int64_t>(rows.size()), config_, pool_->threads(), cpu::usable(forms_, *kernels_), kv_shape().element))
    return fail(Errc::memory, "no memory left for activations", "out_of_memory");
  embed(rows);
  for (std::int64_t i = 0; i < config_.layers; ++i) {
    const Layer& layer = layers_[static_cast<std::size_t>(i)];
    attention(layer, i, rows);
    feed_forward(layer, i, static_cast<std::int64_t>(rows.size()));
  }
  write_outputs(rows);
  return {};
}

void Decoder::embed(std::span<const Row> rows) {
  Scratch& s = *scratch_;
  const std::int64_t pairs = config_.rope.dimensions / 2;
  for (std::size_t i = 0; i < rows.size(); ++i) {
    float* state = s.stream.data() + static_cast<std::int64_t>(i) * config_.width;
    (void)dequantize_row(*embedding_, rows[i].token, state);
    if (position_vectors_) {
      (void)dequantize_row(*position_vectors_, rows[i].position, s.step.data());
      kernels_->add(state, s.step.data(), config_.width);
    }
    if (!type_vector_.empty()) kernels_->add(state, type_vector_.data(), config_.width);
    if (embedding_norm_) layer_norm(state, embedding_norm_, embedding_norm_bias_, config_.norm_epsilon, config_.width);
    float* table = s.rotation.data() + static_cast<std::int64_t>(i) * 2 * pairs;
    for (std::int64_t p = 0; p < pairs; ++p) {
      const double angle = static_cast<double>(rows[i].position) * config_.rope.frequencies[static_cast<std::size_t>(p)];
      table[p] = static_cast<float>(std::cos(angle)) * config_.rope.magnitude;
      table[pairs + p] = static_cast<float>(std::sin(angle)) * config_.rope.magnitude;
    }
  }
}

cpu::Activations Decoder::prepare(const float* values, std::int64_t count, std::int64_t columns, cpu::ActivationForm form) {
  cpu::Activations result{values, {}, nullptr, count};
  form = cpu::usable(form, *kernels_);
  scratch_->converted.lend(result, columns, form);
  cpu::convert_rows(result, columns, form, *kernels_, *pool_);
  return result;
}

const float* Decoder::normed_input(const float* norm, std::int64_t rows) {
  Scratch& s = *scratch_;
  if (config_.architecture->encoder) return s.stream.data();
  pool_->parallel_for(rows, 4, [&](std::int64_t begin, std::int64_t end, int) {
    for (std::int64_t i = begin; i < end; ++i)
      kernels_->rms_norm(s.stream.data() + i * config_.width, norm, config_.norm_epsilon, config_.width, s.normed.data() + i * config_.width);
  });
  return s.normed.data();
}

void Decoder::add_to_stream(const float* values, const float* bias, const float* norm, const float* norm_bias, std::int64_t rows) {
  const std::int64_t width = config_.width;
  pool_->parallel_for(rows, 16, [&](std::int64_t begin, std::int64_t end, int) {
    for (std::int64_t i = begin; i < end; ++i) {
      float* state = scratch_->stream.data() + i * width;
      if (bias) kernels_->add(state, bias, width);
      kernels_->add(state, values + i * width, width);
      if (config_.architecture->encoder) layer_norm(state, norm, norm_bias, config_.norm_epsilon, width);
    }
  });
}

void Decoder::rotate(float* head, std::int64_t row) const {
  const std::int64_t pairs = config_.rope.dimensions / 2;
  const float* cosine = scratch_->rotation.data() + row * 2 * pairs;
  const float* sine = cosine + pairs;
  const bool halves = config_.rope_pairs == RopePairs::halves;
  const std::int64_t step = halves ? 1 : 2, gap = halves ? pairs : 1;
  const bool reorder = config_.rope_pairs == RopePairs::halves_to_adjacent;
  if (reorder) {
    // Results and cache are then the same, bit for bit, as those of a file whose rows are in the other order.
    static thread_local std::vector<float> turned;
    turned.assign(head, head + 2 * pairs);
    for (std::int64_t p = 0; p < pairs; ++p) head[2 * p] = turned[static_cast<std::size_t>(p)], head[2 * p + 1] = turned[static_cast<std::size_t>(pairs + p)];
  }
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
  const float* input = normed_input(layer.attention_norm, n);
  if (layer.latent) project_latent(layer, index, rows, input);
  else project(layer, index, rows, input);
  attend(index, rows);
  const float* values = layer.latent ? expand_values(layer, n) : s.mixed.data();
  const cpu::Activations mixed = prepare(values, n, layer.output.columns(), layer.output.activations());
  const cpu::Product out[] = {{&layer.output, s.step.data(), config_.width}};
  cpu::multiply(out, mixed, *kernels_, *pool_);
  add_to_stream(s.step.data(), layer.output_bias, layer.attention_norm, layer.attention_norm_bias, n);
}

void Decoder::project(const Layer& layer, std::int64_t index, std::span<const Row> rows, const float* input) {
  Scratch& s = *scratch_;
  const auto n = static_cast<std::int64_t>(rows.size());
  const std::int64_t length = config_.key_length;
  const std::int64_t q_size = config_.heads * length, k_size = config_.kv_heads * length,
                     v_size = config_.kv_heads * config_.value_length, total = q_size + k_size + v_size;
  const cpu::ActivationForm form = layer.query.activations() | layer.key.activations() | layer.value.activations();
  float* projected = s.projected.data();
  const cpu::Product products[] = {
      {&layer.query, projected, total}, {&layer.key, projected + q_size, total}, {&layer.value, projected + q_size + k_size, total}};
  cpu::multiply(products, prepare(input, n, config_.width, form), *kernels_, *pool_);
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
      rows[static_cast<std::size_t>(i)].timeline->cache.store(index, rows[static_cast<std::size_t>(i)].position, k, v, *kernels_);
    }
  });
}

void Decoder::feed_forward(const Layer& layer, std::int64_t index, std::int64_t n) {
  Scratch& s = *scratch_;
  const float* input = normed_input(layer.feed_forward_norm, n);
  if (layer.routed) routed_feed_forward(index, n, s.step.data());
  else feed(layer.dense, prepare(input, n, config_.width, layer.dense.gate.activations() | layer.dense.up.activations()), s.step.data());
  add_to_stream(s.step.data(), layer.dense.down_bias, layer.feed_forward_norm, layer.feed_forward_norm_bias, n);
}

void Decoder::feed(const FeedForward& weights, const cpu::Activations& input, float* out) {
  Scratch& s = *scratch_;
  const std::int64_t n = input.count, inner = weights.up.rows();
  const bool gated = weights.gate.rows() > 0;
  float* active = gated ? s.gate.data() : s.up.data();
  const cpu::Product products[] = {{&weights.up, s.up.data(), inner}, {&weights.gate, s.gate.data(), inner}};
  cpu::multiply(std::span(products).first(gated ? 2 : 1), input, *kernels_, *pool_);
  pool_->parallel_for(n, 4, [&](std::int64_t begin, std::int64_t end, int) {
    for (std::int64_t i = begin; i < end; ++i) {
      if (weights.up_bias) kernels_->add(s.up.data() + i * inner, weights.up_bias, inner);
      if (gated) kernels_->silu_mul(active + i * inner, s.up.data() + i * inner, inner);
      else gelu(active + i * inner, inner);
    }
  });
  const cpu::Product product[] = {{&weights.down, out, config_.width}};
  cpu::multiply(product, prepare(active, n, inner, weights.down.activations()), *kernels_, *pool_);
}

void Decoder::write_outputs(std::span<const Row> rows) {
  Scratch& s = *scratch_;
  const std::int64_t width = config_.width;
  std::vector<float*> wanted;
  for (std::size_t i = 0; i < rows.size(); ++i) {
    const float* state = s.stream.data() + static_cast<std::int64_t>(i) * width;
    if (rows[i].hidden && final_norm_) kernels_->rms_norm(state, final_norm_, config_.norm_epsilon, width, rows[i].hidden);
    else if (rows[i].hidden) std::copy(state, state + width, rows[i].hidden);
    if (!rows[i].logits) continue;
    kernels_->rms_norm(state, final_norm_, config_.norm_epsilon, width, s.normed.data() + static_cast<std::int64_t>(wanted.size()) * width);
    wanted.push_back(rows[i].logits);
  }
  if (wanted.empty()) return;
  const cpu::Activations states = prepare(s.normed.data(), static_cast<std::int64_t>(wanted.size()), width, output_.activations());
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
