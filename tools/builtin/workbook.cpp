#include "tools/builtin/workbook.hpp"

#include "tools/builtin/workbook_part.hpp"
#include "tools/builtin/workbook_value.hpp"
#include "tools/nearest.hpp"

#include <algorithm>
#include <charconv>
#include <map>
#include <optional>
#include <set>
#include <utility>
#include <vector>

namespace kontor::tools {
namespace {

constexpr std::size_t kTextMax = 64u << 20;  ///< Of all cells of a sheet: a text that many cells share counts with each.
constexpr std::size_t kTextsMax = 4'000'000;
constexpr std::size_t kFormatsMax = 100'000;
constexpr std::size_t kSheetsMax = 1'000;

Error malformed(std::string message, std::string where = {}) { return fail(Errc::malformed, std::move(message), "workbook", std::move(where)); }
Error too_large(std::string message, std::string where = {}) { return fail(Errc::limit, std::move(message), "workbook_size", std::move(where)); }

std::optional<std::uint32_t> whole_number(std::string_view text) {
  std::uint32_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc{} || end != text.data() + text.size()) return std::nullopt;
  return value;
}

/// What a relationship says of a part.
struct Link {
  std::string kind;    ///< The last word of its type: "worksheet".
  std::string target;  ///< A part's name, from the root of the container.
};

/// "sheets/../a.xml", seen from the folder "xl" -> "xl/a.xml".
std::string part_name(std::string_view folder, std::string_view target) {
  std::vector<std::string_view> pieces;
  const auto add = [&](std::string_view path) {
    while (!path.empty()) {
      const auto end = std::min(path.find('/'), path.size());
      const auto piece = path.substr(0, end);
      if (piece == ".." && !pieces.empty()) pieces.pop_back();
      else if (!piece.empty() && piece != "." && piece != "..") pieces.push_back(piece);
      path.remove_prefix(std::min(end + 1, path.size()));
    }
  };
  if (!target.starts_with('/')) add(folder);
  add(target);
  std::string out;
  for (const auto piece : pieces) out += (out.empty() ? "" : "/") + std::string(piece);
  return out;
}

std::string_view folder_of(std::string_view part) {
  const auto slash = part.rfind('/');
  return slash == std::string_view::npos ? std::string_view{} : part.substr(0, slash);
}

class LinkReader final : public PartReader {
 public:
  explicit LinkReader(std::string_view folder) : folder_(folder) {}
  Result<void> start(std::string_view name, const PartAttributes& attributes) override {
    if (name != "Relationship" || attributes.get("TargetMode") == "External") return {};
    if (links.size() >= kSheetsMax * 4) return too_large("too many relationships");
    const std::string_view type = attributes.get("Type");
    links[std::string(attributes.get("Id"))] = {std::string(type.substr(type.rfind('/') + 1)), part_name(folder_, attributes.get("Target"))};
    return {};
  }
  Result<void> end(std::string_view) override { return {}; }
  Result<void> text(std::string_view) override { return {}; }

  std::map<std::string, Link> links;

 private:
  std::string folder_;
};

Result<std::map<std::string, Link>> read_links(std::string_view content, std::string_view part) {
  const std::string_view folder = folder_of(part);
  const std::string name = part_name(folder, "_rels/" + std::string(part.substr(folder.empty() ? 0 : folder.size() + 1)) + ".rels");
  LinkReader reader(folder);
  if (auto read = read_part(content, name, reader); !read) return read.error();
  return std::move(reader.links);
}

struct SheetEntry {
  std::string name, link;
  bool hidden = false;
};

class BookReader final : public PartReader {
 public:
  Result<void> start(std::string_view name, const PartAttributes& attributes) override {
    if (name == "workbookPr") {
      const auto value = attributes.get("date1904");
      from_1904 = value == "1" || value == "true" || value == "on";
    } else if (name == "sheet") {
      if (sheets.size() >= kSheetsMax) return too_large("more than " + std::to_string(kSheetsMax) + " sheets");
      const auto state = attributes.get("state");
      sheets.push_back({std::string(attributes.get("name")), std::string(attributes.get("id")), state == "hidden" || state == "veryHidden"});
    }
    return {};
  }
  Result<void> end(std::string_view) override { return {}; }
  Result<void> text(std::string_view) override { return {}; }

