// Sockets that listen at the address of --listen.
#pragma once

#include <sys/types.h>

#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace iterand {

// The sockets of one address. Moving it moves the sockets.
class ListenSockets {
 public:
  // Binds "host:port", "[ipv6]:port" or "unix:path", and listens. A host may have several addresses: all that can be
  // bound are bound, at the same port, and the log names the others. A wildcard address listens on IPv4 and IPv6. A
  // unix socket that a killed server left behind is replaced. The sockets do not block.
  // Errors: InvalidArgument for an address of another form, or a path that is not a socket; Unavailable for an address
  // that cannot be resolved or bound, or where a server is listening.
  static absl::StatusOr<ListenSockets> Bind(const std::string& listen);

  ~ListenSockets() { Close(); }
  ListenSockets(ListenSockets&& other) noexcept;
  ListenSockets& operator=(ListenSockets&& other) noexcept;

  // Stops listening, and removes the socket's file, unless another server has replaced it.
  void Close();

  const std::vector<int>& descriptors() const { return descriptors_; }

  // The address with the port that was taken.
  const std::string& address() const { return address_; }

 private:
  ListenSockets() = default;
  static absl::StatusOr<ListenSockets> BindUnix(const std::string& listen);
  static absl::StatusOr<ListenSockets> BindHost(const std::string& listen);

  std::vector<int> descriptors_;
  std::string address_;
  std::string path_;  // of a unix socket
  dev_t device_ = 0;  // of its file
  ino_t inode_ = 0;
};

}  // namespace iterand
