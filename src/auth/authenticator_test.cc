#include "auth/authenticator.h"

#include <gtest/gtest.h>

#include "base/digest.h"

namespace penstock::auth {
namespace {

IpAddress ip(std::string_view text) { return IpAddress::parse(text).value(); }

Credential credential(std::string name, std::string_view token) {
  return {.name = std::move(name), .token_sha256 = sha256(as_bytes(token))};
}

TEST(Authenticator, FindsTheOwnerOfAToken) {
  const auto authenticator =
      Authenticator::create({credential("alice", "pst_a"), credential("bob", "pst_b"), credential("carol", "pst_c")});
  ASSERT_TRUE(authenticator);
  EXPECT_EQ(authenticator->verify_token("pst_a")->name, "alice");
  EXPECT_EQ(authenticator->verify_token("pst_c")->name, "carol");
  for (const char* wrong : {"", "pst_", "pst_d", "PST_A", "pst_a ", "alice"})
    EXPECT_EQ(authenticator->verify_token(wrong), nullptr) << wrong;
  EXPECT_EQ(authenticator->find("bob")->name, "bob");
  EXPECT_EQ(authenticator->find("dave"), nullptr);
  EXPECT_EQ(Authenticator().verify_token("pst_a"), nullptr);
}

TEST(Authenticator, ACredentialOutlivesTheSnapshotItCameFrom) {
  auto authenticator = Authenticator::create({credential("alice", "pst_a")});
  const auto alice = authenticator->verify_token("pst_a");
  authenticator = Authenticator::create({});
  EXPECT_EQ(alice->name, "alice");
  EXPECT_EQ(authenticator->find("alice"), nullptr);
}

TEST(Authenticator, RecordsThatContradictEachOtherAreRefusedByName) {
  const auto why = [](std::vector<Credential> credentials) {
    const auto refused = Authenticator::create(std::move(credentials));
    EXPECT_FALSE(refused);
    return refused ? "" : refused.error().message;
  };
  Credential alice = credential("alice", "pst_a");
  Credential bob = credential("bob", "pst_b");
  EXPECT_EQ(why({alice, credential("alice", "pst_b")}), "credential \"alice\": the name is there twice");
  EXPECT_EQ(why({alice, credential("bob", "pst_a")}), "credential \"bob\": \"alice\" has the same token");
  EXPECT_EQ(why({credential("", "pst_a")}), "a credential has no name");
  EXPECT_FALSE(Authenticator::create({credential(std::string(256, 'x'), "pst_a")}));
  EXPECT_TRUE(Authenticator::create({credential(std::string(255, 'x'), "pst_a")}));

  alice.address = bob.address = ip("10.100.0.7");
  EXPECT_EQ(why({alice, bob}), "credential \"bob\": \"alice\" has the fixed address 10.100.0.7 too");
  bob.address = ip("fd00::7");
  EXPECT_EQ(why({alice, bob}), "credential \"bob\": the fixed address fd00::7 is not IPv4");
  bob.address.reset();
  bob.address6 = ip("10.100.0.8");
  EXPECT_EQ(why({alice, bob}), "credential \"bob\": the fixed address 10.100.0.8 is not IPv6");
}

TEST(Authenticator, SitesThatOverlapOrAreTooManyAreRefused) {
  const auto with_sites = [](const std::vector<const char*>& alices, const std::vector<const char*>& bobs) {
    Credential alice = credential("alice", "pst_a");
    Credential bob = credential("bob", "pst_b");
    for (const char* site : alices) alice.sites.push_back(Prefix::parse(site).value());
    for (const char* site : bobs) bob.sites.push_back(Prefix::parse(site).value());
    const auto made = Authenticator::create({alice, bob});
    return made ? "" : made.error().message;
  };
  EXPECT_EQ(with_sites({"10.1.0.0/16", "fd01::/64"}, {"10.2.0.0/16", "10.0.0.0/16", "fd02::/64"}), "");
  EXPECT_EQ(with_sites({"10.1.0.0/16"}, {"10.2.0.0/16", "10.1.0.0/16"}),
            "credential \"bob\": the site 10.1.0.0/16 overlaps 10.1.0.0/16, a site of \"alice\"");
  EXPECT_EQ(with_sites({"10.1.2.0/24"}, {"10.1.0.0/16", "10.1.1.0/24"}),
            "credential \"bob\": the site 10.1.1.0/24 overlaps 10.1.0.0/16, a site of \"bob\"");
  EXPECT_EQ(with_sites({"fd01::1"}, {"fd01::/64"}),
            "credential \"alice\": the site fd01::1/128 overlaps fd01::/64, a site of \"bob\"");
  Credential many = credential("alice", "pst_a");
  for (std::uint32_t i = 0; i <= Authenticator::kMaxSites; ++i)
    many.sites.push_back(Prefix::host(IpAddress::v4(0x0A000000 + i)));
  EXPECT_FALSE(Authenticator::create({many}));
  many.sites.pop_back();
  EXPECT_TRUE(Authenticator::create({many}));
}

TEST(Token, IsLongRandomAndRecognizable) {
  SeededRandom random(1);
  const std::string token = new_token(random);
  EXPECT_EQ(token.substr(0, 4), "pst_");
  EXPECT_EQ(token.size(), 4U + 43U);
  EXPECT_EQ(base64url_decode(token.substr(4))->size(), 32U);
  EXPECT_NE(new_token(random), token);
}

TEST(Credential, ItsEpochChangesWithWhatIdentifiesItAndWithNothingElse) {
  Credential base = credential("alice", "pst_a");
  base.address = ip("10.100.0.7");
  Credential changed = base;
  changed.single = true;
  changed.groups = {"staff"};
  changed.sites = {Prefix::parse("192.168.7.0/24").value()};
  EXPECT_EQ(changed.epoch(), base.epoch());

  changed = base;
  changed.name = "alicf";
  EXPECT_NE(changed.epoch(), base.epoch());
  changed = base;
  changed.token_sha256[31] ^= 1;
  EXPECT_NE(changed.epoch(), base.epoch());
  changed = base;
  changed.address = ip("10.100.0.8");
  EXPECT_NE(changed.epoch(), base.epoch());
  changed.address.reset();
  EXPECT_NE(changed.epoch(), base.epoch());
  changed = base;
  changed.address6 = ip("fd00::7");
  EXPECT_NE(changed.epoch(), base.epoch());
}

// Tickets outlive the program, so an epoch must be the same in its next version.
TEST(Credential, AnEpochIsTheSameForEver) {
  Credential alice = credential("alice", "pst_a");
  alice.address = ip("10.100.0.7");
  EXPECT_EQ(alice.epoch(), 0xCB3CD881656F02A0U);
}

}  // namespace
}  // namespace penstock::auth
