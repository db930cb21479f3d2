#include "clients/cpp/proxy.h"

#include <gtest/gtest.h>

#include <cstdlib>
#include <string>

namespace iterand {
namespace {

class ProxyTest : public ::testing::Test {
 protected:
  void SetUp() override {
    for (const char* name : {"grpc_proxy", "https_proxy", "http_proxy", "no_grpc_proxy", "no_proxy", "NO_PROXY"}) {
      unsetenv(name);
    }
  }
  void TearDown() override { SetUp(); }
};

TEST_F(ProxyTest, LoopbackAndSocketsAreReachedDirectly) {
  setenv("http_proxy", "http://proxy.example:3128", 1);
  for (const char* address :
       {"localhost:1", "LOCALHOST:1", "a.localhost:1", "127.0.0.1:1", "127.9.9.9:1", "[::1]:1", "[::ffff:127.0.0.1]:1",
        "0.0.0.0:1", "[::]:1", "unix:/tmp/a", "unix-abstract:a", "dns:///localhost:1", "ipv4:127.0.0.1:1"}) {
    EXPECT_FALSE(ProxyFor(address).has_value()) << address;
  }
}

TEST_F(ProxyTest, TheFirstVariableThatGrpcReadsCounts) {
  EXPECT_FALSE(ProxyFor("noise.example:1").has_value());
  setenv("http_proxy", "http://b:1", 1);
  setenv("https_proxy", "", 1);
  const auto second = ProxyFor("noise.example:1");
  ASSERT_TRUE(second.has_value());
  EXPECT_EQ(second->variable, "http_proxy");
  setenv("grpc_proxy", "http://user:secret@a:1", 1);
  const auto first = ProxyFor("noise.example:1");
  ASSERT_TRUE(first.has_value());
  EXPECT_EQ(first->variable, "grpc_proxy");
  EXPECT_EQ(first->url, "http://a:1");
  setenv("NO_PROXY", "other, noise.example", 1);
  EXPECT_FALSE(ProxyFor("noise.example:1").has_value());
}

TEST_F(ProxyTest, Exemptions) {
  for (const auto& [host, port, entry] : {std::tuple("noise.example", "1", "*"),
                                          {"noise.example", "1", "noise.example"},
                                          {"noise.example", "1", "example"},
                                          {"noise.example", "1", ".example"},
                                          {"noise.example", "1", "*.example"},
                                          {"NOISE.Example.", "1", "noise.example"},
                                          {"noise.example", "1", "noise.example:1"},
                                          {"10.1.2.3", "1", "10.0.0.0/8"},
                                          {"10.1.2.3", "1", "10.1.2.3:1"},
                                          {"2001:db8::1", "1", "2001:db8::/32"},
                                          {"2001:db8::1", "1", "[2001:db8::1]:1"}}) {
    EXPECT_TRUE(NoProxyMatches(host, port, entry)) << host << " " << entry;
  }
  for (const auto& [host, port, entry] : {std::tuple("badexample", "1", "example"),
                                          {"noise.example", "1", "noise.example:2"},
                                          {"noise.example", "1", "noise"},
                                          {"11.1.2.3", "1", "10.0.0.0/8"},
                                          {"10.1.2.30", "1", "10.1.2.3"},
                                          {"10.1.2.3", "1", "10.0.0.0/99"},
                                          {"noise.example", "1", "."},
                                          {"2001:db9::1", "1", "2001:db8::/32"}}) {
    EXPECT_FALSE(NoProxyMatches(host, port, entry)) << host << " " << entry;
  }
}

}  // namespace
}  // namespace iterand
