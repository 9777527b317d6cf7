#include "inference/device_choice.hpp"

#include "inference/weight_file.hpp"

#include <algorithm>
#include <charconv>
#include <string>

namespace kontor::inference {

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

}  // namespace kontor::inference
