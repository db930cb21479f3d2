// The part of ConnectionGuard that accepts connections, on a thread of its own.
#include <fcntl.h>
#include <linux/tcp.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "server/connection_guard.h"

namespace iterand {
namespace {

constexpr int kAcceptsAtOnce = 64;
constexpr auto kIdleBefore = std::chrono::seconds(1);  // a connection may be closed to make room
constexpr int kCandidates = 16;

// Whether the peer is gone already: then nothing that it has sent can be answered.
bool IsHungUp(int descriptor) {
  pollfd set{.fd = descriptor, .events = 0, .revents = 0};
  return poll(&set, 1, 0) > 0 && (set.revents & (POLLHUP | POLLERR)) != 0;
}

}  // namespace

void ConnectionGuard::AcceptLoop() {
  std::vector<pollfd> sets{{.fd = stop_accepting_, .events = POLLIN, .revents = 0}};
  for (const int listener : sockets_.descriptors()) sets.push_back({.fd = listener, .events = POLLIN, .revents = 0});
  for (;;) {
    const auto pause = std::chrono::ceil<std::chrono::milliseconds>(pause_until_.load() - Clock::now()).count();
    const bool paused = pause > 0;
    poll(sets.data(), paused ? 1 : sets.size(), paused ? static_cast<int>(pause) : -1);
    if (sets[0].revents != 0) return;
    if (paused) continue;
    for (std::size_t i = 1; i < sets.size(); ++i) {
      if (sets[i].revents == 0) continue;
      for (int n = 0; n < kAcceptsAtOnce && pause_until_.load() < Clock::now(); ++n) {
        if (!AcceptOne(sets[i].fd)) break;
      }
    }
  }
}

bool ConnectionGuard::AcceptOne(int listener) {
  sockaddr_storage address{};
  socklen_t size = sizeof(address);
  const int descriptor = accept4(listener, reinterpret_cast<sockaddr*>(&address), &size, SOCK_NONBLOCK | SOCK_CLOEXEC);
  if (descriptor >= 0) {
    if (IsHungUp(descriptor)) {
      close(descriptor);
    } else {
      Take(descriptor, PeerOf(address));
    }
    return true;
  }
  switch (errno) {
    case EAGAIN:
      return false;
    case EMFILE:
    case ENFILE:
    case ENOBUFS:
    case ENOMEM:
      return OutOfDescriptors(listener, errno);
    default:  // errors of the connection, not of the socket that listens
      return true;
  }
}

// Refuses the waiting connection with the descriptor reserved for this purpose. Its peer would wait endlessly
// otherwise.
bool ConnectionGuard::OutOfDescriptors(int listener, int error) {
  {
    std::lock_guard lock(mutex_);
    Note(ConnectionEnd::kFiles, absl::StrCat("a peer (", std::strerror(error), ")"));
  }
  if (spare_ >= 0) close(spare_);
  const int descriptor = accept4(listener, nullptr, nullptr, SOCK_CLOEXEC);
  if (descriptor >= 0) close(descriptor);
  spare_ = open("/dev/null", O_RDONLY | O_CLOEXEC);
  if (descriptor >= 0 && spare_ >= 0) return true;
  Pause();
  return false;
}

void ConnectionGuard::Take(int descriptor, Peer peer) {
  const int on = 1;
  setsockopt(descriptor, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
  const int duplicate = fcntl(descriptor, F_DUPFD_CLOEXEC, 0);
  {
    std::lock_guard lock(mutex_);
    if (duplicate < 0) Note(ConnectionEnd::kFiles, absl::StrCat(peer.name, " (", std::strerror(errno), ")"));
    if (duplicate < 0 || !MakeRoom(peer)) {
      if (duplicate >= 0) close(duplicate);
      close(descriptor);
      return;
    }
    const std::uint64_t id = next_id_++;
    Connection& connection = connections_[id];
    connection.descriptor = duplicate;
    connection.last_traffic = Clock::now();
    connection.judge = std::make_unique<ConnectionJudge>(limits_, connection.last_traffic);
    if (peer.group != kUnixGroup) connection.calls = calls_->Add(peer.name);
    ++per_group_[peer.group];
    connection.peer = std::move(peer);
    ++stats_.open;
    ++stats_.accepted;
    // A hang-up is reported always, traffic once.
    epoll_event event{.events = EPOLLIN | EPOLLONESHOT, .data = {.u64 = id}};
    epoll_ctl(epoll_, EPOLL_CTL_ADD, duplicate, &event);
  }
  grpc::experimental::ExternalConnectionAcceptor::NewConnectionParameters parameters;
  parameters.listener_fd = -1;
  parameters.fd = descriptor;  // gRPC's from here on
  acceptor_->HandleNewConnection(&parameters);
}

bool ConnectionGuard::MakeRoom(const Peer& peer) {
  const auto group = per_group_.find(peer.group);
  if (peer.group != kUnixGroup && group != per_group_.end() && group->second >= limits_.per_peer &&
      !CloseIdleOf(peer.group)) {
    Note(ConnectionEnd::kPeer, peer.name);
    return false;
  }
  if (stats_.open < limits_.total) return true;
  const auto largest = std::max_element(per_group_.begin(), per_group_.end(),
                                        [](const auto& a, const auto& b) { return a.second < b.second; });
  if (largest != per_group_.end() && CloseIdleOf(std::string(largest->first))) return true;
  Note(ConnectionEnd::kTotal, peer.name);
  return false;
}

// Closes the connection of this group that was silent longest and has no call in progress.
bool ConnectionGuard::CloseIdleOf(const std::string& group) {
  if (group == kUnixGroup) return false;
  const Clock::time_point before = Clock::now() - kIdleBefore;
  std::vector<std::pair<Clock::time_point, std::uint64_t>> candidates;
  for (const auto& [id, connection] : connections_) {
    if (connection.descriptor < 0 || connection.has_traffic || connection.last_traffic > before) continue;
    if (connection.peer.group == group) candidates.emplace_back(connection.last_traffic, id);
  }
  const std::size_t few = std::min<std::size_t>(kCandidates, candidates.size());
  std::partial_sort(candidates.begin(), candidates.begin() + static_cast<std::ptrdiff_t>(few), candidates.end());
  for (std::size_t i = 0; i < few; ++i) {
    Connection& connection = connections_.at(candidates[i].second);
    Count(connection);
    if (connection.counts.open() > 0) {
      connection.last_traffic = Clock::now();  // others come first next time
      continue;
    }
    Note(ConnectionEnd::kIdle, connection.peer.name);
    Abort(connection.descriptor);
    Forget(candidates[i].second);
    return true;
  }
  return false;
}

}  // namespace iterand
