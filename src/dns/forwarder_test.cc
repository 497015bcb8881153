#include "dns/forwarder.h"

#include <gmock/gmock.h>

#include <algorithm>
#include <set>

#include "dns/dns_testing.h"
#include "test/support/manual_loop.h"

namespace penstock::dns {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;
using testing::address_record;
using testing::Asking;
using testing::Bytes;
using ::testing::ElementsAre;
using testing::ip;
using testing::name;
using testing::query;
using testing::reply;

const Endpoint first_server{ip("192.0.2.53"), 53};
const Endpoint second_server{ip("198.51.100.53"), 53};

class Nobody final : public LanNames {
 public:
  std::vector<IpAddress> find(std::string_view name) const override {
    return name == "alice" ? std::vector{ip("10.100.0.2")} : std::vector<IpAddress>();
  }
  std::optional<std::string> find(const IpAddress&) const override { return std::nullopt; }
};

// What was sent, in order, and what is still open.
class Wire final : public Upstream {
 public:
  struct Sent {
    Endpoint server;
    Bytes bytes;
    Exchange exchange;
    bool stream;
  };

  bool send(const Endpoint& server, ByteView bytes, Exchange exchange) override {
    if (!sockets) return false;
    return take(server, bytes, exchange, false);
  }
  bool send_stream(const Endpoint& server, ByteView bytes, Exchange exchange) override {
    return streams && take(server, bytes, exchange, true);
  }
  void close(Exchange exchange) override { EXPECT_EQ(open.erase(exchange), 1U) << "closed twice, or never opened"; }

  std::vector<Sent> sent;
  std::set<Exchange> open;
  bool sockets = true;
  bool streams = true;

 private:
  bool take(const Endpoint& server, ByteView bytes, Exchange exchange, bool stream) {
    EXPECT_TRUE(open.insert(exchange).second);
    sent.push_back({server, Bytes(bytes.begin(), bytes.end()), exchange, stream});
    return true;
  }
};

class ForwarderTest : public ::testing::Test {
 protected:
  struct Answered {
    ClientKey client;
    Bytes bytes;
    Message message;
  };
  static constexpr ClientKey kAlice{.client = 1, .from = {IpAddress::v4(0x0A640002), 40000}};
  static constexpr ClientKey kBob{.client = 2, .from = {IpAddress::v4(0x0A640003), 40000}};
  static constexpr ClientKey kBobsStream{.client = 2, .from = {IpAddress::v4(0x0A640003), 40000}, .stream = 5};

  explicit ForwarderTest(const Forwarder::Settings& settings = {}) { start(settings); }
  void start(const Forwarder::Settings& settings) {
    forwarder_.emplace(loop_, random_, wire_, zones_, settings, [this](const ClientKey& client, ByteView bytes) {
      answers_.push_back({client, Bytes(bytes.begin(), bytes.end()), Message::parse(bytes).value_or(Message{})});
    });
    forwarder_->set_servers(std::array{first_server, second_server});
  }
  ~ForwarderTest() override {
    forwarder_.reset();
    EXPECT_TRUE(wire_.open.empty()) << "each exchange is closed";
  }

  void ask(std::string_view text, const ClientKey& client = kAlice, const Asking& asking = {}) {
    forwarder_->on_query(client, query(text, asking));
  }
  // The n-th query that was sent is answered by its server.
  void answer(std::size_t n, const Records& records, std::uint16_t code = rcode::kNoError) {
    const Wire::Sent sent = wire_.sent.at(n);
    forwarder_->on_reply(sent.exchange, sent.server, reply(sent.bytes, records, code));
  }
  // And so by somebody who changes the good reply before.
  template <typename Change>
  void forge(std::size_t n, Change change, std::optional<Endpoint> from = {}) {
    const Wire::Sent sent = wire_.sent.at(n);
    Bytes bytes = reply(sent.bytes, address_record("a.example", "203.0.113.66"));
    change(bytes);
    forwarder_->on_reply(sent.exchange, from.value_or(sent.server), bytes);
  }
  std::uint64_t counted(Count what) const { return forwarder_->counters().of(what); }
  std::vector<std::uint16_t> codes() const {
    std::vector<std::uint16_t> codes;
    for (const Answered& a : answers_) codes.push_back(a.message.header.rcode);
    return codes;
  }
  static std::string spelling(const Wire::Sent& sent) { return Message::parse(sent.bytes)->spelling; }

