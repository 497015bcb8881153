// Real sockets, on loopback, and "reno": every kernel has it and allows it to everybody (tcp_cong.c).
#include "net/congestion_control.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include "net/file_descriptor.h"

namespace penstock::net {
namespace {

using namespace std::chrono_literals;
using testing::HasSubstr;

class CongestionControlTest : public testing::Test {
 protected:
  std::string now() const { return congestion_control_of(socket_.get()).data(); }
  // As if the system had chosen it.
  void system_has(const char* name) {
    CongestionControl::always(name).begin(socket_.get());
    ASSERT_EQ(now(), name);
  }
  FileDescriptor socket_{::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, IPPROTO_TCP)};
  const std::string system_choice_ = now();
};

TEST_F(CongestionControlTest, WhatIsNamedIsUsedFromTheBeginning) {
  CongestionControl::always("reno").begin(socket_.get());
  EXPECT_EQ(now(), "reno");
}

TEST_F(CongestionControlTest, TheSystemsIsKeptWhereThatIsAskedFor) {
  const auto system = CongestionControl::from_setting("system");
  ASSERT_TRUE(system);
  system->begin(socket_.get());
  EXPECT_TRUE(system->suit(socket_.get(), 100ms, 1h));
  EXPECT_EQ(now(), system_choice_);
}

TEST_F(CongestionControlTest, AWayGetsAnotherThanTheUsualOnceItIsProvedToBeLong) {
  if (system_choice_ == "reno") GTEST_SKIP() << "this system has no other than reno";
  const CongestionControl choice = CongestionControl::for_long_ways(system_choice_);
  ASSERT_NO_FATAL_FAILURE(system_has("reno"));
  choice.begin(socket_.get());
  EXPECT_FALSE(choice.suit(socket_.get(), 20ms, 999ms));
  EXPECT_EQ(now(), "reno") << "a busy processor makes any way look long for a while";
  EXPECT_FALSE(choice.suit(socket_.get(), 999us, 1h));
  EXPECT_EQ(now(), "reno");
  EXPECT_TRUE(choice.suit(socket_.get(), 1ms, 1s));
  EXPECT_EQ(now(), system_choice_);
}

TEST_F(CongestionControlTest, WhatSomebodyChoseForTheSystemIsLeftAlone) {
  if (system_choice_ == "reno" || system_choice_ == "cubic") GTEST_SKIP() << "nobody chose one here";
  EXPECT_TRUE(CongestionControl::for_long_ways("reno").suit(socket_.get(), 20ms, 1h));
  EXPECT_EQ(now(), system_choice_);
}

TEST_F(CongestionControlTest, OneThatTheKernelHasNotIsRefusedByName) {
  const auto choice = CongestionControl::from_setting("nosuchthing");
  ASSERT_FALSE(choice);
  EXPECT_EQ(choice.error().code, ErrorCode::unavailable);
  EXPECT_THAT(choice.error().message, HasSubstr("nosuchthing"));
  congestion_control_by("nosuchthing").begin(socket_.get());
  EXPECT_EQ(now(), system_choice_);
}

}  // namespace
}  // namespace penstock::net
