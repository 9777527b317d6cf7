// `kontor model bench`: speed of prefill and decoding at several depths and numbers of threads.

#include "agent/cli/model_verbs.hpp"
#include "base/json.hpp"
#include "inference/cpu/bandwidth.hpp"
#include "inference/sampler.hpp"
#include "inference/shortlist.hpp"
#include "inference/synthetic.hpp"

#include <nlohmann/json.hpp>

#include <sys/resource.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <map>
#include <memory>
#include <vector>

namespace kontor::agent::cli {
namespace {

using inference::TokenId;

struct BenchOptions {
  std::shared_ptr<ModelOptions> model;
  std::vector<int> prompts{512}, generations{128}, depths{0}, threads, sequences{1};
  std::string shape, quant = "q4_k_m";
  int repetitions = 5;
};

struct Row {
  std::string test;
  int threads = 0;
  int depth = 0;
  int sequences = 1;
  std::vector<double> tokens_per_second;
  double bytes_per_token = 0;
  double operations_per_token = 0;
  double device_seconds_per_token = 0;  ///< Of kernels, by the device's clock; 0 on the CPU.
  double cpu_seconds_per_token = 0;  ///< Of all threads; tells more than the wall clock where other programs run.
};

double cpu_seconds() {
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  const auto seconds = [](const timeval& t) { return static_cast<double>(t.tv_sec) + static_cast<double>(t.tv_usec) / 1e6; };
  return seconds(usage.ru_utime) + seconds(usage.ru_stime);
}

/// What is measured: the engine of a file, or a backend over synthetic weights, which have no vocabulary.
class Target {
 public:
  static Result<Target> open(const BenchOptions& options) {
    Target target;
    if (options.shape.empty()) {
      auto engine = open_engine(*options.model);
      if (!engine) return engine.error();
      target.engine_ = std::move(*engine);
      return target;
    }
    auto model = inference::SyntheticModel::create(options.shape, options.quant);
    if (!model) return model.error();
    target.model_ = std::make_unique<inference::SyntheticModel>(std::move(*model));
    inference::BackendOptions backend;
    backend.device = options.model->device;
    backend.threads = options.model->threads;
    backend.kv = inference::kv_type_named(options.model->kv).value_or(inference::KvType::f16);
    auto opened = inference::open_backend(target.model_->file(), backend);
    if (!opened) return opened.error();
    target.backend_ = std::move(*opened);
    return target;
  }

  const inference::WeightFile& file() const { return engine_ ? engine_->file() : model_->file(); }
  const inference::ModelConfig& config() const { return engine_ ? engine_->config() : backend_->config(); }
  std::unique_ptr<inference::Sequence> create_sequence() { return engine_ ? engine_->create_sequence() : backend_->create_sequence(); }
  Result<void> forward(std::span<const inference::Extension> extensions) {
    return engine_ ? engine_->forward(extensions) : backend_->forward(extensions);
  }
  std::uint64_t weight_bytes_per_token() const { return engine_ ? engine_->weight_bytes_per_token() : backend_->weight_bytes_per_token(); }
  std::uint64_t page_bytes() const { return engine_ ? engine_->page_bytes() : backend_->page_bytes(); }
  bool shortlists() const { return engine_ ? engine_->shortlists() : backend_->shortlists(); }
  double device_seconds() const { return engine_ ? engine_->device_seconds() : backend_->device_seconds(); }
  void set_threads(int threads) { engine_ ? engine_->set_threads(threads) : backend_->set_threads(threads); }
  int threads() const { return engine_ ? engine_->threads() : backend_->threads(); }
  bool on_cpu() const { return engine_ ? engine_->info().device == "cpu" : backend_->device() == "cpu"; }

 private:
  std::shared_ptr<inference::Engine> engine_;
  std::unique_ptr<inference::SyntheticModel> model_;
  std::unique_ptr<inference::Backend> backend_;  // Before the model's memory goes, this does.
};

class Bench {
 public:
  Bench(Target& target, int repetitions) : target_(target), repetitions_(repetitions) {
    const inference::WeightFile& file = target.file();
    const auto& experts = target.config().experts;
    for (const inference::Tensor& tensor : file.tensors()) {
      if (tensor.rank < 2) continue;
      if (tensor.name == "token_embd.weight" && file.find_tensor("output.weight")) continue;
      const bool output = tensor.name == "token_embd.weight" || tensor.name == "output.weight";
      const bool routed = tensor.name.find("_exps.") != std::string_view::npos && experts.count > 0;
      const double share = routed ? static_cast<double>(experts.used) / static_cast<double>(experts.count) : 1.0;
      (output ? output_weights_ : layer_weights_) += static_cast<double>(tensor.elements) * share;
    }
  }

