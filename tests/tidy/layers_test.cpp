// The layers of docs/architecture.md, read from the #include lines.

#include "tests/support/catch.hpp"

#include <filesystem>
#include <fstream>
#include <map>
#include <set>
#include <sstream>
#include <vector>

namespace fs = std::filesystem;

namespace {

const fs::path kRoot = KONTOR_SOURCE_DIR;

struct Source {
  fs::path path;       // relative to the checkout
  std::string layer;   // longest matching key of kAllowed
  std::vector<std::string> own, system;
  std::size_t lines = 0;
};

// A layer may include itself and what stands behind it.
const std::map<std::string, std::set<std::string>> kAllowed = {
    {"base", {}},
    {"inference", {"base"}},
    {"inference/remote", {"inference", "base"}},
    {"memory", {"base"}},
    {"tools", {"base"}},
    {"plugins/abi", {}},
    {"plugins/sdk", {"plugins/abi"}},
    {"plugins/samples", {"plugins/sdk", "plugins/abi"}},
    {"plugins/host", {"plugins/abi", "tools", "base"}},
    {"agent", {"tools", "memory", "inference", "base"}},
    {"agent/endpoint", {"agent", "tools", "inference/remote", "inference", "base"}},
    // The command line is where everything is wired together.
    {"agent/cli", {"agent", "agent/endpoint", "plugins/host", "tools", "memory", "inference", "base"}},
};

std::string layer_of(const std::string& path) {
  std::string best;
  for (const auto& [layer, allowed] : kAllowed) {
    if (path.rfind(layer + "/", 0) == 0 && layer.size() > best.size()) best = layer;
  }
  return best;
}

Source read(const fs::path& path) {
  Source source;
  source.path = fs::relative(path, kRoot);
  source.layer = layer_of(source.path.string());
  std::ifstream in(path);
  for (std::string line; std::getline(in, line); ++source.lines) {
    const auto hash = line.find_first_not_of(" \t");
    if (hash == std::string::npos || line.compare(hash, 8, "#include") != 0) continue;
    const auto open = line.find_first_of("\"<", hash);
    if (open == std::string::npos) continue;
    const auto close = line.find_first_of("\">", open + 1);
    if (close == std::string::npos) continue;
    (line[open] == '"' ? source.own : source.system).push_back(line.substr(open + 1, close - open - 1));
  }
  return source;
}

std::vector<Source> sources() {
  static const std::set<std::string> kCode = {".hpp", ".cpp", ".h", ".c", ".cu", ".cuh"};
  std::vector<Source> list;
  for (const char* top : {"base", "inference", "memory", "tools", "plugins", "agent"}) {
    for (const auto& entry : fs::recursive_directory_iterator(kRoot / top)) {
      if (entry.is_regular_file() && kCode.count(entry.path().extension().string())) list.push_back(read(entry.path()));
    }
  }
  return list;
}

bool starts_with(const std::string& text, const std::string& prefix) { return text.rfind(prefix, 0) == 0; }

}  // namespace

TEST_CASE("every include follows an arrow between the layers", "[tidy]") {
  std::ostringstream wrong;
  for (const auto& source : sources()) {
    for (const auto& include : source.own) {
      const std::string target = layer_of(include);
      if (target.empty() || target == source.layer) continue;
      if (!kAllowed.at(source.layer).count(target)) wrong << source.path.string() << " includes " << include << "\n";
    }
  }
  INFO(wrong.str());
  CHECK(wrong.str().empty());
}

TEST_CASE("the plugin ABI needs three C headers and nothing else", "[tidy]") {
  static const std::set<std::string> kC = {"stdint.h", "stddef.h", "stdbool.h"};
  for (const auto& source : sources()) {
    if (source.layer != "plugins/abi") continue;
    CHECK(source.own.empty());
    for (const auto& include : source.system) CHECK(kC.count(include) == 1);
  }
}

TEST_CASE("each library stays in its corner", "[tidy]") {
  // header prefix -> path prefixes that may include it
  const std::vector<std::pair<std::string, std::vector<std::string>>> corners = {
      {"yaml-cpp/", {}},
      {"sqlite3.h", {"memory/", "agent/journal", "tools/builtin/table", "tools/builtin/decimal_sql"}},
      {"cuda", {"inference/cuda/", "memory/cuda/"}},
      {"boost/asio", {"tools/", "agent/", "plugins/host/", "inference/remote/"}},
      {"boost/beast", {"tools/", "agent/", "inference/remote/"}},
      {"CLI/", {"agent/cli/"}},
      {"curl/", {"tools/builtin/transfer"}},
      {"dlfcn.h", {"plugins/host/", "inference/cuda/", "tools/builtin/transfer", "tools/builtin/workbook_api", "agent/gpu_energy"}},
  };
  std::ostringstream wrong;
  for (const auto& source : sources()) {
    for (const auto& include : source.system) {
      for (const auto& [header, places] : corners) {
        if (!starts_with(include, header)) continue;
        bool allowed = false;
        for (const auto& place : places) allowed = allowed || starts_with(source.path.string(), place);
        if (!allowed) wrong << source.path.string() << " includes <" << include << ">\n";
      }
    }
  }
  INFO(wrong.str());
  CHECK(wrong.str().empty());
}

TEST_CASE("headers guard themselves and base stays small", "[tidy]") {
  std::size_t base_headers = 0;
  for (const auto& source : sources()) {
    if (source.layer == "base" && source.path.extension() == ".hpp") ++base_headers;
    if (source.path.extension() != ".hpp") continue;
    std::ifstream in(kRoot / source.path);
    std::string first;
    std::getline(in, first);
    INFO(source.path.string());
    CHECK(first == "#pragma once");
  }
  CHECK(base_headers <= 8);
}

TEST_CASE("names that say nothing are not used for files", "[tidy]") {
  for (const auto& source : sources()) {
    const std::string stem = source.path.stem().string();
    INFO(source.path.string());
    CHECK(stem.find("util") == std::string::npos);
    CHECK(stem != "common");
    CHECK(stem != "helpers");
    CHECK(stem != "misc");
  }
}

TEST_CASE("the largest files are reported", "[tidy]") {
  auto list = sources();
  REQUIRE(list.size() > 10);
  std::sort(list.begin(), list.end(), [](const Source& a, const Source& b) { return a.lines > b.lines; });
  std::size_t total = 0;
  for (const auto& source : list) total += source.lines;
  std::printf("size report: %zu files, %zu lines, median %zu; largest:\n", list.size(), total, list[list.size() / 2].lines);
  for (std::size_t i = 0; i < 10 && i < list.size(); ++i) {
    std::printf("  %5zu %s\n", list[i].lines, list[i].path.c_str());
  }
}
