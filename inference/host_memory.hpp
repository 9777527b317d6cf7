#pragma once
// What the machine has left.

#include <cstdint>

namespace kontor::inference {

/// Memory that the system could give without swapping; where it does not say, the largest number.
std::uint64_t available_host_bytes();

}  // namespace kontor::inference
