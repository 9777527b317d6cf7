// `kontor model bench`: speed of prefill and decoding at several depths and numbers of threads.

#include "agent/cli/model_verbs.hpp"
#include "base/json.hpp"
#include "inference/sampler.hpp"

#include <nlohmann/json.hpp>

#include <sys/resource.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <vector>

namespace kontor::agent::cli {
namespace {

using inference::TokenId;

struct BenchOptions {
  std::shared_ptr<ModelOptions> model;
  std::vector<int> prompts{512}, generations{128}, depths{0}, threads;
  int repetitions = 5;
};

struct Row {
  std::string test;
  int threads = 0;
  int depth = 0;
  std::vector<double> tokens_per_second;
  double bytes_per_token = 0;
  double operations_per_token = 0;
  double cpu_seconds_per_token = 0;  ///< Of all threads; tells more than the wall clock where other programs run.
};

double cpu_seconds() {
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  const auto seconds = [](const timeval& t) { return static_cast<double>(t.tv_sec) + static_cast<double>(t.tv_usec) / 1e6; };
  return seconds(usage.ru_utime) + seconds(usage.ru_stime);
}

class Bench {
 public:
  Bench(inference::Engine& engine, int repetitions) : engine_(engine), repetitions_(repetitions) {
    for (const inference::Tensor& tensor : engine.file().tensors()) {
      if (tensor.rank < 2) continue;
      if (tensor.name == "token_embd.weight" && engine.file().find_tensor("output.weight")) continue;
      const bool output = tensor.name == "token_embd.weight" || tensor.name == "output.weight";
      (output ? output_weights_ : layer_weights_) += static_cast<double>(tensor.elements);
    }
  }

  /// Prefill of `count` tokens behind `depth`; logits of the last one.
  Result<Row> prefill(int count, int depth, int threads) {
    Row row{"pp" + std::to_string(count), threads, depth, {}, 0, 0};
    row.bytes_per_token = static_cast<double>(engine_.weight_bytes_per_token()) / count + kv_bytes(depth + count / 2.0);
    row.operations_per_token = 2 * layer_weights_ + 2 * output_weights_ / count + attention(depth + count / 2.0);
    return measure(std::move(row), count, depth, [&](inference::Sequence& sequence) { return append(sequence, count); });
  }

  /// Decoding of `count` tokens one by one behind `depth`.
  Result<Row> generate(int count, int depth, int threads) {
    Row row{"tg" + std::to_string(count), threads, depth, {}, 0, 0};
    row.bytes_per_token = static_cast<double>(engine_.weight_bytes_per_token()) + kv_bytes(depth + count / 2.0);
    row.operations_per_token = 2 * (layer_weights_ + output_weights_) + attention(depth + count / 2.0);
    return measure(std::move(row), count, depth, [&](inference::Sequence& sequence) -> Result<void> {
      for (int i = 0; i < count; ++i)
        if (const auto done = append(sequence, 1); !done) return done;
      return {};
    });
  }

 private:
  double kv_bytes(double positions) const {
    const auto& c = engine_.config();
    return positions * static_cast<double>(c.layers * c.kv_heads * (c.key_length + c.value_length)) * 2;
  }
  double attention(double positions) const {
    const auto& c = engine_.config();
    return 2 * positions * static_cast<double>(c.layers * c.heads * (c.key_length + c.value_length));
  }

  Result<void> append(inference::Sequence& sequence, int count) {
    const auto vocabulary = static_cast<std::uint64_t>(engine_.config().vocabulary);
    logits_.resize(vocabulary);
    std::vector<TokenId> tokens;
    for (int i = 0; i < count; ++i)
      tokens.push_back(static_cast<TokenId>(inference::random_uniform(1, drawn_++) * static_cast<double>(vocabulary)));
    const inference::Extension extension[] = {{&sequence, tokens, inference::Output::last_logits, logits_.data()}};
    return engine_.forward(extension);
  }

