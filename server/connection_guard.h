// Accepts the connections of a gRPC server, bounds them, and closes those that cost too much.
//
// gRPC 1.51, which the distributions have, stops accepting for good when descriptors run out, and does not bound the
// number of connections. It enforces its other bounds only on peers that acknowledge them. A thread of the guard
// therefore accepts connections and hands each to gRPC. The guard keeps a duplicate of each descriptor: to see when the
// connection ends, to count its bytes, and to close it.
#pragma once

#include <grpcpp/server_builder.h>

#include <array>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <unordered_map>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/functional/function_ref.h"
#include "server/call_watch.h"
#include "server/connection_judge.h"
#include "server/connection_limits.h"
#include "server/listen_sockets.h"
#include "server/peer.h"
#include "server/stream_counts.h"

namespace iterand {

class ConnectionGuard {
 public:
  // `calls` must outlive the guard.
  ConnectionGuard(ListenSockets sockets, const ConnectionLimits& limits, CallWatch* calls);
  ~ConnectionGuard();  // CloseAll

  // Starts accepting, for a gRPC server that has started.
  void Start(std::unique_ptr<grpc::experimental::ExternalConnectionAcceptor> acceptor);

  // Stops accepting, and closes the listening sockets. No connection reaches gRPC after the return. Must be called
  // before the gRPC server is shut down.
  void StopAccepting();

  // Closes all connections and ends the thread.
  void CloseAll();

  const std::string& address() const { return address_; }
  ConnectionStats stats() const;

 private:
  using Clock = std::chrono::steady_clock;

  struct Connection {
    int descriptor = -1;  // a duplicate of gRPC's; -1 once closed for cause, while gRPC still holds memory for it
    Peer peer;
    std::shared_ptr<CallTotals> calls;
    std::unique_ptr<ConnectionJudge> judge;
    ConnectionCounts counts;
    std::int64_t number = 0;          // gRPC's; 0: not known yet
    double unreleased = 0;            // unaccounted bytes, once closed for cause
    std::uint64_t bytes_at_look = 0;  // bytes_in when its streams were last counted
    Clock::time_point last_traffic;
    bool gone = false;         // gRPC has released it
    bool has_traffic = false;  // since it was last looked at
  };
  void AcceptLoop();             // of accepting_
  bool AcceptOne(int listener);  // false: nothing more for now
  bool OutOfDescriptors(int listener, int error);
  void Take(int descriptor, Peer peer);
  void Pause();  // accepts nothing for a moment

  void GuardLoop();  // of guarding_
  // For all that follows, mutex_ must be held.
  // Makes room for a connection of this group; false if it must be refused.
  bool MakeRoom(const Peer& peer);
  bool CloseIdleOf(const std::string& group);
  void Look();                           // at all connections with traffic
  void Measure(Connection& connection);  // its bytes, and its streams if there are more bytes
  bool Count(Connection& connection);    // its streams; false if gRPC has no such connection
  // Closes both directions, and throws away what the peer has sent: gRPC would still read it.
  static void Abort(int descriptor);
  void CloseLargestFlood();
  void CloseMostCalls(std::uint64_t bound, std::uint64_t few, absl::FunctionRef<bool(const ConnectionCounts&)> counted);
  void CloseForCause(std::uint64_t id, ConnectionEnd why);
  void HangUp(std::uint64_t id);  // the peer has, so nothing that it has sent can be answered
  void Forget(std::uint64_t id);
  void Note(ConnectionEnd why, const std::string& whom);
  void Report();
  void ReportIfDue(Clock::time_point now);

  const ConnectionLimits limits_;
  CallWatch* const calls_;
  const std::string address_;
  ListenSockets sockets_;
  std::unique_ptr<grpc::experimental::ExternalConnectionAcceptor> acceptor_;
  int spare_ = -1;           // a descriptor to give up when there are no more
  int stop_accepting_ = -1;  // events
  int stop_guarding_ = -1;
  int epoll_ = -1;
  std::atomic<Clock::time_point> pause_until_{};

  mutable std::mutex mutex_;
  std::unordered_map<std::uint64_t, Connection> connections_;
  std::vector<std::uint64_t> released_;  // closed for cause; gRPC has not released their memory yet
  absl::flat_hash_map<std::string, int> per_group_;
  std::unordered_map<std::string, Clock::time_point> offenders_;  // until when
  StreamCounter streams_;
  std::uint64_t next_id_ = 1;
  bool alert_ = false;  // something is wrong: look more often
  ConnectionStats stats_;
  struct Noted {
    std::uint64_t times = 0;
    std::string last;
  };
  std::array<Noted, kConnectionEnds.size()> noted_;
  Clock::time_point next_report_;

  std::atomic<bool> stop_{false};
  // Two, since gRPC may keep the thread that hands a connection over busy with what that connection sends.
  std::thread accepting_;
  std::thread guarding_;
};

}  // namespace iterand
