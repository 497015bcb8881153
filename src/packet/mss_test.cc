#include "packet/mss.h"

#include <gtest/gtest.h>

#include <string>

#include "packet/checksum.h"
#include "test/support/packets.h"

namespace penstock {
namespace {

using namespace std::string_literals;
using test::ip;
using test::ip_packet;

constexpr std::uint8_t kSyn = 0x02;
constexpr std::uint8_t kSynAck = 0x12;
constexpr std::uint8_t kAck = 0x10;

std::string mss(std::uint16_t value) { return {2, 4, static_cast<char>(value >> 8), static_cast<char>(value)}; }

struct Tcp {
  std::string options;
  bool v6 = false;
  std::uint8_t flags = kSyn;
  std::string data;
};

// With a good checksum; `options` are padded with zeros to whole words.
Packet segment_of(Tcp tcp) {
  tcp.options.resize((tcp.options.size() + 3) / 4 * 4);
  std::string segment("\x9C\x40\x00\x50\x12\x34\x56\x78\x00\x00\x00\x00"s);
  segment += {static_cast<char>((5 + tcp.options.size() / 4) << 4), static_cast<char>(tcp.flags)};
  segment += "\xFF\xFF\0\0\0\0"s + tcp.options + tcp.data;
  const char* from = tcp.v6 ? "fd00::2" : "10.0.0.2";
  const char* to = tcp.v6 ? "fd00::3" : "10.0.0.3";
  const auto sum = pseudo_header_sum(ip(from), ip(to), kProtocolTcp, segment.size());
  const std::uint16_t checksum = checksum_finish(checksum_add(as_bytes(segment), sum));
  segment[16] = static_cast<char>(checksum >> 8);
  segment[17] = static_cast<char>(checksum);
  return ip_packet(from, to, segment, kProtocolTcp);
}

bool checksum_is_good(const Packet& packet) {
  const IpView view = *parse_ip(packet.bytes());
  const ByteView tcp = packet.bytes().subspan(view.header_size);
  return checksum_add(tcp, pseudo_header_sum(view.source, view.destination, kProtocolTcp, tcp.size())) == 0xFFFF;
}

std::string options_of(const Packet& packet) {
  const std::string tcp = test::payload_of(packet);
  const auto header = static_cast<std::size_t>(static_cast<std::uint8_t>(tcp[12]) >> 4) * 4;
  return tcp.substr(20, header - 20);
}

TEST(Mss, IsLoweredToWhatFitsWithPlainHeaders) {
  const struct {
    bool v6;
    std::size_t mtu;
    std::uint16_t said, expected;
  } cases[] = {
      {false, 1280, 1460, 1240}, {false, 1280, 1241, 1240}, {false, 1280, 1240, 1240},    {false, 1280, 536, 536},
      {false, 1500, 1460, 1460}, {false, 576, 1460, 536},   {false, 65535, 65535, 65495}, {false, 65535, 1460, 1460},
      {true, 1280, 1440, 1220},  {true, 1280, 1221, 1220},  {true, 1280, 1220, 1220},     {true, 9000, 1440, 1440},
      {false, 40, 1460, 1460},   {true, 60, 1440, 1440},
  };
  for (const auto& [v6, mtu, said, expected] : cases) {
    for (const std::uint8_t flags : {kSyn, kSynAck}) {
      Packet packet = segment_of({.options = mss(said), .v6 = v6, .flags = flags});
      ASSERT_TRUE(is_tcp_syn(packet.bytes()));
      EXPECT_EQ(clamp_mss(packet, mtu), said != expected) << mtu << ' ' << said;
      EXPECT_EQ(options_of(packet), mss(expected)) << mtu << ' ' << said;
      EXPECT_TRUE(checksum_is_good(packet)) << mtu << ' ' << said;
    }
  }
}

TEST(Mss, IsFoundAmongOtherOptionsAtEvenAndOddPlaces) {
  const std::string timestamps = "\x08\x0A\1\2\3\4\5\6\7\x08"s;
  const std::string window_scale = "\x03\x03\x07"s;
  for (const std::string& before :
       {"\1"s, "\1\1"s, window_scale, window_scale + "\1", "\4\2"s, timestamps, "\1" + timestamps}) {
    for (std::uint32_t said = 1241; said < 0x10000; said += 97) {
      const auto options_with = [&](std::uint32_t size) {
        std::string options = before;
        options += mss(static_cast<std::uint16_t>(size));
        return options.append(window_scale);
      };
      Packet packet = segment_of({.options = options_with(said), .data = "odd"});
      ASSERT_TRUE(clamp_mss(packet, 1280));
      ASSERT_EQ(options_of(packet).substr(0, before.size() + 7), options_with(1240));
      ASSERT_TRUE(checksum_is_good(packet)) << before.size() << ' ' << said;
    }
  }
}

TEST(Mss, LeavesAPartialChecksumAsItIsBecauseThatDoesNotCoverTheOption) {
  Packet packet = segment_of({.options = mss(1460)});
  store_be16(&packet.mutable_bytes()[20 + 16], 0x1234);
  packet.offload.needs_checksum = true;
  ASSERT_TRUE(clamp_mss(packet, 1280));
  EXPECT_EQ(options_of(packet), mss(1240));
  EXPECT_EQ(load_be16(&packet.bytes()[20 + 16]), 0x1234);
}

TEST(Mss, LeavesAloneWhatItDoesNotUnderstand) {
  const struct {
    const char* name;
    std::string options;
  } cases[] = {
      {"no options", ""},
      {"no MSS: none is put in", "\4\2\1\1"},
      {"behind the end of the options", "\0\0\0\0"s + mss(1460)},
      {"too short", "\2\3\x05\xB4"},
      {"too long", "\2\5\x05\xB4\1\1\1\1"},
      {"an option of length 0", "\x08\0\1\1"s + mss(1460)},
      {"an option of length 1", "\x08\1\1\1" + mss(1460)},
      {"an option that reaches behind the header", "\x08\x0A\1\1" + mss(1460)},
      {"cut off in the middle", "\1\1\1\2"},
      {"cut off behind its length", "\1\1\2\4"},
  };
  for (const auto& [name, options] : cases) {
    Packet packet = segment_of({.options = options});
    const Packet before = packet.clone();
    EXPECT_FALSE(clamp_mss(packet, 1280)) << name;
    EXPECT_EQ(as_text(packet.bytes()), as_text(before.bytes())) << name;
  }
}

TEST(Mss, IsOnlyLookedForInASyn) {
  EXPECT_FALSE(is_tcp_syn(segment_of({.options = mss(1460), .flags = kAck}).bytes()));
  EXPECT_FALSE(is_tcp_syn(segment_of({.options = mss(1460), .v6 = true, .flags = kAck}).bytes()));
  EXPECT_FALSE(is_tcp_syn(ip_packet("10.0.0.2", "10.0.0.3", std::string(20, '\xFF')).bytes())) << "UDP";
  EXPECT_FALSE(is_tcp_syn(ip_packet("fd00::2", "fd00::3", std::string(20, '\xFF'), 0).bytes())) << "extension header";
  EXPECT_FALSE(is_tcp_syn(ip_packet("10.0.0.2", "10.0.0.3", std::string(13, '\xFF'), 6).bytes())) << "cut short";
}

TEST(Mss, OfAFragmentAndOfACutHeaderIsLeftAlone) {
  Packet fragment = segment_of({.options = mss(1460)});
  fragment.mutable_bytes()[6] = 0x20;
  EXPECT_FALSE(clamp_mss(fragment, 1280));
  Packet cut = ip_packet("10.0.0.2", "10.0.0.3", test::payload_of(segment_of({.options = mss(1460)})).substr(0, 22), 6);
  ASSERT_TRUE(is_tcp_syn(cut.bytes()));
  EXPECT_FALSE(clamp_mss(cut, 1280));
}

}  // namespace
}  // namespace penstock
