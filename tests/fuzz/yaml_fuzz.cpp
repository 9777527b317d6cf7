// Any bytes as an agent file: diagnostics or a Spec, never a crash.

#include "agent/spec/spec.hpp"

#include <cstddef>
#include <cstdint>
#include <cstdlib>

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string text(reinterpret_cast<const char*>(data), size);
  const auto checked = kontor::agent::check_text(text, "fuzz.yaml", "/nonexistent");
  if (checked.diagnostics.empty() != checked.spec.has_value()) std::abort();
  return 0;
}
