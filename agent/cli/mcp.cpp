// kontor mcp: an agent file as an MCP server.

#include "agent/cli/command.hpp"
#include "agent/cli/mcp_offer.hpp"
#include "agent/cli/run_support.hpp"
#include "agent/cli/run_world.hpp"
#include "agent/cli/shared_options.hpp"
#include "tools/mcp/serve_http.hpp"
#include "tools/mcp/serve_stdio.hpp"

#include <fcntl.h>
#include <unistd.h>

#include <charconv>
#include <filesystem>
#include <fstream>
#include <iterator>

namespace kontor::agent::cli {
namespace {

struct Options {
  std::string file, runs = default_state_folder(), listen, token_file;
  std::vector<std::string> tools;
  RunOptions run;
  bool short_names = false, no_agents = false;
};

/// "127.0.0.1:8788", "[::1]:8788", ":8788"
Result<tools::mcp::ListenSetup> listen_setup(const Options& options) {
  tools::mcp::ListenSetup setup;
  const auto colon = options.listen.rfind(':');
  const std::string port = colon == std::string::npos ? options.listen : options.listen.substr(colon + 1);
  std::string host = colon == std::string::npos ? std::string() : options.listen.substr(0, colon);
  if (host.starts_with('[') && host.ends_with(']')) host = host.substr(1, host.size() - 2);
  if (!host.empty()) setup.host = host;
  const auto [end, code] = std::from_chars(port.data(), port.data() + port.size(), setup.port);
  if (port.empty() || code != std::errc() || end != port.data() + port.size()) return fail(Errc::usage, "--listen takes ADDRESS:PORT, not '" + options.listen + "'");
  if (!options.token_file.empty()) {
    std::ifstream file(options.token_file, std::ios::binary);
    setup.token.assign((std::istreambuf_iterator<char>(file)), std::istreambuf_iterator<char>());
    while (!setup.token.empty() && (setup.token.back() == '\n' || setup.token.back() == '\r')) setup.token.pop_back();
    if (setup.token.size() < 16) return fail(Errc::usage, "the token in " + options.token_file + " has less than 16 characters, or is not readable");
  }
  return setup;
}

/// Standard output is the protocol's: what anything here prints goes to standard error.
int take_output() {
  const int output = ::fcntl(STDOUT_FILENO, F_DUPFD_CLOEXEC, 3);
  ::dup2(STDERR_FILENO, STDOUT_FILENO);
  return output;
}

int serve(const Options& options, tools::mcp::Dispatcher& dispatcher, const std::stop_token& stop) {
  if (options.listen.empty()) {
    const int output = take_output();
    const auto served = tools::mcp::serve_stdio(dispatcher, STDIN_FILENO, output, stop);
    return served ? kDone : report_error(served.error());
  }
  auto setup = listen_setup(options);
  if (!setup) return report_error(setup.error());
  const std::string host = setup->host.find(':') == std::string::npos ? setup->host : "[" + setup->host + "]";
  auto server = tools::mcp::HttpServer::open(dispatcher, *setup);
  if (!server) return report_error(server.error());
  std::fprintf(stderr, "serving http://%s:%d/mcp\n", host.c_str(), (*server)->port());
  (*server)->run(stop);
  return kDone;
}

int execute(const Options& options) {
  Interrupts interrupts("");
  auto file = find_agent_file(options.file);
  if (!file) return report_error(file.error());
  auto spec = read_spec(*file);
  if (!spec) return kUsage;
  OfferSetup setup;
  setup.spec = std::move(*spec);
  setup.run = options.run;
  setup.runs = options.runs;
  setup.tools = options.tools;
  setup.short_names = options.short_names;
  setup.agents = !options.no_agents;
  std::error_code code;
  if (!setup.run.model_path.empty()) setup.run.model_path = std::filesystem::absolute(setup.run.model_path, code).string();
  if (setup.agents) {
    if (auto found = find_models(setup.spec, setup.run); !found) return report_error(found.error());
  }
  auto offer = make_offer(std::move(setup));
  if (!offer) return report_error(offer.error());
  tools::mcp::Dispatcher dispatcher(**offer);
  return serve(options, dispatcher, interrupts.token());
}

const Verb verb{"mcp", "serve an agent file as an MCP server", [](CLI::App& app) -> Action {
  auto options = std::make_shared<Options>();
  app.add_option("FILE", options->file, "agent file, or a folder with an agent.yaml")->required();
  app.add_option("--listen", options->listen, "ADDRESS:PORT for HTTP at /mcp (default: standard input and output)");
  app.add_option("--token-file", options->token_file, "demand this bearer token; needed for addresses that others can reach");
  app.add_option("--tools", options->tools, "offer tools of the file too: NAME or glob; repeat for several")->expected(1)->multi_option_policy(CLI::MultiOptionPolicy::TakeAll);
  app.add_flag("--short-names", options->short_names, "call those tools by their function's name, without the group");
  app.add_flag("--no-agents", options->no_agents, "offer no workflow and no agents");
  add_model_options(app, options->run);
  add_runs_option(app, options->runs);
  add_airgap_flag(app, options->run.airgap);
  return [options] { return execute(*options); };
}};

}  // namespace
}  // namespace kontor::agent::cli
