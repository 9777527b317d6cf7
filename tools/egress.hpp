#pragma once
// Which hosts a run may reach: `policy.egress` of the agent file and --airgap. Whoever opens a socket asks here: by the
// name, before a name server hears of it, and by the very address, at the moment of connecting.

#include "base/error.hpp"

#include <array>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace kontor::tools {

/// An IPv6 address; IPv4 stands in ::ffff:0:0/96.
using AddressBytes = std::array<std::uint8_t, 16>;

/// One entry of a list of hosts: api.example.com, *.example.com (any name below it), 192.0.2.7, 10.0.0.0/8,
/// 2001:db8::/32, each with :PORT for that port alone ([2001:db8::1]:443).
class HostPattern {
 public:
  /// Errors: usage, saying what is wrong with it. "*" alone, IPv4 in other forms than four decimal numbers, and networks
  /// with bits behind their prefix are refused.
  static Result<HostPattern> parse(std::string_view text);

  const std::string& text() const { return text_; }
  /// A name is compared with names, never with networks: where it leads is not known yet.
  bool matches_name(std::string_view name, std::uint16_t port) const;
  bool matches_address(const AddressBytes& address, std::uint16_t port) const;

 private:
  std::string text_, name_;          // name_: "" for addresses
  bool below_ = false;               // any name that ends with name_
  AddressBytes network_{};
  int bits_ = 128;
  std::uint16_t port_ = 0;           // 0: every port
};

struct EgressRules {
  std::vector<HostPattern> deny;                   ///< Beats everything else.
  std::optional<std::vector<HostPattern>> allow;   ///< Absent: every host that is not denied.
  bool loopback_only = false;                      ///< --airgap: this machine and nothing else, not even a name server.

  bool any() const { return loopback_only || allow || !deny.empty(); }
};

/// What was decided, and by which rule.
struct EgressDecision {
  std::string who;       ///< "tools.crm", "models.big"
  std::string host;      ///< As asked for.
  std::uint16_t port = 0;
  std::string address;   ///< "" when no address was looked up.
  bool allowed = false;
  std::string rule;      ///< In words.
};

/// Copies share rules and listener. Thread-safe. Without rules everything is allowed and nobody is told.
class Egress {
 public:
  using Listener = std::function<void(const EgressDecision&)>;

  Egress() = default;
  explicit Egress(EgressRules rules, Listener listener = {});
  /// --airgap without an agent file.
  static Egress airgap();
  /// The same for another part of the run; `who` stands in decisions.
  Egress named(std::string who) const;

  /// Nothing may be reached that these rules do not see; programs with sockets of their own have to do without.
  bool restricted() const { return shared_ != nullptr; }

  /// --airgap: this machine and nothing else.
  bool is_airgap() const { return shared_ && shared_->rules.loopback_only; }

  /// Before a name is looked up. `shown`: how messages call it. A host is a name or an address in any form that systems
  /// read (2130706433, 0x7f.1, ::ffff:127.0.0.1). Errors: denied (kind airgap or egress) with the rule.
  Result<void> permit_name(const std::string& shown, std::string_view host, std::uint16_t port) const;
  /// Before connecting, for the numeric address that `host` led to: judges both. Errors: as permit_name.
  Result<void> permit_address(const std::string& shown, std::string_view host, const std::string& address, std::uint16_t port) const;
  /// As permit_name, but nobody is told: for checks ahead of time.
  EgressDecision judge(std::string_view host, std::uint16_t port) const;

 private:
  struct Shared {
    EgressRules rules;
    Listener listener;
  };
  EgressDecision decide(std::string_view host, const std::string& address, std::uint16_t port) const;
  Result<void> finish(const std::string& shown, const EgressDecision& decision, bool connects) const;

  std::shared_ptr<const Shared> shared_;
  std::string who_;
};

}  // namespace kontor::tools
