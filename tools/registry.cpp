#include "tools/registry.hpp"

#include "tools/nearest.hpp"

#include <algorithm>
#include <exception>

namespace kontor::tools {
namespace {

constexpr std::size_t kNameBytesMax = 128;

bool valid_name(std::string_view name) {
  if (name.empty() || name.size() > kNameBytesMax || name.front() == '.' || name.back() == '.') return false;
  char last = 0;
  for (const char c : name) {
    const bool word = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' || c == '-';
    if (!word && (c != '.' || last == '.')) return false;
    last = c;
  }
  return true;
}

/// "/lines/0/amount" -> "lines[0].amount"
std::string argument_path(const std::string& pointer) {
  std::string path;
  std::size_t begin = 1;
  while (begin <= pointer.size() && !pointer.empty()) {
    const auto end = std::min(pointer.find('/', begin), pointer.size());
    std::string token = pointer.substr(begin, end - begin);
    for (auto at = token.find('~'); at != std::string::npos; at = token.find('~', at + 1)) {
      token.replace(at, 2, token.compare(at, 2, "~1") == 0 ? "/" : "~");
    }
    if (!token.empty() && token.size() < 10 && token.find_first_not_of("0123456789") == std::string::npos) {
      path += "[" + token + "]";
    } else {
      path += (path.empty() ? "" : ".") + token;
    }
    begin = end + 1;
  }
  return path;
}

}  // namespace

bool glob_match(std::string_view pattern, std::string_view name) {
  // Greedy with one point of return: linear for one star, at most |pattern| * |name| for many.
  std::size_t p = 0, n = 0, star = std::string_view::npos, resume = 0;
  while (n < name.size()) {
    if (p < pattern.size() && pattern[p] == '*') {
      star = p++;
      resume = n;
    } else if (p < pattern.size() && pattern[p] == name[n]) {
      ++p;
      ++n;
    } else if (star != std::string_view::npos) {
      p = star + 1;
      n = ++resume;
    } else {
      return false;
    }
  }
  while (p < pattern.size() && pattern[p] == '*') ++p;
  return p == pattern.size();
}

Result<void> Registry::add(std::shared_ptr<Tool> tool) {
  const ToolSpec& spec = tool->spec();
  if (!valid_name(spec.name)) {
    return fail(Errc::malformed, "'" + spec.name.substr(0, kNameBytesMax) +
                                     "' is not a tool name: letters, digits, '_', '-' and single dots between them",
                "tool_name");
  }
  if (tools_.contains(spec.name)) return fail(Errc::conflict, "two tools are named '" + spec.name + "'", "tool_name");
  auto parameters = Schema::compile(spec.parameters);
  if (!parameters) {
    Error error = parameters.error();
    error.message = "parameters of " + spec.name + ": " + error.message;
    return error;
  }
  tools_.emplace(spec.name, Entry{std::move(tool), std::move(*parameters)});
  return {};
}

Tool* Registry::find(std::string_view name) const {
  const auto found = tools_.find(name);
  return found == tools_.end() ? nullptr : found->second.tool.get();
}

std::vector<std::string> Registry::match(const std::vector<std::string>& globs) const {
  std::vector<std::string> found;
  for (const auto& [name, entry] : tools_) {
    if (std::any_of(globs.begin(), globs.end(), [&name = name](const auto& glob) { return glob_match(glob, name); })) found.push_back(name);
  }
  return found;
}

std::vector<std::string> Registry::names() const {
  std::vector<std::string> all;
  for (const auto& [name, entry] : tools_) all.push_back(name);
  return all;
}

std::string Registry::suggest(std::string_view name) const {
  if (std::string near = nearest(name, names()); !near.empty()) return near;
  // "read" for "files.read", "files_read" for "files.read": models drop or change the group.
  std::string found;
  for (const auto& [full, entry] : tools_) {
    std::string flat = full;
    std::replace(flat.begin(), flat.end(), '.', '_');
    if (flat != name && full.substr(full.rfind('.') + 1) != name) continue;
    if (!found.empty()) return {};
    found = full;
  }
  return found;
}

std::optional<std::string> Registry::check_arguments(std::string_view name, const Json& arguments) const {
  const auto found = tools_.find(name);
  if (found == tools_.end()) return std::nullopt;
  if (!arguments.is_object()) return "the arguments of " + found->first + " are one JSON object";
  const auto violations = found->second.parameters.validate(arguments);
  if (violations.empty()) return std::nullopt;
  std::string text;
  for (const auto& violation : violations) {
    if (!text.empty()) text += "; ";
    if (!violation.pointer.empty()) text += "argument '" + argument_path(violation.pointer) + "': ";
    text += violation.message;
  }
  return text;
}

ToolResult Registry::call(std::string_view name, const Json& arguments, const CallContext& context) const {
  const auto found = tools_.find(name);
  if (found == tools_.end()) {
    std::string message = "there is no tool '" + std::string(name.substr(0, kNameBytesMax)) + "'";
    if (const auto near = suggest(name); !near.empty()) message += " (did you mean '" + near + "'?)";
    return ToolResult::error("unknown_tool", message);
  }
  if (const auto problem = check_arguments(name, arguments)) return ToolResult::error("invalid_arguments", *problem);
  if (context.stop.stop_requested()) return ToolResult::error("cancelled", "the run was stopped before the call began");
  try {
    return found->second.tool->call(arguments, context);
  } catch (const std::exception& exception) {
    return ToolResult::error("crashed", found->first + " failed: " + exception.what());
  }
}

}  // namespace kontor::tools
