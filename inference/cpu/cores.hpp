#pragma once
// How many threads are worth starting on this machine.

#include <string>

namespace kontor::inference::cpu {

/// Physical cores among the processors this process may run on (two threads of one core share its arithmetic and gain
/// nothing here), limited by the processor quota of its control group. At least 1. `root` stands in for "/" in tests.
int available_cores(const std::string& root = "/");

}  // namespace kontor::inference::cpu
