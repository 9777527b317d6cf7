#include "inference/cuda/decoder_parts.hpp"

#include <array>
#include <new>

namespace kontor::inference::cuda {
namespace {

/// The architectures whose layers this decoder computes.
constexpr std::array<std::string_view, 5> kKnown = {"llama", "qwen2", "qwen3", "qwen3moe", "deepseek2"};

Error wrong_shape(const Tensor& tensor, std::int64_t columns, std::int64_t rows) {
  return fail(Errc::malformed, printable(tensor.name) + " does not have the shape [" + std::to_string(columns) + ", " + std::to_string(rows) +
              "] that the hyperparameters ask for", "shape_mismatch");
}

}  // namespace

CudaDecoder::CudaDecoder(const WeightFile& file, ModelConfig config, const BackendOptions& options, std::unique_ptr<Device> device)
    : file_(file), config_(std::move(config)), exact_(options.compute == Compute::f32), deterministic_(options.deterministic || exact_),
      kv_format_(exact_ ? KvFormat::f32 : options.kv == KvType::q8_0 ? KvFormat::q8 : KvFormat::f16), expert_limit_(options.expert_bytes), device_(std::move(device)) {}

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

Result<const Tensor*> CudaDecoder::checked(const std::string& name, std::int64_t columns, std::int64_t rows, std::int64_t slabs) const {
  const auto tensor = file_.tensor(name);
  if (!tensor) return tensor.error();
  const Tensor& t = **tensor;
  if (t.shape[0] != columns || t.shape[1] != rows || t.shape[2] != slabs || t.shape[3] != 1) return wrong_shape(t, columns, rows * slabs);
  return &t;
}

Result<void> CudaDecoder::load_matrix(const std::string& name, std::int64_t columns, std::int64_t rows, bool on_host, Matrix& out, std::int64_t slabs) {
  const auto tensor = checked(name, columns, rows, slabs);
  if (!tensor) return tensor.error();
  std::vector<Tensor> parts;  // Slab by slab, so that the host never holds a second copy of all experts.
  for (std::int64_t i = 0; i < slabs; ++i) parts.push_back(slabs == 1 ? **tensor : rows_of(**tensor, i * rows, rows));
  return load_parts(parts, on_host, out);
}

Result<PlaneLayout> CudaDecoder::layout_of(std::span<const Tensor> parts) const {
  Tensor whole = parts.front();
  whole.elements = 0;
  for (const Tensor& part : parts) {
    if (part.type != whole.type)
      return fail(Errc::unsupported, printable(part.name) + " has another type than its neighbours; the CUDA backend needs one type; use --device cpu",
                  "unsupported_arch");
    whole.elements += part.elements;
  }
  if (whole.row_elements() % kSpan != 0)
    return fail(Errc::unsupported, printable(whole.name) + " has rows of " + std::to_string(whole.row_elements()) +
                " values; the CUDA backend needs multiples of 32; use --device cpu", "unsupported_arch");
  return plane_layout(whole, exact_);
}

Result<void> CudaDecoder::load_parts(std::span<const Tensor> parts, bool on_host, Matrix& out) {
  const auto layout = layout_of(parts);
  if (!layout) return layout.error();
  auto buffer = on_host ? device_->allocate_host(layout->total) : device_->allocate(layout->total);
  if (!buffer) return buffer.error();
  auto* base = buffer->as<std::byte>();
  std::uint64_t codes = 0, high = layout->high_at, scales = layout->scales_at, super = layout->super_at;
  std::vector<std::byte> planes;
  for (const Tensor& part : parts) {
    const auto piece = plane_layout(part, exact_);
    if (!piece) return piece.error();
    planes.resize(piece->total);
    fill_planes(part, *piece, planes.data());
    struct Plane {
      std::uint64_t* to;
      std::uint64_t from, bytes;
    };
    for (const Plane& p : {Plane{&codes, 0, piece->codes_bytes}, {&high, piece->high_at, piece->high_bytes},
                           {&scales, piece->scales_at, piece->scales_bytes}, {&super, piece->super_at, piece->super_bytes}}) {
      if (on_host) std::copy_n(planes.data() + p.from, p.bytes, base + *p.to);
      else if (p.bytes > 0) device_->copy_in(base + *p.to, planes.data() + p.from, p.bytes);
      *p.to += p.bytes;
    }
  }
  out.view = layout->view(buffer->data());
  out.view.on_host = on_host;
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

Result<void> CudaDecoder::load_attention(const std::string& prefix, Layer& l) {
  const ModelConfig& c = config_;
  const std::int64_t q = c.heads * c.key_length, k = c.kv_heads * c.key_length, v = c.kv_heads * c.value_length;
  struct MatrixEntry {
    const char* name;
    std::int64_t columns, rows;
    Matrix* to;
  };
  for (const MatrixEntry& e : {MatrixEntry{"attn_q", c.width, q, &l.query}, {"attn_k", c.width, k, &l.key}, {"attn_v", c.width, v, &l.value},
                               {"attn_output", heads_width(c), c.width, &l.output}})
    if (const auto loaded = load_matrix(prefix + e.name + ".weight", e.columns, e.rows, l.on_host, *e.to); !loaded) return loaded.error();
  struct VectorEntry {
    const char* name;
    std::int64_t length;
    Vector* to;
  };
  for (const VectorEntry& e : {VectorEntry{"attn_q.bias", q, &l.query_bias}, {"attn_k.bias", k, &l.key_bias}, {"attn_v.bias", v, &l.value_bias},
                               {"attn_output.bias", c.width, &l.output_bias}, {"attn_q_norm.weight", c.key_length, &l.query_norm},
                               {"attn_k_norm.weight", c.key_length, &l.key_norm}})
    if (const auto loaded = load_vector(prefix + e.name, e.length, false, *e.to); !loaded) return loaded.error();
  return {};
}

Result<void> CudaDecoder::load_layer(std::int64_t index, Layer& l) {
  const ModelConfig& c = config_;
  const std::string prefix = "blk." + std::to_string(index) + ".";
  l.on_host = index >= plan_.layers_from;
  if (const auto loaded = load_vector(prefix + "attn_norm.weight", c.width, true, l.attention_norm); !loaded) return loaded.error();
  if (const auto loaded = load_vector(prefix + "ffn_norm.weight", c.width, true, l.feed_forward_norm); !loaded) return loaded.error();
  if (const auto loaded = c.latent.rank > 0 ? load_latent(prefix, l) : load_attention(prefix, l); !loaded) return loaded.error();
  const bool routed = c.is_expert_layer(index);
  if (routed)
    if (const auto loaded = load_experts(index, l); !loaded) return loaded.error();
  const std::int64_t inner = routed ? c.experts.shared : c.feed_forward;
  if (inner == 0) return {};
  const std::string suffix = routed ? "_shexp.weight" : ".weight";
  if (const auto loaded = load_matrix(prefix + "ffn_gate" + suffix, c.width, inner, l.on_host, l.gate); !loaded) return loaded.error();
  if (const auto loaded = load_matrix(prefix + "ffn_up" + suffix, c.width, inner, l.on_host, l.up); !loaded) return loaded.error();
  return load_matrix(prefix + "ffn_down" + suffix, inner, c.width, l.on_host, l.down);
}

Result<void> CudaDecoder::load() {
  const ModelConfig& c = config_;
  work_ = std::make_unique<Workspace>();
  work_->splits = static_cast<int>(std::clamp<std::int64_t>(
      2 * device_->processors() / (c.latent.rank > 0 ? attention_blocks(shape(), true) : c.kv_heads), 1, 32));
  if (const auto planned = make_plan(); !planned) return planned.error();

  tied_ = !file_.find_tensor("output.weight");
  if (const auto loaded = load_matrix("token_embd.weight", c.width, c.vocabulary, false, embedding_); !loaded) return loaded.error();
  if (!tied_)
    if (const auto loaded = load_matrix("output.weight", c.width, c.vocabulary, false, output_); !loaded) return loaded.error();
  if (const auto loaded = load_vector("output_norm.weight", c.width, true, final_norm_); !loaded) return loaded.error();
  layers_.resize(static_cast<std::size_t>(c.layers));
  for (std::int64_t i = 0; i < c.layers; ++i)
    if (const auto loaded = load_layer(i, layers_[static_cast<std::size_t>(i)]); !loaded) return loaded.error();

  return make_workspace();
}

std::vector<std::pair<DeviceBuffer*, std::int64_t>> CudaDecoder::Workspace::entries(const ModelConfig& c, bool deterministic) {
  const std::int64_t n = kBatch, codes_most = most_codes(c), total = c.heads * c.key_length + c.kv_heads * (c.key_length + c.value_length);
  std::vector<std::pair<DeviceBuffer*, std::int64_t>> all = {
      {&info, n * static_cast<std::int64_t>(sizeof(RowInfo))}, {&index, kDecodeRows * 4}, {&picked, kDecodeRows * c.width * 4},
      {&stream, n * c.width * 4}, {&normed, n * c.width * 4}, {&projected, n * total * 4}, {&mixed, n * c.heads * c.value_length * 4},
      {&gate, n * dense_width(c) * 4}, {&up, n * dense_width(c) * 4}, {&codes, n * codes_most}, {&scales, n * codes_most / kSpan * 4},
      {&sums, n * codes_most / kSpan * 4}, {&cosines, n * c.rope.dimensions * 2}, {&sines, n * c.rope.dimensions * 2},
      {&partial, kDecodeRows * c.heads * splits * (c.value_length + 2) * 4}, {&logits, kDecodeRows * c.vocabulary * 4}};
  const auto add = [&](std::initializer_list<std::pair<DeviceBuffer*, std::int64_t>> more) { all.insert(all.end(), more); };
  if (const LatentShape& l = c.latent; l.rank > 0)
    add({{&low, n * l.query_rank * 4}, {&low_keys, n * c.key_length * 4}, {&queries_whole, n * c.heads * (l.plain + l.rotary) * 4},
         {&head_values, n * c.heads * std::max(l.plain, l.value) * 4}});
  if (const ExpertShape& e = c.experts; e.count > 0) {
    const std::int64_t pairs = n * e.used;
    add({{&router, n * e.count * 4}, {&chosen, pairs * 4}, {&chosen_weights, pairs * 4}, {&order, pairs * 4}, {&tile_count, 4},
         {&tiles, most_tiles(pairs, e.count) * static_cast<std::int64_t>(sizeof(Tile))}, {&expert_gate, pairs * e.feed_forward * 4},
         {&expert_up, pairs * e.feed_forward * 4}, {&expert_out, pairs * c.width * 4}, {&shared, e.shared > 0 ? n * c.width * 4 : 0}});
  }
  const std::int64_t pieces = kDecodeRows * shortlist_pieces(c.vocabulary);
  add({{&masks, kDecodeRows * ((c.vocabulary + 31) / 32) * 4}, {&masked, kDecodeRows * 4}, {&lists, pieces * kShortlistLength * 8},
       {&other_lists, pieces * kShortlistLength * 8}, {&seen, pieces * static_cast<std::int64_t>(sizeof(ShortlistSeen))},
       {&sums_of_logits, kDecodeRows * 2 * shortlist_chunks(c.vocabulary) * 8 * 4},
       {&results, kDecodeRows * static_cast<std::int64_t>(sizeof(ShortlistResult))}});
  if (!deterministic && c.experts.count > 0)
    add({{&blocks, c.experts.count * static_cast<std::int64_t>(sizeof(Tile))}, {&pair_rows, static_cast<std::int64_t>(kTileBytes)}});
  if (!deterministic)
    add({{&halves, n * most_halves(c) * 2}, {&factors, n * most_half_rows(c) * 4}, {&tile, static_cast<std::int64_t>(kTileBytes)}, {&product, product_bytes(c)}});
  return all;
}

Result<void> CudaDecoder::make_workspace() {
  const ModelConfig& c = config_;
  Workspace& w = *work_;
  w.rows = kBatch;
  auto all = w.entries(c, deterministic_);
  all.push_back({&w.tables, plan_.pages * 4});
  all.push_back({&frequencies_, static_cast<std::int64_t>(c.rope.frequencies.size() * sizeof(double))});
  for (const auto& [to, bytes] : all) {
    auto buffer = device_->allocate(static_cast<std::uint64_t>(bytes));
    if (!buffer) return buffer.error();
    *to = std::move(*buffer);
  }
  device_->copy_in(frequencies_.data(), c.rope.frequencies.data(), c.rope.frequencies.size() * sizeof(double));
  auto memory = device_->allocate(plan_.page_bytes * static_cast<std::uint64_t>(plan_.pages));
  if (!memory) return memory.error();
  pool_ = std::make_shared<PagePool>(*device_, std::move(*memory), plan_.page_bytes, plan_.pages);
  return device_->wait();
}

}  // namespace kontor::inference::cuda
