// Once warm, a packet on its way from one session to another asks the allocator for nothing.
#include <gtest/gtest.h>

#include "router/router.h"
#include "test/support/allocations.h"
#include "test/support/packets.h"

namespace penstock::router {
namespace {

class SilentLink final : public SessionLink {
 public:
  void packets_waiting() override {}
  void end(std::string_view) override {}
  void probe(Duration, std::move_only_function<void(bool)> answer) override { answer(true); }
};

// How many allocations 32000 packets cost, from one session to another and back, when all is warm.
std::size_t allocations_of_a_conversation(const std::shared_ptr<const AccessPolicy>& policy) {
  DropCounters drops;
  const ManualClock clock;
  const auto session = [&](std::uint32_t slot, const char* address) {
    return std::make_unique<Session>(SessionSpec{.id = {.slot = slot, .generation = 1},
                                                 .name = address,
                                                 .prefixes = {Prefix::parse(address).value()},
                                                 .queue_bytes = 1 << 20,
                                                 .usage = std::make_shared<Usage>(),
                                                 .member = slot},
                                     drops, clock);
  };
  const auto alice = session(1, "10.0.0.2");
  const auto bob = session(2, "10.0.0.3");
  SilentLink alices_link;
  SilentLink bobs_link;
  alice->attach(alices_link, 1, "");
  bob->attach(bobs_link, 1, "");
  alice->set_access_policy(policy, clock);
  bob->set_access_policy(policy, clock);
  Router router(0, [](PortId, PacketBatch&) {}, [](Task) {});
  router.set_routes(RouteTable()
                        .with(Prefix::parse("10.0.0.2").value(), router.add_port(*alice))
                        .with(Prefix::parse("10.0.0.3").value(), router.add_port(*bob)));

  const Packet question = test::ip_packet("10.0.0.2", "10.0.0.3", std::string(1300, 'x'));
  const Packet answer = test::ip_packet("10.0.0.3", "10.0.0.2", std::string(1300, 'x'));
  PacketBatch in, out;
  const auto send = [&](Session& from, Session& to, const Packet& pattern) {
    for (int i = 0; i < 16; ++i) in.push_back(Packet::copy_of(pattern.bytes()));
    router.from_session(from, in);
    to.take(out, 1 << 20);
    const bool whole = out.size() == 16;
    out.clear();
    return whole;
  };
  const auto turn = [&] { return send(*alice, *bob, question) && send(*bob, *alice, answer); };
  for (int i = 0; i < 100; ++i) EXPECT_TRUE(turn());
  bool whole = true;
  const std::size_t counted = test::allocations_in([&] {
    for (int i = 0; i < 1000; ++i) whole = turn() && whole;
  });
  EXPECT_TRUE(whole);
  return counted;
}

TEST(HotPath, APacketBetweenTwoSessionsAllocatesNothing) {
  if (!test::kAllocationsAreCounted) GTEST_SKIP() << "a sanitizer has the allocator: they cannot be counted";
  EXPECT_EQ(allocations_of_a_conversation(nullptr), 0U);
}

TEST(HotPath, NorWhereAccessRulesAllowItAndItsAnswers) {
  if (!test::kAllocationsAreCounted) GTEST_SKIP() << "a sanitizer has the allocator: they cannot be counted";
  const std::vector<AccessRule> rules{{.from = {.prefix = {}, .name = "alice"}, .to = {}, .ports = {}}};
  const std::vector<AccessMember> members{{1, "alice", {}}, {2, "bob", {}}};
  EXPECT_EQ(allocations_of_a_conversation(std::make_shared<const AccessPolicy>(rules, members, 1, SipKey{})), 0U);
}

}  // namespace
}  // namespace penstock::router
