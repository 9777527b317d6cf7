// OpenAPI documents from strangers. Nothing may crash or hang; what is read has paths whose targets can be written.

#include "tools/builtin/openapi_document.hpp"

#include <nlohmann/json.hpp>

#include <cstdint>
#include <cstdlib>
#include <string_view>

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace kontor;
  const auto document = parse_json(std::string_view(reinterpret_cast<const char*>(data), size));
  if (!document) return 0;
  const auto read = tools::read_api_document(*document);
  if (!read) {
    if (read.error().message.empty()) std::abort();
    return 0;
  }
  for (const auto& operation : read->operations) {
    if (operation.name.empty() || operation.path.empty() || operation.path[0] != '/') std::abort();
    for (const Json& value : {Json("a/../b\r\n"), Json{1, "x"}, Json{{"k", "v&w"}}, Json(nullptr)}) {
      Json arguments = Json::object();
      for (const auto& parameter : operation.parameters) arguments[parameter.key] = value;
      const auto target = tools::api_target(operation, arguments);
      if (target && target->find_first_of("\r\n") != std::string::npos) std::abort();
    }
  }
  return 0;
}
