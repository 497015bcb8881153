#include "dns/message.h"

#include <gmock/gmock.h>

#include <algorithm>

#include "base/random.h"
#include "dns/dns_testing.h"

namespace penstock::dns {
namespace {

using testing::Bytes;
using testing::ip;
using testing::name;
using testing::query;
using testing::Raw;

Malformed fault(const Raw& raw) { return Message::parse(raw.bytes).error(); }

Head head_for(std::string_view text, std::uint16_t type = type::kA) {
  Head head;
  head.header.response = true;
  head.question = {name(text), type, kClassIn};
  return head;
}

TEST(MessageTest, AQueryIsReadWithItsCaseItsFlagsAndItsEdns) {
  const auto message = Message::parse(query(
      "WwW.Example.COM", {.id = 77, .type = type::kAaaa, .checking_disabled = true, .edns = Edns{4096, 0, true}}));
  ASSERT_TRUE(message);
  EXPECT_EQ(message->header.id, 77);
  EXPECT_TRUE(message->header.recursion_desired);
  EXPECT_TRUE(message->header.checking_disabled);
  EXPECT_FALSE(message->header.response);
  EXPECT_EQ(message->question, (Question{name("www.example.com"), type::kAaaa, kClassIn}));
  EXPECT_EQ(message->spelling, std::string_view("\3WwW\7Example\3COM\0", 17));
  EXPECT_EQ(message->edns, (Edns{4096, 0, true}));
  EXPECT_TRUE(message->records.empty());
}

TEST(MessageTest, CompressedNamesAreExpandedInOwnersAndInRdata) {
  Raw raw = Raw::with_counts(2);
  raw.pointer(12).record(type::kMx, 9).u16(10).label("Mail").pointer(14);  // Mail.test
  raw.pointer(12).record(99, 2).pointer(12);                               // a type whose rdata is bytes
  const auto message = Message::parse(raw.bytes);
  ASSERT_TRUE(message);
  const auto records = message->records.all();
  ASSERT_EQ(records.size(), 2U);
  EXPECT_EQ(as_text(message->records.name_of(records[0])), std::string_view("\1a\4test\0", 8));
  EXPECT_EQ(as_text(message->records.rdata_of(records[0])), std::string_view("\0\12\4Mail\4test\0", 13));
  EXPECT_EQ(as_text(message->records.rdata_of(records[1])), "\xC0\x0C");
}

TEST(MessageTest, EveryMessageThatIsCutShortIsRefused) {
  Records records;
  records.add_name(Section::answer, name("a.test"), type::kCname, 60, name("b.test"));
  records.add_address(Section::answer, name("b.test"), 60, ip("192.0.2.1"));
  records.add_soa(Section::authority, name("test"), 60);
  Head head = head_for("a.test");
  head.edns = Edns{};
  const Bytes whole = write(head, records);
  ASSERT_TRUE(Message::parse(whole));
  for (std::size_t size = 0; size < whole.size(); ++size)
    EXPECT_FALSE(Message::parse(ByteView(whole).first(size))) << size;
  Bytes more = whole;
  more.push_back(0);
  EXPECT_EQ(Message::parse(more).error(), Malformed::trailing_bytes);
}

TEST(MessageTest, APointerLeadsBackOrNowhere) {
  const std::size_t here = Raw::with_counts(1).size();
  EXPECT_EQ(fault(Raw::with_counts(1).pointer(here).record(1, 4).u32(0)), Malformed::bad_name) << "to itself";
  EXPECT_EQ(fault(Raw::with_counts(1).pointer(here + 2).record(1, 4).u32(0)), Malformed::bad_name) << "forwards";
  EXPECT_EQ(fault(Raw::with_counts(1).pointer(2).record(1, 4).u32(0)), Malformed::bad_name) << "into the header";
  EXPECT_EQ(fault(Raw::with_counts(1).label("x").pointer(here).record(1, 4).u32(0)), Malformed::bad_name)
      << "to its own first label";
  EXPECT_EQ(fault(Raw::with_counts(1).u8(0x41).u8(0).record(1, 4).u32(0)), Malformed::bad_name) << "no such label";
  EXPECT_EQ(fault(Raw::with_counts(1).u8(0xC0)), Malformed::bad_name) << "half of one";
}

TEST(MessageTest, AQuestionThatIsAPointerIsRefused) {
  Raw raw;
  raw.u16(7).u16(0x0100).u16(1).u16(0).u16(0).u16(0).pointer(12).u16(1).u16(1);
  EXPECT_EQ(fault(raw), Malformed::bad_name);
}

TEST(MessageTest, AChainOfPointersIsFollowedSoFarAsANameHasLabels) {
  // One opaque record full of pointers, each to the one before it and the first to the question; then an owner that
  // leads to one of them.
  const auto chain = [](std::size_t jumps) {
    Raw raw = Raw::with_counts(2);
    raw.pointer(12).record(99, 400);
    const std::size_t first = raw.size();
    for (std::size_t i = 0; i < 200; ++i) raw.pointer(i == 0 ? 12 : first + 2 * (i - 1));
    raw.pointer(first + 2 * (jumps - 2)).record(type::kA, 4).u32(0);
    return raw;
  };
  EXPECT_TRUE(Message::parse(chain(Message::kMaxPointers).bytes));
  EXPECT_EQ(fault(chain(Message::kMaxPointers + 1)), Malformed::bad_name);
}

TEST(MessageTest, ANameThatIsTooLongOnceExpandedIsRefused) {
  const auto with_owner = [](std::size_t last) {
    Raw raw = Raw::with_counts(1);
    for (int i = 0; i < 3; ++i) raw.label(std::string(63, 'x'));
    return raw.label(std::string(last, 'x')).pointer(12).record(1, 4).u32(0);
  };
  EXPECT_TRUE(Message::parse(with_owner(54).bytes)) << "3 * 64 + 55 and the 8 bytes of a.test";
  EXPECT_EQ(fault(with_owner(55)), Malformed::bad_name);
}

TEST(MessageTest, RdataMustHaveTheFormOfItsType) {
  EXPECT_EQ(fault(Raw::with_counts(1).pointer(12).record(type::kA, 5).u32(0).u8(0)), Malformed::bad_rdata);
  EXPECT_EQ(fault(Raw::with_counts(1).pointer(12).record(type::kA, 3).u16(0).u8(0)), Malformed::bad_rdata);
  EXPECT_EQ(fault(Raw::with_counts(1).pointer(12).record(type::kAaaa, 4).u32(0)), Malformed::bad_rdata);
  EXPECT_EQ(fault(Raw::with_counts(1).pointer(12).record(type::kCname, 3).pointer(12).u8(0)), Malformed::bad_rdata);
  EXPECT_EQ(fault(Raw::with_counts(1).pointer(12).record(type::kMx, 1).u8(0)), Malformed::bad_rdata);
  EXPECT_EQ(fault(Raw::with_counts(1).pointer(12).record(type::kSoa, 4).pointer(12).pointer(12)), Malformed::bad_rdata);
  // A name that goes on behind the end of its record.
  EXPECT_EQ(fault(Raw::with_counts(2).pointer(12).record(type::kCname, 2).label("x").pointer(12).record(1, 0)),
            Malformed::bad_rdata);
}

TEST(MessageTest, ThereIsOneQuestion) {
  for (const unsigned count : {0U, 2U, 65535U}) {
    Raw raw;
    raw.u16(7).u16(0).u16(count).u16(0).u16(0).u16(0).label("a").u8(0).u16(1).u16(1).label("b").u8(0).u16(1).u16(1);
    EXPECT_EQ(fault(raw), Malformed::question_count) << count;
  }
}

TEST(MessageTest, OneOptRecordOfTheRootInTheAdditionalSectionIsEdns) {
  const auto opt = [](Raw raw) { return raw.u8(0).record(type::kOpt, 0, 0); };
  EXPECT_TRUE(Message::parse(opt(Raw::with_counts(0, 0, 1)).bytes));
  EXPECT_EQ(fault(opt(opt(Raw::with_counts(0, 0, 2)))), Malformed::bad_opt);
  EXPECT_EQ(fault(opt(Raw::with_counts(1))), Malformed::bad_opt);
  EXPECT_EQ(fault(Raw::with_counts(0, 0, 1).pointer(12).record(type::kOpt, 0)), Malformed::bad_opt);
  EXPECT_TRUE(Message::parse(Raw::with_counts(0, 0, 1).u8(0).record(type::kOpt, 6).u16(10).u16(2).u16(0).bytes));
  EXPECT_EQ(fault(Raw::with_counts(0, 0, 1).u8(0).record(type::kOpt, 6).u16(10).u16(3).u16(0)), Malformed::bad_opt);
}

TEST(MessageTest, MoreRecordsThanAreReadAreRefusedBeforeTheyAreLookedAt) {
  EXPECT_EQ(fault(Raw::with_counts(2000, 2000, 97)), Malformed::too_much);
  EXPECT_EQ(fault(Raw::with_counts(2000, 2000, 96)), Malformed::cut_short);
}

TEST(MessageTest, NamesThatExpandToFarMoreThanTheirBytesAreRefused) {
  Raw raw = Raw::with_counts(4000);
  raw.label(std::string(63, 'x')).label(std::string(63, 'y')).label(std::string(63, 'z')).pointer(12);
  raw.record(type::kA, 4).u32(0);
  const std::size_t owner = Raw::with_counts(0).size();
  for (int i = 1; i < 4000; ++i) raw.pointer(owner).record(type::kA, 4).u32(0);
  ASSERT_LT(raw.size(), kMaxMessage);
  EXPECT_EQ(fault(raw), Malformed::too_much);
}

TEST(MessageTest, ATtlWithItsHighestBitSetIsZero) {
  const auto message = Message::parse(Raw::with_counts(1).pointer(12).record(1, 4, 0x80000000U).u32(0).bytes);
  EXPECT_EQ(message->records.all()[0].ttl, 0U);
}

TEST(MessageTest, ANegativeAnswerMayBeKeptForTheLesserOfItsSoasTwoTimes) {
  Records records;
  EXPECT_EQ(records.negative_ttl(), std::nullopt);
  records.add_soa(Section::authority, name("test"), 900);
  EXPECT_EQ(records.negative_ttl(), 900U);
  const auto aged = Message::parse(write(head_for("a.test"), records, {.age = 100}));
  EXPECT_EQ(aged->records.negative_ttl(), 800U) << "the minimum is still 900";
  EXPECT_EQ(aged->records.minimal_ttl(), 800U);
}

TEST(MessageTest, TtlsAreHeldToACapAndThenCountedDownButNotBelowZero) {
  const auto written = [](std::uint32_t ttl, std::uint32_t cap, std::uint32_t age) {
    const auto records = testing::address_record("a.test", "192.0.2.1", ttl);
    return Message::parse(write(head_for("a.test"), records, {.ttl_cap = cap, .age = age}))->records.all()[0].ttl;
  };
  EXPECT_EQ(written(300, 1000, 50), 250U);
  EXPECT_EQ(written(300, 100, 50), 50U);
  EXPECT_EQ(written(300, 1000, 301), 0U);
}

TEST(MessageTest, AnOwnerPointsIntoTheQuestionWhateverItsCase) {
  Head head = head_for("a.test");
  head.spelling = std::string("\1A\4TesT\0", 8);
  const Bytes bytes = write(head, testing::address_record("a.test", "192.0.2.1"));
  EXPECT_EQ(bytes.size(), kHeaderSize + 8 + 4 + 2 + 10 + 4);
  EXPECT_EQ(load_be16(&bytes[kHeaderSize + 12]), 0xC00C);
}

TEST(MessageTest, NamesInRdataKeepTheirCase) {
  Records records;
  records.add(Section::answer, name("a.test").wire(), type::kPtr, kClassIn, 60,
              as_bytes(std::string_view("\7Printer\1A\4Test\0", 16)));
  const auto message = Message::parse(write(head_for("a.test"), records));
  EXPECT_EQ(message->records, records);
}

TEST(MessageTest, WhatDoesNotFitIsLeftOutInWholeRecordsAndSaysSo) {
  Records records;
  for (unsigned i = 0; i < 100; ++i)
    records.add_address(Section::answer, name("a.test"), 60, IpAddress::v4(0xC0000200U + i));
  Head head = head_for("a.test");
  head.edns = Edns{};
  for (const std::size_t limit : {512U, 700U, 1232U}) {
    const Bytes bytes = write(head, records, {.limit = limit});
    const auto message = Message::parse(bytes);
    ASSERT_TRUE(message);
    EXPECT_LE(bytes.size(), limit);
    EXPECT_GT(bytes.size() + 16, limit) << "as many as fit";
    EXPECT_TRUE(message->header.truncated);
    EXPECT_TRUE(message->edns);
  }
  EXPECT_FALSE(Message::parse(write(head, records))->header.truncated);
}

TEST(MessageTest, AdditionalRecordsAreLeftOutWithoutAWord) {
  Records records = testing::address_record("a.test", "192.0.2.1");
  for (unsigned i = 0; i < 100; ++i)
    records.add_address(Section::additional, name("b.test"), 60, IpAddress::v4(0xC0000200U + i));
  const auto message = Message::parse(write(head_for("a.test"), records, {.limit = 512}));
  EXPECT_FALSE(message->header.truncated);
  EXPECT_GT(message->records.all().size(), 20U);
  EXPECT_LT(message->records.all().size(), 101U);
}

TEST(MessageTest, ACodeThatNeedsEdnsIsAFailureWithoutIt) {
  Head head = head_for("a.test");
  head.header.rcode = rcode::kBadVers;
  EXPECT_EQ(Message::parse(write(head, {}))->header.rcode, rcode::kServFail);
  head.edns = Edns{};
  EXPECT_EQ(Message::parse(write(head, {}))->header.rcode, rcode::kBadVers);
}

TEST(MessageTest, AnAnswerToWhatCannotBeReadIsAHeader) {
  Bytes garbage = query("a.test", {.id = 99, .opcode = 5});
  garbage.resize(kHeaderSize + 1);
  const Bytes answer = bare_answer(garbage, rcode::kFormErr);
  ASSERT_EQ(answer.size(), kHeaderSize);
  const auto header = parse_header(answer);
  EXPECT_EQ(header->id, 99);
  EXPECT_EQ(header->opcode, 5);
  EXPECT_TRUE(header->response);
  EXPECT_EQ(header->rcode, rcode::kFormErr);
}

// Random records of random names with common suffixes, which compress well or badly.
Records random_records(SeededRandom& random) {
  const auto random_name = [&random] {
    std::string text;
    for (std::uint32_t labels = 1 + random.next32() % 4; labels > 0; --labels) {
      const std::uint32_t kind = random.next32() % 8;
      text += kind == 0 ? std::string(1 + random.next32() % 60, 'q') : std::string(1, static_cast<char>('a' + kind));
      text += '.';
    }
    return name(text);
  };
  Records records;
  const std::uint32_t count = random.next32() % 200;
  for (std::uint32_t i = 0; i < count; ++i) {
    const auto section = static_cast<Section>(3 * i / count);
    const Name owner = random_name();
    switch (random.next32() % 5) {
      case 0: records.add_address(section, owner, random.next32() % 1000, IpAddress::v4(random.next32())); break;
      case 1: records.add_name(section, owner, type::kCname, 5, random_name()); break;
      case 2: records.add_soa(section, random_name(), 7); break;
      case 3: records.add_name(section, owner, type::kNs, 9, random_name()); break;
      default: records.add(section, owner.wire(), type::kTxt, kClassIn, 1, as_bytes("\5hello")); break;
    }
  }
  return records;
}

TEST(MessageTest, WhatIsWrittenIsReadAsItWas) {
  for (std::uint64_t seed = 1; seed <= 300; ++seed) {
    SeededRandom random(seed);
    const Records records = random_records(random);
    const Bytes bytes = write(head_for("b.c.d"), records);
    const auto message = Message::parse(bytes);
    ASSERT_TRUE(message) << seed;
    ASSERT_EQ(message->records, records) << seed;
    ASSERT_LE(bytes.size(), records.expanded_size() + records.all().size() * 10 + 23) << seed;
  }
}

}  // namespace
}  // namespace penstock::dns
