// Packets in and out, with no socket on the client's side.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "dns/service/name_service.h"
#include "dns/service/service_testing.h"
#include "packet/checksum.h"
#include "packet/ip_view.h"
#include "packet/super_packet.h"
#include "test/support/manual_loop.h"

namespace penstock::dns {
namespace {

using std::chrono::milliseconds;
using testing::all_are;
using testing::Bytes;
using testing::endpoint;
using testing::in_own_namespace;
using testing::ip;
using ::testing::IsEmpty;
using testing::query;
using testing::reply;
using testing::run_until;
using testing::StubServer;

const Endpoint first_server = endpoint("127.0.0.53:53");

class NameServicePackets : public ::testing::TestWithParam<Family> {
 protected:
  bool v4() const { return GetParam() == Family::ipv4; }
  Endpoint inner(std::uint16_t port = 53) const { return {ip(v4() ? "10.100.0.1" : "fd00::1"), port}; }
  Endpoint client(std::uint16_t port = 40000) const { return {ip(v4() ? "10.100.0.2" : "fd00::2"), port}; }

  NameService::Settings settings() {
    return {.packet_addresses = {ip("10.100.0.1"), ip("fd00::1")},
            .deliver = [this](Packet packet) { delivered_.push_back(std::move(packet)); }};
  }
  // A good answer to the client, taken apart.
  Message answer(const Packet& packet) const {
    const auto udp = read_udp(packet);
    if (!udp) {
      ADD_FAILURE() << "no UDP, or a bad checksum";
      return {};
    }
    EXPECT_EQ(udp->from, inner());
    EXPECT_EQ(udp->to, client());
    const auto view = parse_ip(packet.bytes());
    EXPECT_EQ(view->ttl, 64);
    if (v4()) {
      EXPECT_EQ(internet_checksum(packet.bytes().first(view->header_size)), 0);
    }
    EXPECT_EQ(packet.offload, Offload{});
    EXPECT_FALSE(packet.source);
    return Message::parse(udp->payload).value();
  }
  static Packet from_session(Packet packet, SessionId session) {
    packet.source = session;
    return packet;
  }

