// The tokens that calls must carry, if the server has some.
#pragma once

#include <grpcpp/server_context.h>

#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"

namespace iterand {

// Thread-safe.
class Authenticator {
 public:
  // Accepts each of `tokens`. If there are none, every call may pass, also after SetTokens.
  explicit Authenticator(const std::vector<std::string>& tokens);

  // Replaces the accepted tokens, of which there must be at least one. Calls that were accepted continue.
  void SetTokens(const std::vector<std::string>& tokens);

  // Unauthenticated if the call's metadata lacks "authorization: Bearer TOKEN". Takes the same time for every token.
  absl::Status Check(const grpc::ServerContextBase& context) const;

  // The same of the value of an HTTP header "authorization"; empty: there is none.
  absl::Status CheckValue(std::string_view authorization) const;

 private:
  using Digests = std::vector<std::string>;  // of the metadata's values

  absl::Status CheckValues(const std::vector<std::string_view>& values) const;

  const bool needed_;
  mutable std::mutex mutex_;
  std::shared_ptr<const Digests> digests_;  // guarded by mutex_
};

}  // namespace iterand
