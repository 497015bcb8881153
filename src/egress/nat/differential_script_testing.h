// For the differential test: what clients say, as a script that can be played to any translator.
//
//   Script --> conversations: steps of one client's own port or identifier, in their order
//              each step: packets to send, and how many packets clients get for it
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "egress/nat/differential_testing.h"
#include "packet/fragment.h"

namespace penstock::egress {

struct Step {
  std::size_t client = 0;
  std::function<PacketBatch(const Translator&)> make;
  std::size_t answers = 0;  // packets that clients get for it
};
struct Conversation {
  std::string name;
  std::vector<Step> steps;

  std::size_t answers() const {
    std::size_t all = 0;
    for (const Step& step : steps) all += step.answers;
    return all;
  }
};

inline void finish_header(Packet& packet) {
  if (packet.bytes()[0] >> 4 != 4) return;
  const std::size_t size = (packet.bytes()[0] & 0x0FU) * 4;
  store_be16(&packet.mutable_bytes()[10], 0);
  store_be16(&packet.mutable_bytes()[10], internet_checksum(packet.bytes().first(size)));
}

inline Packet with_hops(Packet packet, std::uint8_t hops, std::uint8_t tos = 0) {
  const MutableByteView bytes = packet.mutable_bytes();
  if (bytes[0] >> 4 == 4) {
    bytes[8] = hops;
    bytes[1] = tos;
  } else {
    bytes[7] = hops;
    bytes[0] = static_cast<std::uint8_t>(0x60 | tos >> 4);
    bytes[1] = static_cast<std::uint8_t>(tos << 4);
  }
  finish_header(packet);
  return packet;
}

inline Packet dont_fragment(Packet packet) {
  if (packet.bytes()[0] >> 4 == 4) packet.mutable_bytes()[6] |= 0x40;
  finish_header(packet);
  return packet;
}

// As a client would cut it.
inline PacketBatch in_fragments(Packet whole) {
  PacketBatch fragments;
  whole.may_fragment = true;
  EXPECT_TRUE(fragment(std::move(whole), 1300, 42, fragments));
  return fragments;
}

inline Packet ping(const IpAddress& from, const IpAddress& to, std::uint16_t identifier, const std::string& text) {
  const bool v4 = from.is_v4();
  const std::uint8_t protocol = v4 ? kProtocolIcmp : kProtocolIcmp6;
  const std::string icmp =
      std::string{static_cast<char>(v4 ? 8 : 128), '\0'} + be16_text(0) + be16_text(identifier) + be16_text(77) + text;
  return with_checksum(test::ip_packet(from.to_string(), to.to_string(), icmp, protocol), protocol, 2);
}

// One byte of the packet changed: `at` into what the IP header carries.
inline Packet with_byte(Packet packet, std::size_t at, std::uint8_t value) {
  packet.mutable_bytes()[(packet.bytes()[0] >> 4 == 4 ? 20 : 40) + at] = value;
  return packet;
}

// No operations, in front of what it carries: four bytes of IPv4 options, eight of destination options in IPv6.
inline Packet with_options(const Packet& packet) {
  const bool v4 = packet.bytes()[0] >> 4 == 4;
  const std::string bytes(as_text(packet.bytes()));
  const std::string options = v4 ? std::string(4, '\1') : std::string{bytes[6], '\0', '\1', '\4', 0, 0, 0, 0};
  const std::size_t header = v4 ? 20 : 40;
  Packet longer = Packet::copy_of(as_bytes(bytes.substr(0, header) + options + bytes.substr(header)));
  const MutableByteView out = longer.mutable_bytes();
  out[v4 ? 0 : 6] = v4 ? 0x46 : 60;
  store_be16(&out[v4 ? 2 : 4], static_cast<std::uint16_t>(longer.size() - (v4 ? 0 : 40)));
  finish_header(longer);
  return longer;
}

// The conversations of one family. Each has a port or an identifier of its client for itself.
class Script {
 public:
  static constexpr std::uint16_t kFirstPort = 20000;  // of the first conversation

  Script(Family family, Random& random) : v4_(family == Family::ipv4), random_(&random) {
    for (int i = 0; i < 9; ++i) small_talk();
    datagrams();
    pings();
    errors();
    broken();
    hairpin();
  }
  std::vector<Conversation> take() { return std::move(conversations_); }

