#include "dns/client_query.h"

#include <gtest/gtest.h>

#include "dns/dns_testing.h"

namespace penstock::dns {
namespace {

using testing::Asking;
using testing::Bytes;
using testing::query;

ClientQuery accepted(const Bytes& bytes, Transport transport = Transport::udp) {
  return std::get<ClientQuery>(read_client_query(bytes, transport));
}

TEST(ClientQueryTest, WhatIsRefusedIsThisTable) {
  struct {
    const char* what;
    Asking asking;
    Count reason;
    std::uint16_t code;
  } cases[] = {
      {"a notification", {.opcode = 4}, Count::opcode, rcode::kNotImp},
      {"an update", {.opcode = 5}, Count::opcode, rcode::kNotImp},
      {"the class CHAOS", {.type = type::kTxt, .rclass = 3}, Count::not_internet, rcode::kRefused},
      {"any class", {.rclass = 255}, Count::not_internet, rcode::kRefused},
      {"anything", {.type = type::kAny}, Count::any_refused, rcode::kRefused},
      {"a transfer", {.type = type::kAxfr}, Count::meta_refused, rcode::kRefused},
      {"what changed", {.type = type::kIxfr}, Count::meta_refused, rcode::kRefused},
      {"an OPT", {.type = type::kOpt}, Count::meta_refused, rcode::kRefused},
      {"EDNS of tomorrow", {.edns = Edns{1232, 1, false}}, Count::edns_version, rcode::kBadVers},
  };
  for (const auto& c : cases) {
    const Bytes bytes = query("a.example", c.asking);
    const auto read = read_client_query(bytes, Transport::udp);
    const auto* refused = std::get_if<RefusedQuery>(&read);
    ASSERT_NE(refused, nullptr) << c.what;
    EXPECT_EQ(refused->reason, c.reason) << c.what;
    EXPECT_LE(refused->answer.size(), bytes.size()) << c.what;
    const auto header = parse_header(refused->answer);
    ASSERT_TRUE(header) << c.what;
    EXPECT_TRUE(header->response) << c.what;
    EXPECT_EQ(header->id, c.asking.id) << c.what;
    EXPECT_EQ(header->rcode, c.code & 0x0F) << c.what;
    if (c.code > 0x0F) {
      EXPECT_EQ(Message::parse(refused->answer)->header.rcode, c.code) << c.what;
    }
  }
}

TEST(ClientQueryTest, AnAnswerOrLessThanAHeaderIsAnsweredBySilence) {
  Bytes answer = query("a.example");
  answer[2] |= 0x80;
  for (const Bytes& bytes : {answer, Bytes(11), Bytes()}) {
    const auto read = read_client_query(bytes, Transport::udp);
    EXPECT_EQ(std::get<RefusedQuery>(read).reason, Count::not_a_query);
    EXPECT_TRUE(std::get<RefusedQuery>(read).answer.empty());
  }
}

TEST(ClientQueryTest, WhatCannotBeReadIsAFormatError) {
  Bytes cut = query("a.example");
  cut.pop_back();
  Bytes with_answer = testing::reply(query("a.example"), testing::address_record("a.example", "192.0.2.1"));
  with_answer[2] &= 0x7F;
  for (const Bytes& bytes : {cut, with_answer}) {
    const auto read = read_client_query(bytes, Transport::udp);
    EXPECT_EQ(std::get<RefusedQuery>(read).reason, Count::malformed);
    EXPECT_EQ(parse_header(std::get<RefusedQuery>(read).answer)->rcode, rcode::kFormErr);
  }
}

TEST(ClientQueryTest, AnAnswerIsAsLargeAsTheClientTakesAndOverUdpNotLargerThanTheGatewaySends) {
  const auto limit = [](std::optional<Edns> edns, Transport transport = Transport::udp) {
    return accepted(query("a.example", {.edns = edns}), transport).limit;
  };
  EXPECT_EQ(limit(std::nullopt), 512U);
  EXPECT_EQ(limit(Edns{.udp_size = 0}), 512U);
  EXPECT_EQ(limit(Edns{.udp_size = 1000}), 1000U);
  EXPECT_EQ(limit(Edns{.udp_size = 65535}), 1232U);
  EXPECT_EQ(limit(std::nullopt, Transport::stream), 65535U);
}

TEST(ClientQueryTest, AnAnswerHasTheQuestionAsItWasWrittenAndEdnsWhereItWasUsed) {
  const auto plain = Message::parse(accepted(query("A.eXample", {.id = 9})).answer(rcode::kNoError));
  EXPECT_EQ(plain->spelling, std::string_view("\1A\7eXample\0", 11));
  EXPECT_EQ(plain->header.id, 9);
  EXPECT_TRUE(plain->header.response && plain->header.recursion_available && plain->header.recursion_desired);
  EXPECT_FALSE(plain->header.authentic);
  EXPECT_FALSE(plain->edns);
  const auto dnssec =
      Message::parse(accepted(query("a.example", {.edns = Edns{4096, 0, true}})).answer(rcode::kNoError));
  EXPECT_EQ(dnssec->edns, (Edns{kOwnUdpSize, 0, true}));
}

}  // namespace
}  // namespace penstock::dns
