// Schemas, values and expressions from strangers: two JSON texts divided by a NUL byte. Nothing may crash, hang, or treat
// a value differently when it is checked twice.

#include "tools/builtin/decimal_sql.hpp"
#include "tools/builtin/table_tokens.hpp"
#include "tools/csv.hpp"
#include "tools/schema.hpp"

#include <nlohmann/json.hpp>

#include <cstdint>
#include <cstdlib>
#include <string_view>

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace kontor;
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  const auto middle = text.find('\0');
  const auto first = text.substr(0, middle), second = middle == std::string_view::npos ? std::string_view{} : text.substr(middle + 1);
  (void)tools::parse_csv(second, tools::csv_separator(second));
  const auto wrapped = tools::with_decimal_affinity(second);
  if (wrapped.size() < second.size()) std::abort();
  if (tools::count_sql_expansions(second, 100) > 100) std::abort();
  const auto schema = parse_json(first);
  if (!schema) return 0;
  const auto value = parse_json(second);
  tools::SchemaDocuments documents;  // The second text is one the first can refer to, too.
  if (value) documents.emplace("http://x/", *value);
  const auto compiled = tools::Schema::compile(*schema, {.documents = &documents});
  if (!compiled) {
    if (compiled.error().message.empty()) std::abort();
    return 0;
  }
  const Json& subject = value ? *value : *schema;
  if (compiled->validate(subject, 1).empty() != compiled->validate(subject, 8).empty()) std::abort();
  return 0;
}
