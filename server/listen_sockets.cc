#include "server/listen_sockets.h"

#include <netdb.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <memory>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "server/listen_address.h"
#include "server/log.h"

namespace iterand {
namespace {

constexpr char kUnix[] = "unix:";
constexpr int kBacklog = 4096;  // the kernel takes less where net.core.somaxconn is smaller
constexpr int kPortsToTry = 8;  // free at one address of a host, but taken at another
constexpr char kCannot[] = "cannot listen on ";

absl::Status CannotListen(const std::string& listen, absl::string_view why) {
  return absl::UnavailableError(absl::StrCat(kCannot, listen, ": ", why));
}

int NewSocket(int family) { return socket(family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0); }

int PortOf(int descriptor) {
  sockaddr_storage address{};
  socklen_t size = sizeof(address);
  if (getsockname(descriptor, reinterpret_cast<sockaddr*>(&address), &size) != 0) return 0;
  return ntohs(address.ss_family == AF_INET6 ? reinterpret_cast<const sockaddr_in6&>(address).sin6_port
                                             : reinterpret_cast<const sockaddr_in&>(address).sin_port);
}

void SetPort(sockaddr_storage& address, int port) {
  (address.ss_family == AF_INET6 ? reinterpret_cast<sockaddr_in6&>(address).sin6_port
                                 : reinterpret_cast<sockaddr_in&>(address).sin_port) =
      htons(static_cast<std::uint16_t>(port));
}

bool IsWildcard(const sockaddr_storage& address) {
  if (address.ss_family == AF_INET6) {
    return IN6_IS_ADDR_UNSPECIFIED(&reinterpret_cast<const sockaddr_in6&>(address).sin6_addr);
  }
  return reinterpret_cast<const sockaddr_in&>(address).sin_addr.s_addr == htonl(INADDR_ANY);
}

// A socket that listens, or -1 with errno. SO_REUSEPORT stays off: two servers at one port would share its clients by
// chance.
int Listen(const sockaddr_storage& address, socklen_t size, bool both_families) {
  const int descriptor = NewSocket(address.ss_family);
  if (descriptor < 0) return -1;
  const int on = 1;
  const int only_v6 = both_families ? 0 : 1;
  setsockopt(descriptor, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
  if (address.ss_family == AF_INET6) setsockopt(descriptor, IPPROTO_IPV6, IPV6_V6ONLY, &only_v6, sizeof(only_v6));
  if (bind(descriptor, reinterpret_cast<const sockaddr*>(&address), size) == 0 && listen(descriptor, kBacklog) == 0) {
    return descriptor;
  }
  const int error = errno;
  close(descriptor);
  errno = error;
  return -1;
}

struct Address {
  sockaddr_storage bytes{};
  socklen_t size = 0;
  bool both_families = false;
};

absl::StatusOr<std::vector<Address>> Resolve(const std::string& listen) {
  const std::size_t colon = listen.rfind(':');
  std::string host = listen.substr(0, colon);
  if (host.size() >= 2 && host.front() == '[' && host.back() == ']') host = host.substr(1, host.size() - 2);
  addrinfo hints{};
  hints.ai_socktype = SOCK_STREAM;
  hints.ai_flags = AI_PASSIVE | AI_NUMERICSERV;
  addrinfo* found = nullptr;
  if (const int error = getaddrinfo(host.c_str(), listen.c_str() + colon + 1, &hints, &found); error != 0) {
    return CannotListen(listen, error == EAI_SYSTEM ? std::strerror(errno) : gai_strerror(error));
  }
  const std::unique_ptr<addrinfo, decltype(&freeaddrinfo)> owner(found, freeaddrinfo);
  std::vector<Address> addresses;
  for (const addrinfo* one = found; one != nullptr; one = one->ai_next) {
    if (one->ai_family != AF_INET && one->ai_family != AF_INET6) continue;
    Address& address = addresses.emplace_back();
    std::memcpy(&address.bytes, one->ai_addr, one->ai_addrlen);
    address.size = one->ai_addrlen;
    if (!IsWildcard(address.bytes)) continue;
    // Either wildcard stands for both families, where the machine has IPv6.
    Address both;
    auto& any = reinterpret_cast<sockaddr_in6&>(both.bytes);
    any.sin6_family = AF_INET6;
    any.sin6_addr = in6addr_any;
    both.size = sizeof(any);
    both.both_families = true;
    SetPort(both.bytes,
            ntohs(address.bytes.ss_family == AF_INET6 ? reinterpret_cast<const sockaddr_in6&>(address.bytes).sin6_port
                                                      : reinterpret_cast<const sockaddr_in&>(address.bytes).sin_port));
    const int probe = NewSocket(AF_INET6);
    if (probe >= 0) close(probe);
    return std::vector<Address>{probe >= 0 ? both : address};
  }
  if (addresses.empty()) return CannotListen(listen, "the host has no IPv4 or IPv6 address");
  return addresses;
}

std::string Described(const Address& address) {
  char host[NI_MAXHOST] = "?";
  char port[NI_MAXSERV] = "?";
  getnameinfo(reinterpret_cast<const sockaddr*>(&address.bytes), address.size, host, sizeof(host), port, sizeof(port),
              NI_NUMERICHOST | NI_NUMERICSERV);
  return absl::StrCat(host, " port ", port);
}

}  // namespace

ListenSockets::ListenSockets(ListenSockets&& other) noexcept { *this = std::move(other); }

ListenSockets& ListenSockets::operator=(ListenSockets&& other) noexcept {
  if (this == &other) return *this;
  Close();
  descriptors_ = std::exchange(other.descriptors_, {});
  address_ = std::exchange(other.address_, {});
  path_ = std::exchange(other.path_, {});
  device_ = other.device_;
  inode_ = other.inode_;
  return *this;
}

void ListenSockets::Close() {
  struct stat file {};
  if (!path_.empty() && lstat(path_.c_str(), &file) == 0 && file.st_dev == device_ && file.st_ino == inode_) {
    unlink(path_.c_str());
  }
  path_.clear();
  for (const int descriptor : descriptors_) close(descriptor);
  descriptors_.clear();
}

absl::StatusOr<ListenSockets> ListenSockets::Bind(const std::string& listen) {
  if (absl::Status status = CheckListen(listen); !status.ok()) return status;
  if (absl::StartsWith(listen, kUnix)) return BindUnix(listen);
  return BindHost(listen);
}

absl::StatusOr<ListenSockets> ListenSockets::BindUnix(const std::string& listen) {
  sockaddr_storage bytes{};
  auto& address = reinterpret_cast<sockaddr_un&>(bytes);
  address.sun_family = AF_UNIX;
  const std::string path = listen.substr(std::strlen(kUnix));
  path.copy(address.sun_path, sizeof(address.sun_path) - 1);
  unlink(path.c_str());  // what CheckListen found to be a socket that nobody listens on, if anything
  const int descriptor = Listen(bytes, sizeof(address), false);
  if (descriptor < 0) {
    return CannotListen(listen, absl::StrCat(std::strerror(errno), "; does the directory exist, and is it writable?"));
  }
  ListenSockets sockets;
  sockets.descriptors_.push_back(descriptor);
  sockets.address_ = listen;
  struct stat file {};
  if (lstat(path.c_str(), &file) == 0) {
    sockets.path_ = path;
    sockets.device_ = file.st_dev;
    sockets.inode_ = file.st_ino;
  }
  return sockets;
}

absl::StatusOr<ListenSockets> ListenSockets::BindHost(const std::string& listen) {
  absl::StatusOr<std::vector<Address>> addresses = Resolve(listen);
  if (!addresses.ok()) return addresses.status();
  const std::size_t colon = listen.rfind(':');
  const bool any_port = listen.find_first_not_of('0', colon + 1) == std::string::npos;
  for (int attempt = 1;; ++attempt) {
    ListenSockets sockets;
    std::vector<std::string> failed;
    int first_error = 0;
    int port = 0;
    bool taken = false;
    for (Address& address : *addresses) {
      if (any_port) SetPort(address.bytes, port);
      const int descriptor = Listen(address.bytes, address.size, address.both_families);
      if (descriptor >= 0) {
        sockets.descriptors_.push_back(descriptor);
        if (port == 0) port = PortOf(descriptor);
        continue;
      }
      taken = taken || errno == EADDRINUSE;
      if (first_error == 0) first_error = errno;
      failed.push_back(absl::StrCat(Described(address), " (", std::strerror(errno), ")"));
    }
    if (sockets.descriptors_.empty()) return CannotListen(listen, std::strerror(first_error));
    if (any_port && taken && attempt < kPortsToTry) continue;
    for (const std::string& one : failed)
      Log().error("not listening on {}, only on the other addresses of {}", one, listen);
    sockets.address_ = absl::StrCat(listen.substr(0, colon), ":", port);
    return sockets;
  }
}

}  // namespace iterand
