// The same traffic of the same clients through sockets and through a kernel's translation: what the clients get must be
// the same, packet for packet. The networks, the servers and the clients are in differential_testing.h.
//
// The servers say what they saw of each question (hop limit, traffic class, bytes), so both ways are compared.
//
// What is made equal before, because it differs by nature:
//   order             between conversations, and within one between datagrams and errors: a socket has a queue for each
//   outer ends        chance; where one shows (hairpin) it is replaced by whose it is
//   hop limits        a kernel behind a TUN is one router more, each way: OneHopLess takes it out again
//   IP header         identification and DF of IPv4, flow label of IPv6: sockets do not tell them
//   quoted headers    of what a socket sent the kernel keeps addresses, ports and bytes: hop limit, class,
//                     identification, DF, UDP checksum and fragment header of the quoted packet are lost, and how long
//                     it was where not all of it is quoted
//   too big           the second time a socket is refused at once, from what the kernel has learnt of the path: so it
//                     is told by the outer address, where a kernel that forwards asks the router on the way again
//
// What a socket cannot do, and is not compared:
//   out   IPv4 options and IPv6 extension headers are left behind, the datagram goes; a client's own ICMP errors do not
//         go at all; an IPv4 datagram without a checksum gets one
//   in    extensions of ICMP errors (RFC 4884) look like more of the quoted packet; who sends what the hop limit ends
//         here is not told; "too big" is lost once where datagrams with and without DF follow each other closely, and
//         is told at the next
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <sstream>

#include "egress/nat/differential_script_testing.h"

namespace penstock::egress {
namespace {

using test::ip;

std::string hex(ByteView bytes) {
  std::uint64_t hash = 0xcbf29ce484222325;
  for (const std::uint8_t byte : bytes) hash = (hash ^ byte) * 0x100000001b3;
  std::ostringstream text;
  text << bytes.size() << " bytes #" << std::hex << hash;
  return text.str();
}

// Where a packet of a client belongs: its address and its own port or identifier.
using Place = std::pair<IpAddress, std::uint16_t>;

constexpr std::uint8_t kNextIsFragment = 44;

struct Told {
  Place place;
  std::string words;
};

class Teller {
 public:
  explicit Teller(const Translator& translator) : translator_(&translator) {}

  Told tell(const Packet& packet) const {
    const ByteView bytes = packet.bytes();
    const IpView view = parse_ip(bytes).value();
    const bool v4 = view.family == Family::ipv4;
    std::ostringstream out;
    const unsigned tos = v4 ? bytes[1] : (load_be16(&bytes[0]) >> 4) & 0xFFU;
    if (v4 && internet_checksum(bytes.first(view.header_size)) != 0) out << "BAD HEADER ";
    const UpperLayer upper = upper_layer(bytes, view).value();
    const ByteView rest = bytes.subspan(upper.offset);
    if (upper.fragment) out << "FRAGMENT ";
    const std::uint32_t pseudo = upper.protocol == kProtocolIcmp
                                     ? 0
                                     : pseudo_header_sum(view.source, view.destination, upper.protocol, rest.size());
    if (checksum_finish(checksum_add(rest, pseudo)) != 0) out << "BAD CHECKSUM ";
    if (upper.protocol == kProtocolUdp) {
      const std::uint16_t own = load_be16(&rest[2]);
      out << "udp from " << whose({view.source, load_be16(&rest[0])}) << " hops " << int{view.ttl} << " class " << tos
          << ' ' << readable(rest.subspan(8));
      return {{view.destination, own}, out.str()};
    }
    if (rest[0] == (v4 ? 0 : 129)) {
      out << "echo reply from " << view.source.to_string() << " hops " << int{view.ttl} << " class " << tos << ' '
          << hex(rest.subspan(6));
      return {{view.destination, load_be16(&rest[4])}, out.str()};
    }
    out << "error ";
    const ByteView quoted = rest.subspan(8);
    const Told inside = tell_quoted(quoted, v4);
    // Told by our own outer address: as the first router would, if it were asked.
    const bool here = view.source == ip(v4 ? "203.0.113.2" : "2001:db8:1::2");
    const bool too_big = v4 ? rest[0] == 3 && rest[1] == 4 : rest[0] == 2;
    if (here && too_big) {
      out << "from " << (v4 ? "203.0.113.1 hops 63 class 192" : "2001:db8:1::1 hops 63 class 0");
    } else {
      out << "from " << view.source.to_string() << " hops " << int{view.ttl} << " class " << tos;
    }
    out << " type " << int{rest[0]} << '/' << int{rest[1]} << ' ' << load_be32(&rest[4]) << " about " << inside.words;
    return {inside.place, out.str()};
  }

