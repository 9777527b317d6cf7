// `kontor model`: look at, check and run a model file by itself. This file: info, verify and what the others share.

#include "agent/cli/model_verbs.hpp"
#include "agent/cli/terminal.hpp"
#include "base/json.hpp"
#include "inference/model_info.hpp"
#include "inference/sampler.hpp"

#include <nlohmann/json.hpp>

#include <cstdio>
#include <fstream>
#include <iostream>
#include <new>
#include <set>
#include <sstream>

namespace kontor::agent::cli {
namespace {

int print_info(const ModelOptions& options) {
  const auto file = inference::WeightFile::open(options.file);
  if (!file) return report_model_error(file.error());
  const auto config = inference::read_model_config(*file);
  if (!config) return report_model_error(config.error());
  const auto tokenizer = inference::Tokenizer::create(*file);
  if (!tokenizer) return report_model_error(tokenizer.error());
  const inference::ModelInfo info = inference::describe_model(*file, *config, *tokenizer);
  Json json;
  json["name"] = info.name;
  if (!info.description.empty()) json["description"] = info.description;
  json["architecture"] = info.architecture;
  json["parameters"] = info.parameters;
  json["quantization"] = info.quantization;
  json["context"] = info.context;
  json["layers"] = config->layers;
  json["width"] = config->width;
  json["heads"] = config->heads;
  json["kv_heads"] = config->kv_heads;
  json["tokenizer"] = {{"model", tokenizer->model()}, {"pre", tokenizer->pre()}, {"tokens", tokenizer->size()}};
  json["dialect"] = info.dialect;
  json["call_tokens"] = info.has_call_tokens;
  json["bytes"] = file->size_bytes();
  if (options.json) {
    print_json(json.dump(-1, ' ', false, Json::error_handler_t::replace));
    return kDone;
  }
  for (const auto& [key, value] : json.items())
    std::cout << key << ": " << (value.is_string() ? printable(value.get<std::string>(), 500) : value.dump(-1, ' ', false, Json::error_handler_t::replace)) << "\n";
  return kDone;
}

/// Loads everything and evaluates one token.
Result<void> verify_or_throw(const ModelOptions& options) {
  const auto engine = open_engine(options);
  if (!engine) return engine.error();
  const auto bos = (*engine)->tokenizer().bos();
  const inference::TokenId token[] = {bos ? *bos : 0};
  const inference::ModelConfig& config = (*engine)->config();
  const bool encoder = config.architecture->encoder;
  std::vector<float> values(static_cast<std::size_t>(encoder ? config.width : config.vocabulary));
  const auto sequence = (*engine)->create_sequence();
  const auto output = encoder ? inference::Output::all_hidden : inference::Output::last_logits;
  const inference::Extension extension[] = {{sequence.get(), token, output, values.data()}};
  if (const auto done = (*engine)->forward(extension); !done) return done.error();
  if (const auto best = inference::arg_max(values); !best)
    return fail(Errc::malformed, "the weights give values that are not numbers", "nonfinite_weights");
  return {};
}

Result<void> verify(const ModelOptions& options) {
  try {
    return verify_or_throw(options);
  } catch (const std::bad_alloc&) {
    return fail(Errc::memory, "no memory left while checking the model", "out_of_memory");
  }
}

int print_verify(const ModelOptions& options) {
  const auto done = verify(options);
  if (!options.json) {
    if (!done) return report_model_error(done.error());
    std::cout << options.file << ": ok\n";
    return kDone;
  }
  Json json;
  json["ok"] = done.has_value();
  if (!done) {
    const Error error = done.error();
    json["error"] = {{"kind", error.kind.empty() ? std::string(to_string(error.code)) : error.kind}, {"message", error.message}};
  }
  print_json(json.dump(-1, ' ', false, Json::error_handler_t::replace));
  return done ? kDone : kModel;
}

void add_info(CLI::App& verb) {
  add_leaf(verb, "info", "architecture, size, vocabulary and prompt format of a model file", [](CLI::App& app) -> Action {
    auto options = std::make_shared<ModelOptions>();
    app.add_option("FILE", options->file, "model file (GGUF) or Hugging Face folder")->required();
    app.add_flag("--json", options->json, "print one JSON document");
    return [options] { return print_info(*options); };
  });
}

void add_verify(CLI::App& verb) {
  add_leaf(verb, "verify", "load a model file completely and evaluate one token", [](CLI::App& app) -> Action {
    auto options = add_model_options(app);
    return [options] { return print_verify(*options); };
  });
}

const Verb verb{"model", "look at, check and run model files", [](CLI::App& app) -> Action {
  add_info(app);
  add_verify(app);
  add_model_tokenize(app);
  add_model_logits(app);
  add_model_generate(app);
  add_model_embed(app);
  add_model_bench(app);
  add_model_golden(app);
  add_model_perplexity(app);
  add_model_pull(app);
  add_model_quantize(app);
  return {};
}};

}  // namespace

std::shared_ptr<ModelOptions> add_model_options(CLI::App& app) {
  auto options = std::make_shared<ModelOptions>();
  app.add_option("FILE", options->file, "model file (GGUF) or Hugging Face folder")->required();
  add_device_option(app, options->device);
  app.add_option("--threads", options->threads, "threads to compute with (default: one for each processor)")
      ->check(CLI::Range(0, 256));
  app.add_option("--context", options->context, "longest token timeline (default: what the model allows)")
      ->check(CLI::NonNegativeNumber);
  app.add_option("--expert-memory", options->expert_bytes,
                 "memory for the experts of a mixture (\"24GB\"); the rest is read as it is used (default: 60 % of what is free; on a GPU, "
                 "whose memory is meant there, what fits)")
      ->transform(CLI::AsSizeValue(true));
  app.add_option("--kv", options->kv, "type of the KV cache; q8_0 takes half the memory and is a little less exact")
      ->check(CLI::IsMember(std::set<std::string>{"f16", "q8_0"}))->capture_default_str();
  app.add_flag("--json", options->json, "print one JSON document");
  return options;
}

Result<std::shared_ptr<inference::Engine>> open_engine(const ModelOptions& options, inference::Compute compute) {
  inference::EngineOptions engine;
  engine.backend.device = options.device;
  engine.backend.threads = options.threads;
  engine.backend.compute = compute;
  engine.backend.kv = inference::kv_type_named(options.kv).value_or(inference::KvType::f16);  // No other name passed the check.
  engine.backend.expert_bytes = options.expert_bytes;
  engine.context = options.context;
  return inference::Engine::open(options.file, engine);
}

int report_model_error(const Error& error) {
  print_error(error.describe());
  return error.code == Errc::usage ? kUsage : kModel;
}

Result<std::string> read_input(const std::string& path) {
  constexpr std::size_t kLimit = std::size_t{1} << 30;
  std::ifstream file;
  if (path != "-") {
    file.open(path, std::ios::binary);
    if (!file) return fail_errno("open", path);
  }
  std::istream& in = path == "-" ? std::cin : file;
  std::string text;
  char part[1 << 16];
  while (in.read(part, sizeof(part)) || in.gcount() > 0) {
    text.append(part, static_cast<std::size_t>(in.gcount()));
    if (text.size() > kLimit) return fail(Errc::limit, path + " is larger than 1 GiB", "limit_exceeded");
  }
  if (in.bad()) return fail_errno("read", path);
  return text;
}

}  // namespace kontor::agent::cli
