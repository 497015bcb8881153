// WebSocket conformance in the manner of the Autobahn suite: the tables of RFC 6455 (*_cases.cc), each case for both
// receivers, and each delivered in one read, frame by frame, byte by byte and in random pieces.
//
//   frames of the case --pieces--> MessageDecoder          must give the events, and refuse with the code
//   frames of the case --pieces--> upgraded plain Channel  must give the events, and send back a close frame of that
//   code
//
// A case is a test of its own: conformance_test --gtest_filter='*PingBetweenFragments*'
#include <gtest/gtest.h>

#include <algorithm>
#include <optional>
#include <ostream>

#include "base/random.h"
#include "test/conformance/websocket_case.h"
#include "transport/channel.h"

namespace penstock::conformance {

std::ostream& operator<<(std::ostream& out, const Event& event) {
  return out << "message " << static_cast<int>(event.kind) << " of " << event.payload.size() << " bytes \""
             << event.payload.substr(0, 40) << "\" code " << event.close_code;
}

namespace {

using transport::Channel;

// The wire as the reads that it arrives in.
using Pieces = std::vector<Bytes>;

struct Outcome {
  std::vector<Event> heard;
  // Decoder: the violation's code, or the peer's own where it closed. Channel: the code of the close frame that went
  // back.
  std::uint16_t answer = kStaysOpen;
  bool operator==(const Outcome&) const = default;
};
std::ostream& operator<<(std::ostream& out, const Outcome& outcome) {
  for (const Event& event : outcome.heard) out << event << "; ";
  return out << "answer " << outcome.answer;
}

Event event_of(websocket::Message& message) {
  return {message.kind, std::string(as_text(message.unmask())), message.close_code};
}

Bytes joined(const Pieces& pieces) {
  Bytes all;
  for (const Bytes& piece : pieces) all.insert(all.end(), piece.begin(), piece.end());
  return all;
}

// `bytes` in pieces whose sizes `size` chooses.
template <typename Size>
Pieces cut(const Bytes& bytes, Size size) {
  Pieces pieces;
  for (std::size_t at = 0; at < bytes.size();) {
    const std::size_t length = std::min<std::size_t>(size(), bytes.size() - at);
    pieces.emplace_back(bytes.begin() + static_cast<std::ptrdiff_t>(at),
                        bytes.begin() + static_cast<std::ptrdiff_t>(at + length));
    at += length;
  }
  return pieces;
}

// All the ways in which a case is delivered, with a name for the failure's message.
std::vector<std::pair<std::string, Pieces>> deliveries(const Case& one, const Pieces& frames) {
  const Bytes all = joined(frames);
  if (one.piece != 0) return {{"in its pieces", cut(all, [&] { return one.piece; })}};
  std::vector<std::pair<std::string, Pieces>> ways = {{"in one read", {all}}, {"frame by frame", frames}};
  constexpr std::size_t kBytewise = 20000;
  if (all.size() <= kBytewise) ways.emplace_back("byte by byte", cut(all, [] { return 1U; }));
  for (std::uint64_t seed = 1; seed <= 3; ++seed) {
    SeededRandom random(seed);
    const std::uint32_t most = std::max<std::uint32_t>(2, static_cast<std::uint32_t>(all.size()) / 4);
    ways.emplace_back("in random pieces " + std::to_string(seed), cut(all, [&] { return 1 + random.next32() % most; }));
  }
  return ways;
}

class Conformance : public testing::Test {
 public:
  Conformance(const Case& one, Role receiver) : case_(one), receiver_(receiver) {}

  void TestBody() override {
    Pieces frames;
    for (const Frame& frame : case_.wire) frames.push_back(frame.encoded(sender()));
    const bool closes = !case_.heard.empty() && case_.heard.back().kind == Opcode::close;
    const std::uint16_t refusal = case_.answer == kWaits || closes ? kStaysOpen : case_.answer;
    const std::uint16_t close_frame = case_.answer == kWaits ? kStaysOpen : case_.answer;
    for (const auto& [how, pieces] : deliveries(case_, frames)) {
      EXPECT_EQ(decode(pieces), (Outcome{case_.heard, refusal})) << "decoder, " << how;
      EXPECT_EQ(converse(pieces), (Outcome{case_.heard, close_frame})) << "channel, " << how;
      if (HasFailure()) return;
    }
  }

 private:
  Role sender() const { return receiver_ == Role::server ? Role::client : Role::server; }
  // Whether the decoder is at the start of a message, so that another one must be heard.
  bool goes_on() const { return case_.answer == kStaysOpen; }
  Bytes afterwards() const { return sent::text("still here").encoded(sender()); }

  Outcome decode(const Pieces& pieces) {
    websocket::MessageDecoder decoder(receiver_, case_.max_message);
    ByteQueue in;
    Outcome outcome;
    const auto receive = [&](const Bytes& piece) {
      in.append(piece);
      while (true) {
        auto message = decoder.next(in);
        if (!message) {
          EXPECT_EQ(outcome.answer, kStaysOpen) << "refused twice";
          EXPECT_FALSE(message.error().reason.empty());
          EXPECT_TRUE(decoder.dead());
          outcome.answer = message.error().close_code;
          return;
        }
        if (!*message) return;
        outcome.heard.push_back(event_of(**message));
      }
    };
    for (const Bytes& piece : pieces) receive(piece);
    if (goes_on()) {
      receive(afterwards());
      EXPECT_EQ(take_last(outcome.heard), heard::text("still here"));
      EXPECT_TRUE(in.empty());
    }
    const bool ends = case_.answer != kStaysOpen && case_.answer != kWaits;
    EXPECT_EQ(decoder.dead(), ends);
    return outcome;
  }

