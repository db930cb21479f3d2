#include "clients/cli/run_until_signal.h"

#include <pthread.h>

#include <chrono>
#include <csignal>
#include <cstdlib>
#include <memory>
#include <thread>

#include "absl/status/statusor.h"
#include "clients/cli/second_signal.h"
#include "server/log.h"

namespace iterand::cli {

absl::Status RunUntilSignal(const ServerOptions& options, std::ostream& out) {
  sigset_t signals;
  sigset_t before;
  sigemptyset(&signals);
  sigaddset(&signals, SIGTERM);
  sigaddset(&signals, SIGINT);
  pthread_sigmask(SIG_BLOCK, &signals, &before);

  absl::StatusOr<std::unique_ptr<Server>> server = Server::Start(options);
  if (server.ok()) {
    out << "listening on " << (*server)->address() << std::endl;
    if (!options.metrics_listen.empty()) out << "metrics on " << (*server)->metrics_address() << std::endl;
    Log().info("serving on {}", (*server)->address());

    int signal = 0;
    sigwait(&signals, &signal);
    Log().info("{}: draining", signal == SIGTERM ? "SIGTERM" : "SIGINT");
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
    pthread_sigmask(SIG_UNBLOCK, &signals, nullptr);
    drain.join();
    const EngineStats stats = (*server)->stats();
    Log().info("stopped after {} sequences in {} batches", stats.sequences, stats.batches);
    server->reset();
  }
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
  return server.status();
}

}  // namespace iterand::cli
