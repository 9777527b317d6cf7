#include "inference/quantize.hpp"

#include "inference/cpu/thread_pool.hpp"
#include "inference/dequantize.hpp"
#include "inference/gguf_writer.hpp"
#include "inference/model_config.hpp"
#include "inference/quantize_blocks.hpp"
#include "inference/tensor_names.hpp"

#include <algorithm>
#include <atomic>
#include <cmath>
#include <filesystem>
#include <map>
#include <new>
#include <optional>
#include <thread>

namespace kontor::inference {
namespace {

/// Elements that are read, quantised and written together.
constexpr std::int64_t kPiece = 1 << 22;

struct Recipe {
  std::string_view name;
  TensorType main;
  TensorType sensitive;  ///< For what errors hurt most.
  std::uint32_t file_type;  ///< general.file_type, as other programs number them.
};

constexpr Recipe kRecipes[] = {
    {"f16", TensorType::f16, TensorType::f16, 1},     {"bf16", TensorType::bf16, TensorType::bf16, 32},
    {"q8_0", TensorType::q8_0, TensorType::q8_0, 7},  {"q4_0", TensorType::q4_0, TensorType::q6_k, 2},
    {"q4_k", TensorType::q4_k, TensorType::q4_k, 14}, {"q4_k_m", TensorType::q4_k, TensorType::q6_k, 15},
    {"q5_k", TensorType::q5_k, TensorType::q5_k, 16}, {"q5_k_m", TensorType::q5_k, TensorType::q6_k, 17},
    {"q6_k", TensorType::q6_k, TensorType::q6_k, 18},
};

const Recipe* find_recipe(std::string_view name) {
  std::string lower(name);
  std::transform(lower.begin(), lower.end(), lower.begin(), [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  const auto* found = std::find_if(std::begin(kRecipes), std::end(kRecipes), [&](const Recipe& r) { return r.name == lower; });
  return found == std::end(kRecipes) ? nullptr : found;
}

bool has(std::string_view name, std::string_view part) { return name.find(part) != std::string_view::npos; }

/// The first and last eighth of the layers, and every third between: errors there hurt most.
bool sensitive_layer(std::int64_t layer, std::int64_t layers) {
  return layer < layers / 8 || layer >= 7 * layers / 8 || (layer - layers / 8) % 3 == 2;
}

/// One tensor of the new file, from one or (experts) several of the old.
struct Job {
  GgufTensor out;
  std::vector<const Tensor*> sources;
  std::vector<std::int64_t> experts;  ///< Number of each source among its experts, where there are several.
  std::int64_t interleaved_heads = 0;  ///< Rows of each head come as halves and go out as neighbouring pairs; 0: as they are.

  /// Keeps the sources in the order of the experts.
  void insert(const Tensor& tensor, std::int64_t expert) {
    const auto at = std::upper_bound(experts.begin(), experts.end(), expert);
    sources.insert(sources.begin() + (at - experts.begin()), &tensor);
    experts.insert(at, expert);
  }
};

struct ExpertName {
  std::string name;  ///< Of the tensor of all experts.
  std::int64_t number;
};

class Run {
 public:
  Run(const WeightFile& in, const ModelConfig& config, const Recipe& recipe, const QuantizeOptions& options)
      : in_(in), config_(config), recipe_(recipe), options_(options),
        pool_(options.threads > 0 ? options.threads : static_cast<int>(std::max(1u, std::thread::hardware_concurrency()))) {}

  Result<QuantizeReport> run(const std::string& path) {
    plan();
    for (const Job& job : jobs_) {
      for (const Tensor* source : job.sources) {
        report_.bytes_before += source->bytes;
        if (source->type != job.out.type && !can_expand(source->type))
          return fail(Errc::unsupported, "tensor '" + printable(source->name) + "' has type " + std::string(to_string(source->type)) + ", which cannot be read",
                      "bad_tensor_type");
      }
      report_.bytes_after += job.out.bytes();
    }
    std::vector<GgufTensor> directory;
    for (const Job& job : jobs_) directory.push_back(job.out);
    auto writer = GgufWriter::create(path, metadata(), directory);
    if (!writer) return writer.error();
    for (const Job& job : jobs_) {
      for (const Tensor* source : job.sources)
        if (const auto done = convert(job, *source, **writer); !done) return done.error();
      if (const auto done = (*writer)->end_tensor(); !done) return done.error();
    }
    if (const auto done = (*writer)->finish(); !done) return done.error();
    return report_;
  }

 private:
  GgufMetadata metadata() const {
    GgufMetadata out;
    for (const MetadataEntry& entry : in_.metadata()) {
      const bool ours = entry.key == "general.file_type" || entry.key == "general.quantization_version" || entry.key == "general.alignment" ||
                        entry.key == "kontor.rope_rows";
      if (!ours && !entry.key.starts_with("split.")) out.copy(entry);
    }
    out.u32("general.quantization_version", 2);
    out.u32("general.file_type", recipe_.file_type);
    return out;
  }

  void plan() {
    std::map<std::string, std::size_t> merged;  // Experts in tensors of their own become one tensor.
    for (const Tensor& tensor : in_.tensors()) {
      std::string name(tensor.name);
      const auto expert = expert_of(name);
      if (expert) name = expert->name;
      const auto [at, first] = merged.emplace(name, jobs_.size());
      if (!first) {
        Job& job = jobs_[at->second];
        job.insert(tensor, expert ? expert->number : 0);
        ++job.out.shape[2];
        continue;
      }
      Job job;
      job.out.name = name;
      job.out.rank = expert ? 3 : tensor.rank;
      job.out.shape = tensor.shape;
      job.out.type = type_for(name, tensor);
      job.insert(tensor, expert ? expert->number : 0);
      if (config_.rope_pairs == RopePairs::halves_to_adjacent) {
        if (has(name, "attn_q.")) job.interleaved_heads = config_.heads;
        if (has(name, "attn_k.")) job.interleaved_heads = config_.kv_heads;
      }
      (job.out.type == tensor.type ? report_.kept : report_.quantized) += 1;
      jobs_.push_back(std::move(job));
    }
  }

  /// "blk.3.ffn_up.17.weight" -> "blk.3.ffn_up_exps.weight".
  std::optional<ExpertName> expert_of(const std::string& name) const {
    for (const std::string_view matrix : {"ffn_gate", "ffn_up", "ffn_down"}) {
      const std::size_t at = name.find("." + std::string(matrix) + ".");
      if (at == std::string::npos || !name.ends_with(".weight")) continue;
      const std::size_t number = at + matrix.size() + 2;
      const std::size_t end = name.find_first_not_of("0123456789", number);
      if (end == number || end - number > 6 || end == std::string::npos || name.substr(end) != ".weight") continue;
      return ExpertName{name.substr(0, at + 1) + std::string(matrix) + "_exps.weight", std::stoll(name.substr(number, end - number))};
    }
    return std::nullopt;
  }

  TensorType type_for(const std::string& name, const Tensor& tensor) {
    const bool matrix = tensor.rank >= 2 && name.ends_with(".weight") && !has(name, "norm") && !has(name, "ffn_gate_inp") &&
                        !has(name, "position_embd") && !has(name, "token_types");
    if (!matrix) return tensor.type == TensorType::f16 || tensor.type == TensorType::bf16 || tensor.type == TensorType::f8_e4m3 ? TensorType::f32 : tensor.type;
    const bool tied = !in_.find_tensor("output.weight");
    TensorType type = recipe_.main;
    if (name == "output.weight" || (name == "token_embd.weight" && tied)) type = recipe_.sensitive;
    const bool delicate = has(name, "attn_v.") || has(name, "ffn_down") || has(name, "attn_v_b") || has(name, "attn_kv_b");
    if (const auto layer = layer_of(name); layer && delicate && recipe_.name.ends_with("_m") && sensitive_layer(*layer, config_.layers)) type = recipe_.sensitive;
    if (tensor.shape[0] % info(type).block_elements == 0) return type;
    ++report_.fallbacks;
    return tensor.shape[0] % info(TensorType::q8_0).block_elements == 0 ? TensorType::q8_0 : TensorType::f16;
  }

  /// Where row `index` of the new tensor lies in the old one.
  std::int64_t source_row(const Job& job, const Tensor& tensor, std::int64_t index) const {
    if (job.interleaved_heads == 0 || tensor.rank == 1) return index;
    const std::int64_t length = tensor.rows() / job.interleaved_heads, head = index / length, at = index % length;
    return head * length + (at % 2) * (length / 2) + at / 2;
  }

  /// The same for a bias, whose one row has the values of all heads.
  void reorder_bias(const Job& job, float* row, std::int64_t count) const {
    const std::vector<float> from(row, row + count);
    const std::int64_t length = count / job.interleaved_heads;
    for (std::int64_t i = 0; i < count; ++i) {
      const std::int64_t head = i / length, at = i % length;
      row[i] = from[static_cast<std::size_t>(head * length + (at % 2) * (length / 2) + at / 2)];
    }
  }

  Result<void> convert(const Job& job, const Tensor& tensor, GgufWriter& writer) {
    const std::int64_t k = tensor.row_elements(), rows_at_once = std::max<std::int64_t>(1, kPiece / k);
    const Quantizer quantize = find_quantizer(job.out.type);
    const bool bias = tensor.rank == 1 && job.interleaved_heads > 0;
    const bool verbatim = job.out.type == tensor.type && !bias;
    const auto row_bytes = static_cast<std::size_t>(k / info(job.out.type).block_elements * info(job.out.type).block_bytes);
    const float largest = job.out.type == TensorType::f32 || job.out.type == TensorType::bf16 ? 3e38f : 65000.0f;
    std::vector<std::byte> piece;
    std::vector<std::vector<float>> values(static_cast<std::size_t>(pool_.threads()), std::vector<float>(static_cast<std::size_t>(k)));
    for (std::int64_t first = 0; first < tensor.rows(); first += rows_at_once) {
      const std::int64_t rows = std::min(rows_at_once, tensor.rows() - first);
      piece.resize(static_cast<std::size_t>(rows) * row_bytes);
      std::atomic<bool> finite{true};
      pool_.parallel_for(rows, 8, [&](std::int64_t begin, std::int64_t end, int thread) {
        float* row = values[static_cast<std::size_t>(thread)].data();
        for (std::int64_t r = begin; r < end; ++r) {
          std::byte* out = piece.data() + static_cast<std::size_t>(r) * row_bytes;
          const std::int64_t from = source_row(job, tensor, first + r);
          if (verbatim) {
            std::copy_n(tensor.row(from), row_bytes, out);
            continue;
          }
          (void)dequantize_row(tensor, from, row);
          if (bias) reorder_bias(job, row, k);
          if (!std::all_of(row, row + k, [&](float x) { return std::fabs(x) <= largest; })) finite = false;
          else quantize(row, k, out);
        }
      });
      if (!finite)
        return fail(Errc::malformed, "tensor '" + printable(tensor.name) + "' holds values that " + std::string(to_string(job.out.type)) + " cannot represent",
                    "nonfinite_weights");
      if (const auto done = writer.write(piece); !done) return done.error();
      done_bytes_ += tensor.row_bytes() * static_cast<std::uint64_t>(rows);
      if (options_.progress && !options_.progress(done_bytes_, report_.bytes_before)) return fail(Errc::cancelled, "stopped on request");
    }
    return {};
  }

  const WeightFile& in_;
  const ModelConfig& config_;
  const Recipe& recipe_;
  const QuantizeOptions& options_;
  cpu::ThreadPool pool_;
  std::vector<Job> jobs_;
  QuantizeReport report_;
  std::uint64_t done_bytes_ = 0;
};

}  // namespace

std::vector<std::string_view> quantization_names() {
  std::vector<std::string_view> names;
  for (const Recipe& recipe : kRecipes) names.push_back(recipe.name);
  return names;
}

Result<QuantizeReport> quantize_model(const WeightFile& in, const std::string& out, const QuantizeOptions& options) {
  const Recipe* recipe = find_recipe(options.type);
  if (!recipe) return fail(Errc::usage, "unknown quantisation '" + printable(options.type) + "'", "bad_quantization");
  std::error_code ignored;
  if (std::filesystem::equivalent(in.path(), out, ignored)) return fail(Errc::usage, "the model cannot be written over itself", "bad_quantization");
  const auto config = read_model_config(in);
  if (!config) return config.error();
  try {
    return Run(in, *config, *recipe, options).run(out);
  } catch (const std::bad_alloc&) {
    return fail(Errc::memory, "no memory left while quantising", "out_of_memory");
  }
}

}  // namespace kontor::inference
