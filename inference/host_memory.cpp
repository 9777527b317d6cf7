#include "inference/host_memory.hpp"

#include <fstream>
#include <limits>
#include <string>

namespace kontor::inference {

std::uint64_t available_host_bytes() {
  std::ifstream in("/proc/meminfo");
  std::string key;
  for (std::uint64_t kib = 0; in >> key >> kib; in.ignore(64, '\n'))
    if (key == "MemAvailable:") return kib << 10;
  return std::numeric_limits<std::uint64_t>::max();
}

}  // namespace kontor::inference
