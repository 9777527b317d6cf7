// kontor parse: model output in, reasoning, content and tool calls out.

#include "agent/cli/command.hpp"
#include "agent/dialect/parse_case.hpp"

#include <fstream>
#include <iostream>
#include <iterator>
#include <memory>
#include <sstream>

namespace kontor::agent::cli {
namespace {

struct Options {
  std::string file = "-";
  std::string format = "deepseek-r1";
  std::string prefill = "none";
  std::string mode = "lenient";
  std::string finish = "stop";
  std::string markers = "text";
  std::vector<std::string> tools;
  bool tools_given = false;
  bool fallbacks = false;
  std::size_t chunk = 0;
  std::string batch;
  bool json = false;
};

/// The settings of the command line; what a case of a batch does not say itself.
Result<ParseCase> settings(const Options& options) {
  ParseCase out;
  const auto format = parse_format(options.format);
  if (!format) return format.error();
  const auto prefill = parse_prefill(options.prefill);
  if (!prefill) return prefill.error();
  const auto mode = parse_mode(options.mode);
  if (!mode) return mode.error();
  const auto finish = parse_finish(options.finish);
  if (!finish) return finish.error();
  const auto markers = parse_marker_policy(options.markers);
  if (!markers) return markers.error();
  out.options.format = *format;
  out.options.prefill = *prefill;
  out.options.mode = *mode;
  out.options.markers = *markers;
  out.options.fallbacks = options.fallbacks;
  if (options.tools_given) out.options.tools = options.tools;
  out.finish = *finish;
  return out;
}

/// Opens FILE, or standard input for "-".
std::istream* open_input(const std::string& file, std::ifstream& storage) {
  if (file == "-") return &std::cin;
  storage.open(file, std::ios::binary);
  return storage ? &storage : nullptr;
}

int run_batch(const Options& options, const ParseCase& defaults, std::istream& in) {
  JsonLimits limits;
  limits.depth = 1024;  // a case may carry expectations nested deeper than the arguments themselves
  limits.refuse_duplicate_keys = false;
  std::string line;
  int number = 0;
  int failed = 0;
  while (std::getline(in, line)) {
    ++number;
    if (line.find_first_not_of(" \t\r") == std::string::npos) continue;
    const auto document = parse_json(line, limits);
    auto parse_case = document ? read_parse_case(*document, defaults) : Result<ParseCase>(document.error());
    if (!parse_case) {
      ++failed;
      print_error(options.batch + ":" + std::to_string(number) + ": " + parse_case.error().describe());
      Json out = Json::object();
      const bool named = document.has_value() && document->is_object() && document->contains("id");
      out["id"] = named ? (*document)["id"] : Json(nullptr);
      out["error"] = parse_case.error().message;
      print_json(out.dump(-1, ' ', false, Json::error_handler_t::replace));
      continue;
    }
    Json out = Json::object();
    out["id"] = parse_case->id;
    out.update(to_json(run_parse_case(*parse_case, options.chunk)));
    print_json(out.dump(-1, ' ', false, Json::error_handler_t::replace));
  }
  return failed == 0 ? kDone : kFailed;
}

int run_parse(const Options& options) {
  auto defaults = settings(options);
  if (!defaults) {
    print_error(defaults.error().message);
    return kUsage;
  }
  std::ifstream storage;
  const std::string& file = options.batch.empty() ? options.file : options.batch;
  std::istream* in = open_input(file, storage);
  if (!in) {
    print_error(fail_errno("open", file).message);
    return kUsage;
  }
  if (!options.batch.empty()) return run_batch(options, *defaults, *in);
  std::string text{std::istreambuf_iterator<char>(*in), {}};
  defaults->pieces.push_back({std::move(text), false});
  const Json out = to_json(run_parse_case(*defaults, options.chunk));
  print_json(out.dump(options.json ? -1 : 2, ' ', false, Json::error_handler_t::replace));
  return kDone;
}

const Verb verb{"parse", "read model output: reasoning, content, tool calls", [](CLI::App& app) -> Action {
  auto options = std::make_shared<Options>();
  app.add_option("FILE", options->file, "model output; - or nothing reads standard input");
  app.add_option("--format", options->format, "notation of the output: deepseek-r1, deepseek-v3.1, deepseek-v3.2, hermes, ...")->capture_default_str();
  app.add_option("--prefill", options->prefill, "what the prompt had written: none, open (<think>), closed (</think>)")->capture_default_str();
  app.add_option("--mode", options->mode, "lenient accepts the variants seen in the wild, strict only the canonical form")->capture_default_str();
  app.add_option("--finish", options->finish, "why the model stopped: stop, length")->capture_default_str();
  app.add_option("--marker-policy", options->markers, "text, or token: only control tokens are markup")->capture_default_str();
  app.add_flag("--fallbacks", options->fallbacks, "also read calls written without markup (needs --tools)");
  auto* tools = app.add_option("--tools", options->tools, "names of the known tools, separated by commas")->delimiter(',');
  app.add_option("--chunk", options->chunk, "feed the parser N bytes at a time (0: as given)");
  app.add_option("--batch", options->batch, "JSON lines, one case each; prints one result line per case");
  app.add_flag("--json", options->json, "print one line");
  return [options, tools] {
    options->tools_given = tools->count() > 0;
    return run_parse(*options);
  };
}};

}  // namespace
}  // namespace kontor::agent::cli
