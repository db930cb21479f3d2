// iterand serve: the gRPC server, until SIGTERM or Ctrl-C.

#include <malloc.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstdint>
#include <iostream>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/str_cat.h"
#include "clients/cli/arguments.h"
#include "clients/cli/command.h"
#include "clients/cli/run_until_signal.h"
#include "server/server.h"

namespace iterand::cli {
namespace {

// Sends this process SIGTERM when standard input ends, from a thread that takes no signals itself.
void EndWithStandardInput() {
  sigset_t all;
  sigset_t before;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  std::thread([] {
    char ignored[256];
    ssize_t got = 0;
    do {
      got = read(STDIN_FILENO, ignored, sizeof(ignored));
    } while (got > 0 || (got < 0 && errno == EINTR));
    kill(getpid(), SIGTERM);
  }).detach();
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
}

// Workspaces of streams, many of which have megabytes, go back to the system when they are freed. By default malloc
// would raise its threshold to 32 MB and keep up to 64 MB in each of its arenas. The limit for trimming stays high,
// since batches come and go in smaller blocks.
void ReturnLargeBlocks() {
  mallopt(M_MMAP_THRESHOLD, 4 << 20);
  mallopt(M_TRIM_THRESHOLD, 32 << 20);
}

// The options of `iterand serve`, some of them in other units than those of ServerOptions.
struct ServeFlags {
  ServerOptions options;
  std::int64_t drain_seconds = Seconds(options.drain);
  std::int64_t request_seconds = Seconds(options.request_timeout);
  std::int64_t handshake_seconds = Seconds(options.handshake_timeout);
  bool until_stdin_ends = false;

