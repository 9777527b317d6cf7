#pragma once
#include "agent/cli/terminal.hpp"

namespace kontor::agent::cli {

/// Lines for people on stdout. On a terminal: colours (unless NO_COLOR) and one live line at the bottom.
std::unique_ptr<RunView> make_live_view();

}  // namespace kontor::agent::cli
