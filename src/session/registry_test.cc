#include "session/registry.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/digest.h"
#include "base/log.h"
#include "test/support/manual_loop.h"
#include "test/support/packets.h"

namespace penstock::session {
namespace {

using std::chrono::minutes;
using std::chrono::seconds;
using test::ip;

// What a door does for an admitted link, as far as the registry sees it.
class FakeLink final : public router::SessionLink {
 public:
  void packets_waiting() override {}
  void end(std::string_view reason) override { ended = reason; }
  void probe(Duration, std::move_only_function<void(bool)> answer) override { answer(answers_probes); }
  bool answers_probes = true;
  std::string ended;
  Admission admission;
};

auth::Credential credential(const std::string& name, const std::string& token) {
  return {.name = name, .token_sha256 = sha256(as_bytes(token))};
}

// A gateway's books over two shards and a /29: 10.0.0.1 is the gateway, .2 to .6 can be had.
class RegistryTest : public testing::Test {
 protected:
  RegistryTest() {
    shards.push_back(std::make_unique<router::Shard>(0, loop));
    shards.push_back(std::make_unique<router::Shard>(1, loop));
    router::Shard::connect(shards);
    credentials = {credential("alice", "a-token"), credential("bob", "b-token"), credential("single", "s-token"),
                   credential("fixed", "f-token")};
    credentials[2].single = true;
    credentials[3].single = true;
    credentials[3].address = ip("10.0.0.4");
    restart();
  }
  // A new process: everything is forgotten but the ticket key and, if `saved`, the state.
  void restart() {
    registry.reset();
    auto pool = router::AddressPool::create(Prefix::parse("10.0.0.0/29").value(), ip("10.0.0.1"),
                                            Prefix::parse("fd00::/64").value(), loop);
    registry = std::make_unique<Registry>(
        std::vector{shards[0].get(), shards[1].get()}, random, std::move(pool).value(), auth::TicketSealer({1, 2, 3}),
        router::RouteTable(), state,
        Options{.grace = minutes(5), .queue_bytes = 100000, .sessions_per_token = sessions_per_token});
    registry->set_authenticator(auth::Authenticator::create(credentials).value());
    loop.run_until_idle();
  }
  Result<Admission> login(LoginRequest request) {
    std::optional<Result<Admission>> result;
    registry->login(std::move(request), loop, [&](Result<Admission> answer) { result = std::move(answer); });
    loop.run_until_idle();
    return std::move(result).value();
  }
  // Logs in and attaches, as a door does.
  std::unique_ptr<FakeLink> join(LoginRequest request) {
    auto link = std::make_unique<FakeLink>();
    auto admission = login(std::move(request));
    EXPECT_TRUE(admission) << admission.error().message;
    if (!admission) return link;
    link->admission = *admission;
    auto* session = shards[admission->port.shard]->session(admission->port);
    EXPECT_TRUE(session != nullptr && session->attach(*link, admission->attachment, admission->to_old_link));
    return link;
  }
  void leave(FakeLink& link) {
    const Admission& admission = link.admission;
    if (auto* session = shards[admission.port.shard]->session(admission.port); session && session->link() == &link)
      session->detach();
    registry->detached(admission.session, admission.attachment, "test");
    loop.run_until_idle();
  }
  IpAddress address_of(LoginRequest request) {
    const auto admission = login(std::move(request));
    return admission ? admission->address : IpAddress();
  }

