#pragma once
// Energy and use of the GPUs of this machine, from the driver's own library (NVML), which is loaded when it is there.

#include "base/error.hpp"

#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

namespace kontor::agent {

struct Nvml;

/// Not thread-safe.
class GpuMeter {
 public:
  /// What the GPUs did since open().
  struct Reading {
    double joules = 0;
    double busy_seconds = 0;      ///< Time times utilisation, summed over the GPUs.
  };
  struct Gpu {
    std::string name;
    std::string source;           ///< "energy counter", "power" (read and multiplied by time), or why nothing is read.
  };

  /// `library`: "" is $KONTOR_NVML, else the driver's. The GPUs are those of $CUDA_VISIBLE_DEVICES (numbers and GPU-... names),
  /// where it is set. Errors: not_found (kind no_nvml: no library, or no GPU), unsupported (kind nvml: a function is
  /// missing, or the driver answers with an error).
  static Result<std::unique_ptr<GpuMeter>> open(const std::string& library = {});
  ~GpuMeter();

  const std::vector<Gpu>& gpus() const { return gpus_; }
  /// Whether anything is counted at all.
  bool measures() const { return measures_; }
  /// Whether a GPU has no energy counter, so that power was read now and then.
  bool is_estimate() const { return estimate_; }
  /// Never counts below what it said before: a GPU that stops answering adds nothing.
  Reading read();

 private:
  struct Device {
    void* handle = nullptr;
    bool has_counter = false, has_power = false;
    std::uint64_t last_millijoules = 0;
    double last_watts = 0;
  };
  explicit GpuMeter(std::shared_ptr<const Nvml> nvml) : nvml_(std::move(nvml)) {}
  void add(void* handle);

  std::shared_ptr<const Nvml> nvml_;
  std::vector<Gpu> gpus_;
  std::vector<Device> devices_;
  Reading sum_;
  std::int64_t read_ns_ = 0;
  bool measures_ = false, estimate_ = false;
};

}  // namespace kontor::agent