  std::vector<SheetEntry> sheets;
  bool from_1904 = false;
};

/// The number format of each style of a cell.
class StyleReader final : public PartReader {
 public:
  Result<void> start(std::string_view name, const PartAttributes& attributes) override {
    if (name == "cellXfs") in_cells_ = true;
    if (name == "numFmt") {
      if (codes_.size() >= kFormatsMax) return too_large("too many number formats");
      if (const auto id = whole_number(attributes.get("numFmtId"))) codes_[*id] = kind_of_format(attributes.get("formatCode"));
    } else if (name == "xf" && in_cells_) {
      if (kinds.size() >= kFormatsMax) return too_large("too many styles");
      const auto id = whole_number(attributes.get("numFmtId")).value_or(0);
      const auto own = codes_.find(id);
      kinds.push_back(own != codes_.end() ? own->second : kind_of_format(static_cast<int>(std::min<std::uint32_t>(id, kFormatsMax))));
    }
    return {};
  }
  Result<void> end(std::string_view name) override {
    if (name == "cellXfs") in_cells_ = false;
    return {};
  }
  Result<void> text(std::string_view) override { return {}; }

  std::vector<NumberKind> kinds;

 private:
  std::map<std::uint32_t, NumberKind> codes_;
  bool in_cells_ = false;
};

/// Collects the text of <t> elements, but for those that tell how the text is spoken (<rPh>).
class TextCollector {
 public:
  void start(std::string_view name) {
    if (name == "rPh") in_sound_ = true;
    in_text_ = name == "t" && !in_sound_;
  }
  void end(std::string_view name) {
    if (name == "rPh") in_sound_ = false;
    in_text_ = false;
  }
  void text(std::string_view piece) {
    if (in_text_) collected_ += piece;
  }
  std::string take() { return unescaped_text(std::exchange(collected_, {})); }
  std::size_t size() const { return collected_.size(); }

 private:
  std::string collected_;
  bool in_text_ = false, in_sound_ = false;
};

class SharedTextReader final : public PartReader {
 public:
  Result<void> start(std::string_view name, const PartAttributes&) override {
    collector_.start(name);
    return {};
  }
  Result<void> end(std::string_view name) override {
    collector_.end(name);
    if (name != "si") return {};
    if (texts.size() >= kTextsMax) return too_large("more than " + std::to_string(kTextsMax) + " texts");
    texts.push_back(collector_.take());
    bytes_ += texts.back().size();
    return {};
  }
  Result<void> text(std::string_view piece) override {
    collector_.text(piece);
    if (bytes_ + collector_.size() > kTextMax) return too_large("more than " + std::to_string(kTextMax >> 20) + " MiB of text");
    return {};
  }

  std::vector<std::string> texts;

 private:
  TextCollector collector_;
  std::size_t bytes_ = 0;
};

struct Book {
  std::vector<std::string> texts;
  std::vector<NumberKind> styles;
  bool from_1904 = false;
};

/// The cells that are read, counted from 1; both ends belong to it.
struct Range {
  CellPlace first{1, 1}, last{kSheetRowsMax, kSheetColumnsMax};
};

class SheetReader final : public PartReader {
 public:
  SheetReader(const Book& book, const Range& range, std::size_t cells_max) : book_(book), range_(range), cells_max_(cells_max) {}

  Result<void> start(std::string_view name, const PartAttributes& attributes) override {
    collector_.start(name);
    if (name == "row") return start_row(attributes.get("r"));
    if (name == "c") return start_cell(attributes);
    if (name == "f") has_formula_ = true;
    in_value_ = name == "v";
    return {};
  }
  Result<void> end(std::string_view name) override {
    collector_.end(name);
    in_value_ = false;
    if (name == "c") return end_cell();
    if (name == "row") return end_row();
    return {};
  }
  Result<void> text(std::string_view piece) override {
    if (in_value_) value_ += piece;
    collector_.text(piece);
    if (value_.size() + collector_.size() > kTextMax) return too_large("a cell of more than " + std::to_string(kTextMax >> 20) + " MiB", where());
    return {};
  }

  LoadedTable finish() {
    for (auto& row : table_.rows) row.resize(table_.columns.size());
    return std::move(table_);
  }

 private:
  std::string where() const { return column_letters(place_.column) + std::to_string(place_.row); }

  Result<void> start_row(std::string_view given) {
    const auto last = place_.row;
    const auto place = given.empty() ? CellPlace{last + 1, 0} : parse_cell_place(given).value_or(CellPlace{});
    if (place.column != 0 || place.row <= last || place.row > kSheetRowsMax) return malformed("rows are numbered upwards from 1 to " + std::to_string(kSheetRowsMax), "row behind " + std::to_string(last));
    place_ = place;
    cells_.clear();
    return {};
  }

