// The options that name a server and say how to reach it. Every command that has --server has them.
#pragma once

#include <memory>
#include <string>

#include "CLI/CLI.hpp"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "clients/cpp/rpc_client.h"

namespace iterand::cli {

struct ServerChoice {
  std::string address;  // empty: no server, generate in this process
  std::string ca_file;
  std::string tls_cert_file;
  std::string tls_key_file;
  std::string tls_server_name;
  std::string token_file;
  bool tls = false;
  double connect_timeout = 3;  // seconds

  void AddTo(CLI::App& command);
  bool local() const { return address.empty(); }

  // Must not be local. Errors: as Client::Connect.
  absl::StatusOr<std::unique_ptr<RpcClient>> Connect() const;

  // `status` of a call to the server, with its address and with the option to use, unless the message has them.
  absl::Status Annotate(const absl::Status& status) const;
};

}  // namespace iterand::cli
