#include "tools/builtin/workbook_api.hpp"

#include <dlfcn.h>

#include <type_traits>

namespace kontor::tools {

WorkbookApi::WorkbookApi(const char* archive_library, const char* xml_library) {
  void* archive = dlopen(archive_library, RTLD_NOW | RTLD_LOCAL);
  void* xml = dlopen(xml_library, RTLD_NOW | RTLD_LOCAL);
  if (!archive || !xml) return;
  ready = true;
  const auto find = [this](void* library, auto& function, const char* symbol) {
    function = reinterpret_cast<std::remove_reference_t<decltype(function)>>(dlsym(library, symbol));
    ready = ready && function != nullptr;
  };
  find(archive, archive_read_new, "archive_read_new");
  find(archive, archive_read_support_format_zip_seekable, "archive_read_support_format_zip_seekable");
  find(archive, archive_read_open_memory, "archive_read_open_memory");
  find(archive, archive_read_next_header, "archive_read_next_header");
  find(archive, archive_entry_pathname, "archive_entry_pathname");
  find(archive, archive_read_data, "archive_read_data");
  find(archive, archive_error_string, "archive_error_string");
  find(archive, archive_read_free, "archive_read_free");
  find(xml, XML_ParserCreateNS, "XML_ParserCreateNS");
  find(xml, XML_ParserFree, "XML_ParserFree");
  find(xml, XML_SetUserData, "XML_SetUserData");
  find(xml, XML_SetElementHandler, "XML_SetElementHandler");
  find(xml, XML_SetCharacterDataHandler, "XML_SetCharacterDataHandler");
  find(xml, XML_SetDefaultHandler, "XML_SetDefaultHandler");
  find(xml, XML_SetStartDoctypeDeclHandler, "XML_SetStartDoctypeDeclHandler");
  find(xml, XML_Parse, "XML_Parse");
  find(xml, XML_StopParser, "XML_StopParser");
  find(xml, XML_GetErrorCode, "XML_GetErrorCode");
  find(xml, XML_ErrorString, "XML_ErrorString");
  find(xml, XML_GetCurrentLineNumber, "XML_GetCurrentLineNumber");
}

const WorkbookApi& workbook_api() {
  static const WorkbookApi loaded;
  return loaded;
}

Error no_workbook_api() {
  return fail(Errc::unsupported, "workbooks (.xlsx) need libarchive (libarchive.so.13) and expat (libexpat.so.1), which are not installed: apt-get install libarchive13 libexpat1", "missing_library");
}

}  // namespace kontor::tools
