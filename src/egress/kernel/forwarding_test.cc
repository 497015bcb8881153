#include "egress/kernel/forwarding.h"

#include <gmock/gmock.h>
#include <sys/mount.h>

#include "base/log.h"
#include "egress/kernel/kernel_world_testing.h"

namespace penstock::egress {
namespace {

using testing::HasSubstr;

const std::string ip_forward = "net/ipv4/ip_forward";
const std::string forwarding6 = "net/ipv6/conf/all/forwarding";
const std::string redirects = "net/ipv4/conf/all/accept_redirects";

class ForwardingTest : public KernelWorld {
 protected:
  void SetUp() override {
    KernelWorld::SetUp();
    journal = directory + "/forwarding.json";
  }
  std::unique_ptr<Forwarding> take(bool ipv6 = true) {
    auto taken = Forwarding::take(ipv6, journal);
    if (taken) return *std::move(taken);
    ADD_FAILURE() << taken.error().message;
    return nullptr;
  }
  bool has_journal() const { return std::filesystem::exists(journal); }

  // As after kill -9: nobody puts anything back.
  void take_and_die(bool ipv6 = true) {
    in_child([&] {
      auto taken = Forwarding::take(ipv6, journal);
      return taken && taken->release() != nullptr;
    });
  }

  std::string journal;
};

TEST_F(ForwardingTest, IsTurnedOnAndPutBack) {
  ASSERT_EQ(setting(ip_forward) + setting(forwarding6), "00");
  auto forwarding = take();
  EXPECT_EQ(setting(ip_forward) + setting(forwarding6), "11");
  EXPECT_TRUE(has_journal());
  forwarding.reset();
  EXPECT_EQ(setting(ip_forward) + setting(forwarding6), "00");
  EXPECT_FALSE(has_journal());
}

TEST_F(ForwardingTest, Ipv6IsLeftAloneWhereItIsNotWanted) {
  const auto forwarding = take(false);
  EXPECT_EQ(setting(ip_forward) + setting(forwarding6), "10");
}

TEST_F(ForwardingTest, WhatIsRightAlreadyIsNeitherWrittenNorPutBack) {
  ASSERT_TRUE(write_setting(ip_forward, "1") && write_setting(forwarding6, "1"));
  ASSERT_TRUE(write_setting("net/ipv6/conf/out0/accept_ra", "1"));
  auto forwarding = take();
  EXPECT_FALSE(has_journal());
  EXPECT_EQ(setting("net/ipv6/conf/out0/accept_ra"), "1");
  forwarding.reset();
  EXPECT_EQ(setting(ip_forward) + setting(forwarding6), "11");
}

// The kernel resets what belongs to a host when it becomes one again: what the operator had set comes back too.
TEST_F(ForwardingTest, WhatMovesWithItComesBackToo) {
  ASSERT_TRUE(write_setting(redirects, "0"));
  ASSERT_TRUE(write_setting("net/ipv4/conf/out0/forwarding", "1"));
  ASSERT_TRUE(write_setting("net/ipv6/conf/out0/forwarding", "1"));
  take().reset();
  EXPECT_EQ(setting(redirects), "0");
  EXPECT_EQ(setting("net/ipv4/conf/out0/forwarding"), "1");
  EXPECT_EQ(setting("net/ipv4/conf/pen0/forwarding"), "0");
  EXPECT_EQ(setting("net/ipv6/conf/out0/forwarding"), "1");
  EXPECT_EQ(setting("net/ipv6/conf/pen0/forwarding"), "0");
  EXPECT_EQ(setting(ip_forward) + setting(forwarding6), "00");
}

TEST_F(ForwardingTest, WhoHearsRouterAdvertisementsGoesOnHearingThem) {
  ASSERT_TRUE(write_setting("net/ipv6/conf/out0/accept_ra", "1") && write_setting("net/ipv6/conf/pen0/accept_ra", "0"));
  auto forwarding = take();
  EXPECT_EQ(setting("net/ipv6/conf/out0/accept_ra"), "2");
  EXPECT_EQ(setting("net/ipv6/conf/pen0/accept_ra"), "0");
  forwarding.reset();
  EXPECT_EQ(setting("net/ipv6/conf/out0/accept_ra"), "1");
  EXPECT_EQ(setting("net/ipv6/conf/pen0/accept_ra"), "0");
}

TEST_F(ForwardingTest, WhatSomebodyElseChangedMeanwhileIsLeftAlone) {
  auto forwarding = take();
  ASSERT_TRUE(write_setting("net/ipv6/conf/out0/accept_ra", "0"));
  ASSERT_TRUE(write_setting("net/ipv4/conf/out0/forwarding", "0"));
  ASSERT_TRUE(write_setting(redirects, "1"));
  ASSERT_TRUE(write_setting(forwarding6, "0"));
  ASSERT_TRUE(write_setting("net/ipv6/conf/out0/forwarding", "1"));
  forwarding.reset();
  EXPECT_EQ(setting("net/ipv6/conf/out0/accept_ra"), "0");
  EXPECT_EQ(setting("net/ipv6/conf/out0/forwarding"), "1");
  EXPECT_EQ(setting("net/ipv4/conf/out0/forwarding"), "0");
  EXPECT_EQ(setting(redirects), "1");
  EXPECT_FALSE(has_journal());
}

TEST_F(ForwardingTest, TheNextStartAfterAKillKnowsWhatWasBefore) {
  ASSERT_TRUE(write_setting("net/ipv6/conf/out0/accept_ra", "1") && write_setting(redirects, "0"));
  ASSERT_TRUE(write_setting("net/ipv4/conf/out0/forwarding", "1"));
  take_and_die();
  EXPECT_EQ(setting(ip_forward) + setting(forwarding6), "11");
  take_and_die();
  auto forwarding = take();
  EXPECT_EQ(setting(ip_forward) + setting(forwarding6), "11");
  forwarding.reset();
  EXPECT_EQ(setting(ip_forward) + setting(forwarding6), "00");
  EXPECT_EQ(setting("net/ipv6/conf/out0/accept_ra"), "1");
  EXPECT_EQ(setting("net/ipv4/conf/out0/forwarding"), "1");
  EXPECT_EQ(setting("net/ipv4/conf/pen0/forwarding"), "0");
  EXPECT_EQ(setting(redirects), "0");
  EXPECT_FALSE(has_journal());
}

TEST_F(ForwardingTest, Ipv6ThatIsNotWantedAnyMoreIsPutBackAtTheNextStart) {
  take_and_die();
  auto forwarding = take(false);
  EXPECT_EQ(setting(ip_forward) + setting(forwarding6), "10");
  forwarding.reset();
  EXPECT_EQ(setting(ip_forward) + setting(forwarding6), "00");
}

TEST_F(ForwardingTest, AStartInAnotherModePutsBackWhatWasLeft) {
  EXPECT_TRUE(done(Forwarding::restore_leftovers(journal))) << "nothing was left";
  take_and_die();
  EXPECT_TRUE(done(Forwarding::restore_leftovers(journal)));
  EXPECT_EQ(setting(ip_forward) + setting(forwarding6), "00");
  EXPECT_FALSE(has_journal());
}

TEST_F(ForwardingTest, AJournalOfAnotherNamespaceOrBootIsVoid) {
  take_and_die();
  ASSERT_EQ(::unshare(CLONE_NEWNET), 0);
  ASSERT_TRUE(write_setting(ip_forward, "1"));
  EXPECT_TRUE(done(Forwarding::restore_leftovers(journal)));
  EXPECT_EQ(setting(ip_forward), "1");
}

TEST_F(ForwardingTest, AReadOnlyProcIsRefusedWithTheCommandToRunUnlessAllIsRight) {
  in_child([&] {
    if (::unshare(CLONE_NEWNS) != 0 || ::mount("none", "/", nullptr, MS_REC | MS_PRIVATE, nullptr) != 0) return false;
    if (::mount("/proc/sys", "/proc/sys", nullptr, MS_BIND, nullptr) != 0 ||
        ::mount(nullptr, "/proc/sys", nullptr, MS_REMOUNT | MS_BIND | MS_RDONLY, nullptr) != 0)
      return false;
    const auto refused = Forwarding::take(false, journal);
    EXPECT_FALSE(refused);
    if (!refused) {
      EXPECT_THAT(refused.error().message, HasSubstr("Read-only file system); as root, on the machine itself, run: "
                                                     "sysctl -w net/ipv4/ip_forward=1"));
    }
    EXPECT_FALSE(has_journal());
    if (::umount("/proc/sys") != 0 || !write_setting(ip_forward, "1")) return false;
    if (::mount("/proc/sys", "/proc/sys", nullptr, MS_BIND, nullptr) != 0 ||
        ::mount(nullptr, "/proc/sys", nullptr, MS_REMOUNT | MS_BIND | MS_RDONLY, nullptr) != 0)
      return false;
    EXPECT_TRUE(Forwarding::take(false, journal));
    return !HasFailure();
  });
}

TEST_F(ForwardingTest, AJournalIsReadAsItWasWritten) {
  const Forwarding::Changes changes{
      .ipv4 = {.written = {{ip_forward, "0", "1"}}, .moved = {{"net/ipv4/conf/eth0.5/forwarding", "0", "1"}}},
      .ipv6 = {.written = {{"net/ipv6/conf/eth0/accept_ra", "1", "2"}, {forwarding6, "0", "1"}}, .moved = {}}};
  const auto parsed = Forwarding::parse(Forwarding::text_of(changes));
  ASSERT_TRUE(parsed);
  EXPECT_TRUE(*parsed == changes);
}

// Root reads what an unprivileged process may have written.
TEST_F(ForwardingTest, AJournalNamesNothingButTheSettingsThatAreOurs) {
  const Forwarding::Change fine{.written = {{ip_forward, "0", "1"}}, .moved = {}};
  for (const char* name :
       {"kernel/core_pattern", "net/ipv4/conf/../../../kernel/sysrq/forwarding", "net/ipv4/conf/../forwarding",
        "net/ipv4/conf//forwarding", "net/ipv4/conf/a/b/forwarding", "net/ipv4/tcp_syncookies", "", "/etc/passwd"}) {
    auto moved = fine;
    moved.moved.push_back({name, "0", "1"});
    EXPECT_FALSE(Forwarding::parse(Forwarding::text_of({.ipv4 = moved, .ipv6 = {}}))) << name;
  }
  for (const char* value : {"", "10", "a", "0\n"}) {
    auto moved = fine;
    moved.moved.push_back({redirects, value, "1"});
    EXPECT_FALSE(Forwarding::parse(Forwarding::text_of({.ipv4 = moved, .ipv6 = {}}))) << value;
  }
}

TEST_F(ForwardingTest, ABrokenJournalIsRefusedAndTheNextStartReplacesIt) {
  const std::string good =
      Forwarding::text_of({.ipv4 = {.written = {{ip_forward, "0", "1"}}, .moved = {}}, .ipv6 = {}});
  // Up to its last brace.
  for (std::size_t size = 0; size + 2 < good.size(); ++size)
    EXPECT_FALSE(Forwarding::parse(good.substr(0, size))) << size;
  ASSERT_TRUE(write_file_atomically(journal, as_bytes(std::string_view("{\"ipv4\": 3}")), 0600));
  const auto restored = Forwarding::restore_leftovers(journal);
  ASSERT_FALSE(restored);
  EXPECT_THAT(restored.error().message, HasSubstr("forwarding.json: this is no journal"));
  log::Capture capture;
  take().reset();
  EXPECT_THAT(capture.text(), HasSubstr("is replaced"));
  EXPECT_EQ(setting(ip_forward), "0");
}

}  // namespace
}  // namespace penstock::egress
