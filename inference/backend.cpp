#include "inference/backend.hpp"

namespace kontor::inference {

Result<std::unique_ptr<Backend>> open_backend(const WeightFile& file, const BackendOptions& options) {
  if (options.device == "cpu") return open_cpu_backend(file, options);
  if (options.device == "cuda") return open_cuda_backend(file, options);
  if (options.device == "auto" || options.device.empty())
    return cuda_device_count() > 0 ? open_cuda_backend(file, options) : open_cpu_backend(file, options);
  return fail(Errc::usage, "unknown device '" + printable(options.device) + "'; known are auto, cpu and cuda", "bad_device");
}

}  // namespace kontor::inference
