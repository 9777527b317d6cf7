#include "agent/importer/draft.hpp"

#include "agent/importer/yaml_writer.hpp"
#include "agent/spec/project.hpp"
#include "agent/spec/text_tools.hpp"

#include <algorithm>
#include <cctype>
#include <tuple>

namespace kontor::agent {
namespace {

bool is_word_character(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_'; }

std::string cleaned(std::string_view text, std::string_view more, char stand_in, std::string_view fallback) {
  std::string out;
  for (const char c : text) {
    if (is_word_character(c) || more.find(c) != std::string_view::npos) out += c;
    else if (!out.empty() && out.back() != stand_in) out += stand_in;
  }
  while (!out.empty() && out.back() == stand_in) out.pop_back();
  if (out.size() > 60) out.resize(60);
  return out.find_first_not_of("._-") == std::string::npos ? std::string(fallback) : out;
}

std::string unique(const std::string& name, const Json& taken) {
  std::string candidate = name;
  for (int i = 2; taken.contains(candidate); ++i) candidate = name + "_" + std::to_string(i);
  return candidate;
}

std::string lower(std::string text) {
  std::transform(text.begin(), text.end(), text.begin(), [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  return text;
}

}  // namespace

std::string proper_name(std::string_view text, std::string_view fallback) { return cleaned(text, ".-", '-', fallback); }

std::string proper_id(std::string_view text, std::string_view fallback) {
  const std::string id = cleaned(text, "", '_', fallback);
  return id[0] >= '0' && id[0] <= '9' ? "n" + id : id;
}

std::string literal_text(std::string_view text) {
  std::string out;
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (text.substr(i, 2) == "${") out += '$';
    out += text[i];
  }
  return out;
}

// ---- Draft ------------------------------------------------------------------------------------------------------------

void Draft::find(const ForeignFile& file, std::size_t offset, bool is_unsupported, std::string message) {
  const Place place = file.document->source->place(offset);
  findings_.push_back({{file.name, offset}, {file.name, place.line, place.column, is_unsupported, std::move(message)}});
}

void Draft::to_set(const std::string& place, const std::string& what) {
  const std::string line = place + ": " + what;
  if (std::find(to_set_.begin(), to_set_.end(), line) == to_set_.end()) to_set_.push_back(line);
}

std::string Draft::model(std::string_view name, const std::string& was, Json more) {
  std::string& known = models_made_[std::string(name) + "\n" + was + "\n" + more.dump(-1, ' ', false, Json::error_handler_t::replace)];
  if (!known.empty()) return known;
  const std::string id = unique(proper_name(name, "model"), models_);
  Json entry{{"path", "models/SET-THIS-MODEL.gguf"}};
  entry.update(more);
  models_[id] = std::move(entry);
  to_set("models." + id + ".path", "a model of the R1 family" + (was.empty() ? std::string() : " in place of " + shown_text(was)) + ", or `endpoint:` with `model:`");
  return known = id;
}

std::string Draft::endpoint(std::string_view name, const std::string& url, const std::string& model, const std::string& key_variable, Json more) {
  const std::string id = unique(proper_name(name, "model"), models_);
  Json entry{{"endpoint", url}, {"model", model}};
  if (!key_variable.empty()) entry["api_key"] = "secret:" + secret_name(key_variable);
  entry.update(more);
  models_[id] = std::move(entry);
  return id;
}

std::string Draft::group(std::string_view name, Json entry) {
  for (const auto& [known, same] : tools_.items()) {
    if (same == entry) return known;
  }
  const std::string id = unique(proper_id(name, "tools"), tools_);
  tools_[id] = std::move(entry);
  return id;
}

std::string Draft::secret_name(const std::string& variable) {
  const auto known = variables_.find(variable);
  if (known != variables_.end()) return known->second;
  const std::string name = unique(proper_id(lower(variable), "secret"), secrets_);
  secrets_[name] = Json{{"from", "env:" + variable}};
  variables_[variable] = name;
  to_set("secrets." + name, "set the environment variable " + variable + ", or say another source");
  return name;
}

std::string Draft::secret(const std::string& variable) { return "{{secret:" + secret_name(variable) + "}}"; }

void Draft::allow(const std::string& variable, const std::string& group) {
  Json& allowed = secrets_[secret_name(variable)]["allow_tools"];
  if (!allowed.is_array()) allowed = Json::array();
  if (std::find(allowed.begin(), allowed.end(), Json(group + ".*")) == allowed.end()) allowed.push_back(group + ".*");
}

void Draft::approve(const std::string& tool) {
  if (std::find(approved_.begin(), approved_.end(), Json(tool)) != approved_.end()) return;
  approved_.push_back(tool);
  to_set("policy.allow", "these calls do not ask, as the file says; strike out what should");
}

std::string Draft::input(std::string_view name, Json entry) {
  const std::string id = proper_id(name, "input");
  if (!inputs.contains(id)) inputs[id] = std::move(entry);
  return id;
}

Imported Draft::finish(const std::string& from) {
  std::stable_sort(findings_.begin(), findings_.end(), [](const auto& a, const auto& b) { return a.first < b.first; });
  Imported result;
  for (auto& finding : findings_) result.findings.push_back(std::move(finding.second));
  result.to_set = std::move(to_set_);
  result.files = std::move(files);

  const auto comment = [](const std::string& text) { return "# " + shown_text(text, 300) + "\n"; };
  std::string head = comment("Made by `kontor import` from " + from + ".");
  if (!result.to_set.empty()) head += "# Set before the first run:\n";
  for (const auto& line : result.to_set) head += comment("  " + line);
  // "a.yaml, line 7" where there is more than one file.
  const bool several = std::any_of(result.findings.begin(), result.findings.end(), [&](const auto& finding) { return finding.file != result.findings.front().file; });
  for (const bool unsupported : {true, false}) {
    bool first = true;
    for (const auto& finding : result.findings) {
      if (finding.unsupported != unsupported) continue;
      if (first) head += unsupported ? "# Not supported, the agent works differently without it:\n" : "# Left out:\n";
      first = false;
      head += comment("  " + (several ? finding.file.substr(finding.file.rfind('/') + 1) + ", " : "") + "line " + std::to_string(finding.line) + ": " + finding.message);
    }
  }

  Json document{{"kontor", 1}, {"name", name}};
  if (!description.empty()) document["description"] = description;
  Json policy = Json::object();
  if (!approved_.empty()) policy["allow"] = std::move(approved_);
  for (auto& [key, section] : {std::pair<const char*, Json*>("inputs", &inputs), {"secrets", &secrets_}, {"models", &models_}, {"tools", &tools_}, {"policy", &policy}, {"agents", &agents}, {"workflow", &workflow}}) {
    if (!section->empty()) document[key] = std::move(*section);
  }
  result.text = head + yaml_text(document);
  return result;
}

// ---- Fields -----------------------------------------------------------------------------------------------------------

Fields::Fields(Draft& draft, const ForeignFile& file, const Yaml& mapping, std::string place) : draft_(draft), file_(file), mapping_(mapping), place_(std::move(place)) {}

std::size_t Fields::offset_of(std::string_view key) const {
  for (const auto& entry : mapping_.entries()) {
    if (entry.key.is_scalar() && entry.key.text() == key) return entry.key.offset();
  }
  return mapping_.offset();
}

Yaml Fields::take(std::string_view key) {
  taken_.emplace(key);
  const Yaml value = mapping_[key];
  return value && !value.is_null() ? value : Yaml();
}

std::optional<std::string> Fields::text(std::string_view key) {
  const Yaml value = take(key);
  if (!value) return std::nullopt;
  if (value.is_scalar()) return std::string(value.text());
  draft_.unsupported(file_, value.offset(), "'" + std::string(key) + "' of " + place_ + " is not a text");
  return std::nullopt;
}

std::optional<bool> Fields::flag(std::string_view key) {
  const Yaml value = take(key);
  if (!value) return std::nullopt;
  if (value.type() == Yaml::Type::boolean) return to_json(value) == Json(true);
  draft_.unsupported(file_, value.offset(), "'" + std::string(key) + "' of " + place_ + " is not true or false");
  return std::nullopt;
}

std::optional<double> Fields::number(std::string_view key) {
  const Yaml value = take(key);
  if (!value) return std::nullopt;
  const Json json = to_json(value);
  if (json.is_number()) return json.get<double>();
  draft_.unsupported(file_, value.offset(), "'" + std::string(key) + "' of " + place_ + " is not a number");
  return std::nullopt;
}

std::optional<std::int64_t> Fields::whole(std::string_view key) {
  const Yaml value = take(key);
  if (!value) return std::nullopt;
  const Json json = to_json(value);
  if (json.is_number_integer()) return json.get<std::int64_t>();
  draft_.unsupported(file_, value.offset(), "'" + std::string(key) + "' of " + place_ + " is not a whole number");
  return std::nullopt;
}

std::vector<Yaml> Fields::texts(std::string_view key) {
  const Yaml value = take(key);
  if (!value) return {};
  if (!value.is_sequence()) {
    draft_.unsupported(file_, value.offset(), "'" + std::string(key) + "' of " + place_ + " is not a list");
    return {};
  }
  std::vector<Yaml> list;
  for (const auto& item : value.items()) {
    if (item.is_scalar() && !item.is_null()) list.push_back(item);
    else draft_.unsupported(file_, item.offset(), "an entry of '" + std::string(key) + "' of " + place_ + " is not a text");
  }
  return list;
}

std::vector<Yaml::Entry> Fields::entries(std::string_view key) {
  const Yaml value = take(key);
  if (!value) return {};
  if (value.is_mapping()) return value.entries();
  draft_.unsupported(file_, value.offset(), "'" + std::string(key) + "' of " + place_ + " is not a mapping");
  return {};
}

void Fields::leave_out(std::string_view key, const std::string& why) {
  if (take(key)) draft_.left_out(file_, offset_of(key), "'" + std::string(key) + "' of " + place_ + ": " + why);
}

void Fields::refuse(std::string_view key, const std::string& why) {
  if (take(key)) draft_.unsupported(file_, offset_of(key), "'" + std::string(key) + "' of " + place_ + ": " + why);
}

void Fields::finish() {
  std::set<std::string, std::less<>> seen;
  for (const auto& entry : mapping_.entries()) {
    if (!entry.key.is_scalar()) continue;
    const std::string key(entry.key.text());
    if (!seen.insert(key).second) draft_.unsupported(file_, entry.key.offset(), "'" + shown_text(key) + "' stands twice in " + place_);
    else if (!taken_.contains(key)) draft_.unsupported(file_, entry.key.offset(), "'" + shown_text(key) + "' of " + place_ + " is not known");
  }
}

}  // namespace kontor::agent
