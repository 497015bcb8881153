#include "egress/nat/nat.h"

#include <gtest/gtest.h>

#include "egress/nat/nat_packets_testing.h"
#include "egress/nat/nat_testing.h"

namespace penstock::egress {
namespace {

using namespace std::chrono_literals;
using test::ip;

constexpr SessionId kAlice{.slot = 1, .generation = 1};
constexpr SessionId kBob{.slot = 2, .generation = 1};

// What differs between the families, so that each rule is shown in both.
struct World {
  Endpoint alice;
  Endpoint bob;
  Endpoint server;
  Endpoint other_port;
  Endpoint other_host;
  IpAddress outer;
  IpAddress router;
};

const World world4{end("10.100.0.2:1000"),  end("10.100.0.3:1000"), end("198.51.100.9:53"), end("198.51.100.9:54"),
                   end("198.51.100.10:53"), ip("192.0.2.1"),        ip("203.0.113.77")};
const World world6{end("[fd00::2]:1000"),     end("[fd00::3]:1000"),      end("[2001:db8:5::9]:53"),
                   end("[2001:db8:5::9]:54"), end("[2001:db8:5::10]:53"), ip("2001:db8::1"),
                   ip("2001:db8:7::77")};

class NatTest : public testing::TestWithParam<Family> {
 protected:
  void filter(Nat::Filtering filtering) {
    nat_.emplace(router::SipKey{1, 2}, settings(filtering), ports_, clock_.now());
  }
  static Nat::Settings settings(Nat::Filtering filtering) { return {.filtering = filtering}; }

  std::expected<Nat::Outbound, NatDrop> out(Packet& packet, SessionId owner = kAlice) {
    packet.source = owner;
    return nat_->translate_outbound(packet, parse_ip(packet.bytes()).value(), clock_.now());
  }
  std::expected<Nat::Inbound, NatDrop> in(Packet& packet) {
    return nat_->translate_inbound(packet, parse_ip(packet.bytes()).value(), clock_.now());
  }
  // Sends and returns the outer end that it was sent from.
  Endpoint sent(const Endpoint& from, const Endpoint& to, SessionId owner = kAlice) {
    Packet packet = udp_packet(from, to);
    const auto outbound = out(packet, owner);
    EXPECT_TRUE(outbound);
    const IpView view = parse_ip(packet.bytes()).value();
    const Endpoint outer{view.source, ports_of(packet.bytes(), view)->source};
    EXPECT_TRUE(same_bytes(packet, udp_packet(outer, to)));
    return outer;
  }
  std::optional<NatDrop> answer(const Endpoint& from, const Endpoint& to) {
    Packet packet = udp_packet(from, to);
    const auto inbound = in(packet);
    return inbound ? std::nullopt : std::optional(inbound.error());
  }

