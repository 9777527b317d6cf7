// builtin.text: search in texts, compare them, and get the text out of PDF files.

#include "tools/builtin/child.hpp"
#include "tools/builtin/confined.hpp"
#include "tools/builtin/function_tool.hpp"
#include "tools/builtin/groups.hpp"
#include "tools/builtin/line_diff.hpp"
#include "tools/pattern.hpp"

#include <nlohmann/json.hpp>
#include <re2/re2.h>

#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>

namespace kontor::tools {
namespace {

constexpr std::size_t kTextMax = 16u << 20;
constexpr std::size_t kPdfMax = 256u << 20;
constexpr std::size_t kLineShown = 400;  // bytes of a line in a result

struct Sources {
  std::vector<Root> roots;
  std::vector<std::string> hidden;
  std::string pdftotext;  ///< "" where it is not installed.
  ChildLimits limits;
};

ToolSpec search_spec(const std::string& group) {
  ToolSpec spec;
  spec.name = group + ".search";
  spec.description = "Finds the lines of a text or of a text file that hold a word or match a pattern, with their numbers.";
  spec.parameters = schema(R"({"type":"object","properties":{
    "text":{"type":"string","description":"The text; give either text or path"},
    "path":{"type":"string","description":"A UTF-8 text file"},
    "pattern":{"type":"string","minLength":1,"maxLength":4096,"description":"What to look for"},
    "regex":{"type":"boolean","description":"The pattern is a regular expression without look-around"},
    "ignore_case":{"type":"boolean"},
    "context":{"type":"integer","minimum":0,"maximum":20,"description":"Lines shown before and behind each match"},
    "limit":{"type":"integer","minimum":1,"maximum":1000,"description":"Matches shown; 50 when not given"}},
    "required":["pattern"],"additionalProperties":false})");
  spec.result = schema(R"({"type":"object","properties":{"count":{"type":"integer"},"matches":{"type":"array","items":{"type":"object","properties":{
    "line":{"type":"integer"},"column":{"type":"integer"},"text":{"type":"string"},"before":{"type":"array"},"after":{"type":"array"}},
    "required":["line","column","text"]}}},"required":["count","matches"]})");
  spec.untrusted_output = true;
  return spec;
}

ToolSpec diff_spec(const std::string& group) {
  ToolSpec spec;
  spec.name = group + ".diff";
  spec.description = "Compares two texts line by line and shows the differences as diff -u does.";
  spec.parameters = schema(R"({"type":"object","properties":{
    "before":{"type":"string"},"after":{"type":"string"},
    "context":{"type":"integer","minimum":0,"maximum":20,"description":"Unchanged lines around each difference; 3 when not given"}},
    "required":["before","after"],"additionalProperties":false})");
  spec.result = schema(R"({"type":"object","properties":{"equal":{"type":"boolean"},"added":{"type":"integer"},"removed":{"type":"integer"},
    "unified":{"type":"string"}},"required":["equal","added","removed","unified"]})");
  spec.untrusted_output = true;
  return spec;
}

ToolSpec extract_spec(const std::string& group) {
  ToolSpec spec;
  spec.name = group + ".extract";
  spec.description = "Gets the text out of a PDF or text file, page by page.";
  spec.parameters = schema(R"({"type":"object","properties":{
    "path":{"type":"string","description":"A .pdf file, or a UTF-8 text file"},
    "first_page":{"type":"integer","minimum":1,"maximum":100000},"last_page":{"type":"integer","minimum":1,"maximum":100000},
    "layout":{"type":"boolean","description":"Keep columns and tables where they stand on the page"}},
    "required":["path"],"additionalProperties":false})");
  spec.result = schema(R"({"type":"object","properties":{"path":{"type":"string"},"pages":{"type":"array","items":{"type":"object","properties":{
    "page":{"type":"integer"},"text":{"type":"string"}},"required":["page","text"]}},"text":{"type":"string"}},"required":["path","pages","text"]})");
  spec.untrusted_output = true;
  spec.timeout_ms = 120'000;
  return spec;
}

