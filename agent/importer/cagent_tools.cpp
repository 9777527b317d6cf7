#include "agent/importer/cagent_tools.hpp"

#include "agent/importer/foreign_settings.hpp"
#include "agent/importer/placeholders.hpp"
#include "agent/spec/formats.hpp"
#include "agent/spec/project.hpp"
#include "agent/spec/text_tools.hpp"

#include <algorithm>
#include <optional>
#include <set>

namespace kontor::agent {
namespace {

/// "a${x}b" taken apart: the only placeholder of a part of an address. `name` is "" when the part is a fixed text.
struct Part {
  std::string name;
  bool is_whole = false;  ///< Nothing stands beside the placeholder.
  bool is_odd = false;    ///< More than one, or not a name.
};

Part part_of(std::string_view text) {
  const auto open = text.find("${");
  if (open == std::string_view::npos) return {};
  const auto close = text.find('}', open);
  if (close == std::string_view::npos || text.find("${", open + 2) != std::string_view::npos) return {{}, false, true};
  Part part{std::string(text.substr(open + 2, close - open - 2)), open == 0 && close + 1 == text.size(), false};
  part.is_odd = part.name.empty() || proper_id(part.name, "") != part.name;
  return part;
}

/// The address of a request as OpenAPI describes it.
class Request {
 public:
  Request(Draft& draft, const ForeignFile& file, const Json& arguments, const std::set<std::string>& required) : draft_(draft), file_(file), arguments_(arguments), required_(required) {}

  bool read(const Yaml& endpoint, bool in_address) {
    const std::string url(endpoint.text());
    const auto wrong = [&](const std::string& why) {
      draft_.unsupported(file_, endpoint.offset(), "'endpoint' " + why);
      return false;
    };
    const auto scheme = url.find("://");
    const auto path_at = scheme == std::string::npos ? scheme : url.find_first_of("/?#", scheme + 3);
    server_ = url.substr(0, path_at);
    if (const auto bad = check_url(server_)) return wrong("has no fixed host: " + bad.message);
    if (holds_password(server_)) return wrong("holds a password; put it into headers");
    if (url.find('#') != std::string::npos) return wrong("has a fragment, which is never sent");
    if (!in_address && url.find("${") != std::string::npos) return wrong("of a POST request has placeholders, which cagent does not fill in");
    const std::string rest = path_at == std::string::npos ? "/" : url.substr(path_at);
    const auto query = rest.find('?');
    for (const std::string_view segment : split(rest.substr(0, query), '/')) {
      if (segment.empty()) continue;
      const Part part = part_of(segment);
      if (part.is_odd || (!part.name.empty() && !part.is_whole)) return wrong("has a placeholder that is not a whole part of the path");
      if (part.name.empty() && segment.find_first_of("{}") != std::string_view::npos) return wrong("has braces in its path");
      path_ += "/" + (part.name.empty() ? std::string(segment) : "{" + part.name + "}");
      if (!part.name.empty() && !parameter(part.name, part.name, "path")) return wrong("uses '" + shown_text(part.name) + "', which is not in 'args'");
    }
    if (path_.empty() || rest.substr(0, query).ends_with('/')) path_ += "/";
    if (query == std::string::npos) return true;
    for (const std::string_view pair : split(rest.substr(query + 1), '&')) {
      const std::string key(pair.substr(0, pair.find('=')));
      const std::string_view value = pair.size() > key.size() ? pair.substr(key.size() + 1) : std::string_view{};
      const Part part = part_of(value);
      if (key.empty() || key.find_first_of("%+${}") != std::string::npos || part.is_odd || (!part.name.empty() && !part.is_whole)) return wrong("has a placeholder that is not a whole value of the query");
      if (part.name.empty() && value.find_first_of("%+") != std::string_view::npos) return wrong("has encoded characters in its query");
      if (part.name.empty()) parameters_.push_back(Json{{"name", key}, {"in", "query"}, {"required", true}, {"schema", {{"type", "string"}, {"const", std::string(value)}}}});
      else if (!parameter(part.name, key, "query")) return wrong("uses '" + shown_text(part.name) + "', which is not in 'args'");
    }
    return true;
  }

  const std::string& server() const { return server_; }
  const std::string& path() const { return path_; }
  const Json& parameters() const { return parameters_; }

 private:
  static std::vector<std::string> split(const std::string& text, char separator) {
    std::vector<std::string> parts;
    for (std::size_t begin = 0; begin <= text.size();) {
      const auto end = std::min(text.find(separator, begin), text.size());
      parts.push_back(text.substr(begin, end - begin));
      begin = end + 1;
    }
    return parts;
  }

  bool parameter(const std::string& argument, const std::string& name, const char* place) {
    const auto known = arguments_.find(argument);
    if (known == arguments_.end()) return false;
    Json schema = *known;
    Json entry{{"name", name}, {"in", place}, {"required", std::string_view(place) == "path" || required_.contains(argument)}};
    if (schema.is_object() && schema.contains("description")) {
      entry["description"] = schema["description"];
      schema.erase("description");
    }
    entry["schema"] = std::move(schema);
    parameters_.push_back(std::move(entry));
    return true;
  }