  const World& at_ = GetParam() == Family::ipv4 ? world4 : world6;
  ManualClock clock_;
  StandInPorts ports_{{ip("192.0.2.1"), ip("2001:db8::1")}, 40000, 40999};
  std::optional<Nat> nat_{std::in_place, router::SipKey{1, 2}, settings(Nat::Filtering::address_and_port), ports_,
                          clock_.now()};
};

TEST_P(NatTest, WhatGoesOutComesFromTheOuterEndAndTheAnswerGoesToWhoAsked) {
  const Endpoint outer = sent(at_.alice, at_.server);
  EXPECT_EQ(outer.address, at_.outer);
  Packet reply = udp_packet(at_.server, outer);
  const auto inbound = in(reply);
  ASSERT_TRUE(inbound);
  EXPECT_EQ(inbound->owner, kAlice);
  EXPECT_TRUE(same_bytes(reply, udp_packet(at_.server, at_.alice)));
}

TEST_P(NatTest, AnInnerEndHasOneOuterEndWhomeverItSpeaksTo) {
  const Endpoint outer = sent(at_.alice, at_.server);
  EXPECT_EQ(sent(at_.alice, at_.other_host), outer);
  EXPECT_NE(sent(at_.bob, at_.server, kBob), outer);
}

TEST_P(NatTest, OnlyWhoWasSpokenToMayAnswerUnlessTheFilterIsWider) {
  struct Case {
    Nat::Filtering filtering;
    std::optional<NatDrop> other_port;
    std::optional<NatDrop> other_host;
  };
  for (const Case& one : {Case{Nat::Filtering::address_and_port, NatDrop::filtered, NatDrop::filtered},
                          Case{Nat::Filtering::address, std::nullopt, NatDrop::filtered},
                          Case{Nat::Filtering::none, std::nullopt, std::nullopt}}) {
    filter(one.filtering);
    const Endpoint outer = sent(at_.alice, at_.server);
    EXPECT_EQ(answer(at_.server, outer), std::nullopt);
    EXPECT_EQ(answer(at_.other_port, outer), one.other_port);
    EXPECT_EQ(answer(at_.other_host, outer), one.other_host);
  }
}

TEST_P(NatTest, WhatComesInToNobodysOuterEndIsDroppedAndUnchanged) {
  Packet packet = udp_packet(at_.server, {at_.outer, 40500});
  EXPECT_EQ(in(packet).error(), NatDrop::no_mapping);
  EXPECT_TRUE(same_bytes(packet, udp_packet(at_.server, {at_.outer, 40500})));
}

TEST_P(NatTest, AConversationEndsAfterFiveMinutesOfSilenceAndNotBefore) {
  const Endpoint outer = sent(at_.alice, at_.server);
  clock_.advance(5min - 1s);
  EXPECT_EQ(answer(at_.server, outer), std::nullopt) << "and this begins the time anew";
  clock_.advance(5min - 1s);
  EXPECT_EQ(answer(at_.server, outer), std::nullopt);
  clock_.advance(5min);
  EXPECT_EQ(answer(at_.server, outer), NatDrop::filtered);
}

TEST_P(NatTest, APingHasAnIdentifierOfItsOwnOutsideAndItsAnswerComesBack) {
  Packet ping = echo_packet(at_.alice.address, at_.server.address, 7);
  ASSERT_TRUE(out(ping));
  const std::size_t icmp = at_.alice.address.is_v4() ? 20 : 40;
  const std::uint16_t identifier = load_be16(&ping.bytes()[icmp + 4]);
  EXPECT_NE(identifier, 7);
  EXPECT_TRUE(same_bytes(ping, echo_packet(at_.outer, at_.server.address, identifier)));
  Packet stranger = echo_packet(at_.other_host.address, at_.outer, identifier, true);
  EXPECT_EQ(in(stranger).error(), NatDrop::filtered);
  Packet reply = echo_packet(at_.server.address, at_.outer, identifier, true);
  ASSERT_TRUE(in(reply));
  EXPECT_TRUE(same_bytes(reply, echo_packet(at_.server.address, at_.alice.address, 7, true)));
}

TEST_P(NatTest, APingFromOutsideIsNobodys) {
  Packet ping = echo_packet(at_.alice.address, at_.server.address, 7);
  ASSERT_TRUE(out(ping));
  Packet asked = echo_packet(at_.server.address, at_.outer, 40000);
  EXPECT_EQ(in(asked).error(), NatDrop::no_mapping);
}

TEST_P(NatTest, AnErrorAboutWhatWentOutComesInAboutWhatWasSent) {
  const Endpoint outer = sent(at_.alice, at_.server);
  for (const std::size_t quoted : {28U, 48U, 1000U}) {
    if (!outer.address.is_v4() && quoted < 48) continue;
    Packet error = error_packet(at_.router, outer.address, udp_packet(outer, at_.server), quoted);
    const auto inbound = in(error);
    ASSERT_TRUE(inbound) << quoted;
    EXPECT_EQ(inbound->owner, kAlice);
    const Packet expected = error_packet(at_.router, at_.alice.address, udp_packet(at_.alice, at_.server), quoted);
    EXPECT_TRUE(same_bytes(error, expected)) << quoted;
  }
}

TEST_P(NatTest, AnErrorAboutAPingComesInToo) {
  Packet ping = echo_packet(at_.alice.address, at_.server.address, 7);
  ASSERT_TRUE(out(ping));
  Packet error = error_packet(at_.router, at_.outer, ping);
  ASSERT_TRUE(in(error));
  EXPECT_TRUE(same_bytes(
      error, error_packet(at_.router, at_.alice.address, echo_packet(at_.alice.address, at_.server.address, 7))));
}

TEST_P(NatTest, AnErrorAboutWhatWasNeverSentOrThatIsBrokenIsDropped) {
  const Endpoint outer = sent(at_.alice, at_.server);
  Packet unsent = error_packet(at_.router, outer.address, udp_packet(outer, at_.other_host));
  EXPECT_EQ(in(unsent).error(), NatDrop::filtered);
  Packet nobodys = error_packet(at_.router, outer.address, udp_packet({outer.address, 40999}, at_.server));
  EXPECT_EQ(in(nobodys).error(), NatDrop::no_mapping);
  Packet broken = error_packet(at_.router, outer.address, udp_packet(outer, at_.server));
  broken.mutable_bytes().back() ^= 1;
  EXPECT_EQ(in(broken).error(), NatDrop::malformed);
}

TEST_P(NatTest, AnErrorDoesNotKeepAConversationAlive) {
  const Endpoint outer = sent(at_.alice, at_.server);
  clock_.advance(4min);
  Packet error = error_packet(at_.router, outer.address, udp_packet(outer, at_.server));
  ASSERT_TRUE(in(error));
  clock_.advance(1min);
  EXPECT_EQ(answer(at_.server, outer), NatDrop::filtered);
}

TEST_P(NatTest, AnErrorOfAClientGoesOutAboutWhatItGot) {
  const Endpoint outer = sent(at_.alice, at_.server);
  Packet error = error_packet(at_.alice.address, at_.server.address, udp_packet(at_.server, at_.alice));
  ASSERT_TRUE(out(error));
  EXPECT_TRUE(same_bytes(error, error_packet(outer.address, at_.server.address, udp_packet(at_.server, outer))));
}

TEST_P(NatTest, TwoMembersMeetByTheirOuterEnds) {
  const Endpoint bobs = sent(at_.bob, at_.server, kBob);
  const Endpoint alices = sent(at_.alice, at_.server);
  // Bob has spoken to Alice's outer end, so she may answer.
  Packet there = udp_packet(at_.bob, alices);
  const auto outbound = out(there, kBob);
  ASSERT_TRUE(outbound);
  EXPECT_TRUE(outbound->hairpin);
  EXPECT_EQ(in(there).error(), NatDrop::filtered) << "Alice has not spoken to Bob yet";
  Packet back = udp_packet(at_.alice, bobs);
  ASSERT_TRUE(out(back));
  ASSERT_TRUE(in(back));
  EXPECT_TRUE(same_bytes(back, udp_packet(alices, at_.bob)));
}

TEST_P(NatTest, AForwardIsOpenToEverybodyAndAnswersFromItsOwnPort) {
  const Endpoint outside{at_.outer, 2222};
  nat_->forward(Transport::udp, outside, at_.alice);
  Packet asked = udp_packet(at_.other_host, outside);
  ASSERT_TRUE(in(asked));
  EXPECT_TRUE(same_bytes(asked, udp_packet(at_.other_host, at_.alice)));
  Packet answered = udp_packet(at_.alice, at_.other_host);
  ASSERT_TRUE(out(answered));
  EXPECT_TRUE(same_bytes(answered, udp_packet(outside, at_.other_host)));
}

TEST_P(NatTest, WhenASessionEndsItsConversationsDo) {
  const Endpoint outer = sent(at_.alice, at_.server);
  nat_->forget(kAlice);
  EXPECT_EQ(answer(at_.server, outer), NatDrop::no_mapping);
  EXPECT_EQ(ports_.held(), 0U);
}

TEST_P(NatTest, WhatItDoesNotTranslateIsDroppedUnchanged) {
  Packet tcp = tcp_packet(at_.alice, at_.server);
  EXPECT_EQ(out(tcp).error(), NatDrop::not_translatable);
  EXPECT_TRUE(same_bytes(tcp, tcp_packet(at_.alice, at_.server)));
  Packet reply = echo_packet(at_.alice.address, at_.server.address, 7, true);
  EXPECT_EQ(out(reply).error(), NatDrop::not_translatable);
  ports_.refuse = true;
  Packet udp = udp_packet(at_.alice, at_.server);
  EXPECT_EQ(out(udp).error(), NatDrop::no_outside);
  EXPECT_TRUE(same_bytes(udp, udp_packet(at_.alice, at_.server)));
}

INSTANTIATE_TEST_SUITE_P(Both, NatTest, testing::Values(Family::ipv4, Family::ipv6),
                         [](const auto& family) { return family.param == Family::ipv4 ? "Ipv4" : "Ipv6"; });

}  // namespace
}  // namespace penstock::egress
