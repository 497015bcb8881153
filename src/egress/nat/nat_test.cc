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
  // Of TCP, without payload: why it goes no further, if it does not.
  std::optional<NatDrop> says(const Endpoint& from, const Endpoint& to, std::uint8_t flags, SessionId owner = kAlice) {
    Packet packet = tcp_segment(from, to, flags);
    const auto outbound = out(packet, owner);
    if (outbound) return std::nullopt;
    EXPECT_TRUE(same_bytes(packet, tcp_segment(from, to, flags)));
    return outbound.error();
  }
  std::optional<NatDrop> hears(const Endpoint& from, const Endpoint& to, std::uint8_t flags) {
    Packet packet = tcp_segment(from, to, flags);
    const auto inbound = in(packet);
    if (inbound) return std::nullopt;
    EXPECT_TRUE(same_bytes(packet, tcp_segment(from, to, flags)));
    return inbound.error();
  }
  // Opens a connection and returns the outer end that it has.
  Endpoint opened(const Endpoint& from, const Endpoint& to, SessionId owner = kAlice) {
    Packet packet = tcp_segment(from, to, kTcpSyn);
    EXPECT_TRUE(out(packet, owner));
    const IpView view = parse_ip(packet.bytes()).value();
    const Endpoint outer{view.source, ports_of(packet.bytes(), view)->source};
    EXPECT_TRUE(same_bytes(packet, tcp_segment(outer, to, kTcpSyn)));
    return outer;
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
  Packet reply = echo_packet(at_.alice.address, at_.server.address, 7, true);
  EXPECT_EQ(out(reply).error(), NatDrop::not_translatable);
  ports_.refuse = true;
  Packet udp = udp_packet(at_.alice, at_.server);
  EXPECT_EQ(out(udp).error(), NatDrop::no_outside);
  EXPECT_TRUE(same_bytes(udp, udp_packet(at_.alice, at_.server)));
}

// ---- TCP ----

TEST_P(NatTest, AConnectionBeginsByASynAloneAndThenEverythingOfItPasses) {
  for (const int flags :
       std::initializer_list<int>{kTcpAck, kTcpSyn | kTcpAck, kTcpSyn | kTcpRst, kTcpRst, kTcpFin | kTcpAck, 0})
    EXPECT_EQ(says(at_.alice, at_.server, static_cast<std::uint8_t>(flags)), NatDrop::no_connection) << flags;
  EXPECT_EQ(nat_->table().flows(), 0U);
  const Endpoint outer = opened(at_.alice, at_.server);
  EXPECT_EQ(outer.address, at_.outer);
  Packet answer = tcp_segment(at_.server, outer, kTcpSyn | kTcpAck);
  const auto inbound = in(answer);
  ASSERT_TRUE(inbound);
  EXPECT_EQ(inbound->owner, kAlice);
  EXPECT_TRUE(same_bytes(answer, tcp_segment(at_.server, at_.alice, kTcpSyn | kTcpAck)));
  Packet data = tcp_packet(at_.alice, at_.server);
  ASSERT_TRUE(out(data));
  EXPECT_TRUE(same_bytes(data, tcp_packet(outer, at_.server)));
  EXPECT_EQ(says(at_.alice, at_.other_host, kTcpAck), NatDrop::no_connection) << "to somebody else";
}

TEST_P(NatTest, OfTcpOnlyWhoWasSpokenToMayAnswerHoweverWideTheFilterIs) {
  for (const auto filtering : {Nat::Filtering::address_and_port, Nat::Filtering::address, Nat::Filtering::none}) {
    filter(filtering);
    const Endpoint outer = opened(at_.alice, at_.server);
    EXPECT_EQ(opened(at_.alice, at_.other_host), outer);
    for (const std::uint8_t flags : {kTcpSyn, kTcpAck}) {
      EXPECT_EQ(hears(at_.server, outer, flags), std::nullopt);
      EXPECT_EQ(hears(at_.other_host, outer, flags), std::nullopt);
      EXPECT_EQ(hears(at_.other_port, outer, flags), NatDrop::filtered);
    }
  }
}

