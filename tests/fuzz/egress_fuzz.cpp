// policy.egress on hosts that models and redirects think up: a line of a pattern, then hosts. What is denied stays denied
// in whatever way it is written, and deny beats allow.

#include "tools/egress.hpp"

#include <arpa/inet.h>

#include <algorithm>
#include <cstdlib>
#include <string>

using namespace kontor::tools;

namespace {

void expect(bool holds) {
  if (!holds) std::abort();
}

Egress denying(const HostPattern& pattern, bool allowed_too) {
  EgressRules rules;
  rules.deny.push_back(pattern);
  if (allowed_too) rules.allow.emplace().push_back(pattern);
  return Egress(std::move(rules));
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string text(reinterpret_cast<const char*>(data), size);
  const auto first = std::min(text.find('\n'), text.size());
  const auto pattern = HostPattern::parse(text.substr(0, first));
  static const Egress no_loopback = denying(HostPattern::parse("127.0.0.0/8").value(), false);
  for (std::size_t at = first + 1; at < text.size();) {
    const auto end = std::min(text.find('\n', at), text.size());
    const std::string host = text.substr(at, end - at);
    at = end + 1;
    in_addr four{};
    const bool plain = host.find_first_not_of("0123456789abcdefABCDEFxX.") == std::string::npos;
    if (plain && inet_aton(host.c_str(), &four) != 0 && ntohl(four.s_addr) >> 24 == 127) expect(!no_loopback.judge(host, 80).allowed);
    if (!pattern) continue;
    const bool denied = !denying(*pattern, false).judge(host, 443).allowed;
    expect(!denied || !denying(*pattern, true).judge(host, 443).allowed);
    EgressRules only;
    only.allow.emplace().push_back(*pattern);
    // What a pattern allows by name or address, the same pattern denies.
    if (Egress(std::move(only)).judge(host, 443).allowed) expect(denied);
    (void)Egress::airgap().permit_address("x", host, host, 443);
  }
  return 0;
}
