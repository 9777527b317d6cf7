#pragma once
// What the machine's energy counters say: processors through RAPL, GPUs through NVML; an estimate where there is none.

#include "agent/gpu_energy.hpp"

#include <cstdint>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

namespace kontor::agent {

/// Reads the processor's energy counters (RAPL through the powercap files) where the system lets us, otherwise
/// estimates from the process's CPU time; adds what the GPUs used. Never counts below zero. Thread-safe.
class EnergyMeter {
 public:
  struct Options {
    std::string root = "/sys/class/powercap";
    double watts_per_core = 8.0;      ///< For the estimate.
    std::string nvml;                 ///< As GpuMeter::open takes it.
  };
  /// Since the meter was made.
  struct Reading {
    double joules = 0;                ///< Of processors and GPUs.
    double gpu_joules = 0;
    double gpu_busy_seconds = 0;
  };
  EnergyMeter() : EnergyMeter(Options()) {}
  explicit EnergyMeter(const Options& options);

  /// Whether a part of `joules` was not measured.
  bool is_estimate() const { return zones_.empty() || (gpus_ && gpus_->is_estimate()); }
  std::size_t packages() const { return zones_.size(); }
  /// Null where no GPU can be read; `gpu_problem` says why.
  const GpuMeter* gpus() const { return gpus_.get(); }
  const Error& gpu_problem() const { return gpu_problem_; }

  Reading read();
  double joules() { return read().joules; }

 private:
  struct Zone {
    std::string path;
    std::uint64_t last = 0, wrap = 0;
  };
  double processor_joules();

  std::mutex mutex_;
  std::vector<Zone> zones_;
  std::unique_ptr<GpuMeter> gpus_;
  Error gpu_problem_;
  double watts_per_core_;
  double cpu_seconds_start_ = 0;
  double microjoules_ = 0;
};

}  // namespace kontor::agent