TEST_P(NatTest, WithoutAnAnswerAConnectionIsForgottenAfterFourMinutesAndWithOneAfterTwoHoursAndFour) {
  const Endpoint outer = opened(at_.alice, at_.server);
  clock_.advance(4min - 1s);
  EXPECT_EQ(says(at_.alice, at_.server, kTcpSyn), std::nullopt) << "again";
  clock_.advance(4min - 1s);
  EXPECT_EQ(hears(at_.server, outer, kTcpRst | kTcpAck), std::nullopt) << "this is no answer that it would live by";
  clock_.advance(4min);
  EXPECT_EQ(hears(at_.server, outer, kTcpAck), NatDrop::filtered);
  EXPECT_EQ(says(at_.alice, at_.server, kTcpAck), NatDrop::no_connection);

  EXPECT_EQ(opened(at_.alice, at_.server), outer);
  EXPECT_EQ(ports_.told.size(), 1U) << "of the former, whose place this one has";
  EXPECT_EQ(hears(at_.server, outer, kTcpSyn | kTcpAck), std::nullopt);
  for (int i = 0; i < 3; ++i) {
    clock_.advance(2h + 4min - 1s);
    while (nat_->expire(clock_.now())) {
    }
    EXPECT_EQ(i % 2 == 0 ? says(at_.alice, at_.server, kTcpAck) : hears(at_.server, outer, kTcpAck), std::nullopt);
  }
  clock_.advance(2h + 4min + 2s);
  while (nat_->expire(clock_.now())) {
  }
  EXPECT_EQ(nat_->table().flows(), 0U);
  ASSERT_EQ(ports_.told.size(), 2U);
  EXPECT_EQ(ports_.told[1], std::pair(outer, at_.server));
}

TEST_P(NatTest, NeitherFinNorRstEndsAConnection) {
  const Endpoint outer = opened(at_.alice, at_.server);
  EXPECT_EQ(hears(at_.server, outer, kTcpSyn | kTcpAck), std::nullopt);
  EXPECT_EQ(hears(at_.server, outer, kTcpFin | kTcpAck), std::nullopt);
  EXPECT_EQ(says(at_.alice, at_.server, kTcpFin | kTcpAck), std::nullopt);
  EXPECT_EQ(hears(at_.server, outer, kTcpRst), std::nullopt);
  EXPECT_EQ(says(at_.alice, at_.server, kTcpAck), std::nullopt);
}

TEST_P(NatTest, WhoeverEndsConnectionsOutsideSaysWhenOneIsOverAndIsNotToldSo) {
  const Endpoint outer = opened(at_.alice, at_.server);
  opened(at_.alice, at_.other_host);
  sent(at_.alice, at_.server);
  const Endpoint of_udp = sent(at_.bob, at_.server, kBob);
  nat_->end_flow(outer, at_.other_port);  // with whom there is none
  nat_->end_flow(of_udp, at_.server);     // who has one of UDP
  EXPECT_EQ(nat_->table().flows(), 4U);
  nat_->end_flow(outer, at_.server);
  EXPECT_EQ(says(at_.alice, at_.server, kTcpAck), NatDrop::no_connection);
  EXPECT_EQ(says(at_.alice, at_.other_host, kTcpAck), std::nullopt);
  EXPECT_EQ(ports_.held(), 3U);
  nat_->end_flow(outer, at_.other_host);
  EXPECT_EQ(ports_.held(), 2U) << "with the last the outer end goes";
  EXPECT_TRUE(ports_.told.empty());
}

TEST_P(NatTest, ASynWithABadChecksumOpensNothing) {
  Packet bad = tcp_segment(at_.alice, at_.server, kTcpSyn);
  bad.mutable_bytes().back() ^= 1;  // the urgent pointer
  EXPECT_EQ(out(bad).error(), NatDrop::malformed);
  EXPECT_EQ(nat_->table().flows(), 0U);
  Packet partial = tcp_segment(at_.alice, at_.server, kTcpSyn);
  write_partial_checksum(partial.mutable_bytes(), transport_of(partial.bytes()).value());
  partial.offload.needs_checksum = true;
  EXPECT_TRUE(out(partial));
}

