#include "tools/uri.hpp"

#include <algorithm>
#include <vector>

namespace kontor::tools {
namespace {

struct Parts {
  std::string_view scheme, authority, path, query, fragment;
  bool has_authority = false, has_query = false, has_fragment = false;
};

Parts split(std::string_view text) {
  Parts parts;
  if (const auto hash = text.find('#'); hash != std::string_view::npos) {
    parts.has_fragment = true;
    parts.fragment = text.substr(hash + 1);
    text = text.substr(0, hash);
  }
  if (const auto mark = text.find('?'); mark != std::string_view::npos) {
    parts.has_query = true;
    parts.query = text.substr(mark + 1);
    text = text.substr(0, mark);
  }
  if (const auto colon = text.find(':'); colon != std::string_view::npos && colon > 0 && text.find('/') > colon) {
    parts.scheme = text.substr(0, colon);
    text = text.substr(colon + 1);
  }
  if (text.starts_with("//")) {
    parts.has_authority = true;
    const auto end = std::min(text.find('/', 2), text.size());
    parts.authority = text.substr(2, end - 2);
    text = text.substr(end);
  }
  parts.path = text;
  return parts;
}

std::string without_dots(std::string_view path) {
  std::vector<std::string_view> kept;
  const bool rooted = path.starts_with("/");
  std::size_t begin = rooted ? 1 : 0;
  bool folder = false;
  while (begin <= path.size()) {
    const auto end = std::min(path.find('/', begin), path.size());
    const auto segment = path.substr(begin, end - begin);
    folder = segment == "." || segment == "..";
    if (segment == "..") {
      if (!kept.empty()) kept.pop_back();
    } else if (segment != ".") {
      kept.push_back(segment);
    }
    begin = end + 1;
  }
  std::string out = rooted ? "/" : "";
  for (std::size_t i = 0; i < kept.size(); ++i) {
    if (i > 0) out += '/';
    out += kept[i];
  }
  if (folder && !kept.empty()) out += '/';
  return out;
}

}  // namespace

std::string resolve_uri(std::string_view base, std::string_view reference) {
  const Parts from = split(base), to = split(reference);
  Parts result = to;
  std::string path(to.path);
  if (to.scheme.empty()) {
    result.scheme = from.scheme;
    if (!to.has_authority) {
      result.authority = from.authority;
      result.has_authority = from.has_authority;
      if (to.path.empty()) {
        path = from.path;
        if (!to.has_query) result.query = from.query, result.has_query = from.has_query;
      } else if (!to.path.starts_with("/")) {
        const auto slash = from.path.rfind('/');
        path = slash == std::string_view::npos ? (from.has_authority ? "/" : "") : std::string(from.path.substr(0, slash + 1));
        path += to.path;
      }
    }
  }
  std::string out;
  if (!result.scheme.empty()) out.append(result.scheme).append(":");
  if (result.has_authority) out.append("//").append(result.authority);
  out += path.find('/') == std::string::npos ? path : without_dots(path);
  if (result.has_query) out.append("?").append(result.query);
  if (result.has_fragment) out.append("#").append(result.fragment);
  return out;
}

std::string percent_decoded(std::string_view text) {
  const auto digit = [](char c) { return c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1; };
  std::string out;
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (text[i] == '%' && i + 2 < text.size() && digit(text[i + 1]) >= 0 && digit(text[i + 2]) >= 0) {
      out += static_cast<char>(digit(text[i + 1]) * 16 + digit(text[i + 2]));
      i += 2;
    } else {
      out += text[i];
    }
  }
  return out;
}

}  // namespace kontor::tools