  Draft& draft_;
  const ForeignFile& file_;
  const Json& arguments_;
  const std::set<std::string>& required_;
  std::string server_, path_;
  Json parameters_ = Json::array();
};

/// Arguments by name with their schemas; a text where none says its type.
Json arguments_of(Fields& fields) {
  Json arguments = Json::object();
  for (const auto& entry : fields.entries("args")) {
    Json schema = entry.value.is_mapping() ? to_json(entry.value) : Json::object();
    if (!schema.contains("type")) schema["type"] = "string";
    arguments[std::string(entry.key.text())] = std::move(schema);
  }
  return arguments;
}

/// One more file beside the agent file; another of the same name and text is the same file. Its path.
std::string add_file(Draft& draft, const std::string& stem, const std::string& ending, const std::string& text) {
  for (int i = 1;; ++i) {
    const std::string path = stem + (i == 1 ? "" : "_" + std::to_string(i)) + ending;
    const auto same = std::find_if(draft.files.begin(), draft.files.end(), [&](const auto& file) { return file.path == path; });
    if (same != draft.files.end() && same->text != text) continue;
    if (same == draft.files.end()) draft.files.push_back({path, text});
    return path;
  }
}

std::string one_line(std::string text) {
  std::replace_if(text.begin(), text.end(), [](char c) { return c == '\n' || c == '\r' || c == '\t'; }, ' ');
  while (text.ends_with(' ')) text.pop_back();
  return text;
}

}  // namespace

CagentTools cagent_api(Draft& draft, const ForeignFile& file, const Yaml& config) {
  Fields fields(draft, file, config, "api_config");
  const std::string name = fields.text("name").value_or(""), method = fields.text("method").value_or("GET"), description = fields.text("instruction").value_or("");
  fields.take("output_schema");  // describes the answer to other programs; the answer itself is what the agent sees
  const Json arguments = arguments_of(fields);
  std::set<std::string> required;
  for (const auto& argument : fields.texts("required")) required.emplace(argument.text());
  auto headers = fields.entries("headers");
  std::erase_if(headers, [](const Yaml::Entry& header) { return variable_name(header.key.text()) == "CONTENT_TYPE"; });  // the document says it
  const Yaml endpoint = fields.take("endpoint");
  fields.finish();
  const auto wrong = [&](std::size_t offset, const std::string& why) {
    draft.unsupported(file, offset, why);
    return CagentTools{};
  };
  if (name.empty()) return wrong(config.offset(), "the toolset 'api' has no name");
  if (method != "GET" && method != "POST") return wrong(fields.offset_of("method"), "the method '" + shown_text(method) + "' of '" + shown_text(name) + "' is neither GET nor POST");
  if (!endpoint || !endpoint.is_scalar()) return wrong(config.offset(), "the toolset 'api' of '" + shown_text(name) + "' has no endpoint");
  Request request(draft, file, arguments, required);
  if (!request.read(endpoint, method == "GET")) return {};

  Json operation{{"operationId", proper_id(name, "call")}};
  if (!description.empty()) operation["description"] = description;
  if (!request.parameters().empty()) operation["parameters"] = request.parameters();
  if (method == "POST") {
    Json schema{{"type", "object"}, {"properties", arguments}, {"required", Json::array()}};
    for (const auto& argument : required) schema["required"].push_back(argument);
    operation["requestBody"] = Json{{"required", true}, {"content", {{"application/json", {{"schema", std::move(schema)}}}}}};
  }
  operation["responses"] = Json{{"default", {{"description", "The answer."}}}};
  const Json document{{"openapi", "3.1.0"}, {"info", {{"title", name}, {"version", "1"}}}, {"servers", Json::array({Json{{"url", request.server()}}})},
                      {"paths", {{request.path(), {{method == "GET" ? "get" : "post", std::move(operation)}}}}}};
  const std::string path = add_file(draft, "apis/" + proper_name(name, "api"), ".json", document.dump(2, ' ', false, Json::error_handler_t::replace) + "\n");
  const std::string server = request.server();
  Json group{{"use", "openapi"}, {"document", path}, {"hosts", Json::array({server.substr(server.find("://") + 3)})}};
  if (server.starts_with("http://")) group["plain"] = true;
  std::set<std::string> variables;
  if (Json settings = foreign_settings(draft, file, name, name + "_", headers, variables); !settings.empty()) group["config"] = std::move(settings);
  const std::string id = draft.group(name, std::move(group));
  for (const auto& variable : variables) draft.allow(variable, id);
  return {{id + ".*"}, {}};
}

CagentTools cagent_scripts(Draft& draft, const ForeignFile& file, const std::vector<Yaml::Entry>& commands) {
  CagentTools tools;
  std::string shell;
  for (const auto& entry : commands) {
    const std::string name(entry.key.text());
    if (!entry.value.is_mapping()) {
      draft.unsupported(file, entry.key.offset(), "the script '" + shown_text(name) + "' is not a mapping");
      continue;
    }
    Fields fields(draft, file, entry.value, "the script '" + shown_text(name) + "'");
    const std::string command = fields.text("cmd").value_or(""), description = fields.text("description").value_or("");
    const Json arguments = arguments_of(fields);
    fields.take("required");  // a value that is not given is empty, there as here
    fields.refuse("env", "write the variables into the script, and secrets into the `environment` of the shell group");
    fields.refuse("working_dir", "write `cd` into the script");
    fields.finish();
    if (command.empty()) {
      draft.unsupported(file, entry.key.offset(), "the script '" + shown_text(name) + "' has no command");
      continue;
    }
    std::string head = "#!/bin/sh\n# " + one_line(description.empty() ? name : description) + "\n", words = "\"sh\", ", meanings;
    int position = 0;
    bool good = true;
    for (const auto& [argument, schema] : arguments.items()) {
      if (proper_id(argument, "") != argument) {
        draft.unsupported(file, entry.key.offset(), "the argument '" + shown_text(argument) + "' of the script '" + shown_text(name) + "' is no name of a variable");
        good = false;
        break;
      }
      ++position;
      head += argument + "=${" + std::to_string(position) + "-}\n";
      meanings += (position == 1 ? " " : ", ") + argument + (schema.contains("description") && schema["description"].is_string() ? " (" + one_line(schema["description"].get<std::string>()) + ")" : "");
    }
    if (!good) continue;
    if (position > 0) {
      head += "export";
      for (const auto& [argument, schema] : arguments.items()) head += " " + argument;
      head += "\n";
    }
    const std::string path = add_file(draft, "scripts/" + proper_name(name, "script"), ".sh", head + command + (command.ends_with('\n') ? "" : "\n"));
    if (shell.empty()) shell = draft.group("shell", Json{{"use", "builtin.shell"}, {"commands", {"sh"}}, {"root", "."}, {"write", "."}});
    tools.instruction += (tools.instruction.empty() ? "" : "\n") + std::string("To use ") + name + (description.empty() ? "" : " (" + one_line(description) + ")") + ", call " + shell + ".run with argv [" + words + "\"" + path + "\"]" +
                         (position == 0 ? "." : ", followed by one word each for" + meanings + ".");
  }
  if (!shell.empty()) {
    tools.globs.push_back(shell + ".run");
    draft.to_set("tools." + shell, "it may run anything through `sh` in this folder, without network (`network: true` where a script needs it); every call asks");
  }
  return tools;
}

CagentTools cagent_documents(Draft& draft, const ForeignFile& file, const Yaml::Entry& source) {
  const std::string name(source.key.text());
  if (!source.value.is_mapping()) {
    draft.unsupported(file, source.key.offset(), "the documents '" + shown_text(name) + "' are not a mapping");
    return {};
  }
  Fields fields(draft, file, source.value, "the documents '" + shown_text(name) + "'");
  auto documents = fields.texts("docs");
  std::string description;
  if (const Yaml tool = fields.take("tool"); tool && tool.is_mapping()) {
    Fields words(draft, file, tool, "the tool of '" + shown_text(name) + "'");
    description = words.text("description").value_or(words.text("instruction").value_or(""));
    for (const char* key : {"name", "instruction"}) words.take(key);
    words.finish();
  }
  if (const Yaml strategies = fields.take("strategies"); strategies && strategies.is_sequence()) {
    for (const auto& strategy : strategies.items()) {
      const Yaml more = strategy.is_mapping() ? strategy["docs"] : Yaml();
      if (!more || !more.is_sequence()) continue;
      for (const auto& document : more.items()) documents.push_back(document);
    }
  }
  for (const char* key : {"results", "respect_vcs", "description"}) fields.take(key);  // how an index is asked; there is none here
  fields.finish();
  std::string list;
  std::set<std::string> seen;
  for (const auto& document : documents) {
    const std::string path(document.is_scalar() ? document.text() : std::string_view{});
    if (check_path_text(path) || path[0] == '/' || path[0] == '~' || has_variables(path) || !is_inside(resolved_path("/x", path), "/x")) {
      draft.unsupported(file, document.offset(), "a document of '" + shown_text(name) + "' lies elsewhere; put it into the folder of the agent file");
      continue;
    }
    if (seen.insert(path).second) list += (list.empty() ? "" : ", ") + path;
  }
  if (list.empty()) {
    draft.unsupported(file, source.key.offset(), "the documents '" + shown_text(name) + "' have no files below the folder of the agent file");
    return {};
  }
  draft.left_out(file, source.key.offset(), "the index of '" + shown_text(name) + "': its documents are found by words (text.search) and read whole; facts to be found by meaning are kept with `kontor memory add`");
  const std::string files = draft.group("files", Json{{"use", "builtin.files"}, {"root", "."}}), text = draft.group("text", Json{{"use", "builtin.text"}, {"root", "."}});
  return {{files + ".list", files + ".read", text + ".search"},
          "Documents of " + name + (description.empty() ? "" : " (" + one_line(description) + ")") + ": " + list + ". Find what they say with " + files + ".list, " + text + ".search and " + files + ".read."};
}

}  // namespace kontor::agent