TEST_P(NatTest, WhatASessionBeginsOfTcpCountsAsMuchAsWhatItBeginsOfUdp) {
  nat_.emplace(router::SipKey{1, 2}, Nat::Settings{.bounds = {}, .flow_rate = 3}, ports_, clock_.now());
  for (std::uint16_t i = 1; i <= 6; ++i) EXPECT_EQ(says({at_.alice.address, i}, at_.server, kTcpSyn), std::nullopt);
  EXPECT_EQ(says({at_.alice.address, 7}, at_.server, kTcpSyn), NatDrop::flow_rate);
  EXPECT_EQ(says({at_.alice.address, 7}, at_.server, kTcpAck), NatDrop::no_connection) << "which begins nothing";
  EXPECT_EQ(says({at_.alice.address, 6}, at_.server, kTcpAck), std::nullopt);
}

TEST_P(NatTest, AConnectionToAForwardBelongsToWhoAnswersIt) {
  const Endpoint outside{at_.outer, 2222};
  ports_.forwards.insert(outside);
  nat_->forward(Transport::tcp, outside, at_.alice);
  for (int i = 0; i < 2; ++i) {
    Packet asked = tcp_segment(at_.other_host, outside, kTcpSyn);
    ASSERT_TRUE(in(asked));
    EXPECT_TRUE(same_bytes(asked, tcp_segment(at_.other_host, at_.alice, kTcpSyn)));
    EXPECT_EQ(nat_->table().flows(), 0U) << "nobody has answered";
  }
  EXPECT_EQ(hears(at_.other_host, outside, kTcpAck), NatDrop::no_connection);
  EXPECT_EQ(hears(at_.other_host, outside, kTcpSyn | kTcpAck), NatDrop::no_connection);
  EXPECT_EQ(says(at_.alice, at_.other_host, kTcpAck), NatDrop::no_connection);

  Packet answered = tcp_segment(at_.alice, at_.other_host, kTcpSyn | kTcpAck);
  ASSERT_TRUE(out(answered));
  EXPECT_TRUE(same_bytes(answered, tcp_segment(outside, at_.other_host, kTcpSyn | kTcpAck)));
  EXPECT_EQ(nat_->table().flows_of(kAlice), 1U);
  EXPECT_EQ(hears(at_.other_host, outside, kTcpAck), std::nullopt);
  EXPECT_EQ(says(at_.alice, at_.other_host, kTcpAck), std::nullopt);
  EXPECT_EQ(hears(at_.server, outside, kTcpAck), NatDrop::no_connection);
  clock_.advance(2h);
  EXPECT_EQ(hears(at_.other_host, outside, kTcpAck), std::nullopt);

  nat_->forget(kAlice);
  ASSERT_EQ(ports_.told.size(), 1U);
  EXPECT_EQ(ports_.told[0], std::pair(outside, at_.other_host));
  EXPECT_EQ(says(at_.alice, at_.other_host, kTcpAck), NatDrop::no_connection);
}

TEST_P(NatTest, WhoDoesNotServeWhatAForwardBringsSaysSoAndNothingIsRemembered) {
  const Endpoint outside{at_.outer, 2222};
  nat_->forward(Transport::tcp, outside, at_.alice);
  EXPECT_EQ(hears(at_.other_host, outside, kTcpSyn), std::nullopt);
  Packet refused = tcp_segment(at_.alice, at_.other_host, kTcpRst | kTcpAck);
  const auto outbound = out(refused);
  ASSERT_TRUE(outbound);
  EXPECT_FALSE(outbound->hairpin);
  EXPECT_TRUE(same_bytes(refused, tcp_segment(outside, at_.other_host, kTcpRst | kTcpAck)));
  EXPECT_EQ(nat_->table().flows(), 0U);
  Packet error =
      error_packet(at_.alice.address, at_.other_host.address, tcp_segment(at_.other_host, at_.alice, kTcpSyn));
  EXPECT_TRUE(out(error)) << "or in the other way";
}

