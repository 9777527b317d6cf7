#include "agent/spec/egress_check.hpp"

#include "agent/spec/formats.hpp"
#include "agent/spec/text_tools.hpp"
#include "tools/egress.hpp"

#include <charconv>
#include <vector>

namespace kontor::agent {
namespace {

struct Place {
  std::string host;
  std::uint16_t port = 0;  ///< 0: none is given.
};

/// "host", "host:8443", "[::1]:8443"
Place place_of(std::string_view text) {
  Place place;
  std::size_t colon = text.rfind(':');
  if (text.starts_with('[')) {
    const auto close = text.find(']');
    if (close == std::string_view::npos) return {};
    if (colon < close) colon = std::string_view::npos;
  } else if (colon != text.find(':')) {
    colon = std::string_view::npos;
  }
  place.host = text.substr(0, colon);
  if (colon != std::string_view::npos) std::from_chars(text.data() + colon + 1, text.data() + text.size(), place.port);
  return place;
}

Place place_of_url(std::string_view url) {
  const auto begin = url.find("://");
  if (begin == std::string_view::npos) return {};
  const bool tls = begin == 5;
  url.remove_prefix(begin + 3);
  Place place = place_of(url.substr(0, url.find_first_of("/?#")));
  if (place.port == 0) place.port = tls ? 443 : 80;
  return place;
}

bool is_true(const Yaml& value) { return value && value.type() == Yaml::Type::boolean && to_json(value) == Json(true); }
bool is_text(const Yaml& value) { return value && value.type() == Yaml::Type::string; }

class Check {
 public:
  explicit Check(Project& project) : project_(project) {}

  void run() {
    if (!read_rules()) return;
    for (const auto& model : project_.named("models")) url(*model.file, model.value["endpoint"]);
    for (const auto& part : project_.sections("observe")) {
      if (part.value.is_mapping()) url(*part.file, part.value["otlp"]);
    }
    for (const auto& tool : project_.named("tools")) {
      if (!is_text(tool.value["use"])) continue;
      const std::string_view use = tool.value["use"].text();
      if (use == "mcp") url(*tool.file, tool.value["url"]);
      if (use == "openapi") url(*tool.file, tool.value["server"]);
      if (use == "openapi" || use == "builtin.http") hosts(*tool.file, tool.value);
      if (use == "builtin.mail") mail(*tool.file, tool.value);
      if (use == "builtin.shell" && is_true(tool.value["network"])) {
        report(*tool.file, tool.value["network"], "programs with 'network' open sockets of their own, which policy.egress cannot see");
      }
    }
  }

 private:
  /// False when there is nothing to check against.
  bool read_rules() {
    tools::EgressRules rules;
    for (const auto& part : project_.sections("policy")) {
      const Yaml egress = part.value.is_mapping() ? part.value["egress"] : Yaml();
      if (!egress || !egress.is_mapping()) continue;
      add(egress["deny"], rules.deny);
      if (!egress["allow"]) continue;
      if (!rules.allow) rules.allow.emplace();
      add(egress["allow"], *rules.allow);
    }
    const bool any = rules.any();
    egress_ = tools::Egress(std::move(rules));
    return any;
  }
  static void add(const Yaml& list, std::vector<tools::HostPattern>& patterns) {
    if (!list || !list.is_sequence()) return;
    for (const auto& item : list.items()) {
      if (!is_text(item)) continue;
      if (auto pattern = tools::HostPattern::parse(item.text())) patterns.push_back(std::move(*pattern));
    }
  }

  void report(const SourceFile& file, const Yaml& at, std::string message) { project_.report.add(Phase::names, file, at.offset(), "conflict", std::move(message)); }

  /// `ports`: one that may be used is enough.
  void judge(const SourceFile& file, const Yaml& at, const Place& place, std::vector<std::uint16_t> ports) {
    if (place.host.empty()) return;
    if (place.port != 0) ports = {place.port};
    tools::EgressDecision decision;
    for (const auto port : ports) {
      decision = egress_.judge(place.host, port);
      if (decision.allowed) return;
    }
    report(file, at, "'" + shown_text(place.host) + "' port " + std::to_string(decision.port) + " may not be reached: " + decision.rule);
  }
  void url(const SourceFile& file, const Yaml& value) {
    if (!is_text(value) || check_url(value.text())) return;
    judge(file, value, place_of_url(value.text()), {});
  }
  void hosts(const SourceFile& file, const Yaml& tool) {
    const Yaml list = tool["hosts"];
    if (!list || !list.is_sequence()) return;
    for (const auto& item : list.items()) {
      if (!is_text(item) || item.text().find('*') != std::string_view::npos) continue;
      judge(file, item, place_of(item.text()), is_true(tool["plain"]) ? std::vector<std::uint16_t>{443, 80} : std::vector<std::uint16_t>{443});
    }
  }
  void mail(const SourceFile& file, const Yaml& tool) {
    if (!is_text(tool["server"])) return;
    const std::string_view tls = is_text(tool["tls"]) ? tool["tls"].text() : "";
    const std::uint16_t port = tls == "implicit" ? 465 : tls == "none" ? 25 : 587;
    judge(file, tool["server"], place_of(tool["server"].text()), {port});
  }

  Project& project_;
  tools::Egress egress_;
};

}  // namespace

void check_egress(Project& project) { Check(project).run(); }

}  // namespace kontor::agent
