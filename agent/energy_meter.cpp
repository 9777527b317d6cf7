#include "agent/energy_meter.hpp"

#include <sys/resource.h>

#include <algorithm>
#include <filesystem>
#include <fstream>

namespace kontor::agent {
namespace {

constexpr double kMicrojoulesPerJoule = 1e6;

double process_cpu_seconds() {
  rusage self{};
  getrusage(RUSAGE_SELF, &self);
  const auto seconds = [](const timeval& t) { return static_cast<double>(t.tv_sec) + static_cast<double>(t.tv_usec) / 1e6; };
  return seconds(self.ru_utime) + seconds(self.ru_stime);
}

bool read_counter(const std::string& path, std::uint64_t& value) {
  std::ifstream in(path);
  return static_cast<bool>(in >> value);
}

}  // namespace

EnergyMeter::EnergyMeter(const Options& options) : watts_per_core_(options.watts_per_core), cpu_seconds_start_(process_cpu_seconds()) {
  std::error_code code;
  for (const auto& entry : std::filesystem::directory_iterator(options.root, code)) {
    // Packages only ("intel-rapl:0"); their sub-zones are contained in them. The name is the same on AMD.
    const std::string name = entry.path().filename().string();
    if (name.rfind("intel-rapl:", 0) != 0 || name.find(':', 11) != std::string::npos) continue;
    Zone zone{entry.path().string() + "/energy_uj"};
    if (!read_counter(zone.path, zone.last)) continue;
    read_counter(entry.path().string() + "/max_energy_range_uj", zone.wrap);
    zones_.push_back(zone);
  }
  auto gpus = GpuMeter::open(options.nvml);
  if (gpus && (*gpus)->measures()) gpus_ = std::move(*gpus);
  else gpu_problem_ = gpus ? fail(Errc::unsupported, "the GPUs give neither energy nor power", "nvml") : gpus.error();
}

double EnergyMeter::processor_joules() {
  if (zones_.empty()) return std::max(0.0, process_cpu_seconds() - cpu_seconds_start_) * watts_per_core_;
  for (auto& zone : zones_) {
    std::uint64_t now = 0;
    if (!read_counter(zone.path, now)) continue;
    if (now >= zone.last) microjoules_ += static_cast<double>(now - zone.last);
    else if (zone.wrap > zone.last) microjoules_ += static_cast<double>(zone.wrap - zone.last + now);
    zone.last = now;
  }
  return microjoules_ / kMicrojoulesPerJoule;
}

EnergyMeter::Reading EnergyMeter::read() {
  const std::lock_guard guard(mutex_);
  Reading reading;
  reading.joules = processor_joules();
  if (!gpus_) return reading;
  const auto gpus = gpus_->read();
  reading.joules += gpus.joules;
  reading.gpu_joules = gpus.joules;
  reading.gpu_busy_seconds = gpus.busy_seconds;
  return reading;
}

}  // namespace kontor::agent
