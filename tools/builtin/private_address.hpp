#pragma once
// Which addresses belong to this machine or to a private network, and so are no business of a tool that fetches from
// the web.

#include <string>

namespace kontor::tools {

/// True for everything that is not a public unicast address (RFC 6890 and its updates): loopback, private, link-local,
/// shared, documentation, multicast and reserved ranges, the same wrapped into IPv6 (mapped, 6to4, NAT64), Teredo, and
/// texts that are no address.
bool is_private_address(const std::string& address);
/// 127.0.0.0/8, ::1 and the first wrapped into the second.
bool is_loopback_address(const std::string& address);

}  // namespace kontor::tools