Result<std::string> read_text(const Sources& sources, const std::string& path) {
  auto file = open_for_reading(sources.roots, sources.hidden, path);
  if (!file) return file.error();
  auto text = read_all(file->fd(), path, kTextMax);
  if (!text) return text.error();
  if (const auto bad = invalid_utf8(*text)) return fail(Errc::malformed, "'" + path + "' is not UTF-8 text: byte " + std::to_string(*bad) + " (counted from 0) does not fit", "encoding");
  return text;
}

/// A line, or the part of a long one around byte `at`, cut at character boundaries.
std::string shown(std::string_view line, std::size_t at = 0) {
  if (line.size() <= kLineShown) return std::string(line);
  const auto boundary = [&](std::size_t byte) {
    while (byte > 0 && byte < line.size() && (static_cast<unsigned char>(line[byte]) & 0xc0) == 0x80) --byte;
    return byte;
  };
  const std::size_t begin = at < kLineShown / 2 ? 0 : boundary(std::min(at - kLineShown / 4, line.size() - kLineShown));
  const std::size_t end = boundary(begin + kLineShown);
  return (begin > 0 ? "... " : "") + std::string(line.substr(begin, end - begin)) + (end < line.size() ? " ..." : "");
}

std::size_t column_of(std::string_view line, std::size_t byte) {
  return 1 + static_cast<std::size_t>(std::count_if(line.begin(), line.begin() + static_cast<std::ptrdiff_t>(byte), [](char c) { return (static_cast<unsigned char>(c) & 0xc0) != 0x80; }));
}

ToolResult search(const Sources& sources, const Json& arguments, const CallContext& context) {
  const bool has_text = arguments.contains("text");
  if (has_text == arguments.contains("path")) return ToolResult::error("invalid_arguments", "give either 'text' or 'path'");
  std::string text;
  if (has_text) {
    text = arguments["text"].get<std::string>();
  } else {
    auto read = read_text(sources, arguments["path"].get<std::string>());
    if (!read) return error_result(read.error());
    text = std::move(*read);
  }
  const auto flag = [&](const char* name) { return arguments.contains(name) && arguments[name].get<bool>(); };
  const auto number = [&](const char* name, std::size_t fallback) { return arguments.contains(name) ? static_cast<std::size_t>(arguments[name].get<double>()) : fallback; };
  std::string pattern = arguments["pattern"].get<std::string>();
  if (pattern.find('\n') != std::string::npos) return ToolResult::error("invalid_arguments", "argument 'pattern': lines are searched one by one, so a line break in it would never be found");
  if (flag("regex")) {
    // Read as ECMA-262 first, so that what RE2 alone understands is refused like everywhere else.
    if (auto checked = compile_pattern(pattern); !checked) return ToolResult::error("invalid_arguments", "argument 'pattern': " + checked.error().message);
  } else {
    pattern = re2::RE2::QuoteMeta(pattern);
  }
  re2::RE2::Options options;
  options.set_log_errors(false);
  options.set_case_sensitive(!flag("ignore_case"));
  options.set_max_mem(16 << 20);
  const re2::RE2 expression(pattern, options);
  if (!expression.ok()) return ToolResult::error("invalid_arguments", "argument 'pattern': " + expression.error());

  std::vector<std::string_view> lines = lines_of(text);
  for (auto& line : lines) {
    if (line.ends_with('\r')) line.remove_suffix(1);
  }
  const std::size_t limit = number("limit", 50), around = number("context", 0);
  Json matches = Json::array();
  std::size_t count = 0;
  for (std::size_t i = 0; i < lines.size(); ++i) {
    if (i % 4096 == 0 && context.stop.stop_requested()) return ToolResult::error("cancelled", "stopped while searching");
    re2::StringPiece found;
    if (!expression.Match(re2::StringPiece(lines[i].data(), lines[i].size()), 0, lines[i].size(), re2::RE2::UNANCHORED, &found, 1)) continue;
    if (++count > limit) continue;
    const auto byte = static_cast<std::size_t>(found.data() - lines[i].data());
    Json match{{"line", i + 1}, {"column", column_of(lines[i], byte)}, {"text", shown(lines[i], byte)}};
    if (around > 0) {
      Json before = Json::array(), after = Json::array();
      for (std::size_t k = i - std::min(i, around); k < i; ++k) before.push_back(shown(lines[k]));
      for (std::size_t k = i + 1; k < std::min(lines.size(), i + 1 + around); ++k) after.push_back(shown(lines[k]));
      match["before"] = std::move(before);
      match["after"] = std::move(after);
    }
    matches.push_back(std::move(match));
  }
  return ToolResult::ok(Json{{"count", count}, {"matches", std::move(matches)}});
}

