#include "tools/builtin/workbook_part.hpp"

#include "tools/builtin/workbook_api.hpp"

#include <algorithm>
#include <memory>
#include <optional>
#include <vector>

namespace kontor::tools {
namespace {

constexpr std::size_t kChunk = 64 * 1024;
constexpr char kNamespaceEnd = '|';  // between namespace and name in what expat reports

std::string_view local_name(std::string_view name) {
  const auto at = name.rfind(kNamespaceEnd);
  return at == std::string_view::npos ? name : name.substr(at + 1);
}

/// Parses the bytes of one part as they are unpacked.
class Parser {
 public:
  Parser(const WorkbookApi& api, const std::string& name, PartReader& reader, const PartLimits& limits)
      : api_(api), name_(name), reader_(reader), limits_(limits), parser_(api.XML_ParserCreateNS(nullptr, kNamespaceEnd), api.XML_ParserFree) {
    if (!parser_) return;
    api_.XML_SetUserData(parser_.get(), this);
    api_.XML_SetElementHandler(parser_.get(), on_start, on_end);
    api_.XML_SetCharacterDataHandler(parser_.get(), on_text);
    api_.XML_SetDefaultHandler(parser_.get(), on_other);
    api_.XML_SetStartDoctypeDeclHandler(parser_.get(), on_doctype);
  }

  Result<void> feed(const char* bytes, std::size_t size, bool last) {
    if (!parser_) return fail(Errc::memory, "no memory for an XML parser", "memory");
    const bool parsed = api_.XML_Parse(parser_.get(), bytes, static_cast<int>(size), last ? 1 : 0) == 1;
    if (error_) return *error_;
    if (!parsed) {
      const char* reason = api_.XML_ErrorString(api_.XML_GetErrorCode(parser_.get()));
      return fail(Errc::malformed, std::string("not well-formed XML: ") + (reason ? reason : "unknown error"), "workbook", where());
    }
    // Nothing was reported: expat waits for the end of a token, and would look at all of it again with each piece.
    waiting_ = heard_ ? 0 : waiting_ + size;
    heard_ = false;
    if (waiting_ > limits_.token_bytes) return fail(Errc::limit, "a tag or comment of more than " + std::to_string(limits_.token_bytes) + " bytes", "workbook_size", where());
    return {};
  }

 private:
  std::string where() const { return name_ + ":" + std::to_string(api_.XML_GetCurrentLineNumber(parser_.get())); }

  void take(const Result<void>& result) {
    if (result || error_) return;
    error_ = result.error();
    api_.XML_StopParser(parser_.get(), 0);
  }

  static void on_start(void* self, const char* name, const char** attributes) {
    auto& parser = *static_cast<Parser*>(self);
    parser.heard_ = true;
    if (parser.error_) return;
    if (++parser.depth_ > parser.limits_.depth) return parser.take(fail(Errc::limit, "elements nested deeper than " + std::to_string(parser.limits_.depth), "workbook_size", parser.where()));
    parser.take(parser.reader_.start(local_name(name), PartAttributes(attributes)));
  }
  static void on_end(void* self, const char* name) {
    auto& parser = *static_cast<Parser*>(self);
    parser.heard_ = true;
    --parser.depth_;
    if (!parser.error_) parser.take(parser.reader_.end(local_name(name)));
  }
  static void on_text(void* self, const char* text, int size) {
    auto& parser = *static_cast<Parser*>(self);
    parser.heard_ = true;
    if (!parser.error_) parser.take(parser.reader_.text({text, static_cast<std::size_t>(size)}));
  }
  static void on_other(void* self, const char*, int) { static_cast<Parser*>(self)->heard_ = true; }
  static void on_doctype(void* self, const char*, const char*, const char*, int) {
    auto& parser = *static_cast<Parser*>(self);
    parser.take(fail(Errc::malformed, "a workbook has no document type declaration", "workbook", parser.where()));
  }

  const WorkbookApi& api_;
  const std::string& name_;
  PartReader& reader_;
  const PartLimits& limits_;
  std::unique_ptr<WorkbookApi::XmlParser, void (*)(WorkbookApi::XmlParser*)> parser_;
  std::optional<Error> error_;
  std::size_t depth_ = 0, waiting_ = 0;
  bool heard_ = false;
};

Error container_error(const WorkbookApi& api, WorkbookApi::Archive* archive, const std::string& name) {
  const char* given = api.archive_error_string(archive);
  std::string reason = given ? given : "unknown error";
  while (reason.ends_with('\n')) reason.pop_back();
  return fail(Errc::malformed, "the zip container cannot be read: " + reason, "workbook", name);
}

/// Names of parts are the same in letters of either case.
bool same_part(std::string_view a, std::string_view b) {
  const auto lower = [](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c; };
  return std::equal(a.begin(), a.end(), b.begin(), b.end(), [&](char x, char y) { return lower(x) == lower(y); });
}

}  // namespace

std::string_view PartAttributes::get(std::string_view name) const {
  for (const char** pair = pairs_; *pair; pair += 2) {
    if (local_name(pair[0]) == name) return pair[1];
  }
  return {};
}

Result<void> read_part(std::string_view container, const std::string& name, PartReader& reader, const PartLimits& limits) {
  const WorkbookApi& api = workbook_api();
  if (!api.ready) return no_workbook_api();
  const std::unique_ptr<WorkbookApi::Archive, int (*)(WorkbookApi::Archive*)> archive(api.archive_read_new(), api.archive_read_free);
  if (!archive) return fail(Errc::memory, "no memory for a zip reader", "memory");
  if (api.archive_read_support_format_zip_seekable(archive.get()) != 0 || api.archive_read_open_memory(archive.get(), container.data(), container.size()) != 0) return container_error(api, archive.get(), "");
  bool found = false;
  std::vector<char> chunk(kChunk);
  for (std::size_t parts = 0;; ++parts) {
    WorkbookApi::Entry* entry = nullptr;
    const int next = api.archive_read_next_header(archive.get(), &entry);
    if (next == 1) break;  // the end
    if (next < -20) return container_error(api, archive.get(), "");
    if (parts >= limits.parts) return fail(Errc::limit, "more than " + std::to_string(limits.parts) + " parts in the workbook", "workbook_size");
    const char* path = api.archive_entry_pathname(entry);
    if (!path || !same_part(name, path)) continue;
    // Readers that take another of two parts of one name would see another table.
    if (found) return fail(Errc::malformed, "two parts of one name in the workbook", "workbook", name);
    found = true;
    Parser parser(api, name, reader, limits);
    for (std::size_t total = 0;;) {
      const ssize_t size = api.archive_read_data(archive.get(), chunk.data(), chunk.size());
      if (size < 0) return container_error(api, archive.get(), name);
      total += static_cast<std::size_t>(size);
      if (total > limits.unpacked_bytes) return fail(Errc::limit, "more than " + std::to_string(limits.unpacked_bytes >> 20) + " MiB when unpacked", "workbook_size", name);
      if (auto fed = parser.feed(chunk.data(), static_cast<std::size_t>(size), size == 0); !fed) return fed;
      if (size == 0) break;
    }
  }
  if (!found) return fail(Errc::not_found, "there is no part '" + name + "' in the workbook", "workbook", name);
  return {};
}

}  // namespace kontor::tools
