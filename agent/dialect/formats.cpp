#include "agent/dialect/formats.hpp"

#include "agent/dialect/markers.hpp"

#include <algorithm>

namespace kontor::agent::dialect {
namespace {

enum class Family { native, native31, dsml, hermes, native_or_hermes };

struct Entry {
  std::string_view name;
  Family family;
};

// Output formats, and the model keys of the renderer, which name the same things.
constexpr Entry kFormats[] = {
    {"deepseek-r1", Family::native},
    {"deepseek-r1-distill", Family::native},
    {"deepseek-r1-0528", Family::native},
    {"deepseek-r1-0528-qwen3", Family::native_or_hermes},
    {"deepseek-v3", Family::native},
    {"deepseek-v3.1", Family::native31},
    {"deepseek-v3.2", Family::dsml},
    {"deepseek-v4", Family::dsml},
    {"hermes", Family::hermes},
    {"qwen3", Family::hermes},
    {"qwq", Family::hermes},
    {"r1", Family::native},
    {"r1-distill", Family::native},
    {"r1-0528", Family::native},
    {"r1-0528-qwen3", Family::native_or_hermes},
    {"v3", Family::native},
    {"v3.1", Family::native31},
    {"v3.2", Family::dsml},
    {"v4", Family::dsml},
};

}  // namespace

Notation notation_of(std::string_view format) {
  const auto* entry = std::find_if(std::begin(kFormats), std::end(kFormats), [&](const Entry& e) { return e.name == format; });
  constexpr std::uint32_t kNative = kCallsBegin | kCallBegin;
  switch (entry == std::end(kFormats) ? Family::native : entry->family) {
    case Family::native31: return {kNative, true};
    case Family::dsml: return {kDsmlCallsOpen | kDsmlInvokeOpen, false};
    case Family::hermes: return {kToolCallOpen, false};
    case Family::native_or_hermes: return {kNative | kToolCallOpen, false};
    case Family::native: break;
  }
  return {kNative, false};
}

const std::vector<std::string>& format_names() {
  static const std::vector<std::string> names = [] {
    std::vector<std::string> out;
    for (const Entry& entry : kFormats) out.emplace_back(entry.name);
    return out;
  }();
  return names;
}

bool known_format(std::string_view format) {
  const auto& names = format_names();
  return std::find(names.begin(), names.end(), format) != names.end();
}

}  // namespace kontor::agent::dialect
