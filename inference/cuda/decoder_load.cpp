#include "inference/cuda/decoder_parts.hpp"

#include <array>
#include <new>

namespace kontor::inference::cuda {
namespace {

/// The architectures whose layers this decoder computes.
constexpr std::array<std::string_view, 3> kKnown = {"llama", "qwen2", "qwen3"};

Error wrong_shape(const Tensor& tensor, std::int64_t columns, std::int64_t rows) {
  return fail(Errc::malformed, printable(tensor.name) + " does not have the shape [" + std::to_string(columns) + ", " + std::to_string(rows) +
              "] that the hyperparameters ask for", "shape_mismatch");
}

std::string mib(std::uint64_t bytes) { return std::to_string((bytes + (1 << 20) - 1) >> 20) + " MiB"; }

}  // namespace

CudaDecoder::CudaDecoder(const WeightFile& file, ModelConfig config, const BackendOptions& options, std::unique_ptr<Device> device)
    : file_(file), config_(std::move(config)), exact_(options.compute == Compute::f32), deterministic_(options.deterministic || exact_),
      device_(std::move(device)) {}

CudaDecoder::~CudaDecoder() = default;

Result<std::unique_ptr<Backend>> CudaDecoder::create(const WeightFile& file, const BackendOptions& options, std::unique_ptr<Device> device) {
  auto config = read_model_config(file);
  if (!config) return config.error();
  if (std::find(kKnown.begin(), kKnown.end(), config->architecture->name) == kKnown.end())
    return fail(Errc::unsupported, "the CUDA backend does not compute the architecture " + std::string(config->architecture->name) +
                " yet; use --device cpu", "unsupported_arch");
  if (config->rope_pairs != RopePairs::adjacent && config->rope_pairs != RopePairs::halves)
    return fail(Errc::unsupported, "the CUDA backend does not compute " + file.path() + ", whose rotary rows are ordered as in Hugging Face's " +
                "llama files; use a GGUF file or --device cpu", "unsupported_arch");
  try {
    std::unique_ptr<CudaDecoder> decoder(new CudaDecoder(file, std::move(*config), options, std::move(device)));
    if (const auto loaded = decoder->load(); !loaded) return loaded.error();
    return std::unique_ptr<Backend>(std::move(decoder));
  } catch (const std::bad_alloc&) {
    return fail(Errc::memory, "no memory left while loading " + file.path(), "out_of_memory");
  }
}

Result<void> CudaDecoder::load_matrix(const std::string& name, std::int64_t columns, std::int64_t rows, Matrix& out) {
  const auto tensor = file_.tensor(name);
  if (!tensor) return tensor.error();
  const Tensor& t = **tensor;
  if (t.rank > 2 || t.shape[0] != columns || t.elements != columns * rows) return wrong_shape(t, columns, rows);
  if (columns % kSpan != 0)
    return fail(Errc::unsupported, printable(t.name) + " has rows of " + std::to_string(columns) +
                " values; the CUDA backend needs multiples of 32; use --device cpu", "unsupported_arch");
  const auto layout = plane_layout(t, exact_);
  if (!layout) return layout.error();
  auto buffer = device_->allocate(layout->total);
  if (!buffer) return buffer.error();
  std::vector<std::byte> planes(layout->total);
  fill_planes(t, *layout, planes.data());
  device_->copy_in(buffer->data(), planes.data(), planes.size());
  out.view = layout->view(buffer->data());
  out.buffer = std::move(*buffer);
  return {};
}

Result<void> CudaDecoder::load_vector(const std::string& name, std::int64_t length, bool required, Vector& out) {
  const Tensor* tensor = file_.find_tensor(name);
  if (!tensor) {
    if (!required) return {};
    return fail(Errc::malformed, "tensor " + name + " is missing", "missing_tensor");
  }
  if (tensor->type != TensorType::f32) return fail(Errc::malformed, name + " must be F32", "bad_tensor_type");
  if (tensor->rank != 1 || tensor->elements != length) return wrong_shape(*tensor, length, 1);
  auto buffer = device_->allocate(tensor->bytes);
  if (!buffer) return buffer.error();
  device_->copy_in(buffer->data(), tensor->data, tensor->bytes);
  out.buffer = std::move(*buffer);
  return {};
}

Result<void> CudaDecoder::load_layer(std::int64_t index, Layer& l) {
  const ModelConfig& c = config_;
  const std::int64_t q = c.heads * c.key_length, k = c.kv_heads * c.key_length, v = c.kv_heads * c.value_length, m = c.heads * c.value_length;
  const std::string prefix = "blk." + std::to_string(index) + ".";
  struct MatrixEntry {
    const char* name;
    std::int64_t columns, rows;
    Matrix* to;
  };
  for (const MatrixEntry& e : {MatrixEntry{"attn_q", c.width, q, &l.query}, {"attn_k", c.width, k, &l.key}, {"attn_v", c.width, v, &l.value},
                               {"attn_output", m, c.width, &l.output}, {"ffn_gate", c.width, c.feed_forward, &l.gate},
                               {"ffn_up", c.width, c.feed_forward, &l.up}, {"ffn_down", c.feed_forward, c.width, &l.down}})
    if (const auto loaded = load_matrix(prefix + e.name + ".weight", e.columns, e.rows, *e.to); !loaded) return loaded.error();
  struct VectorEntry {
    const char* name;
    std::int64_t length;
    bool required;
    Vector* to;
  };
  for (const VectorEntry& e : {VectorEntry{"attn_norm.weight", c.width, true, &l.attention_norm}, {"ffn_norm.weight", c.width, true, &l.feed_forward_norm},
                               {"attn_q.bias", q, false, &l.query_bias}, {"attn_k.bias", k, false, &l.key_bias}, {"attn_v.bias", v, false, &l.value_bias},
                               {"attn_output.bias", c.width, false, &l.output_bias}, {"attn_q_norm.weight", c.key_length, false, &l.query_norm},
                               {"attn_k_norm.weight", c.key_length, false, &l.key_norm}})
    if (const auto loaded = load_vector(prefix + e.name, e.length, e.required, *e.to); !loaded) return loaded.error();
  return {};
}

Result<void> CudaDecoder::make_plan() {
  const ModelConfig& c = config_;
  if (c.value_length > 256 || c.key_length > 256)
    return fail(Errc::unsupported, "heads of " + std::to_string(std::max(c.key_length, c.value_length)) +
                " values are more than the 256 that the CUDA backend computes; use --device cpu", "unsupported_arch");
  for (const Tensor& t : file_.tensors()) {
    if (t.rank == 1) plan_.weight_bytes += t.bytes;
    else if (const auto layout = plane_layout(t, exact_)) plan_.weight_bytes += layout->total;
  }
  const std::int64_t widest = std::max({c.width, c.heads * c.value_length, c.feed_forward});
  const std::int64_t per_row = 4 * (2 * c.width + shape().total() + c.heads * c.value_length + 2 * c.feed_forward + c.rope.dimensions + 1) +
                               widest + widest / 4 + 2 * widest;
  plan_.workspace_bytes = static_cast<std::uint64_t>(kBatch * per_row + kDecodeRows * 4 * (c.vocabulary + c.heads * work_->splits * (c.value_length + 2))) +
                          (exact_ ? 0 : kTileBytes + static_cast<std::uint64_t>(product_bytes(c)) + 2 * kScoreBytes);
  plan_.page_bytes = static_cast<std::uint64_t>(c.layers * kPagePositions * c.kv_heads * (c.key_length + c.value_length)) * (exact_ ? 4 : 2);
  plan_.free_bytes = device_->free_bytes();
  const std::int64_t wanted_most = (c.context + kPagePositions - 1) / kPagePositions * 16, wanted_least = std::min<std::int64_t>(wanted_most, 2048 / kPagePositions);
  const std::uint64_t usable = plan_.free_bytes / 20 * 19, fixed = plan_.weight_bytes + plan_.workspace_bytes;
  const std::uint64_t least = fixed + static_cast<std::uint64_t>(wanted_least) * plan_.page_bytes;
  if (usable < least)
    return fail(Errc::memory, device_->name() + " has " + mib(plan_.free_bytes) + " free; this model needs " + mib(least) + " (weights " +
                mib(plan_.weight_bytes) + ", workspace " + mib(plan_.workspace_bytes) + ", KV cache for 2,048 tokens " +
                mib(static_cast<std::uint64_t>(wanted_least) * plan_.page_bytes) + "); use --device cpu or a smaller quantisation", "out_of_memory");
  plan_.pages = std::min<std::int64_t>(wanted_most, static_cast<std::int64_t>((usable - fixed) / plan_.page_bytes));
  return {};
}

Result<void> CudaDecoder::load() {
  const ModelConfig& c = config_;
  work_ = std::make_unique<Workspace>();
  work_->splits = static_cast<int>(std::clamp<std::int64_t>(2 * device_->processors() / c.kv_heads, 1, 32));
  if (const auto planned = make_plan(); !planned) return planned.error();

  tied_ = !file_.find_tensor("output.weight");
  if (const auto loaded = load_matrix("token_embd.weight", c.width, c.vocabulary, embedding_); !loaded) return loaded.error();
  if (!tied_)
    if (const auto loaded = load_matrix("output.weight", c.width, c.vocabulary, output_); !loaded) return loaded.error();
  if (const auto loaded = load_vector("output_norm.weight", c.width, true, final_norm_); !loaded) return loaded.error();
  layers_.resize(static_cast<std::size_t>(c.layers));
  for (std::int64_t i = 0; i < c.layers; ++i)
    if (const auto loaded = load_layer(i, layers_[static_cast<std::size_t>(i)]); !loaded) return loaded.error();

  Workspace& w = *work_;
  w.rows = kBatch;
  const std::int64_t n = kBatch, widest = std::max({c.width, c.heads * c.value_length, c.feed_forward});
  struct Entry {
    DeviceBuffer* to;
    std::int64_t bytes;
  };
  std::vector<Entry> entries = {
      {&w.info, n * static_cast<std::int64_t>(sizeof(RowInfo))}, {&w.tables, plan_.pages * 4}, {&w.index, kDecodeRows * 4}, {&w.picked, kDecodeRows * c.width * 4}, {&w.stream, n * c.width * 4},
      {&w.normed, n * c.width * 4}, {&w.projected, n * shape().total() * 4}, {&w.mixed, n * c.heads * c.value_length * 4},
      {&w.gate, n * c.feed_forward * 4}, {&w.up, n * c.feed_forward * 4}, {&w.codes, n * widest}, {&w.scales, n * widest / kSpan * 4},
      {&w.sums, n * widest / kSpan * 4}, {&w.cosines, n * c.rope.dimensions * 2}, {&w.sines, n * c.rope.dimensions * 2},
      {&w.partial, kDecodeRows * c.heads * w.splits * (c.value_length + 2) * 4}, {&w.logits, kDecodeRows * c.vocabulary * 4},
      {&frequencies_, static_cast<std::int64_t>(c.rope.frequencies.size() * sizeof(double))}};
  if (!deterministic_)
    for (const Entry& e : {Entry{&w.halves, n * widest * 2}, {&w.factors, n * 4}, {&w.tile, static_cast<std::int64_t>(kTileBytes)},
                           {&w.product, product_bytes(c)}})
      entries.push_back(e);
  for (const Entry& e : entries) {
    auto buffer = device_->allocate(static_cast<std::uint64_t>(e.bytes));
    if (!buffer) return buffer.error();
    *e.to = std::move(*buffer);
  }
  device_->copy_in(frequencies_.data(), c.rope.frequencies.data(), c.rope.frequencies.size() * sizeof(double));
  auto memory = device_->allocate(plan_.page_bytes * static_cast<std::uint64_t>(plan_.pages));
  if (!memory) return memory.error();
  pool_ = std::make_shared<PagePool>(*device_, std::move(*memory), plan_.page_bytes, plan_.pages);
  return device_->wait();
}

}  // namespace kontor::inference::cuda