  test::ManualLoop loop;
  SeededRandom random{1};
  std::size_t sessions_per_token = 256;
  StateFile state{""};
  std::vector<std::unique_ptr<router::Shard>> shards;
  std::vector<auth::Credential> credentials;
  std::unique_ptr<Registry> registry;
  log::Capture quiet;
};

TEST_F(RegistryTest, AddressesAreGivenInOrderWithTheirIpv6Partners) {
  const auto first = join({.token = "a-token"});
  const auto second = join({.token = "a-token"});
  EXPECT_EQ(first->admission.address, ip("10.0.0.2"));
  EXPECT_EQ(second->admission.address, ip("10.0.0.3"));
  EXPECT_EQ(second->admission.address6, ip("fd00::3"));
}

TEST_F(RegistryTest, AWrongTokenIsRefusedAndCounted) {
  const auto refused = login({.token = "no-token"});
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, ErrorCode::unauthenticated);
  EXPECT_EQ(refused.error().message, "invalid token");
  EXPECT_EQ(registry->totals().logins_refused, 1U);
  EXPECT_THAT(quiet.text(), testing::Not(testing::HasSubstr("no-token")));
}

TEST_F(RegistryTest, ALeaseResumesTheSessionEvenFromALiveLinkAndEndsThatLink) {
  const auto old_link = join({.token = "a-token"});
  const auto new_link = join({.lease = old_link->admission.lease});
  EXPECT_TRUE(new_link->admission.resumed);
  EXPECT_EQ(new_link->admission.session, old_link->admission.session);
  EXPECT_EQ(old_link->ended, protocol::kTakenOver);
  leave(*old_link);  // comes late: no news
  EXPECT_TRUE(registry->sessions()[0].attached);
}

TEST_F(RegistryTest, ASessionIsKeptForTheGraceTimeAndThenEnded) {
  const auto link = join({.token = "a-token"});
  leave(*link);
  loop.advance(minutes(5) - seconds(1));
  EXPECT_EQ(registry->sessions().size(), 1U);
  EXPECT_NE(shards[0]->session(link->admission.port), nullptr);
  loop.advance(seconds(1));
  EXPECT_TRUE(registry->sessions().empty());
  EXPECT_EQ(shards[0]->session(link->admission.port), nullptr);
  EXPECT_FALSE(shards[0]->router().routes().exact(Prefix::host(link->admission.address)));
}

TEST_F(RegistryTest, ALeaseWorksAfterTheGraceTimeToo) {
  const auto link = join({.token = "a-token"});
  leave(*link);
  loop.advance(minutes(10));
  const auto again = join({.lease = link->admission.lease});
  EXPECT_EQ(again->admission.address, ip("10.0.0.2"));
  EXPECT_TRUE(again->admission.resumed);
}

TEST_F(RegistryTest, ALeaseSurvivesARestartWithoutAnySavedState) {
  const auto alice = join({.token = "a-token"});
  const auto bob = join({.token = "b-token"});
  restart();
  const auto again = join({.lease = bob->admission.lease});
  EXPECT_EQ(again->admission.address, ip("10.0.0.3"));
  EXPECT_TRUE(again->admission.resumed);
}

TEST_F(RegistryTest, RemovingOrChangingATokenEndsItsSessionsAndItsLeases) {
  const auto alice = join({.token = "a-token"});
  const auto bob = join({.token = "b-token"});
  credentials[0] = credential("alice", "another-token");
  registry->set_authenticator(auth::Authenticator::create(credentials).value());
  loop.run_until_idle();
  EXPECT_EQ(alice->ended, "its token was removed or changed");
  EXPECT_EQ(bob->ended, "");
  const auto refused = login({.lease = alice->admission.lease});
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, ErrorCode::unauthenticated);
}

TEST_F(RegistryTest, PlainReconnectGetsThePreviousAddressOnceTheOldLinkIsGone) {
  const auto link = join({.token = "a-token"});
  const auto other = join({.token = "b-token"});
  leave(*link);
  const auto again = join({.token = "a-token", .previous_ip = ip("10.0.0.2")});
  EXPECT_EQ(again->admission.address, ip("10.0.0.2"));
  EXPECT_EQ(again->admission.session, link->admission.session);
}

TEST_F(RegistryTest, PlainReconnectTakesASilentLinkOverButLeavesALiveOneAlone) {
  const auto live = join({.token = "a-token"});
  EXPECT_EQ(address_of({.token = "a-token", .previous_ip = ip("10.0.0.2")}), ip("10.0.0.3"));
  EXPECT_EQ(live->ended, "");
  live->answers_probes = false;
  const auto taken = join({.token = "a-token", .previous_ip = ip("10.0.0.2")});
  EXPECT_EQ(taken->admission.address, ip("10.0.0.2"));
  EXPECT_EQ(live->ended, protocol::kTakenOver);
}

TEST_F(RegistryTest, PlainReconnectNeverGetsAStrangersAddress) {
  const auto bob = join({.token = "b-token"});
  EXPECT_EQ(address_of({.token = "a-token", .previous_ip = ip("10.0.0.2")}), ip("10.0.0.3"));
  leave(*bob);
  EXPECT_EQ(address_of({.token = "a-token", .previous_ip = ip("10.0.0.2")}), ip("10.0.0.5"));
}

TEST_F(RegistryTest, ARestingAddressComesBackToItsHolderAtOnceAndToStrangersLater) {
  auto link = join({.token = "a-token"});
  leave(*link);
  loop.advance(minutes(5));  // ended; the address rests
  EXPECT_EQ(address_of({.token = "b-token"}), ip("10.0.0.3"));
  EXPECT_EQ(address_of({.token = "a-token", .previous_ip = ip("10.0.0.2")}), ip("10.0.0.2"));
}

