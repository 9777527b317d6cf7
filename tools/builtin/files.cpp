// builtin.files: list, read and write files below the folders that the agent file names.

#include "base/hash.hpp"
#include "tools/builtin/confined.hpp"
#include "tools/builtin/file_writer.hpp"
#include "tools/builtin/function_tool.hpp"
#include "tools/builtin/groups.hpp"
#include "tools/registry.hpp"

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>

namespace kontor::tools {
namespace {

constexpr std::size_t kFilesMax = 10'000;
constexpr std::size_t kReadDefault = 1u << 20;
constexpr std::size_t kReadMax = 64u << 20;

struct Folders {
  std::vector<Root> read;
  std::vector<std::string> hidden;
};

ToolSpec list_spec(const std::string& group) {
  ToolSpec spec;
  spec.name = group + ".list";
  spec.description = "Lists the files of a folder, sorted by name, with size in bytes and SHA-256 of the content.";
  spec.parameters = schema(R"({"type":"object","properties":{
    "path":{"type":"string","description":"Folder, relative to the root of the files"},
    "pattern":{"type":"string","minLength":1,"description":"Only names that match; * stands for any characters, for example *.txt"}},
    "required":["path"],"additionalProperties":false})");
  spec.result = schema(R"({"type":"object","properties":{"files":{"type":"array","items":{"type":"object","properties":{
    "path":{"type":"string"},"name":{"type":"string"},"sha256":{"type":"string"},"size":{"type":"integer"}},
    "required":["path","name","sha256","size"]}}},"required":["files"]})");
  spec.untrusted_output = true;
  return spec;
}

ToolSpec read_spec(const std::string& group) {
  ToolSpec spec;
  spec.name = group + ".read";
  spec.description = "Reads a text file (UTF-8). Lines end with \\n alone and a byte order mark is left out; sha256 is that of the file as it is.";
  spec.parameters = schema(R"({"type":"object","properties":{
    "path":{"type":"string","description":"File, relative to the root of the files"},
    "max_bytes":{"type":"integer","minimum":1,"maximum":67108864,"description":"Refuse longer files; 1 MiB when not given"}},
    "required":["path"],"additionalProperties":false})");
  spec.result = schema(R"({"type":"object","properties":{"path":{"type":"string"},"text":{"type":"string"},
    "sha256":{"type":"string"}},"required":["path","text","sha256"]})");
  spec.untrusted_output = true;
  return spec;
}

ToolSpec write_spec(const std::string& group) {
  ToolSpec spec;
  spec.name = group + ".write";
  spec.description = "Writes a file: text as it is, or rows as CSV, TSV, JSON or JSON lines, chosen by the name's ending. "
                     "An existing file is replaced as a whole, or extended with append.";
  spec.parameters = schema(R"({"type":"object","properties":{
    "path":{"type":"string","description":"File, relative to the folder for results"},
    "text":{"type":"string","description":"The content; give one of text, rows and value"},
    "value":{"description":"Any value, for .json: written with indentation"},
    "rows":{"type":"array","items":{"type":"object"},"description":"Records for .csv, .tsv, .json or .jsonl"},
    "columns":{"type":"array","items":{"type":"string"},"uniqueItems":true,"description":"Columns and their order; without it, as they first appear in rows"},
    "append":{"type":"boolean","description":"Add to the end instead of replacing"}},
    "required":["path"],"additionalProperties":false})");
  spec.result = schema(R"({"type":"object","properties":{"path":{"type":"string"},"bytes":{"type":"integer"},
    "rows":{"type":"integer"},"sha256":{"type":"string"}},"required":["path","bytes","rows"]})");
  spec.effect = Effect::idempotent;
  return spec;
}

