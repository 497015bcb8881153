// What a client sent, judged: a query to be answered, or what to say of it instead.
//
// Pure functions over bytes that may be hostile. An answer is never larger than the client said it takes, and over UDP
// never larger than kOwnUdpSize; one to what was refused is hardly larger than the query, so that nobody gains by
// asking in another's name.
//
// AD is not passed on: the gateway has validated nothing itself, and its way to an upstream protects nothing
// (RFC 6840 section 5.8). DO and CD are, and so the records that a client needs to validate for itself.
#pragma once

#include <optional>
#include <variant>
#include <vector>

#include "base/bytes.h"
#include "dns/cache.h"
#include "dns/counters.h"
#include "dns/message.h"

namespace penstock::dns {

enum class Transport : std::uint8_t { udp, stream };

// How one client is to be answered.
struct ClientQuery {
  Head head;                          // of the answer, but for its code and what the answer itself says
  std::size_t limit = kPlainUdpSize;  // bytes of the answer
  bool recursion_desired = false;

  CacheKey key() const {
    return {.question = head.question,
            .dnssec_ok = head.edns && head.edns->dnssec_ok,
            .checking_disabled = head.header.checking_disabled};
  }
  std::vector<std::uint8_t> answer(std::uint16_t code, const Records& records = {}, std::uint32_t ttl_cap = UINT32_MAX,
                                   std::uint32_t age = 0) const;
};

struct RefusedQuery {
  Count reason;
  std::vector<std::uint8_t> answer;  // empty: there is to be none
};

std::variant<ClientQuery, RefusedQuery> read_client_query(ByteView bytes, Transport transport);

}  // namespace penstock::dns
