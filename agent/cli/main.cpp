#include "agent/cli/command.hpp"
#include "agent/cli/standard_streams.hpp"

#include <cstdio>
#include <exception>

int main(int argc, char** argv) {
  using namespace kontor::agent;
  cli::hold_standard_streams();
  try {
    return cli::finish_output(cli::run(argc, argv));
  } catch (const std::exception& error) {
    std::fprintf(stderr, "kontor: internal error: %s\n", error.what());
    return cli::kFailed;
  }
}
