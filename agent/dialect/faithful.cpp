#include "agent/dialect/faithful.hpp"

#include "agent/dialect/faithful_parts.hpp"

#include <charconv>
#include <cmath>

namespace kontor::agent {
namespace faithful {
namespace {

/// Shortest digits, laid out as Python's repr does: exponent form below 1e-4 and from 1e16 on.
std::string python_float(double value) {
  if (std::isnan(value)) return "NaN";
  if (std::isinf(value)) return value < 0 ? "-Infinity" : "Infinity";
  char buffer[64];
  const auto end = std::to_chars(buffer, buffer + sizeof buffer, value, std::chars_format::scientific).ptr;
  const std::string text(buffer, end);
  const std::size_t mark = text.find('e');
  const int exponent = std::stoi(text.substr(mark + 1));
  if (exponent < -4 || exponent >= 16) return text;  // "1e-05", "1.5e+16"
  const auto plain = std::to_chars(buffer, buffer + sizeof buffer, value, std::chars_format::fixed).ptr;
  std::string out(buffer, plain);
  if (out.find('.') == std::string::npos) out += ".0";
  return out;
}

void write(const Json& value, int indent, int level, std::string& out) {
  const auto line = [&](int depth) {
    out += '\n';
    out.append(static_cast<std::size_t>(indent) * depth, ' ');
  };
  if (value.is_number_float()) {
    out += python_float(value.get<double>());
  } else if (!value.is_structured()) {
    out += value.dump(-1, ' ', false, Json::error_handler_t::replace);
  } else if (value.empty()) {
    out += value.is_array() ? "[]" : "{}";
  } else {
    out += value.is_array() ? '[' : '{';
    bool first = true;
    for (const auto& [key, item] : value.items()) {
      if (!first) out += indent > 0 ? "," : ", ";
      first = false;
      if (indent > 0) line(level + 1);
      if (value.is_object()) out += Json(key).dump(-1, ' ', false, Json::error_handler_t::replace) + ": ";
      write(item, indent, level + 1, out);
    }
    if (indent > 0) line(level);
    out += value.is_array() ? ']' : '}';
  }
}

}  // namespace

bool is_truthy(const Json* value) {
  if (!value || value->is_null()) return false;
  if (value->is_boolean()) return value->get<bool>();
  if (value->is_number()) return value->get<double>() != 0;
  if (value->is_string()) return !value->get_ref<const std::string&>().empty();
  return !value->empty();
}

std::string to_json(const Json& value, int indent) {
  std::string out;
  write(value, indent, 0, out);
  return out;
}

std::string_view behind_last_think(std::string_view text) {
  const std::size_t at = text.rfind(kThinkEnd);
  return at == std::string_view::npos ? text : text.substr(at + kThinkEnd.size());
}

std::string_view behind_first_think(std::string_view text) {
  const std::size_t at = text.find(kThinkEnd);
  return at == std::string_view::npos ? text : text.substr(at + kThinkEnd.size());
}

std::string_view strip_newlines(std::string_view text, bool left, bool right) {
  while (left && !text.empty() && text.front() == '\n') text.remove_prefix(1);
  while (right && !text.empty() && text.back() == '\n') text.remove_suffix(1);
  return text;
}

}  // namespace faithful

namespace {

using faithful::Input;

struct Key {
  const char* name;
  Result<std::string> (*render)(const Input&);
};

constexpr std::string_view kAssistantOnly = "<｜Assistant｜>";
constexpr std::string_view kAssistantThink = "<｜Assistant｜><think>\n";

constexpr Key kKeys[] = {
    {"r1", [](const Input& in) { return faithful::render_r1(in, true); }},
    {"r1-jan2025", [](const Input& in) { return faithful::render_r1(in, false); }},
    {"r1-distill", [](const Input& in) { return faithful::render_distill(in, kAssistantThink, false, true); }},
    {"r1-distill-jan2025", [](const Input& in) { return faithful::render_distill(in, kAssistantOnly, false, true); }},
    {"r1-0528", [](const Input& in) { return faithful::render_r1_0528(in, faithful::Tools0528::none); }},
    {"r1-0528-qwen3", [](const Input& in) { return faithful::render_r1_0528(in, faithful::Tools0528::none); }},
    {"r1-tools-sglang", [](const Input& in) { return faithful::render_r1_0528(in, faithful::Tools0528::sglang); }},
    {"r1-tools-vllm", [](const Input& in) { return faithful::render_r1_0528(in, faithful::Tools0528::vllm); }},
    {"r1-tools-llamacpp", [](const Input& in) { return faithful::render_r1_llamacpp(in); }},
    {"v3", [](const Input& in) { return faithful::render_distill(in, kAssistantOnly, true, false); }},
    {"v3-1226", [](const Input& in) { return faithful::render_distill(in, kAssistantOnly, true, false); }},
    {"v3-0324", [](const Input& in) { return faithful::render_r1(in, false); }},
    {"v3.1", [](const Input& in) { return faithful::render_v31(in); }},
    {"v3.2-llamacpp", [](const Input& in) { return faithful::render_v32_llamacpp(in); }},
    {"v3.2", [](const Input& in) { return faithful::render_v32_official(in); }},
    {"v3.2-official", [](const Input& in) { return faithful::render_v32_official(in); }},
    {"v4", [](const Input& in) { return faithful::render_v4_official(in); }},
    {"v4-official", [](const Input& in) { return faithful::render_v4_official(in); }},
    {"qwen3", [](const Input& in) { return faithful::render_qwen3(in); }},
    {"qwq", [](const Input& in) { return faithful::render_qwq(in); }},
    {"hermes2pro", [](const Input& in) { return faithful::render_hermes2pro(in); }},
};

}  // namespace

const std::vector<std::string>& faithful_keys() {
  static const std::vector<std::string> names = [] {
    std::vector<std::string> out;
    for (const Key& key : kKeys) out.emplace_back(key.name);
    return out;
  }();
  return names;
}

Result<std::string> render_faithful(const Json& request) {
  static const Json kNothing = Json::object();
  const Json* messages = faithful::member(request, "messages");
  if (!messages || !messages->is_array()) return fail(Errc::malformed, "messages must be an array");
  for (const auto& message : *messages) {
    if (!message.is_object()) return fail(Errc::malformed, "a message must be an object");
  }
  const Json* tools = faithful::member(request, "tools");
  if (tools && tools->is_null()) tools = nullptr;
  if (tools && !tools->is_array()) return fail(Errc::malformed, "tools must be an array");
  const Json* kwargs = faithful::member(request, "kwargs");
  if (!kwargs || !kwargs->is_object()) kwargs = &kNothing;
  const Json* bos = faithful::member(request, "bos_token");
  const Input input{*messages, tools, *kwargs, faithful::is_true(faithful::member(request, "add_generation_prompt")),
                    bos && bos->is_string() ? bos->get<std::string>() : std::string()};
  const Json* model = faithful::member(request, "model");
  const std::string name = model && model->is_string() ? model->get<std::string>() : std::string();
  for (const Key& key : kKeys) {
    if (key.name == name) return key.render(input);
  }
  std::string known;
  for (const auto& key : faithful_keys()) known += (known.empty() ? "" : ", ") + key;
  return fail(Errc::usage, "unknown model key '" + name + "'; known are " + known);
}

}  // namespace kontor::agent