  test::ManualLoop loop_;
  SeededRandom random_{1};
  Nobody names_;
  LocalZones zones_{{.subnets = {Prefix::parse("10.100.0.0/24").value()}}, names_};
  Wire wire_;
  std::vector<Answered> answers_;
  std::optional<Forwarder> forwarder_;
};

TEST_F(ForwarderTest, AQuestionGoesToTheFirstServerAndItsAnswerToTheClient) {
  ask("A.Example", kAlice, {.id = 99});
  ASSERT_EQ(wire_.sent.size(), 1U);
  EXPECT_EQ(wire_.sent[0].server, first_server);
  const auto asked = Message::parse(wire_.sent[0].bytes);
  EXPECT_EQ(asked->question.name, name("a.example"));
  EXPECT_TRUE(asked->header.recursion_desired);
  EXPECT_EQ(asked->edns, Edns{});
  answer(0, address_record("a.example", "203.0.113.1", 300));
  ASSERT_EQ(answers_.size(), 1U);
  EXPECT_EQ(answers_[0].client, kAlice);
  EXPECT_EQ(answers_[0].message.header.id, 99);
  EXPECT_EQ(answers_[0].message.spelling, std::string_view("\1A\7Example\0", 11)) << "in the client's case";
  EXPECT_EQ(answers_[0].message.records, address_record("a.example", "203.0.113.1", 300));
  EXPECT_EQ(forwarder_->questions() + forwarder_->waiting(), 0U);
}

TEST_F(ForwarderTest, TheSecondToAskIsAnsweredFromTheCacheWithLessTimeToLive) {
  ask("a.example");
  answer(0, address_record("a.example", "203.0.113.1", 300));
  loop_.advance(seconds(100));
  ask("a.EXAMPLE", kBob);
  EXPECT_EQ(wire_.sent.size(), 1U);
  ASSERT_EQ(answers_.size(), 2U);
  EXPECT_EQ(answers_[1].message.records, address_record("a.example", "203.0.113.1", 200));
  loop_.advance(seconds(200));
  ask("a.example");
  EXPECT_EQ(wire_.sent.size(), 2U);
}

TEST_F(ForwarderTest, NoTwoQueriesAreTheSameForWhoWouldGuess) {
  std::set<std::uint16_t> ids;
  std::set<std::string> spellings;
  for (int i = 0; i < 64; ++i) {
    ask("abcdefghijklmnopqrstuvwxyz.example", kAlice, {.type = static_cast<std::uint16_t>(1000 + i)});
    ids.insert(Message::parse(wire_.sent.back().bytes)->header.id);
    spellings.insert(spelling(wire_.sent.back()));
  }
  EXPECT_GT(ids.size(), 60U);
  EXPECT_EQ(spellings.size(), 64U);
}

TEST_F(ForwarderTest, AReplyThatDoesNotMatchInEverythingIsAsIfItNeverCame) {
  ask("a.example");
  forge(0, [](Bytes& bytes) { bytes[1] ^= 1; });
  forge(0, [](Bytes&) {}, second_server);
  forge(0, [](Bytes&) {}, Endpoint{first_server.address, 5353});
  forge(0, [](Bytes& bytes) { bytes[13] = 'b'; });
  forge(0, [](Bytes& bytes) { bytes[24] = type::kMx; });
  forge(0, [](Bytes& bytes) { bytes[2] &= 0x7F; });
  forge(0, [](Bytes& bytes) { bytes.resize(11); });
  const Wire::Sent sent = wire_.sent[0];
  forwarder_->on_reply(sent.exchange + 1, sent.server, reply(sent.bytes, address_record("a.example", "203.0.113.66")));
  EXPECT_EQ(counted(Count::strange), 7U) << "and one came to a socket that is none";
  EXPECT_TRUE(answers_.empty());
  EXPECT_EQ(wire_.sent.size(), 1U);
  answer(0, address_record("a.example", "203.0.113.1"));
  ASSERT_EQ(answers_.size(), 1U);
  EXPECT_EQ(answers_[0].message.records, address_record("a.example", "203.0.113.1"));
}

TEST_F(ForwarderTest, WhoeverKeepsGuessingMovesTheQuestionToTcp) {
  ask("a.example");
  for (int i = 0; i < Forwarder::kMaxStrange; ++i) forge(0, [](Bytes& bytes) { bytes[1] ^= 1; });
  ASSERT_EQ(wire_.sent.size(), 2U);
  EXPECT_TRUE(wire_.sent[1].stream);
  EXPECT_FALSE(wire_.open.contains(wire_.sent[0].exchange));
  answer(1, address_record("a.example", "203.0.113.1"));
  EXPECT_THAT(codes(), ElementsAre(rcode::kNoError));
}

TEST_F(ForwarderTest, WithoutTcpAGuessersGuessesEndWithTheSocketTheyWereFor) {
  wire_.streams = false;
  ask("a.example");
  for (int i = 0; i < Forwarder::kMaxStrange; ++i) forge(0, [](Bytes& bytes) { bytes[1] ^= 1; });
  ASSERT_EQ(wire_.sent.size(), 2U);
  EXPECT_FALSE(wire_.open.contains(wire_.sent[0].exchange));
  EXPECT_EQ(forwarder_->questions(), 1U);
}

void lower_question(Bytes& bytes) {
  for (std::size_t i = 12; i < 23; ++i) bytes[i] = to_lower(bytes[i]);
}

// The seed makes spellings with capitals, or a server that lowers them would not be noticed.
TEST_F(ForwarderTest, AServerThatLosesTheCaseIsAskedInLowerCaseFromAnotherSocket) {
  ask("a.example");
  forge(0, lower_question);
  EXPECT_TRUE(answers_.empty()) << "it might be somebody who guessed the rest";
  ASSERT_EQ(wire_.sent.size(), 2U);
  EXPECT_EQ(wire_.sent[1].server, first_server);
  EXPECT_EQ(spelling(wire_.sent[1]), std::string_view("\1a\7example\0", 11));
  EXPECT_NE(wire_.sent[1].exchange, wire_.sent[0].exchange);
  EXPECT_FALSE(wire_.open.contains(wire_.sent[0].exchange));
  answer(1, address_record("a.example", "203.0.113.1"));
  EXPECT_EQ(answers_.size(), 1U);
}

TEST_F(ForwarderTest, AServerThatLosesTheCaseTimeAndAgainIsRememberedForAnHour) {
  auto ask_new = [this, i = 0]() mutable {
    ask("a.example", kAlice, {.type = static_cast<std::uint16_t>(1000 + i++)});
    return wire_.sent.size() - 1;
  };
  for (int i = 0; i < Server::kCaseMisses; ++i) {
    const auto sent = ask_new();
    ASSERT_NE(spelling(wire_.sent[sent]), std::string_view("\1a\7example\0", 11));
    forge(sent, lower_question);
    answer(sent + 1, {});
  }
  EXPECT_EQ(counted(Count::case_lost), 3U);
  EXPECT_EQ(spelling(wire_.sent[ask_new()]), std::string_view("\1a\7example\0", 11));
  loop_.advance(std::chrono::hours(1));
  const auto later = ask_new();
  EXPECT_EQ(wire_.sent[later].server, first_server);
  EXPECT_NE(spelling(wire_.sent[later]), std::string_view("\1a\7example\0", 11));
}

TEST_F(ForwarderTest, AServerThatDoesNotKnowEdnsIsAskedWithout) {
  ask("a.example");
  forge(0, [](Bytes& bytes) {
    Head head = Message::parse(bytes).value();
    head.edns.reset();
    head.header.rcode = rcode::kFormErr;
    bytes = write(head, {});
  });
  ASSERT_EQ(wire_.sent.size(), 2U);
  EXPECT_EQ(wire_.sent[1].server, first_server);
  EXPECT_FALSE(Message::parse(wire_.sent[1].bytes)->edns);
  answer(1, address_record("a.example", "203.0.113.1"));
  ask("b.example");
  EXPECT_FALSE(Message::parse(wire_.sent[2].bytes)->edns) << "remembered";
}

TEST_F(ForwarderTest, WithoutAReplyTheNextServerIsAskedAndASlowReplyIsStillGood) {
  ask("a.example");
  loop_.advance(milliseconds(999));
  EXPECT_EQ(wire_.sent.size(), 1U);
  loop_.advance(milliseconds(1));
  ASSERT_EQ(wire_.sent.size(), 2U);
  EXPECT_EQ(wire_.sent[1].server, second_server);
  answer(0, address_record("a.example", "203.0.113.1"));
  EXPECT_EQ(answers_.size(), 1U);
  EXPECT_TRUE(wire_.open.empty());
}

TEST_F(ForwarderTest, AfterFiveSecondsOfSilenceTheClientIsToldSoAndAgainAtOnceForAWhile) {
  ask("a.example");
  loop_.advance(milliseconds(4999));
  EXPECT_TRUE(answers_.empty());
  EXPECT_EQ(wire_.sent.size(), 3U) << "at 0, 1 and 3 s";
  EXPECT_EQ(wire_.sent[2].server, first_server);
  loop_.advance(milliseconds(1));
  EXPECT_THAT(codes(), ElementsAre(rcode::kServFail));
  EXPECT_TRUE(wire_.open.empty());
  ask("a.example");
  EXPECT_EQ(wire_.sent.size(), 3U);
  EXPECT_THAT(codes(), ElementsAre(rcode::kServFail, rcode::kServFail));
  loop_.advance(seconds(5));
  ask("a.example");
  EXPECT_EQ(wire_.sent.size(), 4U);
}

TEST_F(ForwarderTest, AServerThatWasSilentTwiceIsAskedLastForAWhile) {
  for (const char* text : {"a.example", "b.example"}) {
    ask(text);
    loop_.advance(seconds(1));
    answer(wire_.sent.size() - 1, address_record(text, "203.0.113.1"));
  }
  ask("c.example");
  EXPECT_EQ(wire_.sent.back().server, second_server);
  loop_.advance(Server::kAilingTime);
  ask("d.example");
  EXPECT_EQ(wire_.sent.back().server, first_server);
}

TEST_F(ForwarderTest, AServerThatCannotAnswerIsLeftForTheNextAtOnce) {
  for (const std::uint16_t code : {rcode::kServFail, rcode::kRefused, rcode::kNotImp}) {
    const std::string text = "n" + std::to_string(code) + ".example";
    const std::size_t n = wire_.sent.size();
    ask(text);
    answer(n, {}, code);
    ASSERT_EQ(wire_.sent.size(), n + 2) << code;
    EXPECT_EQ(wire_.sent[n + 1].server, second_server);
    answer(n + 1, address_record(text, "203.0.113.1"));
  }
  EXPECT_THAT(codes(), ElementsAre(0, 0, 0));
}

TEST_F(ForwarderTest, WhenNoServerCanAnswerTheClientHearsSoWithoutWaiting) {
  ask("a.example");
  answer(0, {}, rcode::kServFail);
  forwarder_->on_failed(wire_.sent[1].exchange);
  wire_.open.erase(wire_.sent[1].exchange);
  EXPECT_THAT(codes(), ElementsAre(rcode::kServFail));
  wire_.sockets = false;
  ask("b.example");
  EXPECT_THAT(codes(), ElementsAre(rcode::kServFail, rcode::kServFail));
}

TEST_F(ForwarderTest, NoSuchNameIsAnAnswerAndIsKept) {
  Records soa;
  soa.add_soa(Section::authority, name("example"), 60);
  ask("a.example");
  answer(0, soa, rcode::kNxDomain);
  ask("a.example");
  EXPECT_EQ(wire_.sent.size(), 1U);
  EXPECT_THAT(codes(), ElementsAre(rcode::kNxDomain, rcode::kNxDomain));
}

TEST_F(ForwarderTest, ATruncatedReplyIsAskedForByTcp) {
  ask("a.example");
  const Wire::Sent sent = wire_.sent[0];
  forwarder_->on_reply(sent.exchange, sent.server, reply(sent.bytes, {}, rcode::kNoError, true));
  ASSERT_EQ(wire_.sent.size(), 2U);
  EXPECT_TRUE(wire_.sent[1].stream);
  EXPECT_EQ(wire_.sent[1].server, first_server);
  Records many;
  for (unsigned i = 0; i < 200; ++i) many.add_address(Section::answer, name("a.example"), 60, IpAddress::v4(i));
  answer(1, many);
  ASSERT_EQ(answers_.size(), 1U);
  EXPECT_LE(answers_[0].bytes.size(), 512U);
  EXPECT_TRUE(answers_[0].message.header.truncated);
  ask("a.example", kBobsStream);
  EXPECT_EQ(answers_[1].message.records, many) << "whole, and from the cache";
}

TEST_F(ForwarderTest, WithoutTcpTheClientIsToldThatTheAnswerWasCut) {
  wire_.streams = false;
  ask("a.example");
  ask("a.example", kBobsStream);
  const Wire::Sent sent = wire_.sent[0];
  forwarder_->on_reply(sent.exchange, sent.server,
                       reply(sent.bytes, address_record("a.example", "203.0.113.1"), rcode::kNoError, true));
  ASSERT_EQ(answers_.size(), 2U);
  EXPECT_TRUE(answers_[0].message.header.truncated);
  EXPECT_FALSE(answers_[0].message.records.empty());
  EXPECT_EQ(answers_[1].message.header.rcode, rcode::kServFail) << "who came by TCP cannot be sent there";
  EXPECT_EQ(forwarder_->cache().entries(), 0U);
}

TEST_F(ForwarderTest, TheSameQuestionIsAskedOnceAndAnsweredToAll) {
  ask("a.example", kAlice, {.id = 1});
  ask("A.EXAMPLE", kBob, {.id = 2});
  ask("a.example", kBobsStream, {.id = 3});
  ask("a.example", kAlice, {.id = 1});
  ask("a.example", kBob, {.id = 4, .edns = Edns{1232, 0, true}});
  EXPECT_EQ(wire_.sent.size(), 2U) << "DNSSEC is another question";
  EXPECT_EQ(counted(Count::joined), 2U);
  EXPECT_EQ(counted(Count::repeated), 1U);
  answer(0, address_record("a.example", "203.0.113.1"));
  ASSERT_EQ(answers_.size(), 3U);
  EXPECT_EQ(answers_[1].message.header.id, 2);
  EXPECT_EQ(answers_[1].message.spelling, std::string_view("\1A\7EXAMPLE\0", 11));
}

TEST_F(ForwarderTest, ANameThatLeansOnTheQuestionLosesTheDiceOfTheQuestion) {
  ask("a.example");
  forge(0, [](Bytes& bytes) {
    Head head = Message::parse(bytes).value();
    Bytes reply = write(head, {});
    reply.resize(reply.size() - 11);  // its OPT record
    store_be16(&reply[6], 1);
    store_be16(&reply[10], 0);
    testing::Raw raw;
    raw.pointer(12).record(type::kCname, 4).label("x").pointer(14);
    reply.insert(reply.end(), raw.bytes.begin(), raw.bytes.end());
    bytes = reply;
  });
  ASSERT_EQ(answers_.size(), 1U);
  const Records& records = answers_[0].message.records;
  EXPECT_EQ(as_text(records.rdata_of(records.all()[0])), std::string_view("\1x\7example\0", 11));
}

TEST_F(ForwarderTest, LocalNamesAreAnsweredWithAuthorityAndNeverForwarded) {
  ask("alice.penstock.internal");
  EXPECT_TRUE(answers_.at(0).message.header.authoritative);
  EXPECT_EQ(answers_[0].message.records, address_record("alice.penstock.internal", "10.100.0.2", LocalZones::kLanTtl));
  for (const char* text : {"bob.penstock.internal", "9.0.100.10.in-addr.arpa", "localhost", "a.test", "a.onion",
                           "a.invalid", "1.1.168.192.in-addr.arpa"}) {
    ask(text);
  }
  EXPECT_EQ(answers_.size(), 8U);
  EXPECT_EQ(counted(Count::local), 8U);
  EXPECT_TRUE(wire_.sent.empty());
}

TEST_F(ForwarderTest, WhoWantsNoRecursionLearnsNothingOfWhatOthersAsked) {
  ask("a.example");
  answer(0, address_record("a.example", "203.0.113.1"));
  ask("a.example", kBob, {.recursion_desired = false});
  EXPECT_EQ(answers_[1].message.header.rcode, rcode::kRefused);
  EXPECT_EQ(counted(Count::not_recursive), 1U);
}

TEST_F(ForwarderTest, WithoutServersForeignNamesAreRefused) {
  forwarder_->set_servers({});
  ask("a.example");
  EXPECT_THAT(codes(), ElementsAre(rcode::kRefused));
  EXPECT_EQ(counted(Count::no_upstream), 1U);
}

TEST_F(ForwarderTest, OtherServersMayHaveOtherAnswers) {
  ask("a.example");
  answer(0, address_record("a.example", "203.0.113.1"));
  forwarder_->set_servers(std::array{first_server, second_server});
  EXPECT_EQ(forwarder_->cache().entries(), 1U);
  ask("b.example");
  forwarder_->set_servers(std::array{second_server});
  EXPECT_EQ(forwarder_->cache().entries(), 0U);
  answer(1, address_record("b.example", "203.0.113.1"));
  EXPECT_EQ(answers_.size(), 2U) << "what was asked is still answered";
}

TEST_F(ForwarderTest, AClientThatAsksTooOftenIsNotHeardForAMoment) {
  start({.client = {.rate = 10, .burst = 3}});
  for (int i = 0; i < 5; ++i) ask("alice.penstock.internal");
  EXPECT_EQ(answers_.size(), 3U);
  EXPECT_EQ(counted(Count::over_rate), 2U);
  ask("alice.penstock.internal", kBob);
  EXPECT_EQ(answers_.size(), 4U) << "the other client is";
  loop_.advance(milliseconds(100));
  ask("alice.penstock.internal");
  EXPECT_EQ(answers_.size(), 5U);
  for (int i = 0; i < 4; ++i) ask("alice.penstock.internal", kBobsStream);
  EXPECT_EQ(parse_header(answers_.back().bytes)->rcode, rcode::kRefused) << "a stream waits for its answer";
}

TEST_F(ForwarderTest, WhatWaitsOfAClientAndInAllIsBounded) {
  start({.in_flight = 3, .client = {.in_flight = 2}});
  for (const char* text : {"a.example", "b.example", "c.example"}) ask(text);
  EXPECT_EQ(counted(Count::client_in_flight), 1U);
  ask("a.example", kBob);
  ask("d.example", kBob);
  EXPECT_EQ(counted(Count::in_flight), 1U);
  EXPECT_EQ(forwarder_->waiting(), 3U);
  EXPECT_EQ(wire_.sent.size(), 2U);
  EXPECT_THAT(codes(), ElementsAre(rcode::kRefused, rcode::kRefused));
  answer(0, address_record("a.example", "203.0.113.1"));
  ask("d.example", kBob);
  EXPECT_EQ(wire_.sent.size(), 3U) << "there is room again";
  ask("e.example");
  EXPECT_EQ(wire_.sent.size(), 4U) << "for both of them";
}

TEST_F(ForwarderTest, OfAClientThatIsGoneNothingWaits) {
  ask("a.example");
  ask("a.example", kBob);
  forwarder_->forget(kAlice.client);
  EXPECT_EQ(forwarder_->waiting(), 1U);
  answer(0, address_record("a.example", "203.0.113.1"));
  ASSERT_EQ(answers_.size(), 1U);
  EXPECT_EQ(answers_[0].client, kBob);
}

TEST_F(ForwarderTest, AClosedStreamsQueriesAreForgottenAndNoOthers) {
  start({.client = {.in_flight = 2}});
  ask("a.example", kBobsStream);
  ask("a.example", kBob);
  forwarder_->forget_stream(kBobsStream.stream);
  EXPECT_EQ(forwarder_->waiting(), 1U);
  ask("b.example", kBob);
  EXPECT_EQ(counted(Count::client_in_flight), 0U) << "what is forgotten does not count against the client";
  answer(0, address_record("a.example", "203.0.113.1"));
  ASSERT_EQ(answers_.size(), 1U);
  EXPECT_EQ(answers_[0].client, kBob);
}

TEST_F(ForwarderTest, ItSaysOfEachQueryWhetherThereIsAnAnswerToIt) {
  start({.client = {.rate = 1, .burst = 6}});
  EXPECT_TRUE(forwarder_->on_query(kBobsStream, query("a.example"))) << "asked";
  EXPECT_FALSE(forwarder_->on_query(kBobsStream, query("a.example"))) << "repeated";
  EXPECT_TRUE(forwarder_->on_query(kBobsStream, query("a.example", {.id = 2}))) << "joined";
  EXPECT_TRUE(forwarder_->on_query(kBobsStream, query("localhost"))) << "local";
  EXPECT_TRUE(forwarder_->on_query(kBobsStream, query("a.example", {.type = type::kAny}))) << "refused";
  EXPECT_FALSE(forwarder_->on_query(kBobsStream, reply(query("a.example"), {}))) << "no query";
  EXPECT_TRUE(forwarder_->on_query(kBobsStream, query("b.example"))) << "over rate, by TCP";
  EXPECT_FALSE(forwarder_->on_query(kBob, query("b.example"))) << "over rate, by UDP";
  EXPECT_EQ(answers_.size(), 3U);
  EXPECT_EQ(forwarder_->waiting(), 2U);
}

TEST_F(ForwarderTest, WhoHasItsAnswerMayAskAgainAtOnce) {
  bool again = false;
  Forwarder forwarder(loop_, random_, wire_, zones_, {}, [&](const ClientKey& client, ByteView) {
    if (!std::exchange(again, true)) forwarder.on_query(client, query("b.example"));
  });
  forwarder.set_servers(std::array{first_server});
  forwarder.on_query(kAlice, query("a.example"));
  forwarder.on_reply(wire_.sent[0].exchange, first_server, reply(wire_.sent[0].bytes, {}));
  EXPECT_EQ(wire_.sent.size(), 2U);
  EXPECT_EQ(forwarder.questions(), 1U);
}

TEST_F(ForwarderTest, EveryCountHasAName) {
  std::set<std::string_view> names;
  for (std::size_t i = 0; i < kCounts; ++i) names.insert(to_string(static_cast<Count>(i)));
  EXPECT_EQ(names.size(), kCounts);
  EXPECT_EQ(to_string(Count::local), "local");
  EXPECT_EQ(to_string(Count::failed), "failed");
  EXPECT_EQ(to_string(Count::repeated), "repeated");
}

}  // namespace
}  // namespace penstock::dns
