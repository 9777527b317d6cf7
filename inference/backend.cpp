#include "inference/backend.hpp"

namespace kontor::inference {

std::string_view to_string(KvType type) { return type == KvType::q8_0 ? "q8_0" : "f16"; }

std::optional<KvType> kv_type_named(std::string_view name) {
  for (const KvType type : {KvType::f16, KvType::q8_0})
    if (name == to_string(type)) return type;
  return std::nullopt;
}

Result<std::unique_ptr<Backend>> open_backend(const WeightFile& file, const BackendOptions& options) {
  const auto choice = parse_device(options.device);
  if (!choice) return choice.error();
  if (options.kv != KvType::f16 && options.compute == Compute::f32)
    return fail(Errc::usage, "float32 arithmetic keeps its KV cache in float32; leave the type of the cache out", "bad_kv_type");
  if (choice->kind == DeviceChoice::Kind::cpu) return open_cpu_backend(file, options);
  if (choice->kind == DeviceChoice::Kind::cuda) return open_cuda_backend(file, options, choice->numbers);
  if (cuda_device_count() == 0) return open_cpu_backend(file, options);
  auto backend = open_cuda_backend(file, options, {});
  // What only the CPU computes yet (an architecture) runs there; info().device says so. A model too large is refused.
  if (!backend && backend.error().code == Errc::unsupported) return open_cpu_backend(file, options);
  return backend;
}

}  // namespace kontor::inference
