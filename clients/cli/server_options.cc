#include "clients/cli/server_options.h"

#include <chrono>
#include <cstdint>
#include <cstdio>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "clients/cli/arguments.h"
#include "common/printable.h"
#include "common/read_file.h"
#include "common/status_message.h"

namespace iterand::cli {

void ServerChoice::AddTo(CLI::App& command) {
  constexpr char kGroup[] = "Server";
  CLI::Option* server =
      command.add_option("--server", address, "Ask the server at this address instead of generating in this process")
          ->type_name("ADDR")
          // An empty value (--server "$UNSET") must fail and not silently generate in this process.
          ->check([](const std::string& text) {
            return text.empty() ? "is empty, must be an address: HOST:PORT or unix:PATH" : std::string();
          })
          ->group(kGroup);
  command.add_flag("--tls", tls, "Encrypt the connection, trusting the system's certificate authorities")
      ->needs(server)
      ->group(kGroup);
  command.add_option("--ca-file", ca_file, "Encrypt the connection, trusting the authorities of this PEM file")
      ->type_name("FILE")
      ->needs(server)
      ->group(kGroup);
  CLI::Option* certificate =
      command.add_option("--tls-cert", tls_cert_file, "Client certificate (PEM), for a server that asks for one")
          ->type_name("FILE")
          ->needs(server)
          ->group(kGroup);
  CLI::Option* key = command.add_option("--tls-key", tls_key_file, "Private key (PEM) of the client certificate")
                         ->type_name("FILE")
                         ->needs(server)
                         ->group(kGroup);
  certificate->needs(key);
  key->needs(certificate);
  command
      .add_option("--tls-server-name", tls_server_name, "Name in the server's certificate, if not the address's host")
      ->type_name("NAME")
      ->needs(server)
      ->group(kGroup);
  command.add_option("--token-file", token_file, "File whose first line is a secret that the server asks for")
      ->type_name("FILE")
      ->needs(server)
      ->group(kGroup);
  command.add_option("--connect-timeout", connect_timeout, "Seconds to try to reach the server")
      ->type_name("S")
      ->check(RealNumber(0.001, 3600))
      ->capture_default_str()
      ->needs(server)
      ->group(kGroup);
}

absl::StatusOr<std::unique_ptr<RpcClient>> ServerChoice::Connect() const {
  ClientOptions options;
  options.tls = tls;
  options.ca_file = ca_file;
  options.tls_cert_file = tls_cert_file;
  options.tls_key_file = tls_key_file;
  options.tls_server_name = tls_server_name;
  options.connect_timeout = std::chrono::milliseconds(static_cast<std::int64_t>(connect_timeout * 1000));
  options.report = [](const std::string& line) { std::fprintf(stderr, "iterand: %s\n", Printable(line).c_str()); };
  options.token_file = token_file;
  for (const std::string& file : {tls_key_file, token_file}) {
    const std::string warning = file.empty() ? "" : SecretFileWarning(file);
    if (!warning.empty()) std::fprintf(stderr, "iterand: warning: %s\n", Printable(warning).c_str());
  }
  return RpcClient::Connect(address, options);
}

absl::Status ServerChoice::Annotate(const absl::Status& status) const {
  if (absl::StartsWith(status.message(), address)) return status;
  switch (status.code()) {
    case absl::StatusCode::kUnauthenticated:
      return WithMessage(status, absl::StrCat("server ", address, ": ", status.message(),
                                              token_file.empty() ? " (--token-file FILE sends it)" : ""));
    // For a server that is gone, or is not iterand's, gRPC only reports "Socket closed" or "status: 404".
    case absl::StatusCode::kUnavailable:
    case absl::StatusCode::kUnimplemented:
    case absl::StatusCode::kInternal:
    case absl::StatusCode::kUnknown:
      return WithMessage(status, absl::StrCat("server ", address, ": ", status.message()));
    default:
      return status;
  }
}

}  // namespace iterand::cli
