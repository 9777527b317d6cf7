#include "agent/cli/command.hpp"

#include <cstdio>
#include <exception>

int main(int argc, char** argv) {
  try {
    return kontor::agent::cli::run(argc, argv);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "kontor: internal error: %s\n", error.what());
    return kontor::agent::cli::kFailed;
  }
}
