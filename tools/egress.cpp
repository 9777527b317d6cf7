#include "tools/egress.hpp"

#include <arpa/inet.h>

#include <algorithm>
#include <charconv>
#include <cstring>
#include <utility>

namespace kontor::tools {
namespace {

constexpr std::size_t kNameMax = 253;
constexpr int kMappedBits = 96;

std::string lower(std::string_view text) {
  std::string out(text);
  for (char& c : out)
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c + 32);
  return out;
}

AddressBytes mapped(const std::uint8_t* four) {
  AddressBytes bytes{};
  bytes[10] = bytes[11] = 0xff;
  std::copy(four, four + 4, bytes.begin() + 12);
  return bytes;
}

bool all_zero(const AddressBytes& bytes, std::size_t from, std::size_t to) {
  return std::all_of(bytes.begin() + static_cast<std::ptrdiff_t>(from), bytes.begin() + static_cast<std::ptrdiff_t>(to), [](std::uint8_t byte) { return byte == 0; });
}

std::optional<AddressBytes> strict_address(const std::string& text) {
  in_addr four{};
  if (inet_pton(AF_INET, text.c_str(), &four) == 1) {
    std::uint8_t bytes[4];
    std::memcpy(bytes, &four, sizeof bytes);
    return mapped(bytes);
  }
  AddressBytes six{};
  if (inet_pton(AF_INET6, text.c_str(), six.data()) == 1) return six;
  return std::nullopt;
}

/// A host without brackets, final dots and zone, in lower case.
std::string plain_host(std::string_view host) {
  std::string text = lower(host);
  if (text.starts_with('[') && text.ends_with(']')) text = text.substr(1, text.size() - 2);
  if (text.find(':') != std::string::npos) text = text.substr(0, text.find('%'));
  while (text.ends_with('.')) text.pop_back();
  return text;
}

/// Whatever the system would take for an address, 017.1 and 0x7f000001 included.
std::optional<AddressBytes> any_address(const std::string& text) {
  if (auto address = strict_address(text)) return address;
  in_addr four{};
  // inet_aton reads over what stands behind a blank.
  if (text.empty() || text.find_first_not_of("0123456789abcdefx.") != std::string::npos || inet_aton(text.c_str(), &four) == 0) return std::nullopt;
  std::uint8_t bytes[4];
  std::memcpy(bytes, &four, sizeof bytes);
  return mapped(bytes);
}

bool is_loopback(const AddressBytes& address) {
  if (all_zero(address, 0, 10) && address[10] == 0xff && address[11] == 0xff) return address[12] == 127;
  return all_zero(address, 0, 15) && address[15] == 1;
}

/// The IPv4 address that a translator would reach by this one: NAT64, 6to4, and the old form without ffff.
std::optional<AddressBytes> wrapped(const AddressBytes& address) {
  static constexpr std::array<std::uint8_t, 12> kNat64{0x00, 0x64, 0xff, 0x9b};
  if (std::equal(kNat64.begin(), kNat64.end(), address.begin())) return mapped(address.data() + 12);
  if (address[0] == 0x20 && address[1] == 0x02) return mapped(address.data() + 2);
  if (all_zero(address, 0, 12) && !all_zero(address, 12, 14)) return mapped(address.data() + 12);
  return std::nullopt;
}

/// Every label is made of letters, digits, '-' and '_', and the last one is no number: that would be an address.
std::string name_problem(std::string_view name) {
  if (name.empty() || name.size() > kNameMax) return "it has no name of at most 253 characters";
  if (std::any_of(name.begin(), name.end(), [](unsigned char c) { return c >= 0x80; })) return "names with other letters are written in their ASCII form (xn--...)";
  std::string_view last;
  for (std::size_t at = 0; at <= name.size();) {
    const auto dot = std::min(name.find('.', at), name.size());
    last = name.substr(at, dot - at);
    if (last.empty()) return "a part of its name is empty";
    if (last.find_first_not_of("abcdefghijklmnopqrstuvwxyz0123456789-_") != std::string_view::npos) return "its name has strange characters";
    at = dot + 1;
  }
  const bool hex = last.starts_with("0x") && last.find_first_not_of("0123456789abcdef", 2) == std::string_view::npos;
  if (hex || last.find_first_not_of("0123456789") == std::string_view::npos) return "an IPv4 address has four decimal numbers, such as 192.0.2.7";
  return {};
}

bool has_bits_behind(const AddressBytes& network, int bits) {
  for (int bit = bits; bit < 128; ++bit)
    if (network[static_cast<std::size_t>(bit / 8)] & (0x80 >> (bit % 8))) return true;
  return false;
}

const HostPattern* find_match(const std::vector<HostPattern>& patterns, const std::string& name, const std::optional<AddressBytes>& address, std::uint16_t port) {
  const auto found = std::find_if(patterns.begin(), patterns.end(), [&](const HostPattern& pattern) { return address ? pattern.matches_address(*address, port) : pattern.matches_name(name, port); });
  return found == patterns.end() ? nullptr : &*found;
}

}  // namespace