// .4 is reserved for "fixed", so four addresses can be had by anybody.
TEST_F(RegistryTest, WhenAddressesRunOutTheOldestDetachedSessionGivesUpItsOwnAndThenLoginsAreRefused) {
  std::vector<std::unique_ptr<FakeLink>> links;
  for (int i = 0; i < 4; ++i) links.push_back(join({.token = "a-token"}));
  EXPECT_EQ(links[3]->admission.address, ip("10.0.0.6"));
  const auto refused = login({.token = "b-token"});
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, ErrorCode::exhausted);
  EXPECT_THAT(refused.error().message, testing::HasSubstr("10.0.0.0/29"));

  leave(*links[2]);
  loop.advance(seconds(1));
  leave(*links[1]);
  EXPECT_EQ(address_of({.token = "b-token"}), links[2]->admission.address);
}

TEST_F(RegistryTest, ATokenThatHasSessionsTakesNoAddressFromAnothersThatIsAway) {
  const auto bob = join({.token = "b-token"});
  std::vector<std::unique_ptr<FakeLink>> links;
  for (int i = 0; i < 3; ++i) links.push_back(join({.token = "a-token"}));
  leave(*bob);
  EXPECT_FALSE(login({.token = "a-token"})) << "bob's is kept for him";
  EXPECT_TRUE(login({.lease = bob->admission.lease}));
  leave(*links[0]);
  EXPECT_EQ(address_of({.token = "a-token"}), links[0]->admission.address) << "its own it may take";
}

TEST_F(RegistryTest, ATokenHasSoManySessionsAndThoseItHasCanBeResumed) {
  sessions_per_token = 2;
  restart();
  auto first = join({.token = "a-token"});
  auto second = join({.token = "a-token"});
  const auto refused = login({.token = "a-token"});
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, ErrorCode::exhausted);
  EXPECT_EQ(refused.error().message, "too many sessions of this token (limits.sessions_per_token is 2)");
  EXPECT_EQ(registry->totals().refused_for_sessions, 1U);
  EXPECT_EQ(registry->totals().logins_refused, 1U);
  EXPECT_TRUE(login({.token = "b-token"})) << "another token has its own";

  leave(*first);
  EXPECT_FALSE(login({.token = "a-token"})) << "it may come back";
  EXPECT_TRUE(login({.lease = first->admission.lease})) << "by its lease, away";
  EXPECT_TRUE(login({.lease = second->admission.lease})) << "and still thought alive";
  leave(*second);
  EXPECT_TRUE(login({.token = "a-token", .previous_ip = second->admission.address}));
  loop.advance(seconds(1));
  restart();
  EXPECT_TRUE(login({.token = "a-token"}));
}

TEST_F(RegistryTest, AFixedAddressIsKeptForItsTokenAndMovesWithTheNewerLogin) {
  for (int i = 0; i < 2; ++i) (void)join({.token = "a-token"});
  EXPECT_EQ(address_of({.token = "a-token"}), ip("10.0.0.5")) << ".4 is reserved";
  const auto older = join({.token = "f-token"});
  EXPECT_EQ(older->admission.address, ip("10.0.0.4"));
  const auto newer = join({.token = "f-token"});
  EXPECT_EQ(newer->admission.address, ip("10.0.0.4"));
  EXPECT_EQ(older->ended, protocol::kReplaced);
}

TEST_F(RegistryTest, OfASingleTokenTheNewerLoginWinsAndTheOlderLeaseWaitsUntilItIsGone) {
  const auto older = join({.token = "s-token"});
  const auto newer = join({.token = "s-token"});
  EXPECT_EQ(older->ended, protocol::kReplaced);
  leave(*older);
  const auto refused = login({.lease = older->admission.lease});
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().message, protocol::kReplaced);
  leave(*newer);
  EXPECT_TRUE(login({.lease = older->admission.lease}));
}

TEST_F(RegistryTest, AFixedAddressThatSomebodyElseHadBeforeIsGivenBack) {
  const auto alice = join({.token = "a-token"});
  credentials[1].address = ip("10.0.0.2");
  credentials[1].single = true;
  registry->set_authenticator(auth::Authenticator::create(credentials).value());
  const auto bob = join({.token = "b-token"});
  EXPECT_EQ(bob->admission.address, ip("10.0.0.2"));
  EXPECT_NE(alice->ended, "");
}

