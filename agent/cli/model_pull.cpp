// `kontor model pull URL` and `kontor model quantize IN OUT`: from a published model to a file to run.

#include "agent/cli/download.hpp"
#include "agent/cli/model_verbs.hpp"
#include "agent/cli/progress.hpp"
#include "base/json.hpp"
#include "inference/quantize.hpp"
#include "tools/mcp/http_client.hpp"

#include <nlohmann/json.hpp>

#include <csignal>
#include <filesystem>
#include <iostream>

namespace kontor::agent::cli {
namespace {

volatile std::sig_atomic_t interrupted = 0;

/// The first interrupt stops between two pieces, so that what is there stays usable.
void stop_on_interrupt() { std::signal(SIGINT, [](int) { interrupted = 1; }); }

int report(const Error& error) {
  print_error(error.describe());
  return error.code == Errc::usage ? kUsage : error.code == Errc::cancelled ? kInterrupted : kFailed;
}

/// The last part of a path, fit for a file name; empty where there is none.
std::string file_name_of(const std::string& path) {
  const std::string name = path.substr(path.rfind('/') + 1);
  return name == "." || name == ".." || name.find('%') != std::string::npos ? "" : name;
}

struct PullOptions {
  DownloadOptions download;
  bool json = false;
};

int pull(PullOptions options) {
  const auto url = tools::mcp::parse_url(options.download.url);
  if (!url) return report(fail(Errc::usage, "'" + inference::printable(options.download.url, 300) + "' is no http or https address", "bad_url"));
  std::string name = file_name_of(url->path());
  std::string& path = options.download.path;
  if (path.empty() && name.empty()) return report(fail(Errc::usage, "the address names no file; say where it goes with --out", "bad_url"));
  if (path.empty()) path = name;
  else if (std::filesystem::is_directory(path)) path = (std::filesystem::path(path) / name).string();
  if (std::filesystem::exists(path)) return report(fail(Errc::conflict, "the file exists already", "exists", path));
  stop_on_interrupt();
  ProgressBar bar(std::filesystem::path(path).filename().string(), !options.json);
  options.download.progress = [&](std::uint64_t done, std::uint64_t total, std::uint64_t before) {
    bar.show_bytes(done, total, before);
    return interrupted == 0;
  };
  const auto done = download(options.download);
  bar.end();
  if (!done) return report(done.error());
  if (options.json) {
    print_json(Json{{"path", path}, {"bytes", done->bytes}, {"resumed", done->resumed}, {"sha256", done->sha256}, {"checked", done->checked}}.dump(
        -1, ' ', false, Json::error_handler_t::replace));
  } else {
    std::cout << path << ": " << readable_bytes(done->bytes) << ", sha256 " << done->sha256 << (done->checked ? " (as expected)" : "") << "\n";
  }
  return kDone;
}

struct QuantizeVerbOptions {
  std::string in, out;
  inference::QuantizeOptions run;
  bool json = false;
};

int quantize(QuantizeVerbOptions options) {
  const auto file = inference::WeightFile::open(options.in);
  if (!file) return report_model_error(file.error());
  stop_on_interrupt();
  ProgressBar bar("quantize", !options.json);
  options.run.progress = [&](std::uint64_t done, std::uint64_t total) {
    bar.show_bytes(done, total);
    return interrupted == 0;
  };
  const auto done = inference::quantize_model(*file, options.out, options.run);
  bar.end();
  if (!done) return done.error().code == Errc::cancelled ? report(done.error()) : report_model_error(done.error());
  if (options.json) {
    print_json(Json{{"path", options.out}, {"bytes_before", done->bytes_before}, {"bytes_after", done->bytes_after}, {"quantized", done->quantized},
                    {"kept", done->kept}, {"fallbacks", done->fallbacks}}.dump(-1, ' ', false, Json::error_handler_t::replace));
    return kDone;
  }
  std::cout << options.out << ": " << readable_bytes(done->bytes_after) << " of weights instead of " << readable_bytes(done->bytes_before) << "; "
            << done->quantized << " tensors converted, " << done->kept << " kept";
  if (done->fallbacks > 0) std::cout << ", " << done->fallbacks << " with rows that do not fit the type became Q8_0 or F16";
  std::cout << "\n";
  return kDone;
}

}  // namespace

void add_model_pull(CLI::App& verb) {
  add_leaf(verb, "pull", "download a model file: resumed where it was cut off, checked, complete or not there", [](CLI::App& app) -> Action {
    auto options = std::make_shared<PullOptions>();
    app.add_option("URL", options->download.url, "http or https address of the file")->required();
    app.add_option("-o,--out", options->download.path, "file or folder (default: the address's last part, here)");
    app.add_option("--sha256", options->download.sha256, "digest that the file must have");
    app.add_flag("--airgap", options->download.airgap, "refuse everything that is not on this machine");
    app.add_flag("--json", options->json, "print one JSON document");
    return [options] { return pull(*options); };
  });
}

void add_model_quantize(CLI::App& verb) {
  add_leaf(verb, "quantize", "write a model with its matrices in a smaller type", [](CLI::App& app) -> Action {
    auto options = std::make_shared<QuantizeVerbOptions>();
    app.add_option("IN", options->in, "model file or folder")->required();
    app.add_option("OUT", options->out, "GGUF file to write")->required();
    std::vector<std::string> names;
    for (const std::string_view name : inference::quantization_names()) names.emplace_back(name);
    app.add_option("--type", options->run.type, "type of the matrices; the _m mixes keep more of what matters most")
        ->check(CLI::IsMember(names, CLI::ignore_case))->capture_default_str();
    app.add_option("--threads", options->run.threads, "threads to compute with (default: one for each processor)")->check(CLI::Range(0, 256));
    app.add_flag("--json", options->json, "print one JSON document");
    return [options] { return quantize(*options); };
  });
}

}  // namespace kontor::agent::cli
