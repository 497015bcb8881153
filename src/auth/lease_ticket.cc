#include "auth/lease_ticket.h"

#include <algorithm>
#include <vector>

#include "base/digest.h"

namespace penstock::auth {
namespace {

constexpr std::uint8_t kVersion = 1;
constexpr std::size_t kLongestName = 255;

// Offsets of lease_ticket.h.
constexpr std::size_t kSessionKeyAt = 1;
constexpr std::size_t kEpochAt = 17;
constexpr std::size_t kIssuedAt = 25;
constexpr std::size_t kAddressAt = 33;
constexpr std::size_t kHasAddress6At = 37;
constexpr std::size_t kAddress6At = 38;
constexpr std::size_t kNameSizeAt = 54;
constexpr std::size_t kNameAt = 55;
constexpr std::size_t kMacSize = std::tuple_size_v<Digest256>;

constexpr std::size_t kShortest = kNameAt + 1 + kMacSize;
constexpr std::size_t kLongest = kNameAt + kLongestName + kMacSize;
// Four characters carry three bytes.
constexpr std::size_t kLongestText = (kLongest * 4 + 2) / 3;

std::unexpected<Error> not_ours() {
  return fail(ErrorCode::unauthenticated, "the lease is not one of this gateway; authenticate anew");
}

}  // namespace

std::string TicketSealer::seal(const LeaseTicket& ticket) const {
  PENSTOCK_ASSERT(!ticket.credential.empty() && ticket.credential.size() <= kLongestName);
  PENSTOCK_ASSERT(ticket.address.is_v4() && (!ticket.address6 || ticket.address6->is_v6()));

  std::vector<std::uint8_t> bytes(kNameAt);
  bytes[0] = kVersion;
  std::ranges::copy(ticket.session_key, &bytes[kSessionKeyAt]);
  store_be64(&bytes[kEpochAt], ticket.epoch);
  store_be64(&bytes[kIssuedAt], static_cast<std::uint64_t>(ticket.issued.time_since_epoch().count()));
  std::ranges::copy(ticket.address.bytes(), &bytes[kAddressAt]);
  if (ticket.address6) {
    bytes[kHasAddress6At] = 1;
    std::ranges::copy(ticket.address6->bytes(), &bytes[kAddress6At]);
  }
  bytes[kNameSizeAt] = static_cast<std::uint8_t>(ticket.credential.size());
  bytes.insert(bytes.end(), ticket.credential.begin(), ticket.credential.end());

  const Digest256 mac = hmac_sha256(key_, bytes);
  bytes.insert(bytes.end(), mac.begin(), mac.end());
  return base64url_encode(bytes);
}

Result<LeaseTicket> TicketSealer::open(std::string_view sealed) const {
  // Before anything is computed from it: the text may be a stranger's, and as long as a message may be.
  if (sealed.size() > kLongestText) return not_ours();
  const auto bytes = base64url_decode(sealed);
  if (!bytes || bytes->size() < kShortest) return not_ours();

  const ByteView body = ByteView(*bytes).first(bytes->size() - kMacSize);
  if (!constant_time_equal(hmac_sha256(key_, body), ByteView(*bytes).last(kMacSize))) return not_ours();

  // From here on the bytes are this gateway's own, but perhaps those of another version of it.
  if (body[0] != kVersion) {
    return fail(ErrorCode::unauthenticated,
                "the lease is of version " + std::to_string(body[0]) + ", which this gateway does not resume");
  }
  const std::uint8_t has_address6 = body[kHasAddress6At];
  const ByteView address6 = body.subspan(kAddress6At, 16);
  const ByteView name = body.subspan(kNameAt);
  if (has_address6 > 1 || name.size() != body[kNameSizeAt]) return not_ours();
  if (has_address6 == 0 && std::ranges::any_of(address6, [](std::uint8_t byte) { return byte != 0; }))
    return not_ours();

  LeaseTicket ticket;
  std::ranges::copy(body.subspan(kSessionKeyAt, ticket.session_key.size()), ticket.session_key.begin());
  ticket.credential = as_text(name);
  ticket.epoch = load_be64(&body[kEpochAt]);
  ticket.address = IpAddress::from_bytes(body.subspan(kAddressAt, 4));
  if (has_address6 == 1) ticket.address6 = IpAddress::from_bytes(address6);
  ticket.issued = WallTime(std::chrono::milliseconds(static_cast<std::int64_t>(load_be64(&body[kIssuedAt]))));
  return ticket;
}

}  // namespace penstock::auth
