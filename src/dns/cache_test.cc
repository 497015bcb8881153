#include "dns/cache.h"

#include <gtest/gtest.h>

#include <map>

#include "base/random.h"
#include "dns/dns_testing.h"

namespace penstock::dns {
namespace {

using std::chrono::seconds;
using testing::ip;
using testing::name;

CacheKey key(std::string_view text, std::uint16_t type = type::kA) {
  return {.question = {name(text), type, kClassIn}};
}

Message answer(const CacheKey& key, Records records, std::uint16_t code = rcode::kNoError) {
  Message message;
  message.header.response = true;
  message.header.rcode = code;
  message.question = key.question;
  message.records = std::move(records);
  return message;
}

Records soa(std::uint32_t ttl) {
  Records records;
  records.add_soa(Section::authority, name("test"), ttl);
  return records;
}

class CacheTest : public ::testing::Test {
 protected:
  ManualClock clock_;
  Cache cache_{{.entries = 100, .bytes = 100'000}};
};

TEST_F(CacheTest, AnAnswerIsThereWithItsAgeUntilItsLeastTtlIsOver) {
  Records records = testing::address_record("a.test", "192.0.2.1", 300);
  records.add_address(Section::answer, name("a.test"), 60, ip("192.0.2.2"));
  cache_.store(key("a.test"), answer(key("a.test"), records), clock_.now());
  clock_.advance(seconds(59));
  const auto hit = cache_.find(key("A.TEST"), clock_.now());
  ASSERT_TRUE(hit);
  EXPECT_EQ(hit->age, 59U);
  EXPECT_EQ(*hit->records, records);
  clock_.advance(seconds(1));
  EXPECT_FALSE(cache_.find(key("a.test"), clock_.now()));
  EXPECT_EQ(cache_.bytes(), 0U);
}

TEST_F(CacheTest, ItAnswersNothingButTheSameQuestion) {
  const auto asked = key("a.test");
  Records records = testing::address_record("a.test", "192.0.2.1");
  records.add_address(Section::additional, name("bank.test"), 300, ip("192.0.2.66"));
  cache_.store(asked, answer(asked, records), clock_.now());
  for (const CacheKey& other : {key("b.test"), key("a.test", type::kAaaa), key("bank.test"), key("test")})
    EXPECT_FALSE(cache_.find(other, clock_.now()));
  CacheKey dnssec = asked;
  dnssec.dnssec_ok = true;
  EXPECT_FALSE(cache_.find(dnssec, clock_.now()));
  CacheKey unchecked = asked;
  unchecked.checking_disabled = true;
  EXPECT_FALSE(cache_.find(unchecked, clock_.now()));
}

TEST(CacheLifetimeTest, IsThatOfThisTable) {
  const auto asked = key("a.test");
  const auto chain = [] {
    Records records;
    records.add_name(Section::answer, name("a.test"), type::kCname, 50, name("B.test"));
    return records;
  };
  Records aliased = chain();
  aliased.add_address(Section::answer, name("b.test"), 70, ip("192.0.2.1"));
  Records aliased_to_nothing = chain();
  aliased_to_nothing.add_soa(Section::authority, name("test"), 900);
  Records round = chain();
  round.add_name(Section::answer, name("b.test"), type::kCname, 50, name("a.test"));
  Records referral;
  referral.add_name(Section::authority, name("test"), type::kNs, 60, name("ns.test"));

  Message cut = answer(asked, testing::address_record("a.test", "192.0.2.1"));
  cut.header.truncated = true;
  struct {
    const char* what;
    Message message;
    std::uint32_t lifetime;
  } cases[] = {
      {"an address", answer(asked, testing::address_record("a.test", "192.0.2.1", 300)), 300},
      {"for ever", answer(asked, testing::address_record("a.test", "192.0.2.1", 1'000'000)), Cache::kMaxTtl},
      {"for no time", answer(asked, testing::address_record("a.test", "192.0.2.1", 0)), 0},
      {"an address by way of an alias", answer(asked, aliased), 50},
      {"an alias of nothing", answer(asked, aliased_to_nothing), 50},
      {"an alias of nothing, without SOA", answer(asked, chain()), 0},
      {"aliases in a circle", answer(asked, round), 0},
      {"somebody else's address", answer(asked, testing::address_record("b.test", "192.0.2.1")), 0},
      {"no such name", answer(asked, soa(600), rcode::kNxDomain), 600},
      {"no such name for ever", answer(asked, soa(90'000), rcode::kNxDomain), Cache::kMaxNegativeTtl},
      {"no such name, without SOA", answer(asked, {}, rcode::kNxDomain), 0},
      {"no such data", answer(asked, soa(600)), 600},
      {"nothing at all", answer(asked, {}), 0},
      {"a referral", answer(asked, referral), 0},
      {"a failure", answer(asked, {}, rcode::kServFail), Cache::kFailureTtl},
      {"a refusal", answer(asked, soa(600), rcode::kRefused), 0},
      {"an answer that was cut", cut, 0},
  };
  for (const auto& c : cases) EXPECT_EQ(lifetime_of(c.message), c.lifetime) << c.what;
}

TEST_F(CacheTest, ALaterAnswerTakesThePlaceOfTheEarlier) {
  cache_.store(key("a.test"), answer(key("a.test"), testing::address_record("a.test", "192.0.2.1")), clock_.now());
  const auto later = testing::address_record("a.test", "192.0.2.2");
  cache_.store(key("a.test"), answer(key("a.test"), later), clock_.now());
  EXPECT_EQ(*cache_.find(key("a.test"), clock_.now())->records, later);
  EXPECT_EQ(cache_.entries(), 1U);
}

TEST_F(CacheTest, TheLeastLatelyUsedGoesFirst) {
  Cache cache({.entries = 2, .bytes = 100'000});
  const auto put = [&](const char* text) {
    cache.store(key(text), answer(key(text), testing::address_record(text, "192.0.2.1")), clock_.now());
  };
  put("a.test");
  put("b.test");
  EXPECT_TRUE(cache.find(key("a.test"), clock_.now()));
  put("c.test");
  EXPECT_FALSE(cache.find(key("b.test"), clock_.now()));
  EXPECT_TRUE(cache.find(key("a.test"), clock_.now()));
  EXPECT_TRUE(cache.find(key("c.test"), clock_.now()));
}

TEST_F(CacheTest, AnAnswerThatWouldPushOutAllOthersIsNotKept) {
  Records big;
  for (unsigned i = 0; i < 2000; ++i) big.add_address(Section::answer, name("a.test"), 60, IpAddress::v4(i));
  cache_.store(key("a.test"), answer(key("a.test"), big), clock_.now());
  EXPECT_EQ(cache_.entries(), 0U);
}

// Against a map that forgets nothing: a hit is always what was stored last and not over; the bounds hold.
TEST_F(CacheTest, AnyRunOfStoringAndFindingAgreesWithANaiveMap) {
  struct Stored {
    std::uint32_t address;
    TimePoint until;
  };
  for (std::uint64_t seed = 1; seed <= 20; ++seed) {
    SeededRandom random(seed);
    ManualClock clock;
    Cache cache({.entries = 20, .bytes = 6'000});
    std::map<std::string, Stored> naive;
    std::size_t hits = 0;
    for (int step = 0; step < 3000; ++step) {
      const std::string text = "n" + std::to_string(random.next32() % 40) + ".test";
      if (random.next32() % 3 == 0) {
        const std::uint32_t address = random.next32();
        const std::uint32_t ttl = random.next32() % 20;
        Records records;
        for (std::uint32_t i = 0; i <= random.next32() % 4; ++i)
          records.add_address(Section::answer, name(text), ttl, IpAddress::v4(address));
        cache.store(key(text), answer(key(text), records), clock.now());
        naive[text] = {address, clock.now() + seconds(ttl)};
      } else if (const auto hit = cache.find(key(text), clock.now())) {
        ++hits;
        ASSERT_TRUE(naive.contains(text));
        const auto& records = *hit->records;
        EXPECT_EQ(load_be32(records.rdata_of(records.all()[0]).data()), naive[text].address);
        EXPECT_GT(naive[text].until, clock.now());
        EXPECT_EQ(clock.now() + seconds(records.all()[0].ttl - hit->age), naive[text].until);
      }
      ASSERT_LE(cache.entries(), 20U);
      ASSERT_LE(cache.bytes(), 6'000U);
      clock.advance(seconds(random.next32() % 2));
    }
    EXPECT_GT(hits, 100U);
    cache.clear();
    EXPECT_EQ(cache.bytes(), 0U);
  }
}

}  // namespace
}  // namespace penstock::dns
