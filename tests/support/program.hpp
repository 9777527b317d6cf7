#pragma once
// The real program on a copy of an example, with a journal of its own.

#include "tests/support/catch.hpp"

#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

extern char** environ;

namespace kontor::test {

inline std::string read_text(const std::filesystem::path& path) {
  std::ifstream in(path, std::ios::binary);
  return std::string((std::istreambuf_iterator<char>(in)), std::istreambuf_iterator<char>());
}

class ExampleCopy {
 public:
  explicit ExampleCopy(const std::string& name) {
    namespace fs = std::filesystem;
    std::string pattern = (fs::temp_directory_path() / "kontor-example-XXXXXX").string();
    folder = ::mkdtemp(pattern.data());
    const fs::path source = fs::path(KONTOR_SOURCE_DIR) / "examples" / name;
    for (const auto& entry : fs::directory_iterator(source)) {
      const std::string file = entry.path().filename().string();
      if (file != "out" && file != "eval") fs::copy(entry.path(), folder / file, fs::copy_options::recursive);
    }
  }
  ~ExampleCopy() { std::filesystem::remove_all(folder); }
  ExampleCopy(const ExampleCopy&) = delete;
  ExampleCopy& operator=(const ExampleCopy&) = delete;

  /// Replaces a text of the agent file.
  void edit(const std::string& from, const std::string& to) const {
    std::string yaml = read_text(folder / "agent.yaml");
    REQUIRE(yaml.find(from) != std::string::npos);
    yaml.replace(yaml.find(from), from.size(), to);
    std::ofstream(folder / "agent.yaml") << yaml;
  }
  void write(const std::string& name, const std::string& text) const { std::ofstream(folder / name, std::ios::binary) << text; }

  pid_t start(std::vector<std::string> words, bool with_runs = true) const {
    words.insert(words.begin(), std::string(KONTOR_BINARY_DIR) + "/kontor");
    if (with_runs) words.insert(words.end(), {"--runs", (folder / "runs").string()});
    std::vector<char*> arguments;
    for (auto& word : words) arguments.push_back(word.data());
    arguments.push_back(nullptr);
    posix_spawn_file_actions_t actions;
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0);
    posix_spawn_file_actions_addopen(&actions, 1, (folder / "stdout").c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0644);
    posix_spawn_file_actions_addopen(&actions, 2, (folder / "stderr").c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0644);
    pid_t child = -1;
    REQUIRE(posix_spawn(&child, arguments[0], &actions, nullptr, arguments.data(), environ) == 0);
    posix_spawn_file_actions_destroy(&actions);
    return child;
  }
  static int wait(pid_t child) {
    int status = 0;
    REQUIRE(waitpid(child, &status, 0) == child);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 1000 + WTERMSIG(status);
  }
  int run(const std::vector<std::string>& words, bool with_runs = true) const { return wait(start(words, with_runs)); }
  std::string output() const { return read_text(folder / "stdout") + read_text(folder / "stderr"); }
  std::string read(const std::string& name) const { return read_text(folder / name); }

  std::filesystem::path folder;
};

}  // namespace kontor::test
