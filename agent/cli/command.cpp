#include "agent/cli/command.hpp"

#include "agent/spec/text_tools.hpp"
#include "inference/device_choice.hpp"

#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <iostream>
#include <memory>
#include <string_view>

namespace kontor::agent::cli {
namespace {

struct Entry {
  std::string name;
  std::string summary;
  std::function<Action(CLI::App&)> setup;
};

std::vector<Entry>& entries() {
  static std::vector<Entry> list;
  return list;
}

struct Leaf {
  CLI::App* app;
  Action action;
};

std::vector<Leaf>& leaves() {
  static std::vector<Leaf> list;
  return list;
}

void print_unknown(const std::string& where, const std::string& what, const std::string& word, const std::vector<std::string>& known) {
  print_error("'" + where + "' has no " + what + " '" + shown_text(word) + "'" + did_you_mean(nearest(word, known)));
}

std::string& called_as() {
  static std::string name = "kontor";
  return name;
}

/// "kontor runs show": the verb and sub-verb that the words name.
struct Chosen {
  CLI::App* app;
  std::string path = "kontor";
  int next = 1;  ///< index of the first word behind them
};

Chosen chosen(CLI::App& app, int argc, char** argv) {
  Chosen found{&app};
  for (; found.next < argc; ++found.next) {
    const auto subs = found.app->get_subcommands([&](const CLI::App* sub) { return sub->get_name() == argv[found.next]; });
    if (subs.empty()) break;
    found.app = subs.front();
    found.path += std::string(" ") + argv[found.next];
  }
  return found;
}

/// Says what is wrong with the words, as exactly as possible: CLI11 names neither the misspelt sub-verb nor what was meant.
void report_usage(CLI::App& app, int argc, char** argv, const CLI::ParseError& error) {
  const Chosen at = chosen(app, argc, argv);
  const auto help = [&] { std::fprintf(stderr, "'%s --help' lists what there is\n", at.path.c_str()); };
  std::vector<std::string> verbs, options;
  for (const auto* below : at.app->get_subcommands({})) verbs.push_back(below->get_name());
  for (const auto* option : at.app->get_options({})) {
    for (const auto& name : option->get_lnames()) options.push_back("--" + name);
    for (const auto& name : option->get_snames()) options.push_back("-" + name);
  }
  if (!verbs.empty() && at.next < argc && argv[at.next][0] != '-') {
    print_unknown(at.path, "command", argv[at.next], verbs);
    return help();
  }
  if (!verbs.empty() && at.next == argc) {
    std::string list;
    for (const auto& verb : verbs) list += (list.empty() ? "" : ", ") + verb;
    print_error(at.path + " needs one of: " + list);
    return help();
  }
  if (dynamic_cast<const CLI::ExtrasError*>(&error) != nullptr) {
    for (int i = at.next; i < argc && std::string_view(argv[i]) != "--"; ++i) {
      const std::string word = std::string(argv[i]).substr(0, std::string(argv[i]).find('='));
      if (word.size() < 2 || word[0] != '-' || std::find(options.begin(), options.end(), word) != options.end()) continue;
      if (word[1] != '-' && std::find(options.begin(), options.end(), word.substr(0, 2)) != options.end()) continue;  // -n200
      print_unknown(at.path, "option", word, options);
      return help();
    }
  }
  print_error(error.what());
  help();
}

}  // namespace

Verb::Verb(std::string name, std::string summary, std::function<Action(CLI::App&)> setup) {
  entries().push_back({std::move(name), std::move(summary), std::move(setup)});
}

void add_leaf(CLI::App& parent, const std::string& name, const std::string& summary,
              const std::function<Action(CLI::App&)>& setup) {
  CLI::App* app = parent.add_subcommand(name, summary);
  Action action = setup(*app);
  leaves().push_back({app, std::move(action)});
}

int run(int argc, char** argv) {
  if (argc > 0 && std::string_view(argv[0]).find('/') != std::string_view::npos) called_as() = shell_word(argv[0]);
  CLI::App app{"Kontor runs autonomous agents for business work on hardware you already own.", "kontor"};
  app.set_help_flag("-h,--help", "print this help and exit");
  app.set_version_flag("--version", "kontor " KONTOR_VERSION, "print the version and exit");
  app.require_subcommand(0, 1);
  app.failure_message(CLI::FailureMessage::help);
  std::sort(entries().begin(), entries().end(), [](const auto& a, const auto& b) { return a.name < b.name; });
  if (argc > 1 && argv[1][0] != '-' &&
      std::none_of(entries().begin(), entries().end(), [&](const auto& entry) { return entry.name == argv[1]; })) {
    std::vector<std::string> verbs;
    for (const auto& entry : entries()) verbs.push_back(entry.name);
    print_unknown("kontor", "verb", argv[1], verbs);
    std::fprintf(stderr, "'kontor --help' lists what there is\n");
    return kUsage;
  }
  // Only the chosen verb sets itself up: start-up does not pay for the others.
  for (const auto& entry : entries()) {
    CLI::App* verb = app.add_subcommand(entry.name, entry.summary);
    if (argc > 1 && entry.name == argv[1]) {
      if (Action action = entry.setup(*verb)) leaves().push_back({verb, std::move(action)});
      else verb->require_subcommand(1);
    }
  }
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    if (error.get_exit_code() == 0) return app.exit(error);  // --help, --version
    report_usage(app, argc, argv, error);
    return kUsage;
  }
  for (auto leaf = leaves().rbegin(); leaf != leaves().rend(); ++leaf) {
    if (leaf->app->parsed()) return leaf->action();
  }
  std::cout << app.help();
  return kDone;
}

CLI::Option* add_device_option(CLI::App& app, std::string& device) {
  const auto known = [](const std::string& text) {
    const auto choice = inference::parse_device(text);
    return choice ? std::string() : choice.error().message;
  };
  return app.add_option("--device", device, "where local models run: auto (a GPU where there is one), cpu, cuda (as few GPUs as hold the model), or GPUs by number that share the layers: cuda:0,1")
      ->check(CLI::Validator(known, "DEVICE"))->capture_default_str();
}

const std::string& program_name() { return called_as(); }

std::string shell_word(const std::string& text) {
  if (!text.empty() && text.find_first_of(" '\"$&|;<>()*?[]{}!`#~\\\n\t") == std::string::npos) return text;
  std::string quoted = "'";
  for (const char c : text) quoted += c == '\'' ? std::string("'\\''") : std::string(1, c);
  return quoted + "'";
}

void print_json(const std::string& text) {
  std::fwrite(text.data(), 1, text.size(), stdout);
  std::fputc('\n', stdout);
}

void print_error(const std::string& message) { std::fprintf(stderr, "kontor: error: %s\n", message.c_str()); }

}  // namespace kontor::agent::cli
