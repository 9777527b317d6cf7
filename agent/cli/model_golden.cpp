// `kontor model golden MANIFEST`: computes the models of a golden manifest for comparison with reference logits.

#include "agent/cli/model_verbs.hpp"
#include "base/json.hpp"
#include "inference/cpu/kernels.hpp"
#include "inference/golden.hpp"

#include <nlohmann/json.hpp>

#include <filesystem>
#include <fstream>
#include <iostream>
#include <string>
#include <vector>

namespace kontor::agent::cli {
namespace {

namespace fs = std::filesystem;

struct GoldenOptions {
  std::string manifest, out, compute = "f32", only, device = "cpu", kernels;
  int threads = 1;
  bool json = false;
};

Result<void> write_file(const fs::path& path, const std::string& bytes) {
  std::ofstream out(path, std::ios::binary | std::ios::trunc);
  out.write(bytes.data(), static_cast<std::streamsize>(bytes.size()));
  out.close();
  if (!out) return fail_errno("write", path.string());
  return {};
}

/// What a manifest's entry asks for. Throws nlohmann exceptions for a manifest of another shape.
inference::GoldenInput input_of(const Json& model) {
  inference::GoldenInput input;
  const Json& sequences = model.at("sequences");
  input.one = sequences.at("seq1").get<std::vector<inference::TokenId>>();
  input.some = sequences.at("seq17").get<std::vector<inference::TokenId>>();
  input.many = sequences.at("seq130").get<std::vector<inference::TokenId>>();
  if (model.contains("chunks")) input.chunks = model.at("chunks").get<std::vector<std::int64_t>>();
  const Json& rows = model.at("rows");
  if (rows.contains("seq130_at")) input.positions = rows.at("seq130_at").at("positions").get<std::vector<std::int64_t>>();
  return input;
}

/// Computes the file (or folder) with an entry's inputs and writes it under `id`; the differences that were found
/// between one call and several.
Result<std::vector<std::string>> run_model(const GoldenOptions& options, const Json& model, const std::string& id, const std::string& path) {
  const fs::path folder = fs::path(options.manifest).parent_path();
  const auto file = inference::WeightFile::open((folder / path).string());
  if (!file) return file.error();
  inference::BackendOptions backend_options;
  backend_options.device = options.device;
  backend_options.threads = options.threads;
  backend_options.compute = options.compute == "f32" ? inference::Compute::f32 : inference::Compute::native;
  backend_options.kernels = options.kernels;
  auto backend = inference::open_backend(*file, backend_options);
  if (!backend) return backend.error();
  const bool text = model.contains("greedy");
  const auto output = text ? inference::run_golden(**backend, input_of(model))
                           : inference::run_golden_embedding(**backend, *file, input_of(model));
  if (!output) return output.error();
  std::error_code ignored;
  fs::create_directories((fs::path(options.out) / id).parent_path(), ignored);
  if (const auto written = write_file(fs::path(options.out) / (id + ".npy"), inference::npy_of(output->rows)); !written) return written.error();
  if (text) {
    const auto written = write_file(fs::path(options.out) / (id + ".greedy.json"), Json(output->greedy).dump());
    if (!written) return written.error();
  }
  return output->differences;
}

int golden(const GoldenOptions& options) {
  const auto text = read_input(options.manifest);
  if (!text) return report_model_error(text.error());
  const auto manifest = parse_json(*text);
  if (!manifest) return report_model_error(fail(Errc::usage, manifest.error().message, "", options.manifest + ":" + manifest.error().where));
  Json written = Json::array(), skipped = Json::array(), failed = Json::array();
  const auto run = [&](const Json& model, const std::string& id, const std::string& path) {
    if (id.find(options.only) == std::string::npos) return;
    const auto done = run_model(options, model, id, path);
    if (!done) {
      const Error error = done.error();
      (error.code == Errc::unsupported ? skipped : failed).push_back({{"id", id}, {"reason", error.message}});
      if (!options.json) std::cout << (error.code == Errc::unsupported ? "cannot run " : "failed ") << id << ": " << error.message << "\n";
      return;
    }
    written.push_back(id);
    for (const std::string& difference : *done) {
      failed.push_back({{"id", id}, {"reason", difference + " has other bits than one call"}});
      if (!options.json) std::cout << "differs " << id << ": " << difference << "\n";
    }
  };
  try {
    const Json& models = manifest->at("models");
    for (const Json& model : models) run(model, model.at("id").get<std::string>(), model.at("file").get<std::string>());
    // The same weights as Hugging Face folders.
    for (const Json& folder : manifest->value("hf", Json::array()))
      for (const Json& model : models)
        if (model.at("id") == folder.at("same_weights_as")) run(model, folder.at("id").get<std::string>(), folder.at("directory").get<std::string>());
  } catch (const nlohmann::json::exception& error) {
    print_error(options.manifest + ": " + error.what());
    return kUsage;
  }
  if (options.json) print_json(Json{{"written", written}, {"cannot_run", skipped}, {"failed", failed}}.dump());
  else std::cout << written.size() << " models written to " << options.out << ", " << skipped.size() << " cannot be run yet\n";
  return failed.empty() ? kDone : kModel;
}

}  // namespace

void add_model_golden(CLI::App& verb) {
  add_leaf(verb, "golden", "compute the models of a golden manifest", [](CLI::App& app) -> Action {
    auto options = std::make_shared<GoldenOptions>();
    app.add_option("MANIFEST", options->manifest, "manifest.json of a golden set")->required();
    app.add_option("--out", options->out, "folder for ID.npy and ID.greedy.json")->required();
    app.add_option("--compute", options->compute, "f32: the exact reference; native: as models are run")
        ->check(CLI::IsMember({"f32", "native"}))->capture_default_str();
    app.add_option("--only", options->only, "models whose id contains this text");
    add_device_option(app, options->device);
    app.add_option("--threads", options->threads, "threads to compute with")->check(CLI::Range(1, 256))->capture_default_str();
    std::vector<std::string> sets;
    for (const inference::cpu::KernelSet* set : inference::cpu::available_kernels()) sets.emplace_back(set->name);
    app.add_option("--kernels", options->kernels, "instruction set of the CPU kernels, one that runs here; default: the first")->check(CLI::IsMember(sets));
    app.add_flag("--json", options->json, "print one JSON document");
    return [options] { return golden(*options); };
  });
}

}  // namespace kontor::agent::cli
