// Stands in for the device in builds without the CUDA Toolkit.

#include "memory/vector_device.hpp"

namespace kontor::memory {

Result<std::unique_ptr<VectorDevice>> open_vector_device() {
  return fail(Errc::unsupported, "this build of kontor has no CUDA support", "no_device");
}

}  // namespace kontor::memory
