#include "inference/cpu/cores.hpp"

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <fstream>
#include <set>
#include <thread>
#include <vector>

#if defined(__linux__)
#include <sched.h>
#endif

namespace kontor::inference::cpu {
namespace {

std::string first_line(const std::string& path) {
  std::ifstream in(path);
  std::string line;
  std::getline(in, line);
  return line;
}

/// Processors this process may run on; empty where the system does not say.
std::vector<int> allowed_processors() {
  std::vector<int> allowed;
#if defined(__linux__)
  cpu_set_t set;
  CPU_ZERO(&set);
  if (sched_getaffinity(0, sizeof set, &set) == 0)
    for (int i = 0; i < CPU_SETSIZE; ++i)
      if (CPU_ISSET(i, &set)) allowed.push_back(i);
#endif
  return allowed;
}

/// Cores that the quota of control group version 2 amounts to, rounded up; 0 without a quota.
int quota_cores(const std::string& root) {
  // "0::/path" is the group of version 2.
  std::ifstream groups(root + "proc/self/cgroup");
  std::string path;
  for (std::string line; std::getline(groups, line);)
    if (line.rfind("0::", 0) == 0) path = line.substr(3);
  // Every group above may set a narrower limit.
  double least = 0;
  for (;; path.resize(path.find_last_of('/') == std::string::npos ? 0 : path.find_last_of('/'))) {
    const std::string text = first_line(root + "sys/fs/cgroup" + path + "/cpu.max");
    const auto space = text.find(' ');
    if (space != std::string::npos && text.rfind("max", 0) != 0) {
      const double quota = std::strtod(text.c_str(), nullptr), period = std::strtod(text.c_str() + space, nullptr);
      if (quota > 0 && period > 0) least = least == 0 ? quota / period : std::min(least, quota / period);
    }
    if (path.empty()) break;
  }
  return static_cast<int>(std::ceil(std::min(least, 4096.0)));
}

}  // namespace

int available_cores(const std::string& root) {
  const std::vector<int> allowed = allowed_processors();
  std::set<std::string> cores;
  for (const int processor : allowed) {
    const std::string siblings = first_line(root + "sys/devices/system/cpu/cpu" + std::to_string(processor) + "/topology/thread_siblings_list");
    cores.insert(siblings.empty() ? "cpu" + std::to_string(processor) : siblings);
  }
  int count = static_cast<int>(cores.size());
  if (count == 0) count = static_cast<int>(std::thread::hardware_concurrency());
  if (const int quota = quota_cores(root); quota > 0) count = std::min(count, quota);
  return std::max(1, count);
}

}  // namespace kontor::inference::cpu