  Result<void> start_cell(const PartAttributes& attributes) {
    const auto given = attributes.get("r");
    const auto place = given.empty() ? CellPlace{place_.row, place_.column + 1} : parse_cell_place(given).value_or(CellPlace{});
    if (place.row != place_.row || place.row == 0 || place.column <= place_.column || place.column > kSheetColumnsMax) return malformed("cells stand in their row, from left to right", "cell behind " + where());
    place_ = place;
    type_ = attributes.get("t");
    style_ = whole_number(attributes.get("s")).value_or(0);
    value_.clear();
    has_formula_ = false;
    return {};
  }

  bool in_range() const { return place_.row >= range_.first.row && place_.row <= range_.last.row && place_.column >= range_.first.column && place_.column <= range_.last.column; }

  /// What the cell holds; an empty text for an empty cell.
  Result<std::string> content() {
    std::string inline_text = collector_.take();
    if (type_ == "inlineStr") return inline_text;
    if (has_formula_ && value_.empty() && type_ != "str") return malformed("the formula in this cell was never computed: open the workbook in a spreadsheet program and save it", where());
    if (type_ == "str") return unescaped_text(value_);
    const auto begin = value_.find_first_not_of(" \t\r\n");
    const std::string value = begin == std::string::npos ? "" : value_.substr(begin, value_.find_last_not_of(" \t\r\n") - begin + 1);
    if (value.empty()) return value;
    if (type_ == "s") {
      const auto index = whole_number(value);
      if (!index || *index >= book_.texts.size()) return malformed("there is no shared text " + value.substr(0, 20), where());
      return book_.texts[*index];
    }
    if (type_ == "b") return std::string(value == "1" || value == "true" ? "true" : "false");
    if (type_ == "d" || type_ == "e") return value;
    if (!type_.empty() && type_ != "n") return malformed("unknown type of cell '" + type_.substr(0, 20) + "'", where());
    const auto kind = style_ < book_.styles.size() ? book_.styles[style_] : NumberKind::number;
    if (auto date = date_text(value, kind, book_.from_1904)) return *date;
    return plain_number(value);
  }

  Result<void> end_cell() {
    if (!in_range()) {
      collector_.take();
      return {};
    }
    auto read = content();
    if (!read) return read.error();
    if (read->empty()) return {};
    bytes_ += read->size();
    if (bytes_ > kTextMax) return too_large("the cells hold more than " + std::to_string(kTextMax >> 20) + " MiB", where());
    cells_.emplace_back(place_.column, std::move(*read));
    return {};
  }

  Result<void> add_column(std::uint32_t column, std::string name) {
    if (table_.columns.size() >= kTableColumnsMax) return too_large("more than " + std::to_string(kTableColumnsMax) + " columns", where());
    if (!names_.insert(name).second) return malformed("two columns are named '" + name.substr(0, 80) + "'; FILE.xlsx#SHEET!A3:F says which cells are the table", where());
    index_[column] = table_.columns.size();
    table_.columns.push_back({std::move(name), ColumnType::text});
    return {};
  }

  Result<void> end_row() {
    const auto cells = std::exchange(cells_, {});
    place_.column = 0;
    if (cells.empty()) return {};
    const bool header = table_.columns.empty();
    if (!header && table_.rows.size() >= kTableRowsMax) return too_large("more than " + std::to_string(kTableRowsMax) + " rows", where());
    std::vector<LoadedCell> row(table_.columns.size());
    for (const auto& [column, value] : cells) {
      place_.column = column;
      if (header) {
        if (auto added = add_column(column, value); !added) return added;
        continue;
      }
      if (!index_.contains(column)) {
        if (auto added = add_column(column, column_letters(column)); !added) return added;
        row.emplace_back();
      }
      row[index_[column]] = value;
    }
    place_.column = 0;
    if (header) return {};
    total_ += table_.columns.size();
    if (total_ > cells_max_) return too_large("more than " + std::to_string(cells_max_) + " cells", where());
    table_.rows.push_back(std::move(row));
    return {};
  }

