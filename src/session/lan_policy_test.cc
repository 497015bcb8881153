#include "session/lan_policy.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/log.h"
#include "test/support/packets.h"

namespace penstock::session {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

Prefix prefix(const char* text) { return Prefix::parse(text).value(); }

class LanPolicyTest : public testing::Test {
 protected:
  bool set_credentials() { return policy.set_credentials(auth::Authenticator::create(credentials).value(), pool); }

  ManualClock clock;
  router::AddressPool pool =
      router::AddressPool::create(prefix("10.0.0.0/24"), test::ip("10.0.0.1"), prefix("fd00::/64"), clock).value();
  SeededRandom random{1};
  LanPolicy policy{random};
  std::vector<auth::Credential> credentials{{.name = "alice", .token_sha256 = {1}, .groups = {"staff"}},
                                            {.name = "bob", .token_sha256 = {2}}};
  log::Capture logs;
};

TEST_F(LanPolicyTest, AMemberKeepsItsNumberAlsoWhenItGoesAndComesBack) {
  set_credentials();
  const std::uint32_t alice = policy.member("alice");
  const std::uint32_t bob = policy.member("bob");
  EXPECT_NE(alice, bob);
  EXPECT_NE(alice, 0U);
  const auto removed = credentials.front();
  credentials.erase(credentials.begin());
  set_credentials();
  credentials.push_back(removed);
  set_credentials();
  EXPECT_EQ(policy.member("alice"), alice);
  EXPECT_EQ(policy.member("bob"), bob);
}

TEST_F(LanPolicyTest, PoliciesAreMadeOfThePresentRulesAndClients) {
  set_credentials();
  EXPECT_EQ(policy.make_access_policy(), nullptr);
  policy.set_rules(std::vector<router::AccessRule>{{{{}, "staff"}, {{}, "bob"}, {}}});
  const auto first = policy.make_access_policy();
  const std::uint32_t alice = policy.member("alice");
  const std::uint32_t bob = policy.member("bob");
  EXPECT_TRUE(first->permits(alice, bob, {}));
  EXPECT_FALSE(first->permits(bob, alice, {}));
  credentials[0].groups.clear();
  set_credentials();
  const auto second = policy.make_access_policy();
  EXPECT_FALSE(second->permits(alice, bob, {}));
  EXPECT_NE(first->generation(), second->generation());
  EXPECT_THAT(logs.text(), HasSubstr("lan.allow names neither a client nor a group"));
}

TEST_F(LanPolicyTest, SitesAreThoseOfThePresentCredentialsAndNotTheLanItself) {
  EXPECT_FALSE(set_credentials());
  credentials[0].sites = {prefix("10.50.0.0/16"), prefix("10.0.0.128/25")};
  credentials[1].sites = {prefix("fd50::/64")};
  EXPECT_TRUE(set_credentials());
  EXPECT_FALSE(set_credentials());
  EXPECT_THAT(policy.sites(), ElementsAre(prefix("10.50.0.0/16"), prefix("fd50::/64")));
  EXPECT_THAT(policy.sites_of("alice"), ElementsAre(prefix("10.50.0.0/16")));
  EXPECT_THAT(policy.sites_of("carol"), IsEmpty());
  EXPECT_THAT(logs.text(), HasSubstr("10.0.0.128/25"));
  credentials[0].sites.swap(credentials[1].sites);
  EXPECT_TRUE(set_credentials());
}

}  // namespace
}  // namespace penstock::session
