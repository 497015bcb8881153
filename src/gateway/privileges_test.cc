// Children that give up their privileges and look at what the kernel says of them.
#include "gateway/privileges.h"

#include <fcntl.h>
#include <grp.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <cstdlib>
#include <fstream>
#include <iostream>
#include <map>

#include "gateway/sanitized.h"

namespace penstock::gateway {
namespace {

using ::testing::ExitedWithCode;

const Account gateway_user{.user = 65500, .group = 65500, .groups = {65500, 65501}, .name = "65500"};
constexpr const char* kNone = "0000000000000000";
constexpr const char* kNetAdmin = "0000000000001000";

std::map<std::string, std::string> status_of_this_process() {
  std::map<std::string, std::string> status;
  std::ifstream file("/proc/self/status");
  for (std::string line; std::getline(file, line);) {
    const auto colon = line.find(":\t");
    if (colon != std::string::npos) status[line.substr(0, colon)] = line.substr(colon + 2);
  }
  return status;
}

// Ends the child: 0 when all of `expected` stands in its status.
[[noreturn]] void exit_if_status_is(const std::map<std::string, std::string>& expected) {
  const auto status = status_of_this_process();
  int differences = 0;
  for (const auto& [name, value] : expected) {
    if (status.at(name) == value) continue;
    std::cerr << name << " is \"" << status.at(name) << "\", not \"" << value << "\"\n";
    ++differences;
  }
  std::_Exit(differences);
}

void give_up(const Account& account, bool keep_net_admin) {
  if (const auto done = give_up_privileges(account, keep_net_admin); !done) {
    std::cerr << done.error().message << "\n";
    std::_Exit(100);
  }
}

class Privileges : public ::testing::Test {
 protected:
  void SetUp() override {
    if (::geteuid() != 0) GTEST_SKIP() << "needs root";
  }
};

TEST_F(Privileges, RootBecomesTheUserWithCapNetAdminOnly) {
  EXPECT_EXIT(
      {
        give_up(gateway_user, true);
        exit_if_status_is({{"Uid", "65500\t65500\t65500\t65500"},
                           {"Gid", "65500\t65500\t65500\t65500"},
                           {"Groups", "65500 65501 "},
                           {"CapInh", kNone},
                           {"CapPrm", kNetAdmin},
                           {"CapEff", kNetAdmin},
                           {"CapBnd", kNone},
                           {"CapAmb", kNone},
                           {"NoNewPrivs", "1"}});
      },
      ExitedWithCode(0), "");
}

TEST_F(Privileges, WithoutATunDeviceNothingIsLeft) {
  EXPECT_EXIT(
      {
        give_up(gateway_user, false);
        exit_if_status_is({{"CapPrm", kNone}, {"CapEff", kNone}, {"CapBnd", kNone}, {"NoNewPrivs", "1"}});
      },
      ExitedWithCode(0), "");
}

TEST_F(Privileges, ThereIsNoWayBack) {
  EXPECT_EXIT(
      {
        give_up(gateway_user, true);
        const bool back = ::setuid(0) == 0 || ::setgid(0) == 0 || ::setgroups(0, nullptr) == 0 ||
                          ::open("/etc/shadow", O_RDONLY) >= 0;
        std::_Exit(back ? 1 : 0);
      },
      ExitedWithCode(0), "");
}

TEST_F(Privileges, UserZeroWithoutCapabilitiesIsAUserLikeOthers) {
  if (kSanitized) GTEST_SKIP() << "a sanitizer's thread keeps its capabilities, and glibc changes the user of all";
  EXPECT_EXIT(
      {
        give_up({.user = 0, .group = 0, .groups = {0}, .name = "root"}, true);
        if (::setuid(65500) == 0) std::_Exit(1);
        exit_if_status_is({{"Uid", "0\t0\t0\t0"}, {"CapPrm", kNetAdmin}, {"CapEff", kNetAdmin}, {"CapBnd", kNone}});
      },
      ExitedWithCode(0), "");
}

TEST_F(Privileges, AnOrdinaryUserKeepsItsUserAndHasNoCapability) {
  EXPECT_EXIT(
      {
        if (::setgroups(0, nullptr) != 0 || ::setresgid(65500, 65500, 65500) != 0 ||
            ::setresuid(65500, 65500, 65500) != 0)
          std::_Exit(101);
        give_up(Account::current(), true);
        exit_if_status_is({{"Uid", "65500\t65500\t65500\t65500"},
                           {"CapPrm", kNone},
                           {"CapEff", kNone},
                           {"CapAmb", kNone},
                           {"NoNewPrivs", "1"}});
      },
      ExitedWithCode(0), "");
}

}  // namespace
}  // namespace penstock::gateway
