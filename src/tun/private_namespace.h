// For tests: each test runs in a network namespace of its own, with nothing in it but a loopback that is down.
//
// Skips where that cannot be had. What a test leaves behind vanishes with its namespace.
#pragma once

#include <fcntl.h>
#include <gtest/gtest.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <string>
#include <string_view>

#include "base/ip.h"

namespace penstock::tun {

class PrivateNamespace : public testing::Test {
 protected:
  void SetUp() override {
    if (::access("/dev/net/tun", F_OK) != 0) GTEST_SKIP() << "there is no /dev/net/tun here";
    if (::unshare(CLONE_NEWNET) != 0) GTEST_SKIP() << "no network namespace of its own: " << std::strerror(errno);
  }

  static bool exists(const std::string& name) { return ::if_nametoindex(name.c_str()) != 0; }

  // Runs ip(8): for the world around the code under test. False where it cannot do that.
  static bool ip(const std::string& arguments) {
    return std::system(("ip " + arguments + " >/dev/null 2>&1").c_str()) == 0;
  }

  // A TUN or TAP made as another program would; it lives until the descriptor is closed, or on, if persistent.
  static int open_tun(std::string_view name, int flags, bool persistent = false) {
    const int fd = ::open("/dev/net/tun", O_RDWR | O_NONBLOCK | O_CLOEXEC);
    ifreq request{};
    std::ranges::copy(name, request.ifr_name);
    request.ifr_flags = static_cast<short>(flags);
    EXPECT_EQ(::ioctl(fd, TUNSETIFF, &request), 0) << std::strerror(errno);
    EXPECT_EQ(::ioctl(fd, TUNSETPERSIST, persistent ? 1 : 0), 0) << std::strerror(errno);
    return fd;
  }
  static void make_persistent_tun(std::string_view name) { ::close(open_tun(name, IFF_TUN | IFF_NO_PI, true)); }

  // Runs `body` in a child process, and fails unless it returns true there.
  template <typename Body>
  static void in_child(Body body) {
    const pid_t child = ::fork();
    ASSERT_GE(child, 0);
    if (child == 0) ::_exit(body() ? 0 : 1);
    int status = 0;
    ASSERT_EQ(::waitpid(child, &status, 0), child);
    EXPECT_EQ(status, 0) << "the child process failed";
  }

  static IpAddress address(std::string_view text) { return IpAddress::parse(text).value(); }
  static Prefix prefix(std::string_view text) { return Prefix::parse(text).value(); }
};

}  // namespace penstock::tun
