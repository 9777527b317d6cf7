// The `mcpServers` map of desktop programs and editors. It has tools and no agent, so the result has one that may call them.

#include "agent/importer/formats.hpp"
#include "agent/importer/mcp_entry.hpp"
#include "agent/spec/text_tools.hpp"
#include "agent/spec/tool_table.hpp"

namespace kontor::agent {
namespace {

/// "*" is all that the server has; other patterns are nothing that the programs know.
void approve(Draft& draft, const ForeignFile& file, const Fields& fields, const Yaml& function, McpEntry& entry) {
  const std::string name(function.text());
  if (name == "*" || is_function_name(name)) entry.approved.push_back(name);
  else draft.unsupported(file, function.offset(), "'" + shown_text(name) + "' is no name of a tool of " + fields.place());
}

void read_server(Draft& draft, const ForeignFile& file, const Yaml::Entry& server, Json& tools) {
  const std::string name(server.key.text());
  if (!server.value.is_mapping()) return draft.unsupported(file, server.key.offset(), "the server '" + shown_text(name) + "' is not an object");
  Fields fields(draft, file, server.value, "the server '" + shown_text(name) + "'");
  McpEntry entry;
  entry.name = name;
  if (const Yaml command = fields.take("command")) {
    if (command.is_sequence()) entry.command = fields.texts("command");
    else if (command.is_scalar()) entry.command.push_back(command);
    else draft.unsupported(file, command.offset(), "'command' of " + fields.place() + " is not a text");
  }
  for (const auto& argument : fields.texts("args")) entry.command.push_back(argument);
  for (const char* key : {"url", "serverUrl", "httpUrl"}) {
    const Yaml url = fields.take(key);
    if (!url) continue;
    if (url.is_scalar()) entry.url = url;
    else draft.unsupported(file, url.offset(), std::string("'") + key + "' of " + fields.place() + " is not a text");
  }
  const auto environment = fields.entries("env"), headers = fields.entries("headers");
  entry.settings = entry.url ? headers : environment;
  if (entry.url && !environment.empty()) fields.refuse("env", "a server with an address has no environment; give what it needs in headers");
  if (!entry.url && !headers.empty()) fields.refuse("headers", "a program has no headers; give what it needs in its environment");
  if (entry.url && !entry.command.empty()) return draft.unsupported(file, fields.offset_of("command"), fields.place() + " has a program and an address");
  for (const char* key : {"type", "transport", "transportType"}) {
    const auto type = fields.text(key);
    if (type && *type == "sse") return draft.unsupported(file, fields.offset_of(key), fields.place() + ": 'sse' is the transport of protocol 2024-11-05, which is not supported");
    if (type && *type != "stdio" && *type != "http" && *type != "streamable-http" && *type != "streamableHttp" && *type != "streamable_http" && *type != "command" && *type != "url")
      draft.unsupported(file, fields.offset_of(key), fields.place() + " has the unknown transport '" + shown_text(*type) + "'");
  }
  if (const Yaml cwd = fields.take("cwd")) entry.cwd = cwd;
  for (const char* key : {"description", "name", "title", "category", "icon"}) fields.leave_out(key, "text for people");
  if (const Yaml timeout = fields.take("timeout")) entry.timeout = timeout;
  for (const char* key : {"autoApprove", "alwaysAllow", "autoapprove"}) {
    for (const auto& function : fields.texts(key)) approve(draft, file, fields, function, entry);
  }
  if (fields.flag("trust").value_or(false)) entry.approved.emplace_back("*");
  const bool off = fields.flag("disabled").value_or(false) || !fields.flag("enabled").value_or(true);
  fields.finish();
  if (off) return draft.left_out(file, server.key.offset(), fields.place() + " is switched off");
  if (const auto group = add_mcp(draft, file, entry, server.key.offset())) tools.push_back(*group + ".*");
}

}  // namespace

Result<void> read_mcp_servers(Draft& draft, const ForeignFile& file) {
  Fields root(draft, file, file.root(), "the file");
  if (!root.has("mcpServers")) return fail(Errc::usage, "there is no object 'mcpServers' in it", "foreign_file", file.name + ":1:1");
  Json tools = Json::array();
  for (const auto& server : root.entries("mcpServers")) read_server(draft, file, server, tools);
  root.finish();
  draft.name = "mcp-tools";
  draft.agents["assistant"] = Json{{"model", draft.model("r1", "")}, {"role", "Assistant"}, {"instruction", "Do the task with the tools that you have."}, {"tools", tools}};
  return {};
}

}  // namespace kontor::agent