Result<HostPattern> HostPattern::parse(std::string_view text) {
  const auto wrong = [&](const std::string& why) { return fail(Errc::usage, "'" + std::string(text.substr(0, 100)) + "' is no host such as api.example.com, *.example.com, 10.0.0.0/8 or [2001:db8::1]:443: " + why, "host_pattern"); };
  HostPattern pattern;
  pattern.text_ = text;
  std::string host = lower(text);
  std::string port;
  const bool bracketed = host.starts_with('[');
  if (bracketed) {
    const auto close = host.find(']');
    if (close == std::string::npos) return wrong("its bracket is not closed");
    port = host.substr(close + 1);
    host = host.substr(1, close - 1);
    if (host.find(':') == std::string::npos) return wrong("brackets are for IPv6 addresses");
    if (!port.empty() && port.front() != ':') return wrong("behind the bracket stands :PORT");
  } else if (std::count(host.begin(), host.end(), ':') == 1) {
    port = host.substr(host.find(':'));
    host.resize(host.find(':'));
  }
  if (!port.empty()) {
    const auto [end, code] = std::from_chars(port.data() + 1, port.data() + port.size(), pattern.port_);
    if (code != std::errc() || end != port.data() + port.size() || pattern.port_ == 0) return wrong("a port is a number up to 65535");
  }
  if (const auto slash = host.find('/'); slash != std::string::npos) {
    const std::string digits = host.substr(slash + 1);
    const auto network = strict_address(host.substr(0, slash));
    if (!network) return wrong("before the slash stands an address");
    const int most = host.find(':') == std::string::npos ? 32 : 128;
    const auto [end, code] = std::from_chars(digits.data(), digits.data() + digits.size(), pattern.bits_);
    if (code != std::errc() || end != digits.data() + digits.size() || pattern.bits_ < 0 || pattern.bits_ > most) return wrong("a prefix has 0 to " + std::to_string(most) + " bits");
    if (most == 32) pattern.bits_ += kMappedBits;
    if (has_bits_behind(*network, pattern.bits_)) return wrong("the address has bits behind its prefix");
    pattern.network_ = *network;
    return pattern;
  }
  if (const auto address = strict_address(host)) {
    pattern.network_ = *address;
    return pattern;
  }
  if (bracketed || host.find(':') != std::string::npos) return wrong("it is no IPv6 address");
  if (host == "*") return wrong("a star stands for the first part of a name; leave 'allow' out to allow every host");
  if (host.starts_with("*.")) {
    pattern.below_ = true;
    host.erase(0, 2);
  }
  if (host.ends_with('.')) host.pop_back();
  if (const auto why = name_problem(host); !why.empty()) return wrong(why);
  pattern.name_ = (pattern.below_ ? "." : "") + host;
  return pattern;
}

bool HostPattern::matches_name(std::string_view name, std::uint16_t port) const {
  if (name_.empty() || (port_ != 0 && port != port_)) return false;
  return below_ ? name.size() > name_.size() && name.ends_with(name_) : name == name_;
}

