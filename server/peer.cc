#include "server/peer.h"

#include <arpa/inet.h>
#include <netinet/in.h>

#include <cstring>

#include "absl/strings/str_cat.h"

namespace iterand {
namespace {

Peer OfIpv4(const in_addr& address, in_port_t port) {
  char text[INET_ADDRSTRLEN] = "";
  inet_ntop(AF_INET, &address, text, sizeof(text));
  return {.name = absl::StrCat("ipv4:", text, ":", ntohs(port)), .group = text};
}

}  // namespace

Peer PeerOf(const sockaddr_storage& address) {
  if (address.ss_family == AF_INET) {
    const auto& ipv4 = reinterpret_cast<const sockaddr_in&>(address);
    return OfIpv4(ipv4.sin_addr, ipv4.sin_port);
  }
  if (address.ss_family != AF_INET6) return {.name = "unix:", .group = kUnixGroup};
  const auto& ipv6 = reinterpret_cast<const sockaddr_in6&>(address);
  if (IN6_IS_ADDR_V4MAPPED(&ipv6.sin6_addr)) {
    in_addr ipv4{};
    std::memcpy(&ipv4, &ipv6.sin6_addr.s6_addr[12], sizeof(ipv4));
    return OfIpv4(ipv4, ipv6.sin6_port);
  }
  char text[INET6_ADDRSTRLEN] = "";
  inet_ntop(AF_INET6, &ipv6.sin6_addr, text, sizeof(text));
  const std::string scope = ipv6.sin6_scope_id == 0 ? "" : absl::StrCat("%25", ipv6.sin6_scope_id);
  in6_addr network = ipv6.sin6_addr;
  if (!IN6_IS_ADDR_LOOPBACK(&network)) std::memset(&network.s6_addr[8], 0, 8);
  char group[INET6_ADDRSTRLEN] = "";
  inet_ntop(AF_INET6, &network, group, sizeof(group));
  return {.name = absl::StrCat("ipv6:%5B", text, scope, "%5D:", ntohs(ipv6.sin6_port)), .group = group};
}

}  // namespace iterand
