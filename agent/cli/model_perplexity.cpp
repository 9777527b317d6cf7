// `kontor model perplexity FILE TEXT`: how well a model predicts a text.

#include "agent/cli/model_verbs.hpp"
#include "agent/cli/progress.hpp"
#include "base/json.hpp"
#include "inference/perplexity.hpp"

#include <nlohmann/json.hpp>

#include <cstdio>

namespace kontor::agent::cli {
namespace {

struct PerplexityOptions {
  std::shared_ptr<ModelOptions> model;
  std::string text, compute = "native";
  inference::PerplexityOptions run;
};

int perplexity(const PerplexityOptions& options) {
  const auto text = read_input(options.text);
  if (!text) return report_model_error(text.error());
  const auto engine = open_engine(*options.model, options.compute == "f32" ? inference::Compute::f32 : inference::Compute::native);
  if (!engine) return report_model_error(engine.error());
  inference::PerplexityOptions run = options.run;
  ProgressBar bar("perplexity", !options.model->json);
  run.progress = [&](std::int64_t done, std::int64_t total) { bar.show(static_cast<double>(done) / static_cast<double>(total)); };
  const auto result = inference::measure_perplexity(**engine, *text, run);
  bar.end();
  if (!result) return report_model_error(result.error());
  if (options.model->json) {
    print_json(Json{{"perplexity", result->perplexity}, {"standard_error", result->standard_error}, {"tokens", result->tokens},
                    {"scored", result->scored}, {"windows", result->windows}, {"bits_per_byte", result->bits_per_byte}}.dump());
    return kDone;
  }
  std::printf("perplexity %.4f +- %.4f over %lld of %lld tokens in %lld windows; %.4f bits per byte\n", result->perplexity, result->standard_error,
              static_cast<long long>(result->scored), static_cast<long long>(result->tokens), static_cast<long long>(result->windows), result->bits_per_byte);
  return kDone;
}

}  // namespace

void add_model_perplexity(CLI::App& verb) {
  add_leaf(verb, "perplexity", "how well a model predicts a text (lower is better)", [](CLI::App& app) -> Action {
    auto options = std::make_shared<PerplexityOptions>();
    options->model = add_model_options(app);
    app.add_option("TEXT", options->text, "text file (\"-\": standard input)")->required();
    app.add_option("--window", options->run.window, "tokens that are computed together; the second half of each window is scored")
        ->check(CLI::Range(2, 1 << 20))->capture_default_str();
    app.add_option("--compute", options->compute, "f32: the exact reference; native: as models are run")
        ->check(CLI::IsMember({"f32", "native"}))->capture_default_str();
    return [options] { return perplexity(*options); };
  });
}

}  // namespace kontor::agent::cli