TEST_F(RegistryTest, AnIpv6AddressThatIsSomebodysOwnIsNobodyElsesPartner) {
  credentials[1].address6 = ip("fd00::2");
  credentials[1].single = true;
  const auto before = join({.token = "a-token"});
  EXPECT_EQ(before->admission.address6, ip("fd00::2"));
  registry->set_authenticator(auth::Authenticator::create(credentials).value());
  const auto bob = join({.token = "b-token"});
  EXPECT_EQ(bob->admission.address6, ip("fd00::2"));
  EXPECT_NE(before->ended, "") << "it had that address before";
  credentials[0].address = ip("10.0.0.2");
  credentials[0].single = true;
  registry->set_authenticator(auth::Authenticator::create(credentials).value());
  const auto alice = join({.token = "a-token"});
  EXPECT_EQ(alice->admission.address, ip("10.0.0.2"));
  EXPECT_EQ(alice->admission.address6, std::nullopt);
}

TEST_F(RegistryTest, ATokenThatBecomesSingleKeepsItsNewestSession) {
  const auto older = join({.token = "a-token"});
  loop.advance(seconds(1));
  const auto newer = join({.token = "a-token"});
  credentials[0].single = true;
  registry->set_authenticator(auth::Authenticator::create(credentials).value());
  loop.run_until_idle();
  EXPECT_EQ(older->ended, protocol::kReplaced);
  EXPECT_EQ(newer->ended, "");
}

TEST_F(RegistryTest, ASessionIsOpenedOnTheShardOfItsFirstLinkAndStaysThere) {
  const auto first = join({.token = "a-token", .shard = 1});
  EXPECT_EQ(first->admission.port.shard, 1);
  const auto again = join({.lease = first->admission.lease, .shard = 0});
  EXPECT_EQ(again->admission.port, first->admission.port);
  for (const auto& shard : shards)
    EXPECT_EQ(shard->router().routes().find(first->admission.address), first->admission.port);
}

TEST_F(RegistryTest, ALoginThatNobodyWaitsForAnyMoreStartsTheGraceTime) {
  const auto admission = login({.token = "a-token"});
  ASSERT_TRUE(admission);
  registry->detached(admission->session, admission->attachment, "left during login");
  loop.advance(minutes(5));
  EXPECT_TRUE(registry->sessions().empty());
}

TEST_F(RegistryTest, TwoLoginsByOneLeaseAtOnceBothGetTheSessionAndTheLaterOneKeepsIt) {
  const auto link = join({.token = "a-token"});
  restart();
  std::vector<Admission> admissions;
  for (int i = 0; i < 2; ++i) {
    registry->login({.lease = link->admission.lease}, loop, [&](Result<Admission> answer) {
      ASSERT_TRUE(answer);
      admissions.push_back(*answer);
    });
  }
  loop.run_until_idle();
  ASSERT_EQ(admissions.size(), 2U);
  EXPECT_EQ(admissions[0].session, admissions[1].session);
  EXPECT_LT(admissions[0].attachment, admissions[1].attachment);
  EXPECT_EQ(registry->sessions().size(), 1U);
}

// Random comings and goings; at every step the books agree with the pool and the routes.
TEST_F(RegistryTest, ASiteLeadsToItsClientWhileThereIsOneAndNowhereOtherwise) {
  const auto leads_to = [&](const char* address) { return shards[0]->router().routes().find(ip(address)); };
  credentials[2].sites = {Prefix::parse("10.50.0.0/24").value(), Prefix::parse("fd50::/64").value()};
  registry->set_authenticator(auth::Authenticator::create(credentials).value());
  loop.run_until_idle();
  EXPECT_EQ(leads_to("10.50.0.9"), router::kNobody);

  const auto first = join({.token = "s-token"});
  EXPECT_EQ(leads_to("10.50.0.9"), first->admission.port);
  EXPECT_EQ(leads_to("fd50::9"), first->admission.port);
  auto* session = shards[first->admission.port.shard]->session(first->admission.port);
  EXPECT_TRUE(session->source_guard().allows(ip("10.50.0.9")));
  EXPECT_FALSE(session->source_guard().allows(ip("10.51.0.9")));
  EXPECT_FALSE(session->source_guard().is_host(ip("10.50.0.9")));
  leave(*first);
  loop.advance(minutes(5));
  EXPECT_EQ(leads_to("10.50.0.9"), router::kNobody);
}

