#include "inference/backend.hpp"

#include <algorithm>
#include <charconv>

namespace kontor::inference {

std::string_view to_string(KvType type) { return type == KvType::q8_0 ? "q8_0" : "f16"; }

std::optional<KvType> kv_type_named(std::string_view name) {
  for (const KvType type : {KvType::f16, KvType::q8_0})
    if (name == to_string(type)) return type;
  return std::nullopt;
}

Result<DeviceChoice> parse_device(std::string_view text) {
  using Kind = DeviceChoice::Kind;
  if (text == "auto" || text.empty()) return DeviceChoice{};
  if (text == "cpu") return DeviceChoice{Kind::cpu, {}};
  if (text == "cuda") return DeviceChoice{Kind::cuda, {}};
  const auto unknown = [&](const std::string& why) {
    return fail(Errc::usage, "unknown device '" + printable(text) + "'" + why + "; known are auto, cpu, cuda, cuda:NUMBER and cuda:NUMBER,NUMBER,...", "bad_device");
  };
  constexpr std::string_view kCuda = "cuda:";
  if (!text.starts_with(kCuda)) return unknown("");
  DeviceChoice choice{Kind::cuda, {}};
  for (std::string_view rest = text.substr(kCuda.size());;) {
    int number = 0;
    const auto [end, error] = std::from_chars(rest.data(), rest.data() + rest.size(), number);
    const auto length = static_cast<std::size_t>(end - rest.data());
    if (error != std::errc() || rest.front() == '-' || length > 3) return unknown("");
    if (std::find(choice.numbers.begin(), choice.numbers.end(), number) != choice.numbers.end()) return unknown(", which names a device twice");
    choice.numbers.push_back(number);
    if (choice.numbers.size() > kDevicesMost) return unknown(", which names more than " + std::to_string(kDevicesMost));
    if (length == rest.size()) return choice;
    if (rest[length] != ',') return unknown("");
    rest.remove_prefix(length + 1);
  }
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