 private:
  using Internet = egress::Internet;

  Endpoint peer(int host, std::uint16_t port = Internet::kEcho) const {
    return {test::ip((v4_ ? "198.51.100." : "2001:db8:2::") + std::to_string(host)), port};
  }
  void begin(const std::string& name) {
    port_ = static_cast<std::uint16_t>(kFirstPort + conversations_.size());
    client_ = port_ % Translator::kClients;
    inner_ = inner_of(client_);
    conversations_.push_back({(v4_ ? "IPv4, " : "IPv6, ") + name, {}});
  }
  Endpoint inner_of(std::size_t client) const {
    return {v4_ ? Translator::inner4(client) : Translator::inner6(client), port_};
  }
  void send(PacketBatch packets, std::size_t answers) {
    // A script is played twice.
    auto kept = std::make_shared<PacketBatch>(std::move(packets));
    conversations_.back().steps.push_back({client_,
                                           [kept](const Translator&) {
                                             PacketBatch copies;
                                             for (const Packet& one : *kept) copies.push_back(one.clone());
                                             return copies;
                                           },
                                           answers});
  }
  void send(Packet packet, std::size_t answers) { send(test::batch_of(std::move(packet)), answers); }
  Packet udp(const Endpoint& to, const std::string& text) const { return udp_packet(inner_, to, text); }
  Packet echo(const IpAddress& to, const std::string& text) const {
    return ping(inner_.address, to, inner_.port, text);
  }
  std::string text(std::size_t size) { return net::random_text(*random_, size); }
  std::uint8_t byte() { return static_cast<std::uint8_t>(random_->next32()); }
  std::uint8_t many_hops() { return static_cast<std::uint8_t>(10 + random_->next32() % 246); }