 private:
  Told tell_quoted(ByteView quoted, bool v4) const {
    const std::size_t header = v4 ? 20 : 40;
    std::ostringstream out;
    if (v4 && internet_checksum(quoted.first(header)) != 0) out << "BAD HEADER ";
    const IpAddress from = IpAddress::from_bytes(v4 ? quoted.subspan(12, 4) : quoted.subspan(8, 16));
    const IpAddress to = IpAddress::from_bytes(v4 ? quoted.subspan(16, 4) : quoted.subspan(24, 16));
    const bool fragment = !v4 && quoted[6] == kNextIsFragment;
    const int protocol = fragment ? quoted[header] : quoted[v4 ? 9 : 6];
    const ByteView rest = quoted.subspan(header + (fragment ? 8 : 0));
    out << "protocol " << protocol << " to " << to.to_string();
    // Of more than fits into an error the socket's kernel does not keep how long it was, nor that it was a fragment.
    const bool cut = quoted.size() >= (v4 ? 548 : 1224);
    if (!cut) out << " length " << load_be16(&quoted[v4 ? 2 : 4]);
    if (protocol == kProtocolUdp) {
      out << " port " << load_be16(&rest[2]);
      if (!cut) out << " udp length " << load_be16(&rest[4]);
      out << ' ' << hex(rest.subspan(8));
      return {{from, load_be16(&rest[0])}, out.str()};
    }
    out << ' ' << hex(rest);  // with identifier and checksum, which are the client's own again
    return {{from, load_be16(&rest[4])}, out.str()};
  }
  static std::string readable(ByteView text) {
    const std::string_view all = as_text(text);
    const std::size_t colon = all.find(": ");
    return std::string(all.substr(0, colon < 30 ? colon : 0)) + " / " + hex(text);
  }
  std::string whose(const Endpoint& from) const {
    const auto inner = translator_->inner_end_of(from);
    return inner ? "the outer end of " + inner->to_string() : from.to_string();
  }