  Outcome converse(const Pieces& pieces) {
    Channel channel = upgraded();
    Outcome outcome;
    std::size_t refusals = 0;
    const auto receive = [&](const Bytes& piece) {
      EXPECT_TRUE(channel.receive(piece)) << "what comes after the end is no error";
      for (auto message = channel.next(); !message || *message; message = channel.next()) {
        if (!message) {
          ++refusals;
          break;
        }
        outcome.heard.push_back(event_of(**message));
      }
    };
    for (const Bytes& piece : pieces) receive(piece);
    if (goes_on()) {
      receive(afterwards());
      EXPECT_EQ(take_last(outcome.heard), heard::text("still here"));
    }
    EXPECT_LE(refusals, 1U);
    const bool open = goes_on() || case_.answer == kWaits;
    EXPECT_EQ(channel.state(), open ? Channel::State::open : Channel::State::closed);
    EXPECT_EQ(channel.send_text("more").has_value(), open);
    if (!open) outcome.answer = sent_close_code(channel);
    return outcome;
  }

  // The code of the close frame in `channel`'s output, which must hold nothing else.
  std::uint16_t sent_close_code(Channel& channel) const {
    websocket::MessageDecoder decoder(sender(), 1000);
    auto message = decoder.next(channel.output());
    EXPECT_TRUE(message && *message && (*message)->kind == Opcode::close);
    if (!message || !*message) return 0;
    const std::uint16_t code = (*message)->close_code;
    EXPECT_FALSE(*decoder.next(channel.output()));
    EXPECT_TRUE(channel.output().empty()) << "something behind the close frame";
    return code;
  }

  // A channel without TLS that has its upgrade behind it.
  Channel upgraded() {
    const std::string key = websocket::new_key(random_);
    if (receiver_ == Role::server) {
      Channel channel = Channel::server(nullptr, "/", case_.max_message, random_);
      EXPECT_TRUE(channel.start());
      EXPECT_TRUE(channel.receive(as_bytes(websocket::upgrade_request("gateway.example", "/", key))));
      channel.output().clear();
      return channel;
    }
    Channel channel = Channel::client(nullptr, "gateway.example", "/", case_.max_message, random_);
    EXPECT_TRUE(channel.start());
    websocket::UpgradeParser parser;
    const auto request = parser.next(channel.output());
    const auto response = websocket::accept_upgrade(**request, "/");
    channel.output().clear();
    EXPECT_TRUE(channel.receive(as_bytes(*response)));
    return channel;
  }

  static std::optional<Event> take_last(std::vector<Event>& events) {
    if (events.empty()) return std::nullopt;
    Event last = std::move(events.back());
    events.pop_back();
    return last;
  }

  const Case& case_;
  Role receiver_;
  SeededRandom random_{1};
};

const std::vector<Section>& sections() {
  static const std::vector<Section> all = {framing_section(), masking_section(), fragmentation_section(),
                                           control_section(), close_section(),   utf8_section(),
                                           limits_section(),  delivery_section()};
  return all;
}

// Each case becomes a test before main() lists or runs them.
[[maybe_unused]] const bool registered = [] {
  for (const Section& section : sections()) {
    for (const Case& one : section.cases) {
      for (const auto& [role, name] : {std::pair{Role::server, "_Server"}, std::pair{Role::client, "_Client"}}) {
        if (one.receiver == (role == Role::server ? Receiver::client : Receiver::server)) continue;
        testing::RegisterTest(section.name.c_str(), (one.name + name).c_str(), nullptr, nullptr, __FILE__, __LINE__,
                              [&one, as = role]() -> Conformance* { return new Conformance(one, as); });
      }
    }
  }
  return true;
}();

// Section 5.5.1: our own reasons are UTF-8 too, also where they have to be cut.
TEST(Conformance, OurCloseReasonEndsWithAWholeCharacterWhereItIsCut) {
  SeededRandom random(1);
  for (std::size_t before = 0; before < 4; ++before) {
    Channel channel = Channel::server(nullptr, "/", 1000, random);
    ASSERT_TRUE(channel.start());
    ASSERT_TRUE(channel.receive(as_bytes(websocket::upgrade_request("a", "/", websocket::new_key(random)))));
    channel.output().clear();
    const std::string reason = std::string(before, '.') + prose(400);
    channel.close(1008, reason);
    websocket::MessageDecoder decoder(Role::client, 1000);
    const auto message = decoder.next(channel.output());
    ASSERT_TRUE(message && *message) << before;
    EXPECT_EQ((*message)->close_code, 1008);
    EXPECT_TRUE(reason.starts_with(as_text((*message)->payload)));
    EXPECT_GE((*message)->payload.size(), 120U);
  }
}

TEST(Conformance, HasAtLeastTwoHundredCases) {
  std::size_t count = 0;
  for (const Section& section : sections()) count += section.cases.size();
  EXPECT_GE(count, 200U);
}

}  // namespace
}  // namespace penstock::conformance
