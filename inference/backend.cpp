#include "inference/backend.hpp"

namespace kontor::inference {

Result<std::unique_ptr<Backend>> open_backend(const WeightFile& file, const BackendOptions& options) {
  if (options.device == "cpu") return open_cpu_backend(file, options);
  if (options.device == "cuda") return open_cuda_backend(file, options);
  if (options.device == "auto" || options.device.empty()) {
    if (cuda_device_count() == 0) return open_cpu_backend(file, options);
    auto backend = open_cuda_backend(file, options);
    // An architecture that only the CPU computes yet runs there; info().device says so. A model too large is refused.
    if (!backend && backend.error().code == Errc::unsupported) return open_cpu_backend(file, options);
    return backend;
  }
  return fail(Errc::usage, "unknown device '" + printable(options.device) + "'; known are auto, cpu and cuda", "bad_device");
}

}  // namespace kontor::inference