  const Translator* translator_;
};

using Story = std::map<Place, std::vector<std::string>>;

constexpr std::uint16_t kMarker = 60000;

// A question that all servers' answers are behind of, there and back.
void go_round(Translator& translator) {
  const std::size_t before = translator.arrived();
  const Endpoint to4{ip("198.51.100.2"), Internet::kEcho};
  const Endpoint to6{ip("2001:db8:2::2"), Internet::kEcho};
  translator.send(0, udp_packet({Translator::inner4(0), kMarker}, to4, "round"));
  translator.send(0, udp_packet({Translator::inner6(0), kMarker}, to6, "round"));
  translator.await(before + 2);
}

Story play(Translator& translator, const std::vector<Conversation>& script4, const std::vector<Conversation>& script6,
           std::uint64_t seed) {
  std::vector<const Conversation*> script;
  for (const Conversation& one : script4) script.push_back(&one);
  for (const Conversation& one : script6) script.push_back(&one);
  SeededRandom random(seed);
  go_round(translator);
  bool complete = true;
  std::vector<std::size_t> next(script.size(), 0);
  std::vector<std::size_t> open(script.size());
  for (std::size_t i = 0; i < open.size(); ++i) open[i] = i;
  while (!open.empty()) {
    std::size_t due = translator.arrived();
    for (std::size_t burst = 1 + random.next32() % 8; burst > 0 && !open.empty(); --burst) {
      const std::size_t chosen = random.next32() % open.size();
      const Conversation& conversation = *script[open[chosen]];
      const Step& step = conversation.steps[next[open[chosen]]++];
      due += step.answers;
      for (Packet& packet : step.make(translator)) translator.send(step.client, std::move(packet));
      if (next[open[chosen]] == conversation.steps.size())
        open.erase(open.begin() + static_cast<std::ptrdiff_t>(chosen));
    }
    // One that is missing shows by name in the end; the next are not waited for.
    if (complete) translator.await(due);
    if (complete && translator.arrived() < due) complete = false;
    if (!complete) go_round(translator);
  }
  // For what should not come.
  for (int i = 0; i < 3; ++i) go_round(translator);
  Story story;
  const Teller teller(translator);
  for (std::size_t client = 0; client < Translator::kClients; ++client) {
    for (const Packet& packet : translator.got(client)) {
      Told told = teller.tell(packet);
      if (told.place.second != kMarker) story[told.place].push_back(std::move(told.words));
    }
  }
  for (auto& [place, told] : story) std::ranges::sort(told);
  return story;
}

// What clients got of each conversation, by its number in its family.
std::map<std::pair<Family, std::size_t>, std::size_t> answers_in(const Story& story) {
  std::map<std::pair<Family, std::size_t>, std::size_t> answers;
  for (const auto& [place, told] : story)
    answers[{place.first.family(), place.second - Script::kFirstPort}] += told.size();
  return answers;
}

void compare(std::uint64_t seed) {
  Networks networks;
  ASSERT_TRUE(networks.make());
  net::LoopRunner runner;
  networks.enter(Networks::c);
  Internet internet(runner);
  SeededRandom random(seed);
  const auto script4 = Script(Family::ipv4, random).take();
  const auto script6 = Script(Family::ipv6, random).take();

  Story by_sockets;
  {
    networks.enter(Networks::a);
    SocketGateway gateway(runner.loop(), random,
                          {.external4 = ip("203.0.113.2"), .external6 = ip("2001:db8:1::2"), .udp = {}});
    Translator translator(runner, gateway, gateway);
    by_sockets = play(translator, script4, script6, seed);
    EXPECT_EQ(gateway.counters().full, 0U);
    EXPECT_EQ(gateway.counters().closed, 0U);
  }
  Story by_kernel;
  {
    const auto tun = networks.open_tun();
    ASSERT_TRUE(tun);
    OneHopLess device(*tun);
    NumberedPorts ports({.addresses = {ip("192.0.2.77"), ip("2001:db8:77::77")}, .udp = {}, .tcp = {}}, random);
    PacketGateway gateway(runner.loop(), device, random, {.first = 1, .second = 2},
                          [](const Error& error) { ADD_FAILURE() << error.message; });
    Translator translator(runner, gateway, ports);
    by_kernel = play(translator, script4, script6, seed);
    EXPECT_EQ(gateway.counters().refused, 0U);
  }

  auto answers = answers_in(by_kernel);
  for (const auto& [family, script] : {std::pair(Family::ipv4, &script4), std::pair(Family::ipv6, &script6)}) {
    for (std::size_t i = 0; i < script->size(); ++i) {
      const Conversation& conversation = (*script)[i];
      EXPECT_EQ((answers[{family, i}]), conversation.answers()) << conversation.name;
      for (std::size_t client = 0; client < Translator::kClients; ++client) {
        const Place place{family == Family::ipv4 ? Translator::inner4(client) : Translator::inner6(client),
                          static_cast<std::uint16_t>(Script::kFirstPort + i)};
        EXPECT_THAT(by_sockets[place], testing::ElementsAreArray(by_kernel[place])) << conversation.name;
      }
    }
  }
  EXPECT_EQ(answers_in(by_sockets), answers) << "something came to where nobody spoke";
}

class DifferentialNat : public testing::TestWithParam<std::uint64_t> {};

INSTANTIATE_TEST_SUITE_P(Dice, DifferentialNat, testing::Values(1, 2, 3, 4, 5));

TEST_P(DifferentialNat, SocketsDoWhatAKernelsTranslationDoes) {
  if (::geteuid() != 0 || ::access("/dev/net/tun", F_OK) != 0) GTEST_SKIP() << "needs root and /dev/net/tun";
  std::string why;
  if (!net::OwnNamespace::run(why, [] { compare(GetParam()); })) GTEST_SKIP() << why;
}

}  // namespace
}  // namespace penstock::egress