  /// Prefill of `count` tokens behind `depth`; logits of the last one.
  Result<Row> prefill(int count, int depth, int threads) {
    Row row{"pp" + std::to_string(count), threads, depth, 1, {}, 0, 0};
    row.bytes_per_token = static_cast<double>(target_.weight_bytes_per_token()) / count + kv_bytes(depth + count / 2.0);
    row.operations_per_token = 2 * layer_weights_ + 2 * output_weights_ / count + attention(depth + count / 2.0);
    return measure(std::move(row), count, [&](Sequences& sequences) { return append(sequences, count); });
  }

  /// Decoding of `count` tokens one by one behind `depth`, in each of `parallel` sequences; all tokens count.
  Result<Row> generate(int count, int depth, int threads, int parallel) {
    const std::string name = "tg" + std::to_string(count) + (parallel > 1 ? "x" + std::to_string(parallel) : "");
    Row row{name, threads, depth, parallel, {}, 0, 0};
    row.bytes_per_token = static_cast<double>(target_.weight_bytes_per_token()) / parallel + kv_bytes(depth + count / 2.0);
    row.operations_per_token = 2 * (layer_weights_ + output_weights_) + attention(depth + count / 2.0);
    return measure(std::move(row), count, [&](Sequences& sequences) -> Result<void> {
      for (int i = 0; i < count; ++i)
        if (const auto done = append(sequences, 1); !done) return done;
      return {};
    });
  }

 private:
  using Sequences = std::vector<std::unique_ptr<inference::Sequence>>;

  double kv_bytes(double positions) const {
    return positions * static_cast<double>(target_.page_bytes()) / static_cast<double>(inference::kPagePositions);
  }
  double attention(double positions) const {
    const auto& c = target_.config();
    return 2 * positions * static_cast<double>(c.layers * c.heads * (c.key_length + c.value_length));
  }

  /// Appends `count` tokens to every sequence.
  Result<void> append(Sequences& sequences, int count) {
    const auto vocabulary = static_cast<std::size_t>(target_.config().vocabulary);
    logits_.resize(vocabulary * sequences.size());
    std::vector<std::vector<TokenId>> tokens(sequences.size());
    std::vector<inference::Extension> extensions;
    shortlists_.resize(sequences.size());
    for (std::size_t s = 0; s < sequences.size(); ++s) {
      for (int i = 0; i < count; ++i)
        tokens[s].push_back(static_cast<TokenId>(inference::random_uniform(1, drawn_++) * static_cast<double>(vocabulary)));
      extensions.push_back({sequences[s].get(), tokens[s], inference::Output::last_logits, logits_.data() + s * vocabulary});
      if (count == 1 && target_.shortlists()) extensions.back().shortlist = &shortlists_[s];  // As generations ask for them.
    }
    return target_.forward(extensions);
  }

  template <class Run>
  Result<Row> measure(Row row, int count, const Run& run) {
    Sequences sequences;
    for (int s = 0; s < row.sequences; ++s) sequences.push_back(target_.create_sequence());
    if (row.depth > 0)
      if (const auto done = append(sequences, row.depth); !done) return done.error();
    if (const auto done = append(sequences, 1); !done) return done.error();  // Warm caches and threads.
    const double all = static_cast<double>(count) * row.sequences;
    for (int i = 0; i < repetitions_; ++i) {
      for (const auto& sequence : sequences) sequence->truncate(row.depth);
      const double cpu = cpu_seconds(), device = target_.device_seconds();
      const auto start = std::chrono::steady_clock::now();
      if (const auto done = run(sequences); !done) return done.error();
      row.tokens_per_second.push_back(all / std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count());
      row.device_seconds_per_token += (target_.device_seconds() - device) / all / repetitions_;
      row.cpu_seconds_per_token += (cpu_seconds() - cpu) / all / repetitions_;
    }
    std::sort(row.tokens_per_second.begin(), row.tokens_per_second.end());
    return row;
  }

