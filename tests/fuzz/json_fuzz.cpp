// JSON text from strangers: the quick reader has to agree with the library about every text and value, and the writer too.

#include "base/json.hpp"
#include "tools/json_text.hpp"

#include <nlohmann/json.hpp>

#include <cstdint>
#include <cstdlib>
#include <string>

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace kontor;
  const std::string text(reinterpret_cast<const char*>(data), size);
  const auto write = [](const Json& value) { return value.dump(-1, ' ', false, Json::error_handler_t::replace); };
  if (tools::compact_json(Json(text)) != write(Json(text))) std::abort();
  JsonLimits limits;
  limits.refuse_duplicate_keys = false;
  const auto ours = parse_json(text, limits);
  if (!ours && ours.error().code == Errc::limit) return 0;  // The library has no bound, and would crash when it writes.
  const Json theirs = Json::parse(text, nullptr, false);
  if (theirs.is_discarded() != !ours.has_value()) std::abort();
  if (ours && (write(*ours) != write(theirs) || tools::compact_json(*ours) != write(theirs))) std::abort();
  return 0;
}
