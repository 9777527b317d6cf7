#include "agent/importer/yaml_writer.hpp"

#include "agent/spec/yaml_json.hpp"

#include <algorithm>
#include <string_view>

namespace kontor::agent {
namespace {

/// YAML's double-quoted texts hold what JSON texts hold, except for characters that YAML does not print.
std::string quoted(const std::string& text) {
  std::string out;
  for (const char c : Json(text).dump(-1, ' ', false, Json::error_handler_t::replace)) {
    if (c == '\x7f') out += "\\x7F";
    else out += c;
  }
  return out;
}

/// Does it stand for itself without quotes? The reader of agent files decides what a plain word is.
bool is_plain(const std::string& text) {
  static constexpr std::string_view kSafe = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_./-+ ";
  if (text.empty() || text.size() > 100 || text.find_first_not_of(kSafe) != std::string::npos) return false;
  if (text.front() == ' ' || text.back() == ' ' || text.front() == '-' || text.front() == '.' || text.front() == '+') return false;
  const auto read = yaml_as_json(text);
  return read && read->is_string();
}

/// Can a literal block hold it? Blanks at the beginning or at the end of lines are easily lost by editors.
bool is_block(const std::string& text) {
  if (text.find('\n') == std::string::npos || text.front() == ' ' || text.front() == '\n' || text.front() == '\t' || text.ends_with("\n\n")) return false;
  for (std::size_t i = 0; i < text.size(); ++i) {
    const auto c = static_cast<unsigned char>(text[i]);
    if ((c < 0x20 && c != '\n') || c == 0x7f) return false;
    if (c == ' ' && i + 1 < text.size() && text[i + 1] == '\n') return false;
    // C1 controls, line separators and byte order marks: quoted and escaped by JSON or refused by the reader.
    if (c == 0xc2 && static_cast<unsigned char>(text[i + 1]) < 0xa0) return false;
    if (text.compare(i, 3, "\xe2\x80\xa8") == 0 || text.compare(i, 3, "\xe2\x80\xa9") == 0 || text.compare(i, 3, "\xef\xbb\xbf") == 0) return false;
  }
  return true;
}

std::string key_text(const std::string& key) { return is_plain(key) && key.find(' ') == std::string::npos ? key : quoted(key); }

std::string flow(const Json& value) {
  if (value.is_string()) {
    const auto& text = value.get_ref<const std::string&>();
    return is_plain(text) ? text : quoted(text);
  }
  if (value.is_array()) {
    std::string out;
    for (const auto& item : value) out += (out.empty() ? "" : ", ") + flow(item);
    return "[" + out + "]";
  }
  if (value.is_object()) {
    std::string out;
    for (const auto& [key, member] : value.items()) out += (out.empty() ? "" : ", ") + key_text(key) + ": " + flow(member);
    return "{" + out + "}";
  }
  return value.dump();
}

/// A list or mapping that fits on one line.
bool is_short(const Json& value) {
  if (!value.is_structured()) return true;
  const bool flat = std::none_of(value.begin(), value.end(), [](const Json& item) { return item.is_structured() || (item.is_string() && item.get_ref<const std::string&>().find('\n') != std::string::npos); });
  return value.empty() || (flat && flow(value).size() <= 90 && (value.is_array() || value.size() <= 3));
}

class Writer {
 public:
  std::string out;

  void members(const Json& mapping, std::size_t indent, bool first_is_placed) {
    for (const auto& [key, value] : mapping.items()) {
      if (!first_is_placed) out.append(indent, ' ');
      first_is_placed = false;
      out += key_text(key) + ":";
      behind(value, indent);
    }
  }

 private:
  void behind(const Json& value, std::size_t indent) {
    if (value.is_string() && is_block(value.get_ref<const std::string&>())) return block(value.get_ref<const std::string&>(), indent + 2);
    if (is_short(value) && !(value.is_object() && indent == 0)) {
      out += " " + flow(value) + "\n";
    } else if (value.is_object()) {
      out += "\n";
      members(value, indent + 2, false);
    } else {
      out += "\n";
      for (const auto& item : value) {
        out.append(indent + 2, ' ') += "-";
        if (item.is_object() && !is_short(item)) {
          out += " ";
          members(item, indent + 4, true);
        } else {
          behind(item, indent + 2);
        }
      }
    }
  }
  void block(const std::string& text, std::size_t indent) {
    out += text.ends_with('\n') ? " |\n" : " |-\n";
    for (std::size_t begin = 0; begin < text.size();) {
      const std::size_t end = std::min(text.find('\n', begin), text.size());
      if (end > begin) out.append(indent, ' ') += text.substr(begin, end - begin);
      out += "\n";
      begin = end + 1;
    }
  }
};

}  // namespace

std::string yaml_text(const Json& mapping) {
  Writer writer;
  writer.members(mapping, 0, false);
  return std::move(writer.out);
}

}  // namespace kontor::agent
