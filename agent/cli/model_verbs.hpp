#pragma once
// What the files of the `model` verb share.

#include "agent/cli/command.hpp"
#include "base/error.hpp"
#include "inference/engine.hpp"

#include <CLI/CLI.hpp>

#include <memory>
#include <string>

namespace kontor::agent::cli {

/// Options of every sub-verb that loads a model.
struct ModelOptions {
  std::string file;
  std::string device = "auto";
  int threads = 0;
  std::int64_t context = 0;
  std::uint64_t expert_bytes = 0;  ///< See BackendOptions.
  std::string kv = "f16";          ///< A name of inference::KvType.
  bool json = false;
};

/// Declares FILE, --device, --threads, --context, --kv, --expert-memory and --json.
std::shared_ptr<ModelOptions> add_model_options(CLI::App& app);

Result<std::shared_ptr<inference::Engine>> open_engine(const ModelOptions& options,
                                                       inference::Compute compute = inference::Compute::native);

/// Prints the error; returns the exit code that belongs to it (2 for usage, else 5).
int report_model_error(const Error& error);

/// Reads a whole file ("-": standard input) of at most 1 GiB. Errors: not_found, io, limit.
Result<std::string> read_input(const std::string& path);

void add_model_tokenize(CLI::App& verb);
void add_model_logits(CLI::App& verb);
void add_model_generate(CLI::App& verb);
void add_model_embed(CLI::App& verb);
void add_model_bench(CLI::App& verb);
void add_model_golden(CLI::App& verb);
void add_model_perplexity(CLI::App& verb);
void add_model_pull(CLI::App& verb);
void add_model_quantize(CLI::App& verb);

}  // namespace kontor::agent::cli
