#include "server/connection_guard.h"

#include <fcntl.h>
#include <linux/tcp.h>
#include <netinet/in.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <optional>
#include <string_view>
#include <utility>

#include "absl/strings/str_cat.h"
#include "server/log.h"

namespace iterand {
namespace {

constexpr std::uint64_t kWake = 0;  // connections are 1, 2, ...
constexpr auto kLookEvery = std::chrono::milliseconds(10);
constexpr auto kLookEveryAlert = std::chrono::milliseconds(4);
constexpr double kAlertBytes = 128 << 10;
constexpr double kWorthClosing = 64 << 10;  // unaccounted bytes of one connection, when all together have too many
constexpr auto kPause = std::chrono::milliseconds(20);  // when descriptors or memory ran out
constexpr auto kReportEvery = std::chrono::seconds(5);
constexpr auto kOffence = std::chrono::seconds(60);
constexpr int kIdleLookMilliseconds = 1000;
constexpr std::uint64_t kBytesPerLook = 1024;  // about 20 calls: fewer need not be counted
constexpr std::uint64_t kCallsToWatch = 64;    // in progress: they are counted whatever arrives
// Bound on the calls in progress of all connections without a call that may be served. gRPC takes about 25 kB for each.
// A connection of few calls is never closed for the sum: clients of a fleet that reconnects have one or two each.
constexpr std::uint64_t kMostCallsOfStrangers = 1024;
constexpr std::uint64_t kFewCalls = 16;
constexpr std::size_t kMostDiscarded = 64 << 20;
constexpr std::size_t kMostOffenders = 65536;

void Raise(int event) {
  const std::uint64_t one = 1;
  while (write(event, &one, sizeof(one)) < 0 && errno == EINTR) {
  }
}

}  // namespace

ConnectionGuard::ConnectionGuard(ListenSockets sockets, const ConnectionLimits& limits, CallWatch* calls)
    : limits_(limits), calls_(calls), address_(sockets.address()), sockets_(std::move(sockets)) {}

ConnectionGuard::~ConnectionGuard() {
  StopAccepting();
  CloseAll();
  for (const int descriptor : {spare_, stop_accepting_, stop_guarding_, epoll_}) {
    if (descriptor >= 0) close(descriptor);
  }
}

void ConnectionGuard::Start(std::unique_ptr<grpc::experimental::ExternalConnectionAcceptor> acceptor) {
  acceptor_ = std::move(acceptor);
  spare_ = open("/dev/null", O_RDONLY | O_CLOEXEC);
  stop_accepting_ = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
  stop_guarding_ = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
  epoll_ = epoll_create1(EPOLL_CLOEXEC);
  epoll_event event{.events = EPOLLIN, .data = {.u64 = kWake}};
  epoll_ctl(epoll_, EPOLL_CTL_ADD, stop_guarding_, &event);
  guarding_ = std::thread([this] { GuardLoop(); });
  accepting_ = std::thread([this] { AcceptLoop(); });
}

void ConnectionGuard::StopAccepting() {
  if (accepting_.joinable()) {
    Raise(stop_accepting_);
    accepting_.join();
  }
  sockets_.Close();
}

void ConnectionGuard::CloseAll() {
  if (guarding_.joinable()) {
    stop_ = true;
    Raise(stop_guarding_);
    guarding_.join();
  }
  std::lock_guard lock(mutex_);
  for (auto& [id, connection] : connections_) {
    if (connection.descriptor < 0) continue;
    Abort(connection.descriptor);
    close(connection.descriptor);
  }
  connections_.clear();
  stats_.open = 0;
  Report();
}

void ConnectionGuard::Abort(int descriptor) {
  const linger reset{.l_onoff = 1, .l_linger = 0};
  setsockopt(descriptor, SOL_SOCKET, SO_LINGER, &reset, sizeof(reset));
  shutdown(descriptor, SHUT_RDWR);
  for (std::size_t discarded = 0; discarded < kMostDiscarded;) {
    // NOLINTNEXTLINE(clang-analyzer-unix.BlockInCriticalSection): MSG_DONTWAIT never blocks
    const ssize_t got = recv(descriptor, nullptr, std::size_t{1} << 20, MSG_TRUNC | MSG_DONTWAIT);
    if (got <= 0) return;
    discarded += static_cast<std::size_t>(got);
  }
}

ConnectionStats ConnectionGuard::stats() const {
  std::lock_guard lock(mutex_);
  return stats_;
}

void ConnectionGuard::Pause() { pause_until_ = Clock::now() + kPause; }

void ConnectionGuard::GuardLoop() {
  std::array<epoll_event, 256> events;
  Clock::time_point next_look = Clock::now();
  bool traffic = false;
  while (!stop_) {
    const auto wait = std::chrono::ceil<std::chrono::milliseconds>(next_look - Clock::now()).count();
    const int timeout = traffic ? static_cast<int>(std::max<std::int64_t>(0, wait)) : kIdleLookMilliseconds;
    const int count = epoll_wait(epoll_, events.data(), events.size(), timeout);
    std::lock_guard lock(mutex_);
    for (int i = 0; i < count; ++i) {
      const std::uint64_t id = events[static_cast<std::size_t>(i)].data.u64;
      if ((events[static_cast<std::size_t>(i)].events & (EPOLLHUP | EPOLLERR)) != 0) {
        HangUp(id);
      } else if (const auto found = connections_.find(id); found != connections_.end()) {
        found->second.has_traffic = true;  // reported once, until it has been looked at
        traffic = true;
      }
    }
    const Clock::time_point now = Clock::now();
    if (now >= next_look) {
      Look();
      traffic = alert_ || !released_.empty();
      next_look = now + (alert_ ? kLookEveryAlert : kLookEvery);
    }
    ReportIfDue(now);
  }
}

bool ConnectionGuard::Count(Connection& connection) {
  const bool unknown = connection.number == 0;
  if (unknown) connection.number = streams_.Find(connection.peer.name);
  if (connection.number == 0) return false;
  const std::optional<StreamCounts> streams = StreamCounter::Read(connection.number);
  if (unknown && !streams) {
    // That was an earlier connection of the same port. The next round looks for this one.
    connection.number = 0;
    return false;
  }
  connection.gone = !streams;
  connection.bytes_at_look = connection.counts.bytes_in;
  connection.counts.started = streams ? streams->started : 0;
  connection.counts.succeeded = streams ? streams->succeeded : 0;
  connection.counts.failed = streams ? streams->failed : 0;
  connection.counts.messages = streams ? streams->messages : 0;
  return streams.has_value();
}

void ConnectionGuard::Measure(Connection& connection) {
  tcp_info info{};
  socklen_t size = sizeof(info);
  if (getsockopt(connection.descriptor, IPPROTO_TCP, TCP_INFO, &info, &size) == 0) {
    connection.counts.bytes_in = info.tcpi_bytes_received;
    connection.counts.bytes_out = info.tcpi_bytes_acked;
  }
  // What gRPC has not read yet may have become calls since the last look, though nothing new has arrived.
  int unread = 0;
  ioctl(connection.descriptor, FIONREAD, &unread);
  const std::uint64_t fresh =
      connection.counts.bytes_in - connection.bytes_at_look + static_cast<std::uint64_t>(unread);
  if (fresh >= kBytesPerLook || connection.counts.open() > kCallsToWatch) Count(connection);
  // The order matters: what is no longer awaited has been accounted for by then.
  connection.counts.awaited_bytes = connection.calls->awaited_bytes;
  connection.counts.accounted_bytes = connection.calls->accounted_bytes;
  connection.counts.unauthenticated = connection.calls->unauthenticated;
}

void ConnectionGuard::Look() {
  const Clock::time_point now = Clock::now();
  streams_.BeginRound();
  std::vector<std::pair<std::uint64_t, ConnectionEnd>> closing;
  double unaccounted = 0;
  std::uint64_t open_calls = 0;
  std::uint64_t calls_of_strangers = 0;
  for (auto& [id, connection] : connections_) {
    open_calls += connection.counts.open();
    if (connection.counts.stranger()) calls_of_strangers += connection.counts.open();
    if (connection.descriptor < 0) {
      unaccounted += connection.unreleased;
      continue;
    }
    const bool traffic = std::exchange(connection.has_traffic, false);
    if (traffic) {
      connection.last_traffic = now;
      epoll_event event{.events = EPOLLIN | EPOLLONESHOT, .data = {.u64 = id}};
      epoll_ctl(epoll_, EPOLL_CTL_MOD, connection.descriptor, &event);
      if (connection.calls != nullptr) Measure(connection);
    }
    if (connection.calls == nullptr || connection.gone) continue;  // of a unix socket, or about to hang up
    if (traffic || connection.judge->unaccounted() > 0) {
      const bool lenient = !offenders_.contains(connection.peer.group);
      if (const auto why = connection.judge->Judge(connection.counts, now, lenient)) closing.emplace_back(id, *why);
    }
    unaccounted += connection.judge->unaccounted();
  }
  for (const auto& [id, why] : closing) CloseForCause(id, why);
  std::erase_if(released_, [this](std::uint64_t id) {
    Connection& connection = connections_.at(id);
    if (Count(connection)) return false;
    connections_.erase(id);
    return true;
  });
  if (closing.empty()) {
    if (unaccounted > kMostUnaccounted) {
      CloseLargestFlood();
    } else if (calls_of_strangers > kMostCallsOfStrangers) {
      CloseMostCalls(kMostCallsOfStrangers, kFewCalls,
                     [](const ConnectionCounts& counts) { return counts.stranger(); });
    } else if (open_calls > static_cast<std::uint64_t>(limits_.total_streams)) {
      CloseMostCalls(static_cast<std::uint64_t>(limits_.total_streams), 0,
                     [](const ConnectionCounts&) { return true; });
    }
  }
  alert_ = unaccounted > kAlertBytes || open_calls > static_cast<std::uint64_t>(limits_.streams) || !offenders_.empty();
  std::erase_if(offenders_, [now](const auto& offender) { return offender.second < now; });
}

// All connections together have sent too much that no call accounts for, though none has by itself. The largest must
// go.
void ConnectionGuard::CloseLargestFlood() {
  Pause();  // what is closed takes memory until gRPC has released it
  std::uint64_t worst = 0;
  double most = 0;
  for (const auto& [id, connection] : connections_) {
    if (connection.descriptor < 0 || connection.judge->unaccounted() <= most) continue;
    most = connection.judge->unaccounted();
    worst = id;
  }
  if (most >= kWorthClosing) CloseForCause(worst, ConnectionEnd::kFlood);
}

// The connections that are `counted` have more than `bound` calls in progress together. The one with most must go, if
// it has more than `few`.
void ConnectionGuard::CloseMostCalls(std::uint64_t bound, std::uint64_t few,
                                     absl::FunctionRef<bool(const ConnectionCounts&)> counted) {
  Pause();
  std::uint64_t worst = 0;
  std::uint64_t most = few;
  std::uint64_t open_calls = 0;
  for (auto& [id, connection] : connections_) {
    if (connection.counts.open() == 0 || !counted(connection.counts)) continue;
    Count(connection);  // calls end without a byte of the peer, so the counts may be old
    const std::uint64_t open = connection.counts.open();
    open_calls += open;
    if (connection.descriptor < 0 || open <= most) continue;
    most = open;
    worst = id;
  }
  if (open_calls > bound && worst != 0) CloseForCause(worst, ConnectionEnd::kCalls);
}

void ConnectionGuard::CloseForCause(std::uint64_t id, ConnectionEnd why) {
  Connection& connection = connections_.at(id);
  const ConnectionCounts& counts = connection.counts;
  Note(why,
       absl::StrCat(connection.peer.name, " (", counts.open(), " calls in progress, ", counts.failed, " given up, ",
                    counts.unauthenticated, " without a token, ", counts.bytes_in, " bytes received, of which ",
                    static_cast<std::uint64_t>(connection.judge->unaccounted()), " belong to no call)"));
  if (offenders_.size() < kMostOffenders) offenders_[connection.peer.group] = Clock::now() + kOffence;
  connection.unreleased = connection.judge->unaccounted();
  if (connection.number == 0) streams_.BeginRound();  // gRPC may know it by now
  Count(connection);
  Abort(connection.descriptor);
  Forget(id);
}

void ConnectionGuard::HangUp(std::uint64_t id) {
  const auto found = connections_.find(id);
  if (found != connections_.end() && found->second.descriptor >= 0) Abort(found->second.descriptor);
  Forget(id);
}

void ConnectionGuard::Forget(std::uint64_t id) {
  const auto found = connections_.find(id);
  if (found == connections_.end() || found->second.descriptor < 0) return;
  Connection& connection = found->second;
  // The descriptor stays open while gRPC has its own, so closing this one does not remove it from the set.
  epoll_ctl(epoll_, EPOLL_CTL_DEL, connection.descriptor, nullptr);
  close(connection.descriptor);
  connection.descriptor = -1;
  if (connection.calls != nullptr) calls_->Remove(connection.peer.name);
  if (const auto group = per_group_.find(connection.peer.group); group != per_group_.end() && --group->second == 0) {
    per_group_.erase(group);
  }
  --stats_.open;
  connection.judge.reset();
  connection.has_traffic = false;
  if ((connection.counts.open() > 0 || connection.unreleased > 0) && connection.number != 0) {
    released_.push_back(id);
  } else {
    connections_.erase(found);
  }
}

void ConnectionGuard::Note(ConnectionEnd why, const std::string& whom) {
  ++stats_.ended[static_cast<std::size_t>(why)];
  Noted& noted = noted_[static_cast<std::size_t>(why)];
  ++noted.times;
  noted.last = whom;
  ReportIfDue(Clock::now());
}

// A line for each kind, every few seconds at most: an attack must not fill the disk.
void ConnectionGuard::ReportIfDue(Clock::time_point now) {
  if (now < next_report_) return;
  const bool any = std::any_of(noted_.begin(), noted_.end(), [](const Noted& noted) { return noted.times > 0; });
  if (any) next_report_ = now + kReportEvery;
  Report();
}

void ConnectionGuard::Report() {
  for (std::size_t i = 0; i < noted_.size(); ++i) {
    Noted& noted = noted_[i];
    if (noted.times == 0) continue;
    const std::string more = noted.times == 1 ? "" : absl::StrCat(", the last of ", noted.times, " connections,");
    const auto why = static_cast<ConnectionEnd>(i);
    Log().log(IsRefusal(why) ? spdlog::level::err : spdlog::level::info, "connection of {}{} {}", noted.last, more,
              Describe(why));
    noted = {};
  }
}

}  // namespace iterand
