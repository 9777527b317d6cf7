// kontor render: messages and tools in, the prompt of a model's official template out.

#include "agent/cli/command.hpp"
#include "agent/dialect/faithful.hpp"
#include "base/json.hpp"

#include <nlohmann/json.hpp>

#include <fstream>
#include <iostream>
#include <iterator>
#include <memory>

namespace kontor::agent::cli {
namespace {

struct Options {
  std::string file = "-";
  std::string batch;
  bool json = false;
};

JsonLimits request_limits() {
  JsonLimits limits;
  limits.depth = 512;
  limits.refuse_duplicate_keys = false;
  return limits;
}

/// {"id", "prompt"} or {"id", "error"}.
std::string answer(const Json& request, bool& known) {
  Json out = Json::object();
  out["id"] = request.is_object() && request.contains("id") ? request["id"] : Json(nullptr);
  const auto prompt = render_faithful(request);
  known = prompt.has_value() || prompt.error().code != Errc::usage;
  if (prompt) out["prompt"] = *prompt;
  else out["error"] = prompt.error().message;
  return out.dump(-1, ' ', false, Json::error_handler_t::replace);
}

int run_render(const Options& options) {
  const std::string& file = options.batch.empty() ? options.file : options.batch;
  std::ifstream storage;
  if (file != "-") {
    storage.open(file, std::ios::binary);
    if (!storage) {
      print_error(fail_errno("open", file).message);
      return kUsage;
    }
  }
  std::istream& in = file == "-" ? std::cin : storage;
  bool known = true;
  if (options.batch.empty()) {
    const std::string text{std::istreambuf_iterator<char>(in), {}};
    const auto request = parse_json(text, request_limits());
    if (!request) {
      print_error(file + ": " + request.error().describe());
      return kUsage;
    }
    const auto prompt = render_faithful(*request);
    if (!prompt) {
      print_error(prompt.error().describe());
      return prompt.error().code == Errc::usage ? kUsage : kFailed;
    }
    if (options.json) print_json(answer(*request, known));
    else std::cout << *prompt;
    return kDone;
  }
  int failed = 0;
  int number = 0;
  for (std::string line; std::getline(in, line);) {
    ++number;
    if (line.find_first_not_of(" \t\r") == std::string::npos) continue;
    const auto request = parse_json(line, request_limits());
    if (!request) {
      ++failed;
      print_error(file + ":" + std::to_string(number) + ": " + request.error().describe());
      continue;
    }
    print_json(answer(*request, known));
    failed += known ? 0 : 1;
  }
  return failed == 0 ? kDone : kFailed;
}

const Verb verb{"render", "write the prompt of a model's official chat template", [](CLI::App& app) -> Action {
  auto options = std::make_shared<Options>();
  app.add_option("FILE", options->file, "a JSON object with model, messages, tools, kwargs; - or nothing reads standard input");
  app.add_option("--batch", options->batch, "JSON lines, one such object each; prints {\"id\", \"prompt\"} or {\"id\", \"error\"} per line");
  app.add_flag("--json", options->json, "print {\"id\", \"prompt\"} instead of the bare prompt");
  return [options] { return run_render(*options); };
}};

}  // namespace
}  // namespace kontor::agent::cli
