// Addresses that a server listens on: their forms, whether they are free, and files that name them.
#pragma once

#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace iterand {

// Whether an address is HOST:PORT or [IPV6]:PORT, with a port from 0 to 65535. gRPC itself would take port 443 where
// there is none, and a port that is too large modulo 65 536.
bool HasPort(const std::string& listen);

// Checks an address before gRPC binds it: HOST:PORT, [IPV6]:PORT or unix:PATH. Errors: InvalidArgument for another form
// and for a path of something other than a socket, Unavailable for a unix socket on which a server listens. gRPC would
// take that socket away from the server.
absl::Status CheckListen(const std::string& listen);

// Whether other machines can reach a server that listens there: an address of HOST is not a loopback one. A unix socket
// is local. Errors: Unavailable for a host that is not found.
absl::StatusOr<bool> IsPublic(const std::string& listen);

// Why nothing can listen on an address of a valid form. The libraries that bind report only that they failed.
std::string WhyNot(const std::string& listen);

// Writes the address as one line, whole or not at all: a reader that polls for the file never sees half an address.
// InvalidArgument if the file cannot be written.
absl::Status WriteAddressFile(const std::string& path, const std::string& address);

// Removes the file, unless another server has written its own address there since.
void RemoveAddressFile(const std::string& path, const std::string& address);

}  // namespace iterand
