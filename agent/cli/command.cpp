#include "agent/cli/command.hpp"

#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <iostream>
#include <memory>

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

/// Levenshtein distance, for suggestions on short words.
std::size_t distance(const std::string& a, const std::string& b) {
  std::vector<std::size_t> row(b.size() + 1);
  for (std::size_t j = 0; j <= b.size(); ++j) row[j] = j;
  for (std::size_t i = 1; i <= a.size(); ++i) {
    std::size_t diagonal = row[0];
    row[0] = i;
    for (std::size_t j = 1; j <= b.size(); ++j) {
      const std::size_t above = row[j];
      row[j] = std::min({row[j] + 1, row[j - 1] + 1, diagonal + (a[i - 1] != b[j - 1])});
      diagonal = above;
    }
  }
  return row[b.size()];
}

void suggest_verb(const std::string& word) {
  std::string best;
  std::size_t best_distance = 3;
  for (const auto& entry : entries()) {
    if (const auto d = distance(word, entry.name); d < best_distance) best = entry.name, best_distance = d;
  }
  std::fprintf(stderr, "kontor: error: no verb '%s'%s; 'kontor --help' lists them\n", word.c_str(),
               best.empty() ? "" : (" (did you mean '" + best + "'?)").c_str());
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
  CLI::App app{"Kontor runs autonomous agents for business work on hardware you already own.", "kontor"};
  app.set_version_flag("--version", "kontor " KONTOR_VERSION);
  app.require_subcommand(0, 1);
  app.failure_message(CLI::FailureMessage::help);
  std::sort(entries().begin(), entries().end(), [](const auto& a, const auto& b) { return a.name < b.name; });
  if (argc > 1 && argv[1][0] != '-' &&
      std::none_of(entries().begin(), entries().end(), [&](const auto& entry) { return entry.name == argv[1]; })) {
    suggest_verb(argv[1]);
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
    print_error(error.what());
    std::fprintf(stderr, "run 'kontor%s --help' for the options\n",
                 argc > 1 && argv[1][0] != '-' ? (std::string(" ") + argv[1]).c_str() : "");
    return kUsage;
  }
  for (auto leaf = leaves().rbegin(); leaf != leaves().rend(); ++leaf) {
    if (leaf->app->parsed()) return leaf->action();
  }
  std::cout << app.help();
  return kDone;
}

void print_json(const std::string& text) {
  std::fwrite(text.data(), 1, text.size(), stdout);
  std::fputc('\n', stdout);
}

void print_error(const std::string& message) { std::fprintf(stderr, "kontor: error: %s\n", message.c_str()); }

}  // namespace kontor::agent::cli
