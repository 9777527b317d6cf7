#include "agent/dialect/call_reader.hpp"

#include <algorithm>
#include <utility>

namespace kontor::agent::dialect {

CallReader::Step CallReader::stop(const Source& source, const char* kind, std::string_view name) {
  // The slice must not depend on how much has arrived beyond the fault.
  const bool whole = source.final && std::string_view(kind) == "truncated_call";
  const std::size_t end = whole ? source.size() : std::max({pos_, scanner_.pos(), call_begin_});
  log_.error(kind, name, source.slice(call_begin_, end));
  return Step::stop;
}

void CallReader::begin_value(bool lenient) {
  scanner_.reset(pos_, lenient, log_.max_depth());
  faulted_ = false;
  value_begin_ = value_end_ = streamed_ = pos_;
  arguments_ = {};
}

void CallReader::no_value() {
  value_begin_ = value_end_ = 0;
  arguments_ = {};
}

ReadArguments CallReader::take_arguments(const Source& source) {
  ReadArguments out = std::move(arguments_);
  out.raw = source.slice(value_begin_, value_end_);
  no_value();
  return out;
}

CallReader::Step CallReader::scan_value(const Source& source, std::string_view error_name, bool stream) {
  if (!faulted_) {
    const auto status = scanner_.resume(source.text, source.final);
    if (stream && status != JsonScanner::Status::error && !scanner_.repaired() && source.text[value_begin_] == '{') {
      log_.delta(source.slice(streamed_, scanner_.pos()));
      streamed_ = scanner_.pos();
    }
    if (status == JsonScanner::Status::more) return Step::more;
    if (status == JsonScanner::Status::done) {
      pos_ = scanner_.pos();
      value_end_ = pos_;
      arguments_ = {scanner_.take(), {}, scanner_.objection(), scanner_.repaired()};
      return Step::go;
    }
    faulted_ = true;
  }
  const char* kind = scanner_.error();
  if (std::string_view(kind) == "malformed_json") {
    const Match end = source.match(scanner_.pos(), kEos);
    if (end.fit == Fit::partial) return Step::more;
    if (end.fit == Fit::full) kind = "truncated_call";
  }
  if (std::string_view(kind) == "invalid_utf8") log_.warn("invalid_utf8");
  return stop(source, kind, error_name);
}

bool CallReader::skip_space(const Source& source) {
  pos_ = source.skip_space(pos_);
  return pos_ < source.size() || source.final;
}

std::size_t CallReader::backticks(const Source& source) const {
  std::size_t end = pos_;
  while (end < source.size() && source.text[end] == '`') ++end;
  return end == source.size() && !source.final ? std::string::npos : end - pos_;
}

bool CallReader::skip_language(const Source& source) {
  std::size_t end = pos_;
  while (end < source.size() && (is_name_char(source.text[end]) || source.text[end] == '+')) ++end;
  if (end == source.size() && !source.final) return false;
  const std::string_view word = source.slice(pos_, end);
  const bool value = word == "null" || word == "None" || word == "true" || word == "false" || word == "True" || word == "False" ||
                     (!word.empty() && ((word[0] >= '0' && word[0] <= '9') || word[0] == '-'));
  if (!value) pos_ = end;
  return true;
}

bool read_named_call(Json& value, NamedCall& out) {
  if (!value.is_object()) return false;
  Json* object = &value;
  if (const auto inner = value.find("function"); inner != value.end() && inner->is_object() && !value.contains("name")) {
    object = &*inner;
  }
  if (const auto name = object->find("name"); name != object->end() && name->is_string()) {
    out.named = true;
    out.name = name->get<std::string>();
  }
  for (const char* key : {"arguments", "parameters"}) {
    const auto found = object->find(key);
    if (found == object->end()) continue;
    out.has_arguments = true;
    out.arguments = std::move(*found);
    break;
  }
  return true;
}

}  // namespace kontor::agent::dialect