ToolResult diff(const Json& arguments) {
  const auto before = arguments["before"].get<std::string>(), after = arguments["after"].get<std::string>();
  if (before.size() > kTextMax || after.size() > kTextMax) return ToolResult::error("limit", "texts of more than 16 MiB are not compared");
  const std::size_t context = arguments.contains("context") ? static_cast<std::size_t>(arguments["context"].get<double>()) : 3;
  LineDiff result = diff_lines(before, after, context);
  return ToolResult::ok(Json{{"equal", before == after}, {"added", result.added}, {"removed", result.removed}, {"unified", std::move(result.unified)}});
}

Json pages_of(std::string_view text, std::int64_t first) {
  Json pages = Json::array();
  for (std::size_t at = 0; at < text.size();) {  // each page ends in a form feed
    const std::size_t end = std::min(text.find('\f', at), text.size());
    pages.push_back({{"page", first++}, {"text", text.substr(at, end - at)}});
    at = end + 1;
  }
  return pages;
}

ToolResult extract(const Sources& sources, const Json& arguments, const CallContext& context) {
  const auto path = arguments["path"].get<std::string>();
  const auto number = [&](const char* name, std::int64_t fallback) { return arguments.contains(name) ? static_cast<std::int64_t>(arguments[name].get<double>()) : fallback; };
  const std::int64_t first = number("first_page", 1), last = number("last_page", 0);
  if (last != 0 && last < first) return ToolResult::error("invalid_arguments", "argument 'last_page': " + std::to_string(first) + " or more was expected");
  auto file = open_for_reading(sources.roots, sources.hidden, path);
  if (!file) return error_result(file.error());
  struct stat info{};
  if (fstat(file->fd(), &info) != 0 || !S_ISREG(info.st_mode)) return ToolResult::error("not_a_file", "'" + path + "' is not a file");
  char magic[5] = {};
  const bool pdf = pread(file->fd(), magic, 5, 0) == 5 && std::string_view(magic, 5) == "%PDF-";
  if (!pdf) {
    if (path.ends_with(".pdf")) return ToolResult::error("encoding", "'" + path + "' is not a PDF file, though its name says so");
    auto text = read_text(sources, path);
    if (!text) return error_result(text.error());
    Json pages = pages_of(*text, 1);
    const auto count = static_cast<std::int64_t>(pages.size());
    if (first == 1 && (last == 0 || last >= count)) return ToolResult::ok(Json{{"path", path}, {"pages", std::move(pages)}, {"text", std::move(*text)}});
    if (first > count) return ToolResult::error("invalid_arguments", "argument 'first_page': '" + path + "' has " + std::to_string(count) + (count == 1 ? " page" : " pages"));
    Json chosen = Json::array();
    std::string all;
    for (std::int64_t page = first; page <= (last == 0 ? count : std::min(last, count)); ++page) {
      chosen.push_back(pages[static_cast<std::size_t>(page - 1)]);
      all += (all.empty() ? "" : "\f") + chosen.back()["text"].get<std::string>();
    }
    return ToolResult::ok(Json{{"path", path}, {"pages", std::move(chosen)}, {"text", std::move(all)}});
  }
  if (static_cast<std::size_t>(info.st_size) > kPdfMax) return ToolResult::error("limit", "'" + path + "' has more than 256 MiB");
  if (sources.pdftotext.empty()) return ToolResult::error("unsupported", "PDF files need the program pdftotext, which is not installed (Debian: apt-get install poppler-utils)");
  ChildSetup setup;
  setup.program = sources.pdftotext;
  setup.arguments = {"-enc", "UTF-8", "-f", std::to_string(first)};
  if (last != 0) setup.arguments.insert(setup.arguments.end(), {"-l", std::to_string(last)});
  if (arguments.contains("layout") && arguments["layout"].get<bool>()) setup.arguments.push_back("-layout");
  setup.arguments.insert(setup.arguments.end(), {"-", "-"});
  setup.folder = "/";
  setup.environment = {{"LANG", "C.UTF-8"}, {"PATH", "/usr/bin"}};
  setup.input = file->fd();
  setup.limits = sources.limits;
  auto result = run_child(setup, context.stop);
  if (!result) return error_result(result.error());
  if (result->exit_code != 0) {
    std::string reason = result->err.substr(0, 300);
    while (!reason.empty() && reason.back() == '\n') reason.pop_back();
    if (invalid_utf8(reason)) reason.clear();
    return ToolResult::error("malformed", "pdftotext could not read '" + path + "' (exit code " + std::to_string(result->exit_code) + ")" + (reason.empty() ? "" : ": " + reason));
  }
  if (result->cut) return ToolResult::error("limit", "'" + path + "' holds more than " + std::to_string(sources.limits.output_bytes) + " bytes of text; ask for fewer pages");
  if (invalid_utf8(result->out)) return ToolResult::error("encoding", "pdftotext wrote text that is not UTF-8");
  Json pages = pages_of(result->out, first);
  std::replace(result->out.begin(), result->out.end(), '\f', '\n');
  return ToolResult::ok(Json{{"path", path}, {"pages", std::move(pages)}, {"text", std::move(result->out)}});
}

}  // namespace

