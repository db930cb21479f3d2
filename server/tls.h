// The server's side of TLS: certificate, key and client authorities, which may be replaced while it serves.
#pragma once

#include <grpcpp/security/server_credentials.h>

#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

struct ssl_ctx_st;  // OpenSSL's SSL_CTX
struct ssl_st;      // and SSL

namespace iterand {

// Names of PEM files.
struct TlsFiles {
  std::string cert;       // certificate chain
  std::string key;        // its private key
  std::string client_ca;  // authorities that clients' certificates must come from; empty: clients need none
};

// The certificates of a listening port. Thread-safe.
class ServerTls {
 public:
  // Null without files. Errors: InvalidArgument if only one of certificate and key is given, if client authorities are
  // given without both, or if the files hold nothing that can be used; NotFound for files that cannot be read.
  static absl::StatusOr<std::shared_ptr<ServerTls>> Load(const TlsFiles& files);

  ~ServerTls();
  ServerTls(const ServerTls&) = delete;
  ServerTls& operator=(const ServerTls&) = delete;

  // Reads the files again. Handshakes that begin later use what they hold now; connections continue. If there is an
  // error, as Load has, nothing changes.
  absl::Status Reload();

  // Has handshakes of a context of OpenSSL use what the files hold. `tls` must outlive the context.
  static void Configure(const std::shared_ptr<ServerTls>& tls, ssl_ctx_st* context);

  // For one listening port. The credentials keep this object.
  static std::shared_ptr<grpc::ServerCredentials> Credentials(const std::shared_ptr<ServerTls>& tls);

 private:
  class PortCredentials;
  struct State;
  explicit ServerTls(TlsFiles files);
  static int Furnish(ssl_st* handshake, void* self);

  const TlsFiles files_;
  const std::unique_ptr<State> state_;
};

}  // namespace iterand
