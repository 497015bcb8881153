#include "packet/udp_packet.h"

#include <gtest/gtest.h>

#include <vector>

#include "packet/ip_view.h"
#include "packet/packet_samples.h"
#include "packet/super_packet.h"

namespace penstock {
namespace {

using samples::Bytes;
using samples::Sample;

class UdpPacket : public testing::TestWithParam<Family> {
 protected:
  Sample sample(Bytes payload) const {
    return {.family = GetParam(), .protocol = kProtocolUdp, .destination_port = 53, .payload = std::move(payload)};
  }
  static std::vector<Bytes> datagrams(const UdpView& view) {
    std::vector<Bytes> all;
    view.for_each_datagram([&](ByteView one) { all.emplace_back(one.begin(), one.end()); });
    return all;
  }
  SeededRandom random_{1};
};

INSTANTIATE_TEST_SUITE_P(Families, UdpPacket, testing::Values(Family::ipv4, Family::ipv6),
                         [](const auto& each) { return each.param == Family::ipv4 ? "Ipv4" : "Ipv6"; });

TEST_P(UdpPacket, IsTakenApart) {
  const Bytes payload{1, 2, 3};
  const Packet packet = samples::make(sample(payload));
  const auto view = read_udp(packet);
  ASSERT_TRUE(view);
  const auto ip = parse_ip(packet.bytes());
  EXPECT_EQ(view->from, (Endpoint{ip->source, 40000}));
  EXPECT_EQ(view->to, (Endpoint{ip->destination, 53}));
  EXPECT_EQ(datagrams(*view), std::vector<Bytes>{payload});
}

// Word by word as the sample's slower code has it.
TEST_P(UdpPacket, IsMadeAsOneThatIsWrittenFieldByField) {
  for (int round = 0; round < 200; ++round) {
    Sample wanted = sample(samples::random_bytes(random_, random_.next32() % 1500));
    wanted.flow_label = 0;
    wanted.fragment_field = 0;
    wanted.traffic_class = static_cast<std::uint8_t>(random_.next32());
    wanted.ttl = 64;
    const Packet model = samples::make(wanted);
    const auto ip = parse_ip(model.bytes());
    const Packet made =
        make_udp({ip->source, wanted.source_port}, {ip->destination, wanted.destination_port}, wanted.payload,
                 {.tos = wanted.traffic_class, .identification = wanted.identification});
    ASSERT_EQ(Bytes(made.bytes().begin(), made.bytes().end()), Bytes(model.bytes().begin(), model.bytes().end()));
    EXPECT_EQ(made.offload, Offload{});
    ASSERT_TRUE(read_udp(made));
    EXPECT_EQ(datagrams(*read_udp(made)), std::vector<Bytes>{wanted.payload});
  }
}

TEST_P(UdpPacket, AChecksumThatWouldBeZeroIsSentAsOnes) {
  const IpAddress address = parse_ip(samples::make(sample({})).bytes())->source;
  for (unsigned word = 0; word <= 0xFFFF; ++word) {
    const Bytes payload{static_cast<std::uint8_t>(word >> 8), static_cast<std::uint8_t>(word)};
    const Packet packet = make_udp({address, 1}, {address, 2}, payload);
    const std::uint16_t checksum = load_be16(&packet.bytes()[packet.size() - 4]);
    ASSERT_NE(checksum, 0);
    ASSERT_TRUE(read_udp(packet)) << word;
  }
}

TEST_P(UdpPacket, OneWithAnyBitOfItsPayloadTurnedIsNone) {
  const Packet good = samples::make(sample({1, 2, 3, 4, 5}));
  for (std::size_t bit = 0; bit < 5 * 8; ++bit) {
    Packet bad = good.clone();
    bad.mutable_bytes()[bad.size() - 1 - bit / 8] ^= static_cast<std::uint8_t>(1U << bit % 8);
    EXPECT_FALSE(read_udp(bad));
  }
}

TEST_P(UdpPacket, WithoutAChecksumIsOneOnlyInIpv4) {
  Sample bare = sample({1, 2, 3});
  bare.no_checksum = true;
  EXPECT_EQ(read_udp(samples::make(bare)).has_value(), GetParam() == Family::ipv4);
}

TEST_P(UdpPacket, APartialChecksumIsNobodysToVerify) {
  Sample partial = sample({1, 2, 3});
  partial.offload.needs_checksum = true;
  const Packet packet = samples::make(partial);
  ASSERT_TRUE(read_udp(packet));
  EXPECT_EQ(datagrams(*read_udp(packet)), std::vector<Bytes>{partial.payload});
}

TEST_P(UdpPacket, ASuperPacketIsSeveralDatagrams) {
  Sample super = sample({1, 2, 3, 4, 5, 6, 7});
  super.offload = {.gso = GetParam() == Family::ipv4 ? Offload::Gso::udp4 : Offload::Gso::udp6,
                   .needs_checksum = true,
                   .segment_size = 3};
  const Packet packet = samples::make(super);
  ASSERT_TRUE(read_udp(packet));
  EXPECT_EQ(datagrams(*read_udp(packet)), (std::vector<Bytes>{{1, 2, 3}, {4, 5, 6}, {7}}));
  super.payload.resize(6);
  const Packet even = samples::make(super);
  EXPECT_EQ(datagrams(*read_udp(even)).size(), 2U) << "and no empty one at the end";
}

TEST_P(UdpPacket, AnOffloadThatCannotBeTrueMakesItNone) {
  Packet packet = samples::make(sample({1, 2, 3}));
  packet.offload = {.gso = Offload::Gso::tcp4, .needs_checksum = true, .segment_size = 1};
  EXPECT_FALSE(read_udp(packet));
  packet.offload = {.segment_size = 1};
  EXPECT_FALSE(read_udp(packet));
}

TEST_P(UdpPacket, OneThatIsCutShortIsNone) {
  const Packet whole = samples::make(sample({1, 2, 3, 4}));
  for (std::size_t size = 0; size < whole.size(); ++size) {
    Packet cut = whole.clone();
    cut.truncate(size);
    EXPECT_FALSE(read_udp(cut));
  }
}

TEST_P(UdpPacket, ALargerPayloadThanAPacketHoldsMakesNone) {
  const IpAddress address = parse_ip(samples::make(sample({})).bytes())->source;
  const std::size_t room = Packet::kMaxSize - (GetParam() == Family::ipv4 ? 28 : 48);
  EXPECT_EQ(make_udp({address, 1}, {address, 2}, Bytes(room)).size(), Packet::kMaxSize);
  EXPECT_TRUE(make_udp({address, 1}, {address, 2}, Bytes(room + 1)).empty());
}

TEST(UdpPacketOfAnother, ProtocolOrInFragmentsIsNone) {
  EXPECT_FALSE(read_udp(samples::make({.protocol = kProtocolTcp, .payload = {1, 2, 3}})));
  EXPECT_FALSE(read_udp(samples::make({.protocol = kProtocolUdp, .fragment_field = 0x2000, .payload = Bytes(8)})));
  EXPECT_FALSE(read_udp(Packet()));
}

// The UDP header may say that there is less than came (RFC 768 leaves it open); more it may not.
TEST(UdpPacketWithALengthOfItsOwn, HasThatPayload) {
  Packet packet = samples::make({.protocol = kProtocolUdp, .no_checksum = true, .payload = {1, 2, 3, 4}});
  store_be16(&packet.mutable_bytes()[24], 10);
  ASSERT_TRUE(read_udp(packet));
  EXPECT_EQ(read_udp(packet)->payload.size(), 2U);
  for (const std::uint16_t length : {std::uint16_t{7}, std::uint16_t{13}, std::uint16_t{0}}) {
    store_be16(&packet.mutable_bytes()[24], length);
    EXPECT_FALSE(read_udp(packet));
  }
}

}  // namespace
}  // namespace penstock
