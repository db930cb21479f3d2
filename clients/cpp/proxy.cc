#include "clients/cpp/proxy.h"

#include <arpa/inet.h>

#include <algorithm>
#include <array>
#include <cstdlib>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"

namespace iterand {
namespace {

// In gRPC's order, and its spelling.
constexpr std::array<const char*, 3> kVariables = {"grpc_proxy", "https_proxy", "http_proxy"};
constexpr std::array<const char*, 3> kExemptions = {"no_grpc_proxy", "no_proxy", "NO_PROXY"};

// An IPv6 address, or an IPv4 address mapped into them.
using Address = std::array<unsigned char, 16>;
constexpr Address kMapped = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};
constexpr int kMappedBits = 96;

std::string Variable(const char* name) {
  const char* const value = std::getenv(name);
  return value == nullptr ? std::string() : value;
}

absl::string_view WithoutBrackets(absl::string_view text) {
  if (text.size() >= 2 && text.front() == '[' && text.back() == ']') return text.substr(1, text.size() - 2);
  return text;
}

std::optional<Address> ParseAddress(absl::string_view text) {
  const std::string plain(WithoutBrackets(text).substr(0, WithoutBrackets(text).find('%')));
  Address address = kMapped;
  if (inet_pton(AF_INET, plain.c_str(), address.data() + kMappedBits / 8) == 1) return address;
  if (inet_pton(AF_INET6, plain.c_str(), address.data()) == 1) return address;
  return std::nullopt;
}

bool InNetwork(const Address& address, const Address& network, int bits) {
  for (int bit = 0; bit < bits; ++bit) {
    const int mask = 0x80 >> (bit % 8);
    if ((address[bit / 8] & mask) != (network[bit / 8] & mask)) return false;
  }
  return true;
}

// "10.0.0.0/8" or an address alone.
bool NetworkMatches(const Address& address, absl::string_view entry) {
  const std::size_t slash = entry.find('/');
  const std::optional<Address> network = ParseAddress(entry.substr(0, slash));
  if (!network) return false;
  if (slash == absl::string_view::npos) return address == *network;
  int bits = 0;
  if (!absl::SimpleAtoi(entry.substr(slash + 1), &bits) || bits < 0) return false;
  if (entry.find(':') == absl::string_view::npos) bits += kMappedBits;
  return bits <= 128 && InNetwork(address, *network, bits);
}

bool IsLoopback(absl::string_view host) {
  const std::string name = absl::AsciiStrToLower(absl::StripSuffix(host, "."));
  if (name == "localhost" || absl::EndsWith(name, ".localhost")) return true;
  const std::optional<Address> address = ParseAddress(name);
  if (!address) return false;
  Address loopback6{};
  const Address unspecified6 = loopback6;
  loopback6.back() = 1;
  return *address == loopback6 || *address == unspecified6 || *address == kMapped ||
         NetworkMatches(*address, "127.0.0.0/8");
}

std::string WithoutPassword(const std::string& url) {
  const std::size_t scheme = url.find("://");
  const std::size_t begin = scheme == std::string::npos ? 0 : scheme + 3;
  const std::size_t at = url.substr(0, url.find('/', begin)).rfind('@');
  return at == std::string::npos || at < begin ? url : url.substr(0, begin) + url.substr(at + 1);
}

}  // namespace

bool NoProxyMatches(absl::string_view host, absl::string_view port, absl::string_view entry) {
  if (entry == "*") return true;
  int number = 0;
  if (const std::size_t colon = entry.rfind(':'); colon != absl::string_view::npos && colon > 0 &&
                                                  !ParseAddress(entry) && !absl::StrContains(entry, "/") &&
                                                  absl::SimpleAtoi(entry.substr(colon + 1), &number)) {
    if (entry.substr(colon + 1) != port) return false;
    entry = entry.substr(0, colon);
  }
  if (const std::optional<Address> address = ParseAddress(host)) return NetworkMatches(*address, entry);
  const std::string name = absl::AsciiStrToLower(absl::StripSuffix(host, "."));
  std::string suffix = absl::AsciiStrToLower(absl::StripSuffix(absl::StripPrefix(entry, "*"), "."));
  suffix = std::string(absl::StripPrefix(suffix, "."));
  if (suffix.empty()) return false;
  return name == suffix || absl::EndsWith(name, "." + suffix);
}

std::optional<Proxy> ProxyFor(const std::string& address) {
  if (absl::StartsWith(address, "unix:") || absl::StartsWith(address, "unix-abstract:")) return std::nullopt;
  const auto* const variable =
      std::ranges::find_if(kVariables, [](const char* name) { return !Variable(name).empty(); });
  if (variable == kVariables.end()) return std::nullopt;
  absl::string_view rest = address;
  for (const char* scheme : {"dns:", "ipv4:", "ipv6:", "passthrough:"}) {
    if (absl::ConsumePrefix(&rest, scheme)) rest = rest.substr(rest.rfind('/') + 1);
  }
  const std::size_t colon = rest.rfind(':');
  const absl::string_view host = WithoutBrackets(rest.substr(0, colon));
  const absl::string_view port = colon == absl::string_view::npos ? absl::string_view() : rest.substr(colon + 1);
  if (IsLoopback(host)) return std::nullopt;
  for (const char* name : kExemptions) {
    const std::string entries = Variable(name);
    for (const absl::string_view entry : absl::StrSplit(entries, absl::ByAnyChar(", \t\n"), absl::SkipEmpty())) {
      if (NoProxyMatches(host, port, entry)) return std::nullopt;
    }
  }
  return Proxy{WithoutPassword(Variable(*variable)), *variable};
}

}  // namespace iterand