TEST_F(RegistryTest, SitesThatChangeWhileTheirClientIsThereMove) {
  const auto leads_to = [&](const char* address) { return shards[0]->router().routes().find(ip(address)); };
  const auto single = join({.token = "s-token"});
  const auto fixed = join({.token = "f-token"});
  const auto reload = [&] {
    registry->set_authenticator(auth::Authenticator::create(credentials).value());
    loop.run_until_idle();
  };
  credentials[2].sites = {Prefix::parse("10.50.0.0/24").value()};
  reload();
  EXPECT_EQ(leads_to("10.50.0.9"), single->admission.port);
  credentials[2].sites.swap(credentials[3].sites);
  reload();
  EXPECT_EQ(leads_to("10.50.0.9"), fixed->admission.port);
  auto* session = shards[0]->session(single->admission.port);
  EXPECT_FALSE(session->source_guard().allows(ip("10.50.0.9")));
  EXPECT_TRUE(session->source_guard().is_host(single->admission.address));
  credentials[3].sites.clear();
  reload();
  EXPECT_FALSE(leads_to("10.50.0.9"));
  EXPECT_EQ(leads_to("10.0.0.4"), fixed->admission.port);
  credentials[2].sites = {Prefix::parse("10.50.0.0/24").value()};
  reload();
  credentials.erase(credentials.begin() + 2);  // the client goes with its site
  reload();
  EXPECT_FALSE(leads_to("10.50.0.9"));
}

TEST_F(RegistryTest, AccessRulesReachTheSessionsOfAllShards) {
  const auto alice = join({.token = "a-token"});
  const auto bob = join({.token = "b-token", .shard = 1});
  const auto reaches = [&](const char* payload) {
    auto* from = shards[0]->session(alice->admission.port);
    auto* to = shards[1]->session(bob->admission.port);
    auto batch = test::batch_of(test::ip_packet("10.0.0.2", "10.0.0.3", payload));
    shards[0]->router().from_session(*from, batch);
    loop.run_until_idle();
    PacketBatch taken;
    to->take(taken, 1000);
    return !taken.empty();
  };
  const char* const udp = "ports and all";
  EXPECT_TRUE(reaches(udp));
  registry->set_access_rules(std::vector<router::AccessRule>{});
  loop.run_until_idle();
  EXPECT_FALSE(reaches(udp));
  registry->set_access_rules(std::vector<router::AccessRule>{{{{}, "alice"}, {{}, "bob"}, {}}});
  loop.run_until_idle();
  EXPECT_TRUE(reaches(udp));
  registry->set_access_rules(std::nullopt);
  loop.run_until_idle();
  EXPECT_TRUE(reaches(udp));
}

TEST_F(RegistryTest, NoTwoSessionsEverShareAnAddress) {
  SeededRandom choices(3);
  std::vector<std::unique_ptr<FakeLink>> links;
  for (int step = 0; step < 3000; ++step) {
    const char* tokens[] = {"a-token", "b-token", "s-token", "f-token"};
    const auto dice = choices.next32() % 10;
    if (dice < 4) {
      LoginRequest request{.token = tokens[choices.next32() % 4],
                           .shard = static_cast<std::uint16_t>(choices.next32() % 2)};
      if (choices.next32() % 2 == 0) request.previous_ip = ip("10.0.0.0").plus(choices.next32() % 9);
      if (choices.next32() % 3 == 0 && !links.empty())
        request = {.lease = links[choices.next32() % links.size()]->admission.lease};
      auto admission = login(request);
      if (admission) {
        auto link = std::make_unique<FakeLink>();
        link->admission = *admission;
        link->answers_probes = choices.next32() % 2 == 0;
        shards[admission->port.shard]->session(admission->port)->attach(*link, admission->attachment, "");
        links.push_back(std::move(link));
      }
    } else if (dice < 8 && !links.empty()) {
      leave(*links[choices.next32() % links.size()]);
    } else {
      loop.advance(seconds(choices.next32() % 200));
    }
    std::set<IpAddress> addresses;
    std::set<IpAddress> addresses6;
    for (const auto& session : registry->sessions()) {
      ASSERT_TRUE(addresses.insert(session.address).second) << session.address.to_string();
      ASSERT_TRUE(!session.address6 || addresses6.insert(*session.address6).second);
      ASSERT_TRUE(registry->pool().is_leased(session.address));
    }
    ASSERT_EQ(addresses.size(), registry->pool().leased());
  }
}

}  // namespace
}  // namespace penstock::session
