// Any bytes as a file of another program: an agent file that passes the checker, or an error; never a crash.

#include "agent/importer/importer.hpp"
#include "agent/spec/spec.hpp"

#include <cstddef>
#include <cstdint>
#include <cstdlib>

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using kontor::agent::ForeignFormat;
  if (size == 0) return 0;
  const auto format = static_cast<ForeignFormat>(data[0] % 4);
  const std::string text(reinterpret_cast<const char*>(data) + 1, size - 1);
  const auto imported = kontor::agent::import_text(format, text, "fuzz.yaml", format == ForeignFormat::crewai ? &text : nullptr);
  if (imported && imported->files.empty() && !kontor::agent::check_text(imported->text, "agent.yaml", ".").diagnostics.empty()) std::abort();
  return 0;
}