Result<std::vector<std::string>> names_in(int folder) {
  const int copy = openat(folder, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  DIR* stream = copy < 0 ? nullptr : fdopendir(copy);
  if (stream == nullptr) {
    Error error = fail_errno("list", "the folder");
    if (copy >= 0) close(copy);
    return error;
  }
  std::vector<std::string> names;
  bool many = false;
  while (const dirent* entry = readdir(stream)) {
    const std::string name = entry->d_name;
    if (name == "." || name == "..") continue;
    if (names.size() >= kFilesMax) many = true;
    else names.push_back(name);
  }
  closedir(stream);
  if (many) return fail(Errc::limit, "more than " + std::to_string(kFilesMax) + " entries in one folder", "folder_size");
  std::sort(names.begin(), names.end());
  return names;
}

/// Digest of an open file, while there is time for it.
Result<std::string> digest(int fd, const std::string& name, const CallContext& context, std::chrono::steady_clock::time_point deadline) {
  Sha256 sha256;
  std::vector<char> piece(1 << 20);
  for (;;) {
    if (context.stop.stop_requested()) return fail(Errc::cancelled, "stopped while listing", "cancelled");
    if (std::chrono::steady_clock::now() > deadline) return fail(Errc::timeout, "the time was over before '" + name + "' was read for its SHA-256; choose files by `pattern`", "timeout");
    const ssize_t got = read(fd, piece.data(), piece.size());
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return fail_errno("read", name);
    if (got == 0) return sha256.hex();
    sha256.add(std::string_view(piece.data(), static_cast<std::size_t>(got)));
  }
}

ToolResult list_files(const Folders& folders, const Json& arguments, const CallContext& context) {
  const std::string path = arguments["path"].get<std::string>();
  const std::string pattern = arguments.contains("pattern") ? arguments["pattern"].get<std::string>() : "*";
  if (pattern.find('/') != std::string::npos) return ToolResult::error("invalid_arguments", "argument 'pattern': it is compared with the names in one folder, which have no '/'; give the folder as 'path'");
  auto folder = open_for_reading(folders.read, folders.hidden, path);
  if (!folder && folder.error().kind == "no_file") return ToolResult::error("not_found", "there is no folder" + folder.error().message.substr(std::string_view("there is no file").size()));
  if (!folder) return error_result(folder.error());
  const auto deadline = std::chrono::steady_clock::now() + std::chrono::milliseconds(list_spec("").timeout_ms);
  struct stat info{};
  if (fstat(folder->fd(), &info) != 0 || !S_ISDIR(info.st_mode)) return ToolResult::error("not_a_folder", "'" + path + "' is not a folder");
  const auto names = names_in(folder->fd());
  if (!names) return error_result(names.error());
  std::string prefix = path == "." || path.empty() ? "" : path;
  while (prefix.starts_with("./")) prefix.erase(0, 2);
  if (!prefix.empty() && !prefix.ends_with('/')) prefix += '/';

  Json files = Json::array();
  for (const auto& name : *names) {
    // Hidden files, as people mean them; names that are not UTF-8 cannot be written in JSON.
    if ((name[0] == '.' && !pattern.starts_with('.')) || !glob_match(pattern, name) || invalid_utf8(name)) continue;
    auto file = open_for_reading(folders.read, folders.hidden, prefix + name);
    struct stat entry{};
    if (!file || fstat(file->fd(), &entry) != 0 || !S_ISREG(entry.st_mode)) continue;
    const auto sha256 = digest(file->fd(), name, context, deadline);
    if (!sha256) return error_result(sha256.error());
    files.push_back({{"path", prefix + name}, {"name", name}, {"sha256", *sha256}, {"size", entry.st_size}});
  }
  Json result = Json::object();
  result["files"] = std::move(files);
  return ToolResult::ok(std::move(result));
}

/// Text as models and patterns expect it, wherever the file was written.
std::string plain_lines(std::string text) {
  if (text.starts_with("\xef\xbb\xbf")) text.erase(0, 3);
  std::size_t kept = 0;
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (text[i] != '\r' || i + 1 == text.size() || text[i + 1] != '\n') text[kept++] = text[i];
  }
  text.resize(kept);
  return text;
}

ToolResult read_file(const Folders& folders, const Json& arguments, const CallContext&) {
  const std::string path = arguments["path"].get<std::string>();
  const std::size_t most = arguments.contains("max_bytes") ? static_cast<std::size_t>(arguments["max_bytes"].get<double>()) : kReadDefault;
  auto file = open_for_reading(folders.read, folders.hidden, path);
  if (!file) return error_result(file.error());
  struct stat info{};
  if (fstat(file->fd(), &info) == 0 && S_ISREG(info.st_mode) && static_cast<std::uint64_t>(info.st_size) > most)
    return ToolResult::error("limit", "'" + path + "' has " + std::to_string(info.st_size) + " bytes, more than " + std::to_string(most) + " (`max_bytes`, at most " + std::to_string(kReadMax) + ")");
  auto text = read_all(file->fd(), path, most);
  if (!text) return error_result(text.error());
  if (const auto bad = invalid_utf8(*text)) {
    return ToolResult::error("encoding", "'" + path + "' is not UTF-8 text: byte " + std::to_string(*bad) + " (counted from 0) does not fit");
  }
  Json result = Json::object();
  result["path"] = path;
  result["sha256"] = sha256_hex(*text);
  result["text"] = plain_lines(std::move(*text));
  return ToolResult::ok(std::move(result));
}

}  // namespace

std::vector<ToolSpec> describe_files(const std::string& group) { return {list_spec(group), read_spec(group), write_spec(group)}; }

Result<Tools> make_files(const std::string& group, const Json& settings, const BuiltinContext& context) {
  if (auto checked = check_settings(settings, group, {"root", "write"}); !checked) return checked.error();
  const auto root = text_setting(settings, group, "root", ".");
  if (!root) return root.error();
  const auto write = text_setting(settings, group, "write", "");
  if (!write) return write.error();

  auto folders = std::make_shared<Folders>();
  folders->read.push_back(make_root(context.folder, *root));
  // What was written can be read back: the next step of a workflow often does.
  if (!write->empty()) folders->read.push_back(make_root(context.folder, *write));
  for (const auto& extra : context.read_roots) folders->read.push_back(make_root(context.folder, extra));
  folders->hidden = context.hidden;

  std::shared_ptr<FileWriter> writer;
  if (!write->empty()) writer = std::make_shared<FileWriter>(make_root(context.folder, *write));

  Tools tools;
  tools.push_back(std::make_shared<FunctionTool>(list_spec(group), [folders](const Json& arguments, const CallContext& call) {
    return list_files(*folders, arguments, call);
  }));
  tools.push_back(std::make_shared<FunctionTool>(read_spec(group), [folders](const Json& arguments, const CallContext& call) {
    return read_file(*folders, arguments, call);
  }));
  tools.push_back(std::make_shared<FunctionTool>(write_spec(group), [writer, group](const Json& arguments, const CallContext& call) {
    if (writer != nullptr) return writer->write(arguments, call);
    return ToolResult::error("denied", "no folder for results is set; add `write: ./out` to tools." + group + " in the agent file");
  }));
  return tools;
}

}  // namespace kontor::tools
