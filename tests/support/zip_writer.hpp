#pragma once
// Zip containers for tests, written by libarchive (deflated, with the sums that readers check).

#include <dlfcn.h>

#include <cstdint>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

namespace kontor::test {

/// The bytes of a container with these parts, in this order; a name may stand twice.
inline std::string zip_of(const std::vector<std::pair<std::string, std::string>>& parts) {
  static void* const library = dlopen("libarchive.so.13", RTLD_NOW | RTLD_LOCAL);
  if (!library) throw std::runtime_error("libarchive.so.13 is not installed");
  const auto call = [](const char* name, auto type, auto... arguments) { return reinterpret_cast<decltype(type)>(dlsym(library, name))(arguments...); };
  using Make = void* (*)();
  using Set = int (*)(void*);
  std::size_t size = 4096, used = 0;
  for (const auto& part : parts) size += part.first.size() * 2 + part.second.size() + 512;
  std::string out(size, '\0');
  void* const archive = call("archive_write_new", Make{});
  call("archive_write_set_format_zip", Set{}, archive);
  using Text = int (*)(void*, const char*);
  call("archive_write_set_options", Text{}, archive, "zip:compression-level=1");
  using Open = int (*)(void*, void*, std::size_t, std::size_t*);
  call("archive_write_open_memory", Open{}, archive, static_cast<void*>(out.data()), out.size(), &used);
  for (const auto& [name, content] : parts) {
    void* const entry = call("archive_entry_new", Make{});
    using SetText = void (*)(void*, const char*);
    using SetNumber = void (*)(void*, std::int64_t);
    using SetWord = void (*)(void*, unsigned);
    call("archive_entry_set_pathname", SetText{}, entry, name.c_str());
    call("archive_entry_set_size", SetNumber{}, entry, static_cast<std::int64_t>(content.size()));
    call("archive_entry_set_filetype", SetWord{}, entry, 0100000u);
    call("archive_entry_set_perm", SetWord{}, entry, 0644u);
    using Header = int (*)(void*, void*);
    call("archive_write_header", Header{}, archive, entry);
    using Data = std::intptr_t (*)(void*, const void*, std::size_t);
    call("archive_write_data", Data{}, archive, static_cast<const void*>(content.data()), content.size());
    using Free = void (*)(void*);
    call("archive_entry_free", Free{}, entry);
  }
  const int closed = call("archive_write_close", Set{}, archive);
  call("archive_write_free", Set{}, archive);
  if (closed != 0) throw std::runtime_error("the container could not be written");
  out.resize(used);
  return out;
}

/// A workbook with one sheet, its other parts as given.
struct WorkbookParts {
  std::string sheet, styles, texts;
  std::string properties;  ///< Inside <workbook>, before the sheets.
  std::vector<std::pair<std::string, std::string>> more;

  std::string zipped() const {
    const std::string office = "http://schemas.openxmlformats.org/officeDocument/2006/relationships";
    const auto link = [&](const char* id, const std::string& kind, const std::string& target) {
      return "<Relationship Id=\"" + std::string(id) + "\" Type=\"" + office + "/" + kind + "\" Target=\"" + target + "\"/>";
    };
    const auto links = [](const std::string& inside) { return "<Relationships xmlns=\"http://schemas.openxmlformats.org/package/2006/relationships\">" + inside + "</Relationships>"; };
    std::string book_links = link("r1", "worksheet", "sheets/one.xml");
    if (!styles.empty()) book_links += link("r2", "styles", "/xl/styles.xml");
    if (!texts.empty()) book_links += link("r3", "sharedStrings", "../xl/sharedStrings.xml");
    std::vector<std::pair<std::string, std::string>> parts{
        {"_rels/.rels", links(link("a", "officeDocument", "xl/workbook.xml"))},
        {"xl/workbook.xml", "<workbook xmlns:r=\"" + office + "\">" + properties + "<sheets><sheet name=\"One\" sheetId=\"1\" r:id=\"r1\"/></sheets></workbook>"},
        {"xl/_rels/workbook.xml.rels", links(book_links)},
        {"xl/sheets/one.xml", sheet}};
    if (!styles.empty()) parts.emplace_back("xl/styles.xml", styles);
    if (!texts.empty()) parts.emplace_back("xl/SharedStrings.xml", texts);
    parts.insert(parts.end(), more.begin(), more.end());
    return zip_of(parts);
  }
};

}  // namespace kontor::test
