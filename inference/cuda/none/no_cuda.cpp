// Stands in for the CUDA backend in builds without the CUDA Toolkit.

#include "inference/backend.hpp"

namespace kontor::inference {

Result<std::unique_ptr<Backend>> open_cuda_backend(const WeightFile&, const BackendOptions&, std::span<const int>) {
  return fail(Errc::unsupported, "this build of kontor has no CUDA support; use --device cpu", "no_device");
}

int cuda_device_count() { return 0; }

}  // namespace kontor::inference