  std::vector<Packet> delivered_;
  SeededRandom random_{1};
  testing::OnlyAlice members_;
};

INSTANTIATE_TEST_SUITE_P(Families, NameServicePackets, ::testing::Values(Family::ipv4, Family::ipv6),
                         [](const auto& each) { return each.param == Family::ipv4 ? "Ipv4" : "Ipv6"; });

TEST_P(NameServicePackets, AreAnsweredAtOnceWhereTheAnswerIsKnown) {
  test::ManualLoop loop;
  NameService service(loop, random_, members_, settings());
  EXPECT_TRUE(service.on_packet(make_udp(client(), inner(), query("alice.penstock.internal", {.id = 5}))));
  ASSERT_EQ(delivered_.size(), 1U);
  EXPECT_EQ(answer(delivered_[0]).header.id, 5);
  EXPECT_EQ(answer(delivered_[0]).records,
            testing::address_record("alice.penstock.internal", "10.100.0.2", LocalZones::kLanTtl));
}

TEST_P(NameServicePackets, AreAnsweredLaterAndFromTheCacheThen) {
  in_own_namespace([this](net::LoopRunner& runner) {
    StubServer server(runner, first_server, all_are("203.0.113.1"));
    NameService service(runner.loop(), random_, members_, settings());
    service.set_servers(std::array{first_server});
    EXPECT_TRUE(service.on_packet(make_udp(client(), inner(), query("a.example", {.id = 1}))));
    EXPECT_THAT(delivered_, IsEmpty());
    run_until(runner, [&] { return delivered_.size() == 1; });
    EXPECT_EQ(answer(delivered_[0]).records, testing::address_record("a.example", "203.0.113.1"));
    EXPECT_TRUE(service.on_packet(make_udp(client(), inner(), query("a.example", {.id = 2}))));
    ASSERT_EQ(delivered_.size(), 2U);
    EXPECT_EQ(answer(delivered_[1]).header.id, 2);
    EXPECT_EQ(server.asked.size(), 1U);
  });
}

TEST_P(NameServicePackets, ASuperPacketIsAnsweredQueryByQuery) {
  test::ManualLoop loop;
  NameService service(loop, random_, members_, settings());
  Bytes all;
  std::size_t size = 0;
  for (std::uint16_t id = 1; id <= 3; ++id) {
    const Bytes one = query("alice.penstock.internal", {.id = id});
    size = one.size();
    all.insert(all.end(), one.begin(), one.end());
  }
  Packet super = make_udp(client(), inner(), all);
  const auto at = transport_of(super.bytes());
  write_partial_checksum(super.mutable_bytes(), *at);
  super.offload = {.gso = gso_of(*at), .needs_checksum = true, .segment_size = static_cast<std::uint16_t>(size)};
  EXPECT_TRUE(service.on_packet(super));
  ASSERT_EQ(delivered_.size(), 3U);
  for (std::size_t i = 0; i < 3; ++i) EXPECT_EQ(answer(delivered_[i]).header.id, i + 1);
  EXPECT_EQ(service.counters().packets, 3U);
}

TEST_P(NameServicePackets, WhatIsForOthersIsLeftToThem) {
  test::ManualLoop loop;
  NameService service(loop, random_, members_, settings());
  const Bytes asking = query("alice.penstock.internal");
  EXPECT_FALSE(service.on_packet(make_udp(client(), inner(5353), asking))) << "another port";
  EXPECT_FALSE(service.on_packet(make_udp(client(), {client().address.plus(7), 53}, asking))) << "another address";
  Packet tcp = make_udp(client(), inner(), Bytes(40));
  tcp.mutable_bytes()[v4() ? 9 : 6] = kProtocolTcp;
  EXPECT_FALSE(service.on_packet(tcp));
  if (v4()) {
    Packet fragment = make_udp(client(), inner(), asking);
    store_be16(&fragment.mutable_bytes()[6], 0x2000);
    EXPECT_FALSE(service.on_packet(fragment));
  }
  EXPECT_FALSE(service.on_packet(Packet()));
  EXPECT_THAT(delivered_, IsEmpty());
}

TEST_P(NameServicePackets, WhatCannotBeBelievedOrAnsweredIsDropped) {
  test::ManualLoop loop;
  NameService service(loop, random_, members_, settings());
  const Bytes asking = query("alice.penstock.internal");
  Packet damaged = make_udp(client(), inner(), asking);
  damaged.mutable_bytes().back() ^= 1;
  Packet short_length = make_udp(client(), inner(), asking);
  store_be16(&short_length.mutable_bytes()[(v4() ? 20U : 40U) + 4], 7);
  EXPECT_TRUE(service.on_packet(damaged));
  EXPECT_TRUE(service.on_packet(short_length));
  EXPECT_TRUE(service.on_packet(make_udp(client(0), inner(), asking))) << "from no port";
  EXPECT_TRUE(service.on_packet(make_udp(inner(), inner(), asking))) << "from itself";
  EXPECT_TRUE(service.on_packet(make_udp({ip(v4() ? "255.255.255.255" : "ff02::1"), 1}, inner(), asking)));
  EXPECT_TRUE(service.on_packet(make_udp({ip(v4() ? "0.0.0.0" : "::"), 1}, inner(), asking)));
  EXPECT_EQ(service.counters().bad_packets, 6U);
  EXPECT_TRUE(service.on_packet(make_udp(client(), inner(), reply(asking, {})))) << "an answer is no question";
  EXPECT_TRUE(service.on_packet(make_udp(client(), inner(), {}))) << "nor is nothing";
  EXPECT_THAT(delivered_, IsEmpty());
}

TEST_P(NameServicePackets, OfASessionCountAgainstItAndAreForgottenWithIt) {
  in_own_namespace([this](net::LoopRunner& runner) {
    StubServer server(runner, first_server, [](const auto&) { return Bytes(); });
    NameService::Settings limited = settings();
    limited.forwarder.client.in_flight = 1;
    NameService service(runner.loop(), random_, members_, limited);
    service.set_servers(std::array{first_server});
    const SessionId first{.slot = 3, .generation = 1};
    const SessionId second{.slot = 3, .generation = 2};
    service.on_packet(from_session(make_udp(client(), inner(), query("a.example")), first));
    service.on_packet(from_session(make_udp(client(), inner(), query("b.example")), first));
    ASSERT_EQ(delivered_.size(), 1U);
    EXPECT_EQ(answer(delivered_[0]).header.rcode, rcode::kRefused);
    service.on_packet(from_session(make_udp(client(), inner(), query("c.example")), second));
    EXPECT_EQ(service.forwarder().waiting(), 2U);
    service.forget(NameService::client_of(first));
    EXPECT_EQ(service.forwarder().waiting(), 1U);
    service.forget(NameService::client_of(second));
    EXPECT_EQ(service.forwarder().waiting(), 0U);
  });
}

// Bits turned anywhere: whatever is answered is answered well.
TEST_P(NameServicePackets, OfStrangersDoNoHarm) {
  test::ManualLoop loop;
  NameService service(loop, random_, members_, settings());
  for (int round = 0; round < 5000; ++round) {
    Packet packet = make_udp(client(), inner(), query("alice.penstock.internal"));
    for (std::uint32_t i = random_.next32() % 4; i > 0; --i)
      packet.mutable_bytes()[random_.next32() % packet.size()] ^= static_cast<std::uint8_t>(1U << random_.next32() % 8);
    if (random_.next32() % 4 == 0) packet.truncate(random_.next32() % packet.size());
    if (random_.next32() % 4 == 0) packet.offload.needs_checksum = true;
    if (random_.next32() % 8 == 0) packet.offload.segment_size = static_cast<std::uint16_t>(random_.next32());
    if (random_.next32() % 8 == 0) packet.offload.gso = v4() ? Offload::Gso::udp4 : Offload::Gso::udp6;
    service.on_packet(packet);
    loop.advance(milliseconds(20));
  }
  EXPECT_GT(delivered_.size(), 500U);
  for (const Packet& packet : delivered_) {
    const auto udp = read_udp(packet);
    ASSERT_TRUE(udp);
    EXPECT_EQ(udp->from, inner());
  }
}

TEST(ClientNumbers, OfSessionsAndOfAddressesAreNeverTheSame) {
  EXPECT_NE(NameService::client_of(SessionId{.slot = 1, .generation = 1}),
            NameService::client_of(SessionId{.slot = 1, .generation = 2}));
  EXPECT_LT(NameService::client_of(ip("255.255.255.255")),
            NameService::client_of(SessionId{.slot = 0, .generation = 1}));
  EXPECT_NE(NameService::client_of(ip("fd00::1")), NameService::client_of(ip("fd00::2")));
  EXPECT_NE(NameService::client_of(ip("fd00::1:0:0:0:1")), NameService::client_of(ip("fd00::2:0:0:0:1")));
}

}  // namespace
}  // namespace penstock::dns
