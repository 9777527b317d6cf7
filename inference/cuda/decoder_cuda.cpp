#include "inference/cuda/decoder_cuda.hpp"

#include <algorithm>
#include <array>
#include <new>
#include <string_view>

namespace kontor::inference::cuda {
namespace {

/// The architectures whose layers this decoder computes.
constexpr std::array<std::string_view, 5> kKnown = {"llama", "qwen2", "qwen3", "qwen3moe", "deepseek2"};

Arithmetic arithmetic_of(const BackendOptions& options) {
  const bool exact = options.compute == Compute::f32;
  return {exact, options.deterministic || exact, exact ? KvFormat::f32 : options.kv == KvType::q8_0 ? KvFormat::q8 : KvFormat::f16};
}

}  // namespace

static_assert(kPagePositions == inference::kPagePositions);

CudaDecoder::CudaDecoder(const WeightFile& file, const ModelConfig& config, const Arithmetic& arithmetic)
    : tensors_(file, config, arithmetic.exact), arithmetic_(arithmetic) {}

CudaDecoder::~CudaDecoder() = default;

Result<std::unique_ptr<Backend>> CudaDecoder::create(const WeightFile& file, const BackendOptions& options, std::unique_ptr<Device> device) {
  DeviceSource one;
  one.open = [&](std::size_t) -> Result<std::unique_ptr<Device>> { return std::move(device); };
  return create(file, options, one);
}

Result<std::unique_ptr<Backend>> CudaDecoder::create(const WeightFile& file, const BackendOptions& options, const DeviceSource& devices) {
  const auto config = read_model_config(file);
  if (!config) return config.error();
  if (std::find(kKnown.begin(), kKnown.end(), config->architecture->name) == kKnown.end())
    return fail(Errc::unsupported, "the CUDA backend does not compute the architecture " + std::string(config->architecture->name) +
                " yet; use --device cpu", "unsupported_arch");
  if (config->rope_pairs != RopePairs::adjacent && config->rope_pairs != RopePairs::halves)
    return fail(Errc::unsupported, "the CUDA backend does not compute " + file.path() + ", whose rotary rows are ordered as in Hugging Face's " +
                "llama files; use a GGUF file or --device cpu", "unsupported_arch");
  try {
    std::unique_ptr<CudaDecoder> decoder(new CudaDecoder(file, *config, arithmetic_of(options)));
    if (const auto loaded = decoder->load(options, devices); !loaded) return loaded.error();
    return std::unique_ptr<Backend>(std::move(decoder));
  } catch (const std::bad_alloc&) {
    return fail(Errc::memory, "no memory left while loading " + file.path(), "out_of_memory");
  }
}

/// Devices are opened one by one, because each takes time and memory; the host's memory comes behind all of them.
Result<void> CudaDecoder::make_plan(const BackendOptions& options, const DeviceSource& source) {
  PlanOptions wishes;
  wishes.arithmetic = arithmetic_;
  wishes.expert_bytes = options.expert_bytes;
  std::vector<DeviceMemory> memories;
  while (true) {
    auto opened = source.open(devices_.size());
    if (!opened) return opened.error();
    const Device& device = *devices_.emplace_back(std::move(*opened));
    memories.push_back({device.name(), device.free_bytes(), device.processors()});
    const bool last = devices_.size() == source.count || devices_.size() == static_cast<std::size_t>(config().layers);
    if (source.all && !last) continue;
    if (last || options.expert_bytes > 0) wishes.host_free_bytes = devices_.front()->host_free_bytes();
    auto plan = plan_memory(tensors_, memories, wishes);
    if (!plan && !last && plan.error().kind == "out_of_memory") continue;
    if (!plan) return plan.error();
    plan_ = std::move(*plan);
    return {};
  }
}

Result<void> CudaDecoder::load(const BackendOptions& options, const DeviceSource& source) {
  if (source.all && source.count > static_cast<std::size_t>(config().layers))
    return fail(Errc::usage, std::to_string(source.count) + " devices are more than the " + std::to_string(config().layers) + " layers of the model", "bad_device");
  if (const auto planned = make_plan(options, source); !planned) return planned.error();
  std::vector<PagePool::Part> parts;
  for (std::size_t i = 0; i < devices_.size(); ++i) {
    const StagePlan& part = plan_.stages[i];
    Device& device = *devices_[i];
    stages_.push_back(std::make_unique<Stage>(tensors_, arithmetic_, part, device));
    if (const auto loaded = stages_.back()->load(plan_.pages); !loaded) return loaded.error();
    parts.push_back({&device, stages_.back()->pages(), part.page_bytes});
  }
  pool_ = std::make_shared<PagePool>(std::move(parts), plan_.pages);
  return {};
}

std::string CudaDecoder::device() const {
  std::string names = devices_.front()->name();
  for (std::size_t i = 1; i < devices_.size(); ++i) {
    const std::string name = devices_[i]->name();
    names += "," + name.substr(name.find(':') + 1);
  }
  return names;
}

std::unique_ptr<Sequence> CudaDecoder::create_sequence() { return std::make_unique<Timeline>(pool_); }

std::string CudaDecoder::arithmetic() const {
  return std::string("cuda ") + (arithmetic_.exact ? "f32" : arithmetic_.deterministic ? "deterministic" : "native") +
         (arithmetic_.kv == KvFormat::q8 ? " kv q8_0" : "");
}

Result<KvPageRef> CudaDecoder::load_page(std::span<const std::byte> content) {
  auto page = pool_->take();
  if (!page) return fail(Errc::memory, "all " + std::to_string(pool_->pages()) + " KV pages of " + device() + " are in use", "out_of_memory");
  pool_->fill(page->number(), content);
  return KvPageRef(std::move(page));
}

std::uint64_t CudaDecoder::weight_bytes_per_token() const {
  std::uint64_t total = 0;
  for (const auto& stage : stages_) total += stage->weight_bytes_per_token();
  return total;
}

double CudaDecoder::device_seconds() const {
  double total = 0;
  for (const auto& device : devices_) total += device->busy_seconds();
  return total;
}

Result<void> CudaDecoder::forward(std::span<const Extension> extensions) {
  for (const Extension& extension : extensions) {
    auto& timeline = static_cast<Timeline&>(*extension.sequence);
    for (const TokenId token : extension.tokens)
      if (token < 0 || token >= config().vocabulary)
        return fail(Errc::usage, "token " + std::to_string(token) + " is outside the vocabulary of " + std::to_string(config().vocabulary), "bad_token");
    const std::int64_t end = timeline.length() + static_cast<std::int64_t>(extension.tokens.size());
    if (end > config().context)
      return fail(Errc::limit, std::to_string(end) + " tokens do not fit into the context of " + std::to_string(config().context), "context_full");
    if (!timeline.reserve(end))
      return fail(Errc::memory, "all " + std::to_string(pool_->pages()) + " KV pages of " + device() + " are in use", "out_of_memory");
  }
  std::vector<Stage::Row> rows;
  for (const Extension& extension : extensions) {
    auto& timeline = static_cast<Timeline&>(*extension.sequence);
    const std::size_t n = extension.tokens.size();
    for (std::size_t i = 0; i < n; ++i) {
      const auto at = static_cast<std::int64_t>(i);
      Stage::Row row{&timeline, timeline.length() + at, extension.tokens[i], nullptr, nullptr};
      if (extension.output == Output::all_hidden) row.hidden = extension.out + at * config().width;
      if (extension.output == Output::all_logits) row.logits = extension.out + at * config().vocabulary;
      if (extension.output == Output::last_logits && i + 1 == n) {
        row.logits = extension.out;
        row.shortlist = extension.shortlist;
      }
      rows.push_back(row);
    }
  }
  // Batches without outputs follow each other without a pause: while one device computes a batch, the one before it has the next.
  for (std::size_t at = 0; at < rows.size(); at += kBatch)
    if (const auto done = run_batch(std::span(rows).subspan(at, std::min<std::size_t>(kBatch, rows.size() - at))); !done) return done.error();
  if (const auto done = wait(); !done) return done.error();
  for (const Extension& extension : extensions)
    static_cast<Timeline&>(*extension.sequence).positions += static_cast<std::int64_t>(extension.tokens.size());
  return {};
}

Result<void> CudaDecoder::run_batch(std::span<const Stage::Row> rows) {
  const std::uint64_t bytes = rows.size() * static_cast<std::uint64_t>(config().width) * 4;
  for (std::size_t i = 0; i < stages_.size(); ++i) {
    Stage& stage = *stages_[i];
    if (const auto sent = stage.send(rows); !sent) return sent.error();
    if (i > 0) hand_over(stages_[i - 1]->device(), stages_[i - 1]->states(), stage.device(), stage.states(), bytes);
    if (const auto computed = stage.compute(rows); !computed) return computed.error();
  }
  return stages_.back()->write_outputs(rows);
}

Result<void> CudaDecoder::wait() {
  for (const auto& device : devices_)
    if (const auto done = device->wait(); !done) return done.error();
  return {};
}

}  // namespace kontor::inference::cuda
