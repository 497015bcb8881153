#include "packet/flow_hash.h"

#include <gtest/gtest.h>

#include <set>
#include <string>

#include "base/random.h"
#include "test/support/packets.h"

namespace penstock {
namespace {

constexpr FlowHashKey kKey{0x0123456789abcdef, 0xfedcba9876543210};

std::string with_ports(std::uint16_t from, std::uint16_t to, std::string_view rest = "data") {
  std::string payload(4, '\0');
  auto* bytes = reinterpret_cast<std::uint8_t*>(payload.data());
  store_be16(bytes, from);
  store_be16(bytes + 2, to);
  return payload.append(rest);
}

std::uint32_t hash_of(const Packet& packet, const FlowHashKey& key = kKey) { return FlowHash(key)(packet.bytes()); }

TEST(FlowHash, PacketsOfOneConversationHaveOneHashWhateverElseTheyCarry) {
  for (const bool v6 : {false, true}) {
    const auto* from = v6 ? "fd00::1" : "10.0.0.1";
    const auto* to = v6 ? "fd00::2" : "10.0.0.2";
    Packet one = test::ip_packet(from, to, with_ports(1000, 53, "one"));
    Packet other = test::ip_packet(from, to, with_ports(1000, 53, "another"));
    other.mutable_bytes()[v6 ? 7 : 8] = 3;  // hops left
    EXPECT_EQ(hash_of(one), hash_of(other));
    other.truncate(other.size() - 2);
    EXPECT_EQ(hash_of(one), hash_of(other));
  }
}

TEST(FlowHash, EachPartOfTheFiveTellsFlowsApart) {
  const auto payload = with_ports(1000, 53);
  std::set<std::uint32_t> hashes;
  std::size_t packets = 0;
  const auto add = [&](const Packet& packet) {
    hashes.insert(hash_of(packet));
    ++packets;
  };
  add(test::ip_packet("10.0.0.1", "10.0.0.2", payload));
  add(test::ip_packet("10.0.0.2", "10.0.0.1", payload));
  add(test::ip_packet("10.0.0.3", "10.0.0.2", payload));
  add(test::ip_packet("10.0.0.1", "10.0.0.2", payload, 6));
  add(test::ip_packet("10.0.0.1", "10.0.0.2", with_ports(1001, 53)));
  add(test::ip_packet("10.0.0.1", "10.0.0.2", with_ports(1000, 54)));
  add(test::ip_packet("10.0.0.1", "10.0.0.2", payload, 1));
  for (const char* to : {"fd00::2", "fd00::1:0:0:2", "fd01::2", "fd00:0:1::2"}) {
    add(test::ip_packet("fd00::1", to, payload));
  }
  EXPECT_EQ(hashes.size(), packets);
}

TEST(FlowHash, FragmentsAndWhatHasNoPortsGoByAddressesAndProtocol) {
  Packet first = test::ip_packet("10.0.0.1", "10.0.0.2", with_ports(1000, 53));
  Packet second = test::ip_packet("10.0.0.1", "10.0.0.2", with_ports(0xAAAA, 0xBBBB));
  store_be16(&first.mutable_bytes()[6], 0x2000);  // more fragments
  store_be16(&second.mutable_bytes()[6], 0x0010);
  EXPECT_EQ(hash_of(first), hash_of(second));
  EXPECT_EQ(hash_of(test::ip_packet("10.0.0.1", "10.0.0.2", "ping", 1)),
            hash_of(test::ip_packet("10.0.0.1", "10.0.0.2", "pong", 1)));
  EXPECT_EQ(hash_of(test::ip_packet("fd00::1", "fd00::2", "ping", 58)),
            hash_of(test::ip_packet("fd00::1", "fd00::2", "pong", 58)));
}

TEST(FlowHash, WhatIsNoIpPacketIsOneFlow) {
  const std::uint32_t common = FlowHash(kKey)({});
  EXPECT_EQ(FlowHash(kKey)(as_bytes("hello")), common);
  EXPECT_EQ(FlowHash(kKey)(as_bytes(std::string(100, '\x75'))), common);
  EXPECT_EQ(FlowHash(kKey)(as_bytes(std::string(39, '\x60'))), common);
}

// Every length, so that a sanitizer sees what is read behind the end.
TEST(FlowHash, NothingIsReadThatIsNotThere) {
  SeededRandom random(1);
  for (std::size_t size = 0; size < 100; ++size) {
    for (int i = 0; i < 50; ++i) {
      std::vector<std::uint8_t> bytes(size);
      random.fill(bytes);
      if (size != 0) bytes[0] = static_cast<std::uint8_t>((i % 2 == 0 ? 0x40 : 0x60) | (bytes[0] & 0x0F));
      if (size > 9) bytes[i % 2 == 0 ? 9 : 6] = 17;
      FlowHash{kKey}(bytes);
    }
  }
}

TEST(FlowHash, WhoMeetsWhomDependsOnTheKeyAndIsAsRareAsItShould) {
  constexpr int kFlows = 400;
  constexpr int kKeys = 20;
  SeededRandom random(2);
  int meetings = 0;
  for (int round = 0; round < kKeys; ++round) {
    const FlowHash hash({random.next64(), random.next64()});
    std::vector<std::uint32_t> buckets;
    for (std::uint16_t port = 0; port < kFlows; ++port) {
      buckets.push_back(hash(test::ip_packet("10.0.0.1", "10.0.0.2", with_ports(port, 443), 6).bytes()) >> 22);
    }
    for (int i = 0; i < kFlows; ++i) {
      for (int j = 0; j < i; ++j)
        meetings += buckets[static_cast<std::size_t>(i)] == buckets[static_cast<std::size_t>(j)];
    }
  }
  const double expected = kKeys * kFlows * (kFlows - 1) / 2.0 / 1024;
  EXPECT_GT(meetings, expected * 0.5);
  EXPECT_LT(meetings, expected * 1.5);
}

}  // namespace
}  // namespace penstock
