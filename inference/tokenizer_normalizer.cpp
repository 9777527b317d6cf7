#include "inference/tokenizer_normalizer.hpp"

#include "inference/unicode.hpp"
#include "inference/weight_file.hpp"

#include <nlohmann/json.hpp>

#include <algorithm>
#include <cstring>

namespace kontor::inference {
namespace {

constexpr int kMaxSequenceDepth = 8;
constexpr std::size_t kMaxSteps = 64;
constexpr std::size_t kMaxMapBytes = 32u << 20;

Error bad(std::string message, const std::string& where) { return fail(Errc::malformed, std::move(message), "bad_vocab", where); }

/// False where the text is not base64.
bool from_base64(std::string_view text, std::string& out) {
  while (text.ends_with('=')) text.remove_suffix(1);
  std::uint32_t bits = 0;
  int count = 0;
  out.reserve(text.size() * 3 / 4);
  for (const char c : text) {
    const int value = c >= 'A' && c <= 'Z' ? c - 'A' : c >= 'a' && c <= 'z' ? c - 'a' + 26 : c >= '0' && c <= '9' ? c - '0' + 52 : c == '+' ? 62 : c == '/' ? 63 : -1;
    if (value < 0) return false;
    bits = (bits << 6 | static_cast<std::uint32_t>(value)) & 0xffffff;
    count += 6;
    if (count >= 8) out.push_back(static_cast<char>(bits >> (count -= 8)));
  }
  return true;
}

template <class Each>
std::string map_points(std::string_view text, const Each& each) {
  std::string out;
  out.reserve(text.size());
  for (std::size_t at = 0; at < text.size();) {
    const CodePoint point = decode_utf8(text, at);
    if (point.value == kBadByte) out.push_back(text[at]);
    else each(point.value, out);
    at += point.bytes;
  }
  return out;
}

bool is_space(std::uint32_t value) { return (character_class(value) & kSpace) != 0; }

std::string strip(std::string_view text, bool left, bool right) {
  std::size_t begin = 0, end = text.size();
  while (left && begin < end && is_space(decode_utf8(text, begin).value)) begin += decode_utf8(text, begin).bytes;
  while (right && end > begin) {
    std::size_t start = end - 1;
    while (start > begin && (static_cast<unsigned char>(text[start]) & 0xc0) == 0x80) --start;
    const CodePoint point = decode_utf8(text, start);
    if (start + point.bytes != end || !is_space(point.value)) break;
    end = start;
  }
  return std::string(text.substr(begin, end - begin));
}

std::string replace_text(std::string_view text, std::string_view pattern, std::string_view content) {
  if (pattern.empty()) return std::string(text);
  std::string out;
  std::size_t at = 0;
  for (std::size_t found; (found = text.find(pattern, at)) != std::string_view::npos; at = found + pattern.size()) {
    out += text.substr(at, found - at);
    out += content;
  }
  out += text.substr(at);
  return out;
}

std::string apply_bert(const TextNormalizer::Bert& bert, std::string_view text) {
  return map_points(text, [&](std::uint32_t value, std::string& out) {
    if (bert.clean_text) {
      if (is_bert_control(value)) return;
      if (is_space(value)) value = ' ';
    }
    const bool alone = bert.ideographs_alone && is_bert_ideograph(value);
    if (alone) out.push_back(' ');
    if (bert.strip_accents && bert.lower_case) append_folded(value, out);
    else if (bert.strip_accents) append_without_accents(value, out);
    else if (bert.lower_case) append_lower(value, out);
    else append_utf8(out, value);
    if (alone) out.push_back(' ');
  });
}

}  // namespace

bool is_bert_ideograph(std::uint32_t c) {
  return (c >= 0x4e00 && c <= 0x9fff) || (c >= 0x3400 && c <= 0x4dbf) || (c >= 0x20000 && c <= 0x2a6df) || (c >= 0x2a700 && c <= 0x2b73f) ||
         (c >= 0x2b740 && c <= 0x2b81f) || (c >= 0x2b820 && c <= 0x2ceaf) || (c >= 0xf900 && c <= 0xfaff) || (c >= 0x2f800 && c <= 0x2fa1f);
}

bool is_bert_punctuation(std::uint32_t value) {
  const std::uint8_t kind = character_class(value);
  return (kind & kPunctuation) != 0 || ((kind & kSymbol) != 0 && value < 0x80);
}

bool is_bert_control(std::uint32_t value) { return value == 0xfffd || (is_control_or_format(value) && value != '\t' && value != '\n' && value != '\r'); }

Result<CharacterMap> CharacterMap::create(std::string_view bytes, const std::string& where) {
  std::uint32_t length = 0;
  if (bytes.size() > kMaxMapBytes) return fail(Errc::limit, "the character map has " + std::to_string(bytes.size()) + " bytes", "limit_exceeded", where);
  if (bytes.size() < 4) return bad("the character map is cut off", where);
  std::memcpy(&length, bytes.data(), 4);
  if (length % 4 != 0 || length == 0 || length > bytes.size() - 4) return bad("the character map's trie does not fit into it", where);
  CharacterMap map;
  map.units_.resize(length / 4);
  std::memcpy(map.units_.data(), bytes.data() + 4, length);
  map.replacements_ = bytes.substr(4 + length);
  if (map.replacements_.empty() || map.replacements_.back() != '\0') map.replacements_.push_back('\0');
  return map;
}

void CharacterMap::append(std::string_view text, std::string& out) const {
  const auto offset = [](std::uint32_t unit) { return (unit >> 10) << ((unit & 0x200) >> 6); };
  for (std::size_t at = 0; at < text.size();) {
    std::size_t length = 0, value = 0;
    std::uint32_t node = offset(units_[0]);
    for (std::size_t end = at; end < text.size(); ++end) {
      const auto byte = static_cast<unsigned char>(text[end]);
      node ^= byte;
      if (node >= units_.size()) break;
      const std::uint32_t unit = units_[node];
      if ((unit & 0x800000ffu) != byte) break;
      node ^= offset(unit);
      if (node >= units_.size()) break;
      if ((unit & 0x100) == 0) continue;
      const std::size_t found = units_[node] & 0x7fffffff;
      if (found < replacements_.size()) {
        length = end + 1 - at;
        value = found;
      }
    }
    if (length == 0) {
      length = decode_utf8(text, at).bytes;
      out += text.substr(at, length);
    } else {
      out += replacements_.c_str() + value;
    }
    at += length;
  }
}

std::string replace_matches(const Regex& regex, std::string_view text, std::string_view content) {
  RegexMatcher matcher(regex);
  matcher.start(text);
  std::string out;
  std::size_t copied = 0;
  for (std::size_t at = 0; at <= text.size();) {
    const auto match = matcher.find(at);
    if (!match) break;
    if (match->end == match->start) {  // an empty match replaces nothing
      at = match->end < text.size() ? match->end + decode_utf8(text, match->end).bytes : text.size() + 1;
      continue;
    }
    out += text.substr(copied, match->start - copied);
    out += content;
    at = copied = match->end;
  }
  out += text.substr(copied);
  return out;
}

std::string TextNormalizer::apply(const Step& step, std::string_view text) {
  switch (step.kind) {
    case Kind::nfc: return normalise(text, NormalForm::nfc);
    case Kind::nfd: return normalise(text, NormalForm::nfd);
    case Kind::nfkc: return normalise(text, NormalForm::nfkc);
    case Kind::nfkd: return normalise(text, NormalForm::nfkd);
    case Kind::lower_case: return map_points(text, append_lower);
    case Kind::strip: return strip(text, step.left, step.right);
    case Kind::strip_accents:
      return map_points(text, [](std::uint32_t value, std::string& out) {
        constexpr std::uint32_t kMarks = category_bit(GeneralCategory::mn) | category_bit(GeneralCategory::mc) | category_bit(GeneralCategory::me);
        if ((category_bit(general_category(value)) & kMarks) == 0) append_utf8(out, value);
      });
    case Kind::prepend: return text.empty() ? std::string() : step.content + std::string(text);
    case Kind::replace_text: return replace_text(text, step.pattern, step.content);
    case Kind::replace_regex: return replace_matches(*step.regex, text, step.content);
    case Kind::bert: return apply_bert(step.bert, text);
    case Kind::map: break;
  }
  std::string out;
  step.map->append(text, out);
  return out;
}

std::string TextNormalizer::apply(std::string_view text) const {
  std::string out(text);
  for (const Step& step : steps_) out = apply(step, out);
  return out;
}

Result<TextNormalizer> TextNormalizer::create(const Json& json, const std::string& where) {
  TextNormalizer out;
  if (auto added = out.add(json, where, 0); !added) return added.error();
  return out;
}

Result<void> TextNormalizer::add(const Json& json, const std::string& where, int depth) {
  if (json.is_null()) return {};
  const auto type = json_type(json, "normalizer", where);
  if (!type) return type.error();
  if (depth > kMaxSequenceDepth || steps_.size() >= kMaxSteps) return fail(Errc::limit, "too many normalizers, or nested too deep", "limit_exceeded", where);
  if (*type == "Sequence") {
    if (!json.contains("normalizers") || !json.at("normalizers").is_array()) return bad("a Sequence without \"normalizers\"", where);
    for (const Json& part : json.at("normalizers"))
      if (auto added = add(part, where, depth + 1); !added) return added;
    return {};
  }
  Step step;
  const std::pair<std::string_view, Kind> plain[] = {{"NFC", Kind::nfc}, {"NFD", Kind::nfd}, {"NFKC", Kind::nfkc}, {"NFKD", Kind::nfkd}, {"Lowercase", Kind::lower_case}, {"StripAccents", Kind::strip_accents}};
  const auto* const known = std::find_if(std::begin(plain), std::end(plain), [&](const auto& entry) { return entry.first == *type; });
  if (known != std::end(plain)) {
    step.kind = known->second;
  } else if (*type == "Strip") {
    const auto left = json_flag(json, "strip_left", true, where), right = json_flag(json, "strip_right", true, where);
    if (!left || !right) return left ? right.error() : left.error();
    step.kind = Kind::strip;
    step.left = *left;
    step.right = *right;
  } else if (*type == "Prepend") {
    auto text = json_text(json, "prepend", where);
    if (!text) return text.error();
    step.kind = Kind::prepend;
    step.content = std::move(*text);
  } else if (*type == "Replace") {
    if (!json.contains("pattern")) return bad("a Replace without \"pattern\"", where);
    auto pattern = json_pattern(json.at("pattern"), where);
    if (!pattern) return pattern.error();
    auto content = json_text(json, "content", where);
    if (!content) return content.error();
    step.kind = pattern->regex ? Kind::replace_regex : Kind::replace_text;
    step.regex = std::move(pattern->regex);
    step.pattern = std::move(pattern->text);
    step.content = std::move(*content);
  } else if (*type == "Precompiled") {
    const auto text = json_text(json, "precompiled_charsmap", where);
    if (!text) return text.error();
    std::string bytes;
    if (!from_base64(*text, bytes)) return bad("\"precompiled_charsmap\" is not base64", where);
    auto map = CharacterMap::create(bytes, where);
    if (!map) return map.error();
    step.kind = Kind::map;
    step.map = std::make_shared<const CharacterMap>(std::move(*map));
  } else if (*type == "BertNormalizer") {
    const std::pair<const char*, bool*> flags[] = {{"clean_text", &step.bert.clean_text}, {"handle_chinese_chars", &step.bert.ideographs_alone}, {"lowercase", &step.bert.lower_case}};
    for (const auto& [key, place] : flags) {
      const auto flag = json_flag(json, key, true, where);
      if (!flag) return flag.error();
      *place = *flag;
    }
    const auto accents = json_flag(json, "strip_accents", step.bert.lower_case, where);
    if (!accents) return accents.error();
    step.bert.strip_accents = *accents;
    step.kind = Kind::bert;
  } else {
    return fail(Errc::unsupported, "normalizer '" + printable(*type) + "' is not supported", "unsupported_tokenizer", where);
  }
  steps_.push_back(std::move(step));
  return {};
}

Result<bool> json_flag(const Json& json, std::string_view key, bool fallback, const std::string& where) {
  const auto found = json.find(key);
  if (found == json.end() || found->is_null()) return fallback;
  if (!found->is_boolean()) return bad("\"" + std::string(key) + "\" is not true or false", where);
  return found->get<bool>();
}

Result<std::string> json_text(const Json& json, std::string_view key, const std::string& where) {
  const auto found = json.find(key);
  if (found == json.end() || !found->is_string()) return bad("\"" + std::string(key) + "\" is missing or not a text", where);
  return found->get<std::string>();
}

Result<JsonPattern> json_pattern(const Json& json, const std::string& where) {
  if (json.is_string()) return JsonPattern{nullptr, json.get<std::string>()};
  if (json.is_object() && json.size() == 1) {
    if (json.contains("String") && json.at("String").is_string()) return JsonPattern{nullptr, json.at("String").get<std::string>()};
    if (json.contains("Regex") && json.at("Regex").is_string()) {
      auto text = json.at("Regex").get<std::string>();
      auto regex = Regex::compile(text);
      if (!regex) return fail(regex.error().code, regex.error().message, regex.error().kind, where);
      return JsonPattern{std::make_shared<const Regex>(std::move(*regex)), std::move(text)};
    }
  }
  return bad("a pattern is neither {\"Regex\": \"...\"} nor {\"String\": \"...\"}", where);
}

Result<std::string> json_type(const Json& json, std::string_view what, const std::string& where) {
  if (!json.is_object()) return bad("a " + std::string(what) + " is not an object", where);
  return json_text(json, "type", where);
}

}  // namespace kontor::inference
