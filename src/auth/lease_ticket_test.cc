#include "auth/lease_ticket.h"

#include <gtest/gtest.h>

#include "base/digest.h"
#include "base/random.h"

namespace penstock::auth {
namespace {

constexpr TicketSealer::Key kKey{1, 2, 3};

LeaseTicket ticket() {
  return {.session_key = {0xA0, 0xA1, 0xA2},
          .credential = "alice",
          .epoch = 0x0123456789ABCDEF,
          .address = IpAddress::parse("10.100.0.7").value(),
          .address6 = IpAddress::parse("fd00::7").value(),
          .issued = WallTime(std::chrono::milliseconds(1'700'000'000'123))};
}

// Text that has the right HMAC, whatever is in it.
std::string sealed_by_hand(std::vector<std::uint8_t> body) {
  const Digest256 mac = hmac_sha256(kKey, body);
  body.insert(body.end(), mac.begin(), mac.end());
  return base64url_encode(body);
}

std::vector<std::uint8_t> body_of(const std::string& sealed) {
  auto bytes = base64url_decode(sealed).value();
  bytes.resize(bytes.size() - 32);
  return bytes;
}

TEST(LeaseTicket, OpensAsItWasSealed) {
  const TicketSealer sealer(kKey);
  LeaseTicket given = ticket();
  EXPECT_EQ(sealer.open(sealer.seal(given)), given);
  given.address6.reset();
  EXPECT_EQ(sealer.open(sealer.seal(given)), given);
  given.credential = std::string(255, 'x');
  given.issued = WallTime(std::chrono::milliseconds(-1));
  EXPECT_EQ(sealer.open(sealer.seal(given)), given);
}

// Tickets survive an upgrade of the gateway: what one version sealed the next must open.
TEST(LeaseTicket, HasTheDocumentedLayout) {
  EXPECT_EQ(to_hex(body_of(TicketSealer(kKey).seal(ticket()))),
            "01"
            "a0a1a200000000000000000000000000"
            "0123456789abcdef"
            "0000018bcfe5687b"
            "0a640007"
            "01"
            "fd000000000000000000000000000007"
            "05"
            "616c696365");
}

TEST(LeaseTicket, AnotherGatewaysIsRefused) {
  TicketSealer::Key other = kKey;
  other[31] ^= 1;
  const auto refused = TicketSealer(other).open(TicketSealer(kKey).seal(ticket()));
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, ErrorCode::unauthenticated);
  EXPECT_EQ(refused.error().message, "the lease is not one of this gateway; authenticate anew");
}

TEST(LeaseTicket, ChangedInAnyCharacterItIsRefused) {
  const TicketSealer sealer(kKey);
  const std::string sealed = sealer.seal(ticket());
  for (std::size_t at = 0; at < sealed.size(); ++at) {
    for (const char other : {'A', 'B', 'x', '_', '=', ' ', '\0'}) {
      if (sealed[at] == other) continue;
      std::string changed = sealed;
      changed[at] = other;
      EXPECT_FALSE(sealer.open(changed)) << "character " << at;
    }
  }
}

TEST(LeaseTicket, CutOrExtendedItIsRefused) {
  const TicketSealer sealer(kKey);
  const std::string sealed = sealer.seal(ticket());
  for (std::size_t size = 0; size < sealed.size(); ++size) EXPECT_FALSE(sealer.open(sealed.substr(0, size))) << size;
  for (const char* more : {"A", "AA", "AAAA", "=", "\n"}) EXPECT_FALSE(sealer.open(sealed + more));
  EXPECT_FALSE(sealer.open(std::string(1'000'000, 'A')));
}

TEST(LeaseTicket, EvenWithARightSealItsBytesMustAddUp) {
  const TicketSealer sealer(kKey);
  const auto body = body_of(sealer.seal(ticket()));
  ASSERT_TRUE(sealer.open(sealed_by_hand(body)));
  const auto refused_with = [&](std::size_t at, std::uint8_t value) {
    auto changed = body;
    changed.at(at) = value;
    return !sealer.open(sealed_by_hand(changed));
  };
  EXPECT_TRUE(refused_with(0, 2)) << "version";
  EXPECT_TRUE(refused_with(37, 0)) << "an IPv6 address without its flag";
  EXPECT_TRUE(refused_with(37, 2)) << "flag";
  EXPECT_TRUE(refused_with(54, 4)) << "a byte after the name";
  EXPECT_TRUE(refused_with(54, 6)) << "a name longer than the ticket";
  auto longer = body;
  longer.push_back(0);
  EXPECT_FALSE(sealer.open(sealed_by_hand(longer)));
  auto nameless = body;
  nameless.resize(55);
  nameless[54] = 0;
  EXPECT_FALSE(sealer.open(sealed_by_hand(nameless)));
}

TEST(LeaseTicket, RandomBytesAreRefused) {
  const TicketSealer sealer(kKey);
  SeededRandom random(3);
  for (int i = 0; i < 1000; ++i) {
    std::vector<std::uint8_t> bytes(random.next32() % 400);
    random.fill(bytes);
    EXPECT_FALSE(sealer.open(as_text(bytes)));
    EXPECT_FALSE(sealer.open(base64url_encode(bytes)));
  }
}

}  // namespace
}  // namespace penstock::auth
