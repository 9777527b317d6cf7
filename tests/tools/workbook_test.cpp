#include "tests/support/catch.hpp"
#include "tests/support/zip_writer.hpp"

#include "tools/builtin/builtin.hpp"
#include "tools/builtin/table_load.hpp"
#include "tools/builtin/workbook.hpp"
#include "tools/builtin/workbook_api.hpp"
#include "tools/builtin/workbook_value.hpp"
#include "tools/registry.hpp"

#include <nlohmann/json.hpp>

#include <chrono>
#include <fstream>
#include <iterator>

namespace kontor::tools {
namespace {

using test::WorkbookParts;

std::string book_file() {
  std::ifstream in(std::string(KONTOR_SOURCE_DIR) + "/tests/corpora/tables/book.xlsx", std::ios::binary);
  return std::string((std::istreambuf_iterator<char>(in)), std::istreambuf_iterator<char>());
}

/// The cells as text: columns of a row by '|', rows by '/'; nothing for NULL is "-".
std::string shown(const Result<LoadedTable>& table) {
  if (!table) return std::string(to_string(table.error().code)) + ": " + table.error().describe();
  std::string out;
  for (const auto& column : table->columns) out += (out.empty() ? "" : "|") + column.name;
  for (const auto& row : table->rows) {
    out += "/";
    for (std::size_t i = 0; i < row.size(); ++i) out += (i == 0 ? "" : "|") + row[i].value_or("-");
  }
  return out;
}

std::string sheet_of(const std::string& rows) { return "<worksheet xmlns=\"http://schemas.openxmlformats.org/spreadsheetml/2006/main\"><sheetData>" + rows + "</sheetData></worksheet>"; }

std::string read(const std::string& rows) { return shown(load_sheet(WorkbookParts{sheet_of(rows), "", "", "", {}}.zipped(), "")); }

}  // namespace

TEST_CASE("a workbook that openpyxl wrote is a table", "[workbook]") {
  const auto book = book_file();
  CHECK(shown(load_sheet(book, "Orders!A3:G5")) == "id|region|amount|ordered|shipped|paid|share/007|North|0.1|2026-11-24|2026-11-25T09:30:00|true|0.125/"
                                                   "008|Süd & West|0.2|1900-01-31|2026-11-26T23:59:59|false|0.5");
  CHECK(shown(load_sheet(book, "Orders!B6:D")) == " <North> |4800|2024-02-29/North\nEast|0.3|9999-12-31");
  CHECK(shown(load_sheet(book, "Orders!C3")).find("|share|J/0.1|") != std::string::npos);  // the note beside the table has no heading
  CHECK(shown(load_sheet(book, "Times")) == "at|worked/07:05:00|37:30:00/23:59:59|00:01:00");
  CHECK(shown(load_sheet(book, "Hidden")) == "secret/1");
  CHECK(shown(load_sheet(book, "Sums")).starts_with("malformed: A2: the formula in this cell was never computed"));
  CHECK(shown(load_sheet(book, "Empty")) == "malformed: there are no cells in the sheet 'Empty'");
  CHECK(shown(load_sheet(book, "Times!D9")) == "malformed: there are no cells in the sheet 'Times', or not in that range");
  CHECK(shown(load_sheet(book, "Order")) == "not_found: there is no sheet 'Order' (did you mean 'Orders'?)");
  CHECK(shown(load_sheet(book, "")) == "usage: the workbook has several sheets; name one, as in FILE.xlsx#SHEET: 'Orders', 'Times', 'Sums', 'Hidden', 'Empty'");
  CHECK(shown(load_sheet(book, "Orders!3")) == "usage: '3' is no range of cells; A3, A3:F or A3:F20 was expected behind '!'");
  for (const char* range : {"Orders!", "Orders!A", "Orders!A3:", "Orders!C3:B9", "Orders!A3:A2", "Orders!A0", "Orders!XFE1", "Orders!A1048577", "Orders!A1:B2:C3", "Orders!$A$1"}) {
    INFO(range);
    CHECK(shown(load_sheet(book, range)).starts_with("usage: "));
  }
}

TEST_CASE("SQL runs over a sheet with exact decimals", "[workbook][table]") {
  BuiltinContext context;
  context.folder = std::string(KONTOR_SOURCE_DIR) + "/tests/corpora";
  Registry registry;
  const auto made = make_builtin("builtin.table", "table", Json{{"root", "tables"}}, context);
  REQUIRE(made.has_value());
  for (const auto& tool : *made) REQUIRE(registry.add(tool).has_value());
  const auto rows = [&](const std::string& sql, const std::string& file) {
    const auto result = registry.call("table.query", Json{{"sql", sql}, {"files", {{"t", file}}}}, {});
    return result.is_error ? result.error_kind + ": " + result.value["error"].get<std::string>() : result.value["rows"].dump();
  };
  CHECK(rows("SELECT dec_sum(amount) AS total FROM t WHERE share < 1", "book.xlsx#Orders!A3:G") == R"([{"total":"4800.6"}])");
  CHECK(rows("SELECT id FROM t WHERE ordered BETWEEN '2024-01-01' AND '2026-12-31' ORDER BY ordered", "book.xlsx#Orders!A3:G") == R"([{"id":"009"},{"id":"007"}])");
  CHECK(rows("SELECT * FROM t", "book.xlsx#Order").starts_with("not_found: book.xlsx: there is no sheet 'Order'"));
  CHECK(rows("SELECT * FROM t", "none.xlsx#Orders").starts_with("not_found"));
  CHECK(rows("SELECT * FROM t", "make_book.py").find(".xlsx") != std::string::npos);
}

TEST_CASE("a '#' chooses a sheet of workbooks only", "[workbook]") {
  const auto split = [](const char* text) {
    const auto source = table_source(text);
    return source.path + " " + source.sheet;
  };
  CHECK(split("a/b.XLSX#My Sheet!A3") == "a/b.XLSX My Sheet!A3");
  CHECK(split("a#1.xlsx#2#3") == "a#1.xlsx 2#3");
  CHECK(split("a#1.csv") == "a#1.csv ");
  CHECK(split("a.xlsm") == "a.xlsm ");
}

TEST_CASE("every kind of cell is read for what it shows", "[workbook]") {
  WorkbookParts parts;
  parts.texts = "<x:sst xmlns:x=\"urn:x\"><x:si><x:t>plain</x:t></x:si><x:si><x:r><x:t>ri</x:t></x:r><x:r><x:t xml:space=\"preserve\">ch </x:t></x:r><x:rPh><x:t>spoken</x:t></x:rPh></x:si>"
                "<x:si/><x:si><x:t>a_x000D_b_x005F_x000D__xD83D__x00e9_</x:t></x:si></x:sst>";
  parts.styles = "<styleSheet><numFmts><numFmt numFmtId=\"164\" formatCode=\"dd.mm.yyyy\"/></numFmts><cellStyleXfs><xf numFmtId=\"14\"/></cellStyleXfs>"
                 "<cellXfs><xf numFmtId=\"0\"/><xf numFmtId=\"164\"/><xf numFmtId=\"22\"/><xf/></cellXfs></styleSheet>";
  parts.sheet = sheet_of("<row><c t=\"inlineStr\"><is><t>text</t></is></c><c t=\"inlineStr\"><is><r><t>va</t></r><r><t>lue</t></r></is></c></row>"
                         "<row r=\"3\"><c r=\"A3\" t=\"s\"><v>0</v></c><c r=\"B3\"><v> 1.1000000000000001 </v></c></row>"
                         "<row r=\"5\"><c r=\"A5\" t=\"s\"><v>1</v></c><c r=\"B5\" t=\"b\"><v>1</v></c></row>"
                         "<row><c t=\"s\"><v>3</v></c><c t=\"e\"><v>#DIV/0!</v></c></row>"
                         "<row><c t=\"s\"><v>2</v></c><c t=\"str\"><f>A1&amp;\"\"</f><v>made</v></c></row>"
                         "<row><c><f>1+1</f><v>2</v></c><c t=\"d\"><v>2026-11-24</v></c></row>"
                         "<row><c s=\"1\"><v>46350</v></c><c s=\"2\"><v>46350.5</v></c><c><v>9</v></c></row>"
                         "<row><c s=\"99\"><v>46350</v></c><c t=\"b\"><v>0</v></c><c s=\"3\"/></row>");
  const std::string expected = "text|value|C/plain|1.1|-/rich |true|-/a\rb_x000D__xD83D_\xc3\xa9|#DIV/0!|-/-|made|-/2|2026-11-24|-/2026-11-24|2026-11-24T12:00:00|9/46350|false|-";
  CHECK(shown(load_sheet(parts.zipped(), "")) == expected);
  parts.properties = "<workbookPr date1904=\"1\"/>";
  CHECK(shown(load_sheet(parts.zipped(), "One")).find("/2030-11-25|2030-11-25T12:00:00|9/") != std::string::npos);
}

TEST_CASE("stored numbers become the decimals that a spreadsheet shows", "[workbook]") {
  const std::pair<const char*, const char*> cases[] = {{"0.1", "0.1"}, {"0.30000000000000004", "0.3"}, {"4800.00", "4800"}, {"1.0000000000000001E-3", "0.001"}, {"-0", "0"},
      {"12345678901234567890", "12345678901234567890"}, {"1E+20", "100000000000000000000"}, {"1.5E300", "1.5E300"}, {"1.1999999999999999", "1.2"}, {"123456789012345.67", "123456789012346"},
      {"99999999999999999999999999999999999999999", "99999999999999999999999999999999999999999"}, {"NaN", "NaN"}, {"1,5", "1,5"}, {"", ""}, {"1e999999999999", "1e999999999999"}};
  for (const auto& [stored, plain] : cases) {
    INFO(stored);
    CHECK(plain_number(stored) == plain);
  }
}

TEST_CASE("serial days become dates in both calendars", "[workbook]") {
  using enum NumberKind;
  const auto text = [](const char* stored, NumberKind kind, bool from_1904 = false) { return date_text(stored, kind, from_1904).value_or("-"); };
  CHECK(text("1", date) == "1900-01-01");
  CHECK(text("59", date) == "1900-02-28");
  CHECK(text("60", date) == "-");
  CHECK(text("61", date) == "1900-03-01");
  CHECK(text("0", date) == "-");
  CHECK(text("0", date, true) == "1904-01-01");
  CHECK(text("45351", date) == "2024-02-29");
  CHECK(text("43889", date, true) == "2024-02-29");
  CHECK(text("2958465", date) == "9999-12-31");
  CHECK(text("2958465", date, true) == "-");
  CHECK(text("2958466", date) == "-");
  CHECK(text("-1", date) == "-");
  CHECK(text("1e300", date) == "-");
  CHECK(text("x", date) == "-");
  CHECK(text("45351.25", date) == "2024-02-29T06:00:00");
  CHECK(text("45351", date_time) == "2024-02-29T00:00:00");
  CHECK(text("45351.999999999", date_time) == "2024-03-01T00:00:00");
  CHECK(text("0.5000000116", time) == "12:00:00.001");
  CHECK(text("1.5", time) == "1900-01-01T12:00:00");
  CHECK(text("1.5625", duration) == "37:30:00");
  CHECK(text("45351", number) == "-");
  const std::pair<const char*, NumberKind> codes[] = {{"General", number}, {"0.00E+00", number}, {"#,##0.00\\ \"days\"", number}, {"[Red]0.00;[Blue]-0.00", number}, {"@", number},
      {"yyyy\\-mm\\-dd", date}, {"[$-409]mmm\\ d", date}, {"mmm", date}, {"d/m/yy h:mm AM/PM", date_time}, {"h:mm", time}, {"mm:ss.0", time}, {"[h]:mm:ss", duration}, {"[mm]:ss", duration},
      {"[ss]", duration}, {"0;yyyy", number}, {"\"unclosed", number}, {"[unclosed", number}, {"\\", number}, {"", number}};
  for (const auto& [code, kind] : codes) {
    INFO(code);
    CHECK(kind_of_format(code) == kind);
  }
}

TEST_CASE("hostile workbooks are refused", "[workbook]") {
  CHECK(shown(load_sheet("", "")).starts_with("malformed: the zip container cannot be read"));
  CHECK(shown(load_sheet("PK\x03\x04garbage", "")).starts_with("malformed: the zip container cannot be read"));
  CHECK(shown(load_sheet("\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "")).starts_with("unsupported: this is an encrypted workbook"));
  CHECK(shown(load_sheet(test::zip_of({{"a.txt", "x"}}), "")) == "not_found: _rels/.rels: there is no part '_rels/.rels' in the workbook");
  CHECK(shown(load_sheet(test::zip_of({{"_rels/.rels", "<Relationships/>"}}), "")) == "malformed: this zip container is not a workbook");
  CHECK(shown(load_sheet(test::zip_of({{"_rels/.rels", "<Relationships><Relationship Type=\"x/officeDocument\" TargetMode=\"External\" Target=\"http://x/\"/></Relationships>"}}), "")) == "malformed: this zip container is not a workbook");

  CHECK(read("<row><c><v>1</v></c>") .starts_with("malformed: xl/sheets/one.xml:1: not well-formed XML"));
  CHECK(read("<row r=\"2\"/><row r=\"1\"/>").starts_with("malformed: row behind 2: rows are numbered upwards"));
  CHECK(read("<row r=\"1048577\"/>").starts_with("malformed: row behind 0"));
  CHECK(read("<row r=\"4294967297\"/>").starts_with("malformed: row behind 0"));
  CHECK(read("<row r=\"1\"><c r=\"XFE1\"/></row>").starts_with("malformed: cell behind"));
  CHECK(read("<row r=\"1\"><c r=\"B1\"/><c r=\"A1\"/></row>") == "malformed: cell behind B1: cells stand in their row, from left to right");
  CHECK(read("<row r=\"1\"><c r=\"A2\"/></row>").starts_with("malformed: cell behind"));
  CHECK(read("<c r=\"A1\"><v>1</v></c>").starts_with("malformed: cell behind"));
  CHECK(read("<row><c t=\"s\"><v>0</v></c></row>") == "malformed: A1: there is no shared text 0");
  CHECK(read("<row><c t=\"s\"><v>-1</v></c></row>") == "malformed: A1: there is no shared text -1");
  CHECK(read("<row><c t=\"q\"><v>1</v></c></row>") == "malformed: A1: unknown type of cell 'q'");
  CHECK(read("<row><c><v>1</v></c><c><v>1</v></c></row>").starts_with("malformed: B1: two columns are named '1'"));
  // A cell far away costs nothing but itself.
  CHECK(read("<row r=\"1\"><c r=\"A1\"><v>1</v></c></row><row r=\"1048576\"><c r=\"XFD1048576\"><v>2</v></c></row>") == "1|XFD/-|2");

  WorkbookParts parts;
  parts.sheet = "<!DOCTYPE x [<!ENTITY a \"aaaaaaaaaa\"><!ENTITY b \"&a;&a;&a;&a;&a;&a;&a;&a;&a;&a;\">]>" + sheet_of("<row><c t=\"inlineStr\"><is><t>&b;</t></is></c></row>");
  CHECK(shown(load_sheet(parts.zipped(), "")) == "malformed: xl/sheets/one.xml:1: a workbook has no document type declaration");
  parts.sheet = sheet_of("<row><c><v>1</v></c></row>");
  parts.more = {{"XL/sheets/ONE.xml", "<x/>"}};
  CHECK(shown(load_sheet(parts.zipped(), "")) == "malformed: xl/sheets/one.xml: two parts of one name in the workbook");
  parts.more.clear();
  const auto whole = parts.zipped();
  CHECK(shown(load_sheet(whole, "")) == "1");
  for (std::size_t cut = 0; cut < whole.size(); cut += 7) CHECK(!load_sheet(std::string_view(whole).substr(0, cut), ""));
  for (std::size_t at = 0; at < whole.size(); ++at) {  // nothing crashes, whatever bit is wrong
    std::string wrong = whole;
    wrong[at] = static_cast<char>(wrong[at] ^ 0x10);
    (void)load_sheet(wrong, "");
  }
}

TEST_CASE("workbooks that unpack to more than they weigh are cut short", "[workbook]") {
  const auto bomb = [](std::string prefix, const std::string& piece, std::size_t bytes) {
    while (prefix.size() < bytes) prefix += piece;
    return prefix;
  };
  const auto start = std::chrono::steady_clock::now();
  WorkbookParts parts;
  parts.sheet = bomb("<worksheet><sheetData>", "<row/>" + std::string(1000, ' '), (256u << 20) + 4096);
  auto zipped = parts.zipped();
  REQUIRE(zipped.size() < 8u << 20);
  CHECK(shown(load_sheet(zipped, "")) == "limit: xl/sheets/one.xml: more than 256 MiB when unpacked");
  parts.sheet = bomb("<worksheet><sheetData><row r=\"", "1", 3u << 20);
  CHECK(shown(load_sheet(parts.zipped(), "")).find("limit: xl/sheets/one.xml:1: a tag or comment of more than 1048576 bytes") == 0);
  parts.sheet = bomb("", "<a>", 65 * 3);
  CHECK(shown(load_sheet(parts.zipped(), "")) == "limit: xl/sheets/one.xml:1: elements nested deeper than 64");
  // One text that many cells share.
  parts.texts = "<sst><si><t>" + std::string(1u << 20, 'x') + "</t></si></sst>";
  std::string rows;
  for (int i = 0; i < 70; ++i) rows += "<row><c t=\"s\"><v>0</v></c></row>";
  parts.sheet = sheet_of(rows);
  CHECK(shown(load_sheet(parts.zipped(), "")) == "limit: A65: the cells hold more than 64 MiB");
  parts.sheet = sheet_of("<row><c><v>1</v></c></row>");
  parts.texts = bomb("<sst>", "<si/>", 5 * 4'000'001 + 5);
  CHECK(shown(load_sheet(parts.zipped(), "")) == "limit: more than 4000000 texts");
  parts.texts = bomb("<sst><si><t>", "x", (64u << 20) + 100);
  CHECK(shown(load_sheet(parts.zipped(), "")) == "limit: more than 64 MiB of text");
  std::string wide = "<row>";
  for (int i = 0; i < 1001; ++i) wide += "<c><v>" + std::to_string(i) + "</v></c>";
  CHECK(read(wide + "</row>") == "limit: ALM1: more than 1000 columns");
  parts = {};
  parts.sheet = sheet_of("");
  for (int i = 0; i < 10'001; ++i) parts.more.emplace_back("x" + std::to_string(i), "");
  CHECK(shown(load_sheet(parts.zipped(), "")) == "limit: more than 10000 parts in the workbook");
  CHECK(std::chrono::steady_clock::now() - start < std::chrono::seconds(60));
}

TEST_CASE("without its libraries a workbook says what to install", "[workbook]") {
  CHECK(workbook_api().ready);
  CHECK(!WorkbookApi("libarchive-that-is-not-there.so", "libexpat.so.1").ready);
  CHECK(!WorkbookApi("libarchive.so.13", "libexpat-that-is-not-there.so").ready);
  CHECK(no_workbook_api().describe().find("apt-get install libarchive13 libexpat1") != std::string::npos);
}

}  // namespace kontor::tools