  void small_talk() {
    begin("small talk");
    for (int i = 0; i < 3; ++i) {
      const Endpoint to = peer(2 + static_cast<int>(random_->next32() % 2));
      send(with_hops(udp(to, text(random_->next32() % 1200)), many_hops(), byte()), 1);
    }
  }
  void datagrams() {
    begin("an empty datagram");
    send(udp(peer(2), ""), 1);
    begin("larger than the path takes, in fragments");
    send(in_fragments(udp(peer(2), text(3000))), 1);
    send(in_fragments(udp(peer(2), text(40000))), 1);
    if (v4_) {
      begin("larger than the path takes, to be cut on the way");
      send(udp(peer(2), text(1440)), 1);
    }
    begin("larger than the path takes, not to be cut");
    for (int i = 0; i < 3; ++i) send(dont_fragment(udp(peer(4), text(1440))), 1);
    begin("as large as the path takes, not to be cut");
    send(dont_fragment(udp(peer(4, Internet::kThrice), text(v4_ ? 1372 : 1352))), 3);
    begin("answers from elsewhere");
    for (int i = 0; i < 2; ++i) send(udp(peer(2, Internet::kElsewhere), text(20)), 0);
    begin("several answers");
    for (int i = 0; i < 2; ++i) send(udp(peer(3, Internet::kThrice), text(200)), 3);
    begin("late answers");
    for (int i = 0; i < 4; ++i) send(udp(peer(2, Internet::kLate), text(100)), 0);
    send(udp(peer(2, Internet::kLate), "now"), 4);
    begin("answers that come from far");
    send(udp(peer(2, Internet::kFar), text(10)), 1);
    begin("a super-datagram in answer");
    send(udp(peer(2, Internet::kMany), "?"), 7);
    begin("a super-packet");
    Packet super = udp(peer(2), text(2100));
    const TransportView at = transport_of(super.bytes()).value();
    write_partial_checksum(super.mutable_bytes(), at);
    super.offload = {.gso = gso_of(at), .needs_checksum = true, .segment_size = 500};
    send(std::move(super), 5);
  }
  void pings() {
    begin("pings");
    for (int i = 0; i < 4; ++i)
      send(with_hops(echo(peer(2 + i % 2).address, text(byte() * 4U)), many_hops(), byte()), 1);
    begin("a ping to the router");
    send(echo(test::ip(v4_ ? "203.0.113.1" : "2001:db8:1::1"), text(56)), 1);
    begin("a large ping in fragments");
    send(in_fragments(echo(peer(2).address, text(3000))), 1);
    begin("a large ping, not to be cut");
    for (int i = 0; i < 2; ++i) send(dont_fragment(echo(peer(4).address, text(1440))), 1);
    begin("traceroute by pings");
    for (std::uint8_t hops = 1; hops <= 3; ++hops) send(with_hops(echo(peer(2).address, text(32)), hops), 1);
    begin("a ping to nobody");
    send(echo(peer(66).address, text(56)), 1);
  }
  void errors() {
    begin("traceroute by datagrams");
    for (std::uint8_t hops = 1; hops <= 3; ++hops)
      send(with_hops(udp(peer(3, static_cast<std::uint16_t>(33433 + hops)), text(32)), hops), 1);
    begin("traceroute by large datagrams");
    for (std::uint8_t hops = 1; hops <= 3; ++hops)
      send(in_fragments(with_hops(udp(peer(3, static_cast<std::uint16_t>(33433 + hops)), text(3000)), hops)), 1);
    begin("a closed port");
    send(with_hops(udp(peer(2, 9), text(1300)), 64, 0xB8), 1);
    send(udp(peer(2, 9), ""), 1);
    begin("a host that is not there");
    send(udp(peer(66), text(10)), 1);
    begin("a host that one may not reach");
    send(udp(peer(67), text(10)), 1);
    begin("no route");
    send(udp({test::ip(v4_ ? "198.18.0.1" : "2001:db8:ffff::1"), 53}, text(10)), 1);
  }
  void broken() {
    const std::string said = "not to be heard";
    begin("a bad checksum");
    send(with_byte(udp(peer(2), said), 10, 'X'), 0);
    begin("a bad checksum of a ping");
    send(with_byte(echo(peer(2).address, said), 12, 'X'), 0);
    begin("a datagram that ends behind its packet");
    send(with_byte(udp(peer(2), said), 5, 100), 0);
    begin("a datagram of less than its header");
    send(with_byte(udp(peer(2), said), 5, 7), 0);
    begin("a datagram without a checksum");
    Packet without = with_byte(with_byte(udp(peer(2), "to be heard in IPv4"), 6, 0), 7, 0);
    send(std::move(without), v4_ ? 1 : 0);
    begin("a datagram that ends before its packet");
    send(shorter(), 1);
    begin("options");
    send(with_options(udp(peer(2), "with no operations")), 1);
    if (!v4_) return;
    begin("a bad header");
    Packet bad = udp(peer(2), said);
    bad.mutable_bytes()[11] ^= 1;
    send(std::move(bad), 0);
  }
  // With four bytes behind the datagram, which its checksum does not cover.
  Packet shorter() const {
    const Packet datagram = udp(peer(2), "up to here");
    Packet packet = Packet::copy_of(as_bytes(std::string(as_text(datagram.bytes())) + "more"));
    store_be16(&packet.mutable_bytes()[v4_ ? 2 : 4], static_cast<std::uint16_t>(packet.size() - (v4_ ? 0 : 40)));
    finish_header(packet);
    return packet;
  }
  void hairpin() {
    begin("two clients by their outer ends");
    const std::size_t alice = 0;
    const std::size_t bob = 1;
    const Endpoint alices = inner_of(alice);
    const Endpoint bobs = inner_of(bob);
    const auto to_server = [&](std::size_t client, const Endpoint& from) {
      client_ = client;
      inner_ = from;
      send(udp(peer(2), "who am I?"), 1);
    };
    const auto across = [&](std::size_t client, const Endpoint& from, const Endpoint& to, std::size_t answers) {
      conversations_.back().steps.push_back({client,
                                             [from, to](const Translator& translator) {
                                               return test::batch_of(
                                                   udp_packet(from, translator.outer_end_of(to), "across"));
                                             },
                                             answers});
    };
    to_server(alice, alices);
    to_server(bob, bobs);
    across(bob, bobs, alices, 0);  // she has not spoken to him
    across(alice, alices, bobs, 1);
    across(bob, bobs, alices, 1);
  }

  bool v4_;
  Random* random_;
  std::vector<Conversation> conversations_;
  std::uint16_t port_ = 0;
  std::size_t client_ = 0;
  Endpoint inner_;
};

}  // namespace penstock::egress