TEST_P(NatTest, AMemberReachesAnothersForwardAndBothHaveAFlow) {
  const Endpoint outside{at_.outer, 2222};
  ports_.forwards.insert(outside);
  nat_->forward(Transport::tcp, outside, at_.alice);
  EXPECT_TRUE(nat_->is_outer_end(outside, kProtocolTcp));
  EXPECT_FALSE(nat_->is_outer_end(outside, kProtocolUdp));
  const auto goes = [&](const Endpoint& from, const Endpoint& to, int flags, SessionId owner) {
    Packet packet = tcp_segment(from, to, static_cast<std::uint8_t>(flags));
    const auto outbound = out(packet, owner);
    EXPECT_TRUE(outbound && outbound->hairpin) << flags;
    EXPECT_TRUE(in(packet)) << flags;
    return packet;
  };
  const Packet asked = goes(at_.bob, outside, kTcpSyn, kBob);
  const IpView view = parse_ip(asked.bytes()).value();
  const Endpoint bobs{view.source, ports_of(asked.bytes(), view)->source};
  EXPECT_TRUE(same_bytes(asked, tcp_segment(bobs, at_.alice, kTcpSyn)));
  EXPECT_TRUE(nat_->is_outer_end(bobs, kProtocolTcp));
  EXPECT_TRUE(
      same_bytes(goes(at_.alice, bobs, kTcpSyn | kTcpAck, kAlice), tcp_segment(outside, at_.bob, kTcpSyn | kTcpAck)));
  goes(at_.bob, outside, kTcpAck, kBob);
  EXPECT_EQ(nat_->table().flows_of(kAlice), 1U);
  EXPECT_EQ(nat_->table().flows_of(kBob), 1U);
  clock_.advance(2h);
  goes(at_.alice, bobs, kTcpAck, kAlice);
  goes(at_.bob, outside, kTcpAck, kBob);

  Packet to_dynamic = tcp_segment({at_.alice.address, 7}, bobs, kTcpSyn);
  ASSERT_TRUE(out(to_dynamic));
  EXPECT_EQ(in(to_dynamic).error(), NatDrop::filtered) << "with that one Bob has not spoken";
}

TEST_P(NatTest, ErrorsAboutTcpPassBothWaysWhereItHasAFlow) {
  const Endpoint outer = opened(at_.alice, at_.server);
  for (const std::size_t quoted : {28U, 48U, 1000U}) {
    if (!outer.address.is_v4() && quoted < 48) continue;
    Packet in_error = error_packet(at_.router, outer.address, tcp_packet(outer, at_.server), quoted);
    const auto inbound = in(in_error);
    ASSERT_TRUE(inbound) << quoted;
    EXPECT_EQ(inbound->owner, kAlice);
    EXPECT_TRUE(
        same_bytes(in_error, error_packet(at_.router, at_.alice.address, tcp_packet(at_.alice, at_.server), quoted)));
    Packet out_error = error_packet(at_.alice.address, at_.server.address, tcp_packet(at_.server, at_.alice), quoted);
    ASSERT_TRUE(out(out_error));
    EXPECT_TRUE(
        same_bytes(out_error, error_packet(outer.address, at_.server.address, tcp_packet(at_.server, outer), quoted)));
  }
  Packet unsent = error_packet(at_.router, outer.address, tcp_packet(outer, at_.other_host));
  EXPECT_EQ(in(unsent).error(), NatDrop::filtered);
  clock_.advance(4min);
  Packet late = error_packet(at_.router, outer.address, tcp_packet(outer, at_.server));
  EXPECT_EQ(in(late).error(), NatDrop::filtered) << "and none of them has kept it alive";
}

INSTANTIATE_TEST_SUITE_P(Both, NatTest, testing::Values(Family::ipv4, Family::ipv6),
                         [](const auto& family) { return family.param == Family::ipv4 ? "Ipv4" : "Ipv6"; });

}  // namespace
}  // namespace penstock::egress