bool HostPattern::matches_address(const AddressBytes& address, std::uint16_t port) const {
  if (!name_.empty() || (port_ != 0 && port != port_)) return false;
  for (int bit = 0; bit < bits_; bit += 8) {
    const auto at = static_cast<std::size_t>(bit / 8);
    const auto mask = static_cast<std::uint8_t>(bits_ - bit >= 8 ? 0xff : 0xff << (8 - (bits_ - bit)));
    if ((address[at] ^ network_[at]) & mask) return false;
  }
  return true;
}

Egress::Egress(EgressRules rules, Listener listener) {
  if (rules.any()) shared_ = std::make_shared<const Shared>(Shared{std::move(rules), std::move(listener)});
}

Egress Egress::airgap() {
  EgressRules rules;
  rules.loopback_only = true;
  return Egress(std::move(rules));
}

Egress Egress::named(std::string who) const {
  Egress copy = *this;
  copy.who_ = std::move(who);
  return copy;
}

EgressDecision Egress::decide(std::string_view host, const std::string& address, std::uint16_t port) const {
  EgressDecision decision{who_, std::string(host), port, address, true, "no rule"};
  if (!shared_) return decision;
  const EgressRules& rules = shared_->rules;
  const std::string name = plain_host(host);
  const auto literal = any_address(name);
  const auto reached = address.empty() ? literal : any_address(plain_host(address));
  const auto refuse = [&](std::string rule) {
    decision.allowed = false;
    decision.rule = std::move(rule);
    return decision;
  };
  if (!address.empty() && !reached) return refuse("'" + address.substr(0, 80) + "' is no address");
  for (const auto& at : {literal, reached}) {
    if (rules.loopback_only && at && !is_loopback(*at)) return refuse("--airgap");
  }
  if (rules.loopback_only && !literal && name != "localhost") return refuse("--airgap");
  const auto denied = [&](const HostPattern& pattern) { return refuse("policy.egress.deny \"" + pattern.text() + "\""); };
  if (!literal) {
    if (const auto* pattern = find_match(rules.deny, name, std::nullopt, port)) return denied(*pattern);
  }
  for (const auto& at : {literal, reached}) {
    if (!at) continue;
    if (const auto* pattern = find_match(rules.deny, name, at, port)) return denied(*pattern);
    const auto inside = wrapped(*at);
    if (!inside) continue;
    if (const auto* pattern = find_match(rules.deny, name, inside, port)) return denied(*pattern);
  }
  if (rules.loopback_only) decision.rule = "--airgap";
  if (!rules.allow) return decision;
  const auto* pattern = find_match(*rules.allow, name, literal, port);
  if (!pattern) return refuse("policy.egress.allow names no such host");
  decision.rule = "policy.egress.allow \"" + pattern->text() + "\"";
  return decision;
}

Result<void> Egress::finish(const std::string& shown, const EgressDecision& decision, bool connects) const {
  if (!shared_) return {};
  if (shared_->listener && (connects || !decision.allowed)) shared_->listener(decision);
  if (decision.allowed) return {};
  if (decision.rule == "--airgap") return fail(Errc::denied, "--airgap refuses " + shown + ": it is not on this machine", "airgap");
  const std::string where = decision.address.empty() || decision.address == decision.host ? "" : " (" + decision.address + ")";
  return fail(Errc::denied, shown + where + " may not be reached: " + decision.rule, "egress");
}

Result<void> Egress::permit_name(const std::string& shown, std::string_view host, std::uint16_t port) const {
  if (!shared_) return {};
  return finish(shown, decide(host, {}, port), false);
}

Result<void> Egress::permit_address(const std::string& shown, std::string_view host, const std::string& address, std::uint16_t port) const {
  if (!shared_) return {};
  return finish(shown, decide(host, address, port), true);
}

EgressDecision Egress::judge(std::string_view host, std::uint16_t port) const { return decide(host, {}, port); }

}  // namespace kontor::tools