std::vector<ToolSpec> describe_text(const std::string& group) { return {search_spec(group), diff_spec(group), extract_spec(group)}; }

Result<Tools> make_text(const std::string& group, const Json& settings, const BuiltinContext& context) {
  if (auto checked = check_settings(settings, group, {"root", "timeout_ms", "max_output", "pdftotext"}); !checked) return checked.error();
  const auto root = text_setting(settings, group, "root", "."), program = text_setting(settings, group, "pdftotext", find_program("pdftotext"));
  if (!root || !program) return root ? program.error() : root.error();
  const auto timeout = number_setting(settings, group, "timeout_ms", 60'000, 600'000), output = number_setting(settings, group, "max_output", 4 << 20, 64 << 20);
  if (!timeout || !output) return timeout ? output.error() : timeout.error();
  auto sources = std::make_shared<Sources>();
  sources->roots.push_back(make_root(context.folder, *root));
  for (const auto& extra : context.read_roots) sources->roots.push_back(make_root(context.folder, extra));
  sources->hidden = context.hidden;
  sources->pdftotext = *program;
  sources->limits.timeout_ms = *timeout;
  sources->limits.output_bytes = static_cast<std::size_t>(*output);
  Tools tools;
  tools.push_back(std::make_shared<FunctionTool>(search_spec(group), [sources](const Json& arguments, const CallContext& call) { return search(*sources, arguments, call); }));
  tools.push_back(std::make_shared<FunctionTool>(diff_spec(group), [](const Json& arguments, const CallContext&) { return diff(arguments); }));
  tools.push_back(std::make_shared<FunctionTool>(extract_spec(group), [sources](const Json& arguments, const CallContext& call) { return extract(*sources, arguments, call); }));
  return tools;
}

}  // namespace kontor::tools
