// The token that calls must carry, if the server has one.
#pragma once

#include <grpcpp/server_context.h>

#include <string>

#include "absl/status/status.h"

namespace iterand {

class Authenticator {
 public:
  // Empty: every call may pass.
  explicit Authenticator(const std::string& token);

  // Unauthenticated if the call's metadata lacks "authorization: Bearer TOKEN". Takes the same time for every token.
  absl::Status Check(const grpc::ServerContextBase& context) const;

 private:
  const bool needed_;
  const std::string digest_;  // of the metadata's value
};

}  // namespace iterand
