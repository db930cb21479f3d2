// Where a server listens, and who connects.
#include "server/listen_sockets.h"

#include <arpa/inet.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cstdio>
#include <cstring>
#include <filesystem>
#include <string>

#include "absl/strings/str_cat.h"
#include "server/peer.h"
#include "tests/server/fixture.h"

namespace iterand {
namespace {

using testing::HasSubstr;
using testing::StartsWith;

TEST(ListenSockets, AFreePort) {
  const absl::StatusOr<ListenSockets> sockets = ListenSockets::Bind("127.0.0.1:0");
  ASSERT_TRUE(sockets.ok()) << sockets.status();
  EXPECT_THAT(sockets->address(), StartsWith("127.0.0.1:"));
  EXPECT_NE(sockets->address(), "127.0.0.1:0");
  EXPECT_ERROR(ListenSockets::Bind(sockets->address()).status(), absl::StatusCode::kUnavailable,
               HasSubstr("Address already in use"));
}

TEST(ListenSockets, APortIsFreeAfterClose) {
  absl::StatusOr<ListenSockets> sockets = ListenSockets::Bind("127.0.0.1:0");
  ASSERT_TRUE(sockets.ok());
  const std::string address = sockets->address();
  sockets->Close();
  EXPECT_TRUE(ListenSockets::Bind(address).ok());
}

TEST(ListenSockets, AllAddressesOfAHostHaveOnePort) {
  const absl::StatusOr<ListenSockets> sockets = ListenSockets::Bind("localhost:0");
  ASSERT_TRUE(sockets.ok()) << sockets.status();
  const int port = std::stoi(sockets->address().substr(sockets->address().rfind(':') + 1));
  for (const int descriptor : sockets->descriptors()) {
    sockaddr_storage address{};
    socklen_t size = sizeof(address);
    ASSERT_EQ(getsockname(descriptor, reinterpret_cast<sockaddr*>(&address), &size), 0);
    EXPECT_EQ(ntohs(address.ss_family == AF_INET6 ? reinterpret_cast<sockaddr_in6&>(address).sin6_port
                                                  : reinterpret_cast<sockaddr_in&>(address).sin_port),
              port);
  }
}

TEST(ListenSockets, AWildcardIsForBothFamilies) {
  for (const char* listen : {"0.0.0.0:0", "[::]:0"}) {
    ServerOptions options;
    options.listen = listen;
    options.insecure_public = true;
    options.threads = 1;
    const auto server = Server::Start(options);
    ASSERT_TRUE(server.ok()) << server.status();
    const std::string port = (*server)->address().substr((*server)->address().rfind(':'));
    EXPECT_TRUE(RpcClient::Connect("127.0.0.1" + port).ok()) << listen;
    if (ListenSockets::Bind("[::1]:0").ok()) {  // where the machine has IPv6
      EXPECT_TRUE(RpcClient::Connect("[::1]" + port).ok()) << listen;
    }
  }
}

TEST(ListenSockets, Unresolvable) {
  EXPECT_ERROR(ListenSockets::Bind("no such host:0").status(), absl::StatusCode::kUnavailable,
               HasSubstr("cannot listen on no such host:0: "));
  EXPECT_ERROR(ListenSockets::Bind("192.0.2.1:0").status(), absl::StatusCode::kUnavailable,
               HasSubstr("Cannot assign requested address"));
  EXPECT_ERROR(ListenSockets::Bind("unix:/nowhere/socket").status(), absl::StatusCode::kUnavailable,
               HasSubstr("No such file or directory"));
}

TEST(ListenSockets, TheFileOfAUnixSocketGoes) {
  const std::string path = absl::StrCat(testing::TempDir(), "iterand-listen-", getpid());
  {
    absl::StatusOr<ListenSockets> sockets = ListenSockets::Bind("unix:" + path);
    ASSERT_TRUE(sockets.ok()) << sockets.status();
    const ListenSockets moved = *std::move(sockets);
    EXPECT_TRUE(std::filesystem::exists(path));
    EXPECT_ERROR(ListenSockets::Bind("unix:" + path).status(), absl::StatusCode::kUnavailable,
                 HasSubstr("a server is listening there"));
  }
  EXPECT_FALSE(std::filesystem::exists(path));
}

TEST(ListenSockets, TheFileOfAnotherServerStays) {
  const std::string path = absl::StrCat(testing::TempDir(), "iterand-taken-", getpid());
  absl::StatusOr<ListenSockets> first = ListenSockets::Bind("unix:" + path);
  ASSERT_TRUE(first.ok());
  std::filesystem::remove(path);
  const absl::StatusOr<ListenSockets> second = ListenSockets::Bind("unix:" + path);
  ASSERT_TRUE(second.ok());
  first->Close();
  EXPECT_TRUE(std::filesystem::exists(path));
}

sockaddr_storage Ipv6(const char* text) {
  sockaddr_storage address{};
  auto& ipv6 = reinterpret_cast<sockaddr_in6&>(address);
  ipv6.sin6_family = AF_INET6;
  ipv6.sin6_port = htons(5000);
  EXPECT_EQ(inet_pton(AF_INET6, text, &ipv6.sin6_addr), 1);
  return address;
}

TEST(Peer, NamesAndGroups) {
  EXPECT_EQ(PeerOf(Ipv6("::ffff:10.1.2.3")).name, "ipv4:10.1.2.3:5000");
  EXPECT_EQ(PeerOf(Ipv6("::ffff:10.1.2.3")).group, "10.1.2.3");
  EXPECT_EQ(PeerOf(Ipv6("::1")).name, "ipv6:%5B::1%5D:5000");
  EXPECT_EQ(PeerOf(Ipv6("2001:db8:1:2:3:4:5:6")).group, PeerOf(Ipv6("2001:db8:1:2::1")).group);
  EXPECT_NE(PeerOf(Ipv6("2001:db8:1:2::1")).group, PeerOf(Ipv6("2001:db8:1:3::1")).group);
  sockaddr_storage local{};
  local.ss_family = AF_UNIX;
  EXPECT_EQ(PeerOf(local).name, "unix:");
}

}  // namespace
}  // namespace iterand
