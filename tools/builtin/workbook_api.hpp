#pragma once
// libarchive (the zip container) and expat (XML), loaded with the first workbook: most runs read none, and what reads files
// of strangers should be libraries that are fuzzed all day. Internal to tools/builtin/workbook*.
//
// The few functions are declared here, not included: handles are opaque, and the file names that are loaded stand for these
// declarations. So building needs neither package.

#include "base/error.hpp"

#include <cstddef>

#include <sys/types.h>

namespace kontor::tools {

struct WorkbookApi {
  struct Archive;    ///< struct archive of libarchive
  struct Entry;      ///< struct archive_entry
  struct XmlParser;  ///< XML_ParserStruct of expat
  using OnStart = void (*)(void* self, const char* name, const char** attributes);
  using OnEnd = void (*)(void* self, const char* name);
  using OnText = void (*)(void* self, const char* text, int size);
  using OnDoctype = void (*)(void* self, const char* name, const char* system_id, const char* public_id, int has_subset);

  bool ready = false;
  Archive* (*archive_read_new)() = nullptr;
  int (*archive_read_support_format_zip_seekable)(Archive*) = nullptr;
  int (*archive_read_open_memory)(Archive*, const void*, std::size_t) = nullptr;
  int (*archive_read_next_header)(Archive*, Entry**) = nullptr;
  const char* (*archive_entry_pathname)(Entry*) = nullptr;
  ssize_t (*archive_read_data)(Archive*, void*, std::size_t) = nullptr;
  const char* (*archive_error_string)(Archive*) = nullptr;
  int (*archive_read_free)(Archive*) = nullptr;

  XmlParser* (*XML_ParserCreateNS)(const char* encoding, char separator) = nullptr;
  void (*XML_ParserFree)(XmlParser*) = nullptr;
  void (*XML_SetUserData)(XmlParser*, void*) = nullptr;
  void (*XML_SetElementHandler)(XmlParser*, OnStart, OnEnd) = nullptr;
  void (*XML_SetCharacterDataHandler)(XmlParser*, OnText) = nullptr;
  void (*XML_SetDefaultHandler)(XmlParser*, OnText) = nullptr;
  void (*XML_SetStartDoctypeDeclHandler)(XmlParser*, OnDoctype) = nullptr;
  int (*XML_Parse)(XmlParser*, const char*, int, int) = nullptr;
  int (*XML_StopParser)(XmlParser*, unsigned char) = nullptr;
  int (*XML_GetErrorCode)(XmlParser*) = nullptr;
  const char* (*XML_ErrorString)(int) = nullptr;
  unsigned long (*XML_GetCurrentLineNumber)(XmlParser*) = nullptr;

  /// `ready` stays false when one of the libraries is not installed.
  explicit WorkbookApi(const char* archive_library = "libarchive.so.13", const char* xml_library = "libexpat.so.1");
};

/// Loads the libraries at the first call; never unloaded.
const WorkbookApi& workbook_api();

/// What to install when workbook_api() is not ready.
Error no_workbook_api();

}  // namespace kontor::tools