  Target& target_;
  int repetitions_;
  double layer_weights_ = 0, output_weights_ = 0;
  std::uint64_t drawn_ = 0;
  std::vector<float> logits_;
  std::vector<inference::Shortlist> shortlists_;
};

/// `bandwidth`: measured bytes per second of the machine; 0 where it says nothing (a GPU).
Json json_of(const Row& row, double bandwidth) {
  const auto& speeds = row.tokens_per_second;
  const double median = speeds[speeds.size() / 2];
  Json json{{"test", row.test}, {"threads", row.threads}, {"depth", row.depth}, {"sequences", row.sequences},
            {"tokens_per_second", {{"median", median}, {"min", speeds.front()}, {"max", speeds.back()}}},
            {"bytes_per_token", row.bytes_per_token}, {"gb_per_second", row.bytes_per_token * median / 1e9},
            {"gflops", row.operations_per_token * median / 1e9}, {"cpu_seconds_per_token", row.cpu_seconds_per_token}};
  if (row.device_seconds_per_token > 0) json["device_seconds_per_token"] = row.device_seconds_per_token;
  if (bandwidth > 0) {
    json["read_bandwidth_gb_per_second"] = bandwidth / 1e9;
    json["bandwidth_fraction"] = row.bytes_per_token * median / bandwidth;
  }
  return json;
}

void print_row(const Row& row, double bandwidth) {
  const auto& speeds = row.tokens_per_second;
  const double median = speeds[speeds.size() / 2];
  std::printf("%-8s %2d threads  depth %6d  %9.2f tokens/s (%.2f to %.2f)  %7.2f GB/s", row.test.c_str(), row.threads,
              row.depth, median, speeds.front(), speeds.back(), row.bytes_per_token * median / 1e9);
  if (bandwidth > 0) std::printf(" (%3.0f %%)", 100 * row.bytes_per_token * median / bandwidth);
  std::printf("  %8.1f GFLOP/s\n", row.operations_per_token * median / 1e9);
  std::fflush(stdout);
}

std::string shape_names() {
  std::string text;
  for (const std::string_view name : inference::SyntheticModel::shapes()) text += (text.empty() ? "" : ", ") + std::string(name);
  return text;
}

int bench(const BenchOptions& options) {
  if (options.shape.empty() == options.model->file.empty()) {
    std::fprintf(stderr, "kontor model bench: give either FILE or --shape NAME\n");
    return kUsage;
  }
  auto target = Target::open(options);
  if (!target) return report_model_error(target.error());
  const std::vector<int> threads = options.threads.empty() ? std::vector<int>{target->threads()} : options.threads;
  Bench bench(*target, options.repetitions);
  Json rows = Json::array();
  double bandwidth = 0;
  const auto keep = [&](const Result<Row>& row) {
    if (!row) return report_model_error(row.error());
    if (options.model->json) rows.push_back(json_of(*row, bandwidth));
    else print_row(*row, bandwidth);
    return static_cast<int>(kDone);
  };
  for (const int count : threads) {
    target->set_threads(count);
    if (target->on_cpu()) bandwidth = inference::cpu::measure_read_bandwidth(count);
    for (const int depth : options.depths) {
      for (const int tokens : options.prompts)
        if (tokens > 0)
          if (const int code = keep(bench.prefill(tokens, depth, count)); code != kDone) return code;
      for (const int tokens : options.generations)
        for (const int sequences : options.sequences)
          if (tokens > 0)
            if (const int code = keep(bench.generate(tokens, depth, count, sequences)); code != kDone) return code;
    }
  }
  if (options.model->json) print_json(rows.dump());
  return kDone;
}

}  // namespace

void add_model_bench(CLI::App& verb) {
  add_leaf(verb, "bench", "speed of prefill and decoding", [](CLI::App& app) -> Action {
    auto options = std::make_shared<BenchOptions>();
    options->model = add_model_options(app);
    app.get_option("FILE")->required(false);
    app.add_option("--shape", options->shape, "instead of FILE: synthetic weights of this shape (" + shape_names() + ")");
    app.add_option("--quant", options->quant, "their type: q4_k_m, or a tensor type such as q8_0, q6_k, f16")->capture_default_str();
    const auto positive = CLI::Range(0, 1 << 24);
    app.add_option("-p,--prompt-tokens", options->prompts, "tokens of a prefill; 0: none")->delimiter(',')->check(positive)->capture_default_str();
    app.add_option("-n,--generated-tokens", options->generations, "tokens to decode; 0: none")->delimiter(',')->check(positive)->capture_default_str();
    app.add_option("-d,--depth", options->depths, "tokens already in the cache")->delimiter(',')->check(positive)->capture_default_str();
    app.add_option("-b,--sequences", options->sequences, "sequences decoded at once; their tokens add up")->delimiter(',')->check(CLI::Range(1, 512))->capture_default_str();
    app.add_option("-t", options->threads, "numbers of threads")->delimiter(',')->check(CLI::Range(1, 256));
    app.add_option("-r,--repetitions", options->repetitions, "runs of each test")->check(CLI::Range(1, 1000))->capture_default_str();
    return [options] { return bench(*options); };
  });
}

}  // namespace kontor::agent::cli
