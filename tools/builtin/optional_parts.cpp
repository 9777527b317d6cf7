#include "tools/builtin/optional_parts.hpp"

#include "tools/builtin/child.hpp"
#include "tools/builtin/transfer_api.hpp"
#include "tools/builtin/workbook_api.hpp"
#include "tools/builtin/zone.hpp"

namespace kontor::tools {

std::vector<OptionalPart> optional_parts() {
  return {{"libcurl", curl_api().ready, "builtin.http, builtin.mail and tools of OpenAPI documents", "libcurl4"},
          {"libarchive and expat", workbook_api().ready, "workbooks (.xlsx) in builtin.table", "libarchive13 libexpat1"},
          {"pdftotext", !find_program("pdftotext").empty(), "PDF files in builtin.text", "poppler-utils"},
          {"tzdata", static_cast<bool>(Zone::load("Europe/Berlin")), "names of time zones in builtin.time and in schedules", "tzdata"}};
}

}  // namespace kontor::tools
