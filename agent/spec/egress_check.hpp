#pragma once
// Hosts that stand in the file against `policy.egress`: what could never be reached is an error before anything runs.

#include "agent/spec/project.hpp"

namespace kontor::agent {

/// Reports endpoints of models, addresses of servers and hosts of tools that the policy refuses (kind conflict), and
/// programs with sockets of their own, which no policy sees. Entries that are no hosts are reported elsewhere.
void check_egress(Project& project);

}  // namespace kontor::agent
