// The secret by which a client takes its session over on a new link: the `lease` of auth_response.
//
// A ticket says which session, whose credential and which addresses; the gateway keeps nothing but the key it sealed
// the ticket with, so a lease is good across restarts. Sealed, not encrypted: a client could read its own name and
// address in it, which it knows. Layout, numbers big-endian, the whole in base64url without padding:
//
//   offset  bytes
//        0      1  version, 1
//        1     16  session key
//       17      8  epoch of the credential
//       25      8  issued, milliseconds since 1970, signed
//       33      4  IPv4 address
//       37      1  1 where an IPv6 address follows, else 0
//       38     16  IPv6 address, else zeros
//       54      1  length n of the credential's name, 1 to 255
//       55      n  the name
//     55+n     32  HMAC-SHA-256 of all before it (RFC 2104)
//
// What a ticket is worth is for the caller to say: that the credential still has this epoch, and the age of `issued`.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "base/bytes.h"
#include "base/clock.h"
#include "base/ip.h"
#include "base/result.h"

namespace penstock::auth {

struct LeaseTicket {
  std::array<std::uint8_t, 16> session_key{};  // random, names the session
  std::string credential;                      // its name, 1 to 255 bytes
  std::uint64_t epoch = 0;                     // Credential::epoch() when it was issued
  IpAddress address;                           // IPv4
  std::optional<IpAddress> address6;
  WallTime issued;

  friend bool operator==(const LeaseTicket&, const LeaseTicket&) = default;
};

// Seals and opens tickets with one key. Immutable: any thread.
class TicketSealer {
 public:
  using Key = std::array<std::uint8_t, 32>;

  explicit TicketSealer(const Key& key) : key_(key) {}

  std::string seal(const LeaseTicket& ticket) const;
  // unauthenticated: whatever this key has not sealed, to the last bit. Takes any bytes.
  Result<LeaseTicket> open(std::string_view sealed) const;

 private:
  Key key_;
};

}  // namespace penstock::auth