  static std::int64_t Seconds(std::chrono::milliseconds time) {
    return std::chrono::duration_cast<std::chrono::seconds>(time).count();
  }
};

// An empty value (--http "$UNSET") must fail and not silently leave the page or the metrics out.
std::string NotEmpty(const std::string& text) {
  return text.empty() ? "is empty, must be an address: HOST:PORT" : std::string();
}

void AddGeneralFlags(CLI::App& command, ServeFlags& flags) {
  ServerOptions& options = flags.options;
  command.add_option("--listen", options.listen, "HOST:PORT, [IPV6]:PORT or unix:PATH; port 0 takes a free one")
      ->type_name("ADDR")
      ->capture_default_str();
  command.add_option("--threads", options.threads, "Threads that generate; 0: one per core")
      ->type_name("N")
      ->check(WholeNumber(0, 4096))
      ->capture_default_str();
  command.add_option("--address-file", options.address_file, "Write the bound address to this file when ready")
      ->type_name("FILE");
  command.add_flag("--until-stdin-ends", flags.until_stdin_ends,
                   "End as on SIGTERM when standard input ends, such as a pipe whose program was killed");
  command.add_option("--metrics-listen", options.metrics_listen, "Serve Prometheus metrics at http://ADDR/metrics")
      ->type_name("ADDR")
      ->check(NotEmpty);
  command
      .add_option("--http", options.http_listen, "Serve a page that shows the streams, for browsers, at this address")
      ->type_name("ADDR")
      ->check(NotEmpty);
  command.add_option("--log-level", options.log_level, "The least that is logged: debug, info, error or off")
      ->type_name("LEVEL")
      ->check(CLI::IsMember(std::vector<std::string>(kLogLevels.begin(), kLogLevels.end())))
      ->capture_default_str();

  command
      .add_option("--snapshot-dir", options.snapshot_dir,
                  "Keep the pools of up-paper and its like in this folder, so that a restart continues from them")
      ->type_name("DIR");
}

void AddSecurityFlags(CLI::App& command, ServerOptions& options) {
  constexpr char kSecurity[] = "Security";
  CLI::Option* certificate =
      command.add_option("--tls-cert", options.tls_cert_file, "Certificate chain (PEM); encrypts connections")
          ->type_name("FILE")
          ->group(kSecurity);
  CLI::Option* key = command.add_option("--tls-key", options.tls_key_file, "Private key (PEM) of the certificate")
                         ->type_name("FILE")
                         ->group(kSecurity);
  certificate->needs(key);
  key->needs(certificate);
  command
      .add_option("--tls-client-ca", options.tls_client_ca_file,
                  "Only clients with a certificate that these authorities (PEM) have signed may connect")
      ->type_name("FILE")
      ->needs(certificate)
      ->group(kSecurity);
  command
      .add_option("--token-file", options.token_file,
                  "File with secrets, one per line; every call must carry one of them")
      ->type_name("FILE")
      ->group(kSecurity);
  command
      .add_flag("--insecure-public", options.insecure_public,
                "Listen where other machines can connect, although TLS is missing, or both token and client CA")
      ->group(kSecurity);
}

void AddLimitFlags(CLI::App& command, ServeFlags& flags) {
  constexpr char kLimits[] = "Limits";
  ServerOptions& options = flags.options;
  const auto add_size = [&](const char* name, std::size_t& value, const char* description) {
    command.add_option(name, value, description)
        ->type_name("SIZE")
        ->transform(ByteSize())
        ->default_str(absl::StrCat(value >> 20, "mb"))
        ->group(kLimits);
  };
  add_size("--cache-bytes", options.cache_bytes, "Segments kept for other clients of the same stream");
  add_size("--readahead-bytes", options.readahead_bytes, "How far a stream runs ahead of its client");
  add_size("--max-stream-bytes", options.max_stream_bytes, "The most that one stream may hold");
  add_size("--snapshot-bytes", options.snapshot_bytes, "The most that --snapshot-dir may take on disk");
  add_size("--max-batch-bytes", options.max_batch_bytes, "The largest batch message");
  command.add_option("--max-streams", options.max_streams, "Calls that may be open at a time")
      ->type_name("N")
      ->check(WholeNumber(1, 1000000))
      ->capture_default_str()
      ->group(kLimits);
  command.add_option("--request-timeout", flags.request_seconds, "How long a call may take to send its whole request")
      ->type_name("SECONDS")
      ->check(WholeNumber(1, 3600))
      ->capture_default_str()
      ->group(kLimits);
  command.add_option("--max-connections", options.max_connections, "Connections that may be open at a time")
      ->type_name("N")
      ->check(WholeNumber(1, 1000000))
      ->capture_default_str()
      ->group(kLimits);
  command
      .add_option("--max-connections-per-peer", options.max_connections_per_peer,
                  "The same of one IPv4 address or one IPv6 network of 64 bits")
      ->type_name("N")
      ->check(WholeNumber(1, 1000000))
      ->capture_default_str()
      ->group(kLimits);
  command
      .add_option("--handshake-timeout", flags.handshake_seconds,
                  "How long a connection may take to complete the handshakes of TLS and HTTP/2")
      ->type_name("SECONDS")
      ->check(WholeNumber(1, 3600))
      ->capture_default_str()
      ->group(kLimits);
  command.add_option("--drain", flags.drain_seconds, "How long calls in flight may continue after SIGTERM")
      ->type_name("SECONDS")
      ->check(WholeNumber(0, 86400))
      ->capture_default_str()
      ->group(kLimits);
}

}  // namespace

void AddServe(CLI::App& app, Action& action) {
  auto flags = std::make_shared<ServeFlags>();
  CLI::App* command = app.add_subcommand("serve", "Serve streams over gRPC until SIGTERM or Ctrl-C");
  command->footer(
      "SIZE is a number of bytes, or one with kb, mb or gb (1kb = 1024 bytes).\n"
      "SIGTERM and Ctrl-C let calls in flight end and exit with status 0; a second signal cuts that short.\n"
      "SIGHUP reads certificate, key, client authorities and tokens again; connections continue.");
  AddGeneralFlags(*command, *flags);
  AddSecurityFlags(*command, flags->options);
  AddLimitFlags(*command, *flags);
  command->callback([flags, &action] {
    action = [flags] {
      ServerOptions& options = flags->options;
      options.drain = std::chrono::seconds(flags->drain_seconds);
      options.request_timeout = std::chrono::seconds(flags->request_seconds);
      options.handshake_timeout = std::chrono::seconds(flags->handshake_seconds);
      ReturnLargeBlocks();
      if (flags->until_stdin_ends) EndWithStandardInput();
      return RunUntilSignal(options, std::cout);
    };
  });
}

}  // namespace iterand::cli
