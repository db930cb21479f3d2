#include "server/listen_address.h"

#include <netdb.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <fstream>
#include <memory>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"

namespace iterand {
namespace {

using Addresses = std::unique_ptr<addrinfo, decltype(&freeaddrinfo)>;

// The addresses of HOST:PORT to listen on; null, with the reason, if there are none.
Addresses Resolve(const std::string& listen, std::string& why) {
  const std::size_t colon = listen.rfind(':');
  std::string host = listen.substr(0, colon);
  if (host.size() >= 2 && host.front() == '[' && host.back() == ']') host = host.substr(1, host.size() - 2);
  addrinfo hints{};
  hints.ai_socktype = SOCK_STREAM;
  hints.ai_flags = AI_PASSIVE;
  addrinfo* found = nullptr;
  const int error = getaddrinfo(host.c_str(), listen.c_str() + colon + 1, &hints, &found);
  if (error != 0) why = error == EAI_SYSTEM ? std::strerror(errno) : gai_strerror(error);
  return {error == 0 ? found : nullptr, freeaddrinfo};
}

bool IsLoopback(const sockaddr& address) {
  if (address.sa_family == AF_INET) {
    return ntohl(reinterpret_cast<const sockaddr_in&>(address).sin_addr.s_addr) >> 24 == IN_LOOPBACKNET;
  }
  if (address.sa_family != AF_INET6) return false;
  const in6_addr& ipv6 = reinterpret_cast<const sockaddr_in6&>(address).sin6_addr;
  if (IN6_IS_ADDR_V4MAPPED(&ipv6)) return ipv6.s6_addr[12] == IN_LOOPBACKNET;
  return IN6_IS_ADDR_LOOPBACK(&ipv6);
}

}  // namespace

bool HasPort(const std::string& listen) {
  const std::size_t colon = listen.rfind(':');
  int port = 0;
  // An IPv6 address without brackets has colons, and no port.
  return colon != std::string::npos && colon > 0 && (listen.find(':') == colon || listen[colon - 1] == ']') &&
         absl::SimpleAtoi(listen.substr(colon + 1), &port) && 0 <= port && port <= 65535;
}

absl::Status CheckListen(const std::string& listen) {
  if (absl::StartsWith(listen, "unix:")) {
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    const std::string path = listen.substr(std::strlen("unix:"));
    if (path.empty() || path.size() >= sizeof(address.sun_path)) {
      return absl::InvalidArgumentError(absl::StrCat("cannot listen on ", listen, ": the path must have 1 to ",
                                                     sizeof(address.sun_path) - 1, " bytes"));
    }
    path.copy(address.sun_path, path.size());
    struct stat file {};
    if (lstat(path.c_str(), &file) == 0 && !S_ISSOCK(file.st_mode)) {
      return absl::InvalidArgumentError(absl::StrCat("cannot listen on ", listen, ": the path is a ",
                                                     S_ISDIR(file.st_mode) ? "directory" : "file",
                                                     ", must be free or a socket"));
    }
    const int probe = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0);
    if (probe < 0) return absl::OkStatus();  // gRPC will fail, too
    const bool in_use = connect(probe, reinterpret_cast<const sockaddr*>(&address), sizeof(address)) == 0 ||
                        errno == EAGAIN;  // its queue is full
    close(probe);
    if (!in_use) return absl::OkStatus();
    return absl::UnavailableError(absl::StrCat("cannot listen on ", listen, ": a server is listening there"));
  }
  if (!HasPort(listen)) {
    return absl::InvalidArgumentError(absl::StrCat(
        "cannot listen on ", listen, ": it must be HOST:PORT, [IPV6]:PORT or unix:PATH, with a port from 0 to 65535"));
  }
  return absl::OkStatus();
}

absl::StatusOr<bool> IsPublic(const std::string& listen) {
  if (absl::StartsWith(listen, "unix:")) return false;
  std::string error;
  const Addresses found = Resolve(listen, error);
  if (!found) return absl::UnavailableError(absl::StrCat("cannot listen on ", listen, ": ", error));
  for (const addrinfo* entry = found.get(); entry != nullptr; entry = entry->ai_next) {
    if (!IsLoopback(*entry->ai_addr)) return true;
  }
  return false;
}

std::string WhyNot(const std::string& listen) {
  if (absl::StartsWith(listen, "unix:")) return "does the directory exist, and is it writable?";
  std::string why;
  const Addresses found = Resolve(listen, why);
  if (!found) return why;
  why = "it could not be bound";
  const int probe = socket(found->ai_family, found->ai_socktype, found->ai_protocol);
  if (probe >= 0) {
    const int reuse = 1;
    setsockopt(probe, SOL_SOCKET, SO_REUSEADDR, &reuse, sizeof(reuse));
    if (bind(probe, found->ai_addr, found->ai_addrlen) != 0) why = std::strerror(errno);
    close(probe);
  }
  return why;
}

absl::Status WriteAddressFile(const std::string& path, const std::string& address) {
  const std::string draft = absl::StrCat(path, ".", getpid());
  {
    std::ofstream file(draft, std::ios::trunc);
    file << address << "\n";
    if (!file.flush()) {
      return absl::InvalidArgumentError(
          absl::StrCat("cannot write the address file ", path, ": ", std::strerror(errno)));
    }
  }
  if (std::rename(draft.c_str(), path.c_str()) != 0) {
    const int error = errno;
    std::remove(draft.c_str());
    return absl::InvalidArgumentError(absl::StrCat("cannot write the address file ", path, ": ", std::strerror(error)));
  }
  return absl::OkStatus();
}

void RemoveAddressFile(const std::string& path, const std::string& address) {
  std::string found;
  if (std::getline(std::ifstream(path), found) && found == address) std::remove(path.c_str());
}

}  // namespace iterand
