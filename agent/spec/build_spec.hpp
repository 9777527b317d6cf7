#pragma once
// From a checked project to the data that the runtime works with.

#include "agent/spec/project.hpp"
#include "agent/spec/spec.hpp"

namespace kontor::agent {

/// Only for projects without findings.
Spec build_spec(const Project& project);

}  // namespace kontor::agent
