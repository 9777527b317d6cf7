// Workbooks from strangers: the parts of one, divided by NUL bytes (sheet, styles, shared texts, then whole parts), or
// the bytes of a container as they are. Nothing may crash, hang, or give a table that is not rectangular.

#include "tests/support/zip_writer.hpp"

#include "tools/builtin/table_load.hpp"
#include "tools/builtin/workbook_value.hpp"

#include <cstdint>
#include <cstdlib>
#include <string_view>

namespace {

void load(std::string_view container, const std::string& sheet) {
  const auto table = kontor::tools::load_table({"x.xlsx", sheet}, container);
  if (!table) {
    if (table.error().message.empty()) std::abort();
    return;
  }
  for (const auto& row : table->rows) {
    if (row.size() != table->columns.size()) std::abort();
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace kontor;
  std::string_view text(reinterpret_cast<const char*>(data), size);
  const auto next = [&] {
    const auto end = std::min(text.find('\0'), text.size());
    std::string part(text.substr(0, end));
    text.remove_prefix(std::min(end + 1, text.size()));
    return part;
  };
  if (text.starts_with("PK")) {
    load(text, "");
    return 0;
  }
  const std::string which = next();
  (void)tools::kind_of_format(std::string_view(which));
  (void)tools::date_text(which, tools::NumberKind::date_time, false);
  (void)tools::unescaped_text(which);
  test::WorkbookParts parts;
  parts.sheet = next();
  // A sheet alone rarely gets far; the usual frame around it does.
  if (!parts.sheet.starts_with('<') || parts.sheet.starts_with("<row")) parts.sheet = "<worksheet><sheetData>" + parts.sheet + "</sheetData></worksheet>";
  parts.styles = next();
  parts.texts = next();
  parts.properties = next();
  while (!text.empty() && parts.more.size() < 8) {
    auto name = next();
    parts.more.emplace_back(std::move(name), next());
  }
  load(parts.zipped(), which);
  return 0;
}
