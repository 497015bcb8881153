#include "dns/service/system_resolvers.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdio>
#include <filesystem>
#include <fstream>

#include "dns/dns_testing.h"

namespace penstock::dns {
namespace {

using ::testing::ElementsAre;
using testing::ip;
using ::testing::IsEmpty;
using ::testing::StartsWith;

std::vector<std::string> servers(std::string_view text, std::vector<IpAddress> own = {}) {
  std::vector<std::string> all;
  for (const Endpoint& server : SystemResolvers::parse(text, own)) all.push_back(server.to_string());
  return all;
}

TEST(SystemResolvers, AreTheNameserverLinesInTheirOrder) {
  EXPECT_THAT(servers("# made by hand\n"
                      "search example.com\n"
                      "nameserver 192.0.2.1\n"
                      "options edns0\n"
                      "nameserver\t2001:db8::53\n"
                      "nameserver 192.0.2.2"),
              ElementsAre("192.0.2.1:53", "[2001:db8::53]:53", "192.0.2.2:53"));
}

TEST(SystemResolvers, LinesAreReadAsResolversReadThem) {
  for (const char* line : {"nameserver 192.0.2.1", "nameserver   192.0.2.1  ", "nameserver 192.0.2.1 # the old one",
                           "nameserver 192.0.2.1;", "nameserver \t192.0.2.1\r", "nameserver ::ffff:192.0.2.1"})
    EXPECT_THAT(servers(line), ElementsAre("192.0.2.1:53")) << line;
  for (const char* line :
       {"", "nameserver", "nameserver ", "nameserver192.0.2.1", " nameserver 192.0.2.1", "#nameserver 192.0.2.1",
        "; nameserver 192.0.2.1", "nameservers 192.0.2.1", "NAMESERVER 192.0.2.1", "nameserver dns.example",
        "nameserver 192.0.2.256", "nameserver 192.0.2.1:53", "nameserver [2001:db8::1]", "nameserver\n192.0.2.1"})
    EXPECT_THAT(servers(line), IsEmpty()) << line;
}

TEST(SystemResolvers, WhatCannotBeAskedIsLeftOut) {
  EXPECT_THAT(servers("nameserver fe80::1%eth0\n"
                      "nameserver fe80::1\n"
                      "nameserver 2001:db8::1%eth0\n"
                      "nameserver 224.0.0.251\n"
                      "nameserver ff02::fb\n"
                      "nameserver 192.0.2.1\n"),
              ElementsAre("192.0.2.1:53"));
}

TEST(SystemResolvers, TheGatewayItselfAndWhoIsThereAlreadyAreLeftOut) {
  EXPECT_THAT(servers("nameserver 10.100.0.1\nnameserver ::ffff:10.100.0.1\nnameserver 192.0.2.1\n"
                      "nameserver fd00::1\nnameserver 192.0.2.1\n",
                      {ip("10.100.0.1"), ip("fd00::1")}),
              ElementsAre("192.0.2.1:53"));
}

TEST(SystemResolvers, TheUnspecifiedAddressIsThisMachine) {
  EXPECT_THAT(servers("nameserver 0.0.0.0\nnameserver ::\nnameserver 127.0.0.1\nnameserver 127.0.0.53\n"),
              ElementsAre("127.0.0.1:53", "[::1]:53", "127.0.0.53:53"));
}

TEST(SystemResolvers, NoMoreThanSoManyAreTaken) {
  std::string text;
  for (int i = 1; i <= 20; ++i) text += "nameserver 192.0.2." + std::to_string(i) + "\n";
  EXPECT_EQ(servers(text).size(), SystemResolvers::kMost);
}

class SystemResolversFile : public ::testing::Test {
 protected:
  SystemResolversFile() {
    std::string name = (std::filesystem::temp_directory_path() / "penstock-resolv-XXXXXX").string();
    path_ = ::mkdtemp(name.data());
  }
  ~SystemResolversFile() override { std::filesystem::remove_all(path_); }
  std::string write(std::string_view text) const {
    const std::string file = path_ / "resolv.conf";
    std::ofstream(file) << text;
    return file;
  }
  std::filesystem::path path_;
};

TEST_F(SystemResolversFile, IsRead) {
  const auto read =
      SystemResolvers::read(write("nameserver 192.0.2.1\nnameserver 10.0.0.1\n"), std::array{ip("10.0.0.1")});
  ASSERT_TRUE(read);
  EXPECT_THAT(*read, ElementsAre(Endpoint{ip("192.0.2.1"), 53}));
}

TEST_F(SystemResolversFile, ThatIsNotThereNamesNobody) {
  const auto read = SystemResolvers::read(path_ / "nothing");
  ASSERT_TRUE(read) << read.error().message;
  EXPECT_THAT(*read, IsEmpty());
}

TEST_F(SystemResolversFile, ThatCannotBeReadIsRefusedByName) {
  const auto directory = SystemResolvers::read(path_);
  ASSERT_FALSE(directory);
  EXPECT_THAT(directory.error().message, StartsWith(path_.string()));
  const auto huge = SystemResolvers::read(write(std::string(SystemResolvers::kMostBytes + 1, '#')));
  ASSERT_FALSE(huge);
  EXPECT_EQ(huge.error().code, ErrorCode::exhausted);
}

}  // namespace
}  // namespace penstock::dns
