// The server's side of TLS: certificate and key files, and what gRPC makes of them.
#pragma once

#include <grpcpp/security/server_credentials.h>

#include <memory>
#include <string>

#include "absl/status/statusor.h"

namespace iterand {

// The content of a file. NotFound, with `what` and the path, if it cannot be read or is empty.
absl::StatusOr<std::string> ReadFileFor(const std::string& what, const std::string& path);

// Credentials for a listening port. Two empty names: no encryption. Errors: InvalidArgument if only one is given, or if
// the files hold no certificate and key that belong together, NotFound for files that cannot be read.
absl::StatusOr<std::shared_ptr<grpc::ServerCredentials>> ServerCredentials(const std::string& cert_file,
                                                                           const std::string& key_file);

}  // namespace iterand