  const Book& book_;
  const Range range_;
  const std::size_t cells_max_;
  LoadedTable table_;
  std::map<std::uint32_t, std::size_t> index_;  // from a column of the sheet to one of the table
  std::set<std::string> names_;
  TextCollector collector_;
  std::vector<std::pair<std::uint32_t, std::string>> cells_;  // of this row, without empty ones
  CellPlace place_;
  std::string type_, value_;
  std::uint32_t style_ = 0;
  bool has_formula_ = false, in_value_ = false;
  std::size_t bytes_ = 0, total_ = 0;
};

/// "A3", "A3:F" and "A3:F20".
std::optional<Range> parse_range(std::string_view text) {
  const auto colon = text.find(':');
  const auto first = parse_cell_place(text.substr(0, colon));
  if (!first || first->row == 0 || first->column == 0) return std::nullopt;
  Range range;
  range.first = *first;
  if (colon == std::string_view::npos) return range;
  const auto last = parse_cell_place(text.substr(colon + 1));
  if (!last) return std::nullopt;
  if (last->row != 0) range.last.row = last->row;
  if (last->column != 0) range.last.column = last->column;
  if (range.last.row < range.first.row || range.last.column < range.first.column) return std::nullopt;
  return range;
}

Result<SheetEntry> choose_sheet(const std::vector<SheetEntry>& sheets, std::string_view name) {
  std::vector<std::string> names;
  const SheetEntry* only = nullptr;
  std::size_t visible = 0;
  for (const auto& sheet : sheets) {
    if (!name.empty() && sheet.name == name) return sheet;
    names.push_back(sheet.name);
    if (sheet.hidden) continue;
    only = &sheet;
    ++visible;
  }
  if (name.empty() && visible == 1) return *only;
  std::string list;
  for (std::size_t i = 0; i < names.size() && i < 30; ++i) list += (i == 0 ? "'" : ", '") + names[i] + "'";
  if (sheets.empty()) return malformed("a workbook without sheets");
  if (name.empty()) return fail(Errc::usage, "the workbook has several sheets; name one, as in FILE.xlsx#SHEET: " + list, "workbook_sheet");
  const auto near = nearest(std::string(name), names);
  return fail(Errc::not_found, "there is no sheet '" + std::string(name.substr(0, 80)) + "'" + (near.empty() ? "; there are: " + list : " (did you mean '" + near + "'?)"), "workbook_sheet");
}

}  // namespace

Result<LoadedTable> load_sheet(std::string_view content, std::string_view which, std::size_t cells_max) {
  Range range;
  const auto mark = which.rfind('!');
  if (mark != std::string_view::npos) {
    const auto parsed = parse_range(which.substr(mark + 1));
    if (!parsed) return fail(Errc::usage, "'" + std::string(which.substr(mark + 1, 40)) + "' is no range of cells; A3, A3:F or A3:F20 was expected behind '!'", "workbook_sheet");
    range = *parsed;
    which = which.substr(0, mark);
  }
  if (content.starts_with("\xd0\xcf\x11\xe0")) return fail(Errc::unsupported, "this is an encrypted workbook, or one of the old binary kind (.xls); save it as .xlsx without a password", "workbook");
  const auto root = read_links(content, "");
  if (!root) return root.error();
  const auto of_kind = [](const std::map<std::string, Link>& links, std::string_view kind) -> const Link* {
    const auto found = std::find_if(links.begin(), links.end(), [&](const auto& link) { return link.second.kind == kind; });
    return found == links.end() ? nullptr : &found->second;
  };
  const Link* book_link = of_kind(*root, "officeDocument");
  if (!book_link) return malformed("this zip container is not a workbook");
  const auto links = read_links(content, book_link->target);
  if (!links) return links.error();
  BookReader book_reader;
  if (auto read = read_part(content, book_link->target, book_reader); !read) return read.error();
  std::erase_if(book_reader.sheets, [&](const SheetEntry& sheet) {  // charts and macros have no cells
    const auto link = links->find(sheet.link);
    return link == links->end() || link->second.kind != "worksheet";
  });
  const auto sheet = choose_sheet(book_reader.sheets, which);
  if (!sheet) return sheet.error();

  Book book;
  book.from_1904 = book_reader.from_1904;
  if (const Link* link = of_kind(*links, "styles")) {
    StyleReader styles;
    if (auto read = read_part(content, link->target, styles); !read) return read.error();
    book.styles = std::move(styles.kinds);
  }
  if (const Link* link = of_kind(*links, "sharedStrings")) {
    SharedTextReader texts;
    if (auto read = read_part(content, link->target, texts); !read) return read.error();
    book.texts = std::move(texts.texts);
  }
  SheetReader reader(book, range, cells_max);
  if (auto read = read_part(content, links->at(sheet->link).target, reader); !read) return read.error();
  LoadedTable table = reader.finish();
  if (table.columns.empty()) return malformed("there are no cells in the sheet '" + sheet->name + "'" + (mark == std::string_view::npos ? "" : ", or not in that range"));
  return table;
}

}  // namespace kontor::tools