  template <class Run>
  Result<Row> measure(Row row, int count, int depth, const Run& run) {
    const auto sequence = engine_.create_sequence();
    if (depth > 0)
      if (const auto done = append(*sequence, depth); !done) return done.error();
    if (const auto done = append(*sequence, 1); !done) return done.error();  // Warm caches and threads.
    for (int i = 0; i < repetitions_; ++i) {
      sequence->truncate(depth);
      const double cpu = cpu_seconds();
      const auto start = std::chrono::steady_clock::now();
      if (const auto done = run(*sequence); !done) return done.error();
      row.tokens_per_second.push_back(count / std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count());
      row.cpu_seconds_per_token += (cpu_seconds() - cpu) / count / repetitions_;
    }
    std::sort(row.tokens_per_second.begin(), row.tokens_per_second.end());
    return row;
  }

  inference::Engine& engine_;
  int repetitions_;
  double layer_weights_ = 0, output_weights_ = 0;
  std::uint64_t drawn_ = 0;
  std::vector<float> logits_;
};

Json json_of(const Row& row) {
  const auto& speeds = row.tokens_per_second;
  const double median = speeds[speeds.size() / 2];
  return Json{{"test", row.test}, {"threads", row.threads}, {"depth", row.depth},
              {"tokens_per_second", {{"median", median}, {"min", speeds.front()}, {"max", speeds.back()}}},
              {"bytes_per_token", row.bytes_per_token}, {"gb_per_second", row.bytes_per_token * median / 1e9},
              {"gflops", row.operations_per_token * median / 1e9}, {"cpu_seconds_per_token", row.cpu_seconds_per_token}};
}

void print_row(const Row& row) {
  const auto& speeds = row.tokens_per_second;
  const double median = speeds[speeds.size() / 2];
  std::printf("%-8s %2d threads  depth %6d  %9.2f tokens/s (%.2f to %.2f)  %7.2f GB/s  %8.1f GFLOP/s\n", row.test.c_str(),
              row.threads, row.depth, median, speeds.front(), speeds.back(), row.bytes_per_token * median / 1e9,
              row.operations_per_token * median / 1e9);
  std::fflush(stdout);
}

int bench(BenchOptions options) {
  const auto engine = open_engine(*options.model);
  if (!engine) return report_model_error(engine.error());
  if (options.threads.empty()) options.threads.push_back((*engine)->threads());
  Bench bench(**engine, options.repetitions);
  Json rows = Json::array();
  const auto keep = [&](const Result<Row>& row) {
    if (!row) return report_model_error(row.error());
    if (options.model->json) rows.push_back(json_of(*row));
    else print_row(*row);
    return static_cast<int>(kDone);
  };
  for (const int threads : options.threads) {
    (*engine)->set_threads(threads);
    for (const int depth : options.depths) {
      for (const int count : options.prompts)
        if (count > 0)
          if (const int code = keep(bench.prefill(count, depth, threads)); code != kDone) return code;
      for (const int count : options.generations)
        if (count > 0)
          if (const int code = keep(bench.generate(count, depth, threads)); code != kDone) return code;
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
    const auto positive = CLI::Range(0, 1 << 24);
    app.add_option("-p,--prompt-tokens", options->prompts, "tokens of a prefill; 0: none")->delimiter(',')->check(positive)->capture_default_str();
    app.add_option("-n,--generated-tokens", options->generations, "tokens to decode; 0: none")->delimiter(',')->check(positive)->capture_default_str();
    app.add_option("-d,--depth", options->depths, "tokens already in the cache")->delimiter(',')->check(positive)->capture_default_str();
    app.add_option("-t", options->threads, "numbers of threads")->delimiter(',')->check(CLI::Range(1, 256));
    app.add_option("-r,--repetitions", options->repetitions, "runs of each test")->check(CLI::Range(1, 1000))->capture_default_str();
    return [options] { return bench(*options); };
  });
}

}  // namespace kontor::agent::cli
