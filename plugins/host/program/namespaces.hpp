#pragma once
// A view of the machine of the process's own: no network, no other processes, mounts and names that nobody else sees. A
// second wall behind Landlock and seccomp, on machines that offer it.

#include "base/error.hpp"
#include "plugins/host/permissions.hpp"

#include <string>

namespace kontor::plugins {

/// Moves the process there for good and gives up its capabilities (root keeps those to read and write files of others).
/// With `all` it goes on in a child, in a namespace with nothing else in it; the caller then only waits for its end and
/// ends like it. Before any thread is started. Errors: denied (kind sandbox).
Result<void> enter_namespaces(Namespaces which);

/// The most that this machine offers, tried out in child processes; `why` says what is in the way of more.
Namespaces usable_namespaces(std::string& why);

}  // namespace kontor::plugins
