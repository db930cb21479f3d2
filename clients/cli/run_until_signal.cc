#include "clients/cli/run_until_signal.h"

#include <pthread.h>

#include <chrono>
#include <csignal>
#include <cstdlib>
#include <memory>
#include <thread>

#include "absl/status/statusor.h"
#include "clients/cli/second_signal.h"
#include "server/file_limit.h"
#include "server/log.h"

namespace iterand::cli {
namespace {

// Waits for the signal that ends the server; SIGHUP reloads it. The kernel's own SIGHUP means that the terminal is
// gone. It ends a server in the foreground there, unless the server was started to survive that (nohup).
int AwaitEnd(Server& server, const sigset_t& signals, bool survives_hangup) {
  for (;;) {
    siginfo_t info{};
    const int signal = sigwaitinfo(&signals, &info);
    if (signal == SIGTERM || signal == SIGINT) return signal;
    if (signal != SIGHUP) continue;  // interrupted, as by a debugger
    if (info.si_code != SI_KERNEL) {
      server.Reload().IgnoreError();  // it is logged
    } else if (!survives_hangup) {
      return signal;
    }
  }
}

const char* NameOf(int signal) {
  switch (signal) {
    case SIGTERM:
      return "SIGTERM";
    case SIGINT:
      return "SIGINT";
    default:
      return "the terminal is gone";
  }
}

}  // namespace

absl::Status RunUntilSignal(const ServerOptions& options, std::ostream& out) {
  sigset_t signals;
  sigset_t before;
  sigemptyset(&signals);
  for (const int signal : {SIGTERM, SIGINT, SIGHUP}) sigaddset(&signals, signal);
  pthread_sigmask(SIG_BLOCK, &signals, &before);
  struct sigaction hangup {};
  sigaction(SIGHUP, nullptr, &hangup);

  RaiseFileLimit();
  absl::StatusOr<std::unique_ptr<Server>> server = Server::Start(options);
  if (server.ok()) {
    out << "listening on " << (*server)->address() << std::endl;
    if (!options.metrics_listen.empty()) out << "metrics on " << (*server)->metrics_address() << std::endl;
    if (!options.http_listen.empty()) {
      out << "page at " << (options.tls_cert_file.empty() ? "http://" : "https://") << (*server)->http_address() << "/"
          << std::endl;
    }
    Log().info("serving on {}", (*server)->address());

    const int signal = AwaitEnd(**server, signals, hangup.sa_handler == SIG_IGN);
    Log().info("{}: draining", NameOf(signal));
    std::thread drain([&] { (*server)->Shutdown(options.drain); });
    // A second signal ends the process as it would without us: the drain is the only thing left to wait for.
    static SecondSignal second;
    second.Reset();
    second.Note();
    const auto end_at_the_second = [](int) {
      if (second.Note() == SecondSignal::Kind::kSecond) std::_Exit(0);
    };
    std::signal(SIGTERM, end_at_the_second);
    std::signal(SIGINT, end_at_the_second);
    // Nothing is left to reload for.
    std::signal(SIGHUP, SIG_IGN);
    pthread_sigmask(SIG_UNBLOCK, &signals, nullptr);
    drain.join();
    const ServerStats stats = (*server)->stats();
    Log().info("stopped after {} sequences in {} batches", stats.sequences, stats.batches);
    server->reset();
  }
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
  return server.status();
}

}  // namespace iterand::cli
