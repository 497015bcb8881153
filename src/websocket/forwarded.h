// Who a request really comes from, where proxies pass it on: Forwarded (RFC 7239) and X-Forwarded-For.
//
//   Forwarded: for=203.0.113.9, for="[2001:db8::17]:4711"      X-Forwarded-For: 203.0.113.9, 2001:db8::17
//              <- what anybody may have written                                 the word of the peer, the last ->
//
// Every proxy appends whom it was called by, so the list is read from its right end: the last element is the word of
// our peer, the one before it the word of the address in the last, and so on as long as the one who speaks is trusted.
// The first address that is not is the client. What stands to the left of it was written by the client, or by strangers
// in front of it, and is not believed; nor need it make sense.
//
// Strict      Forwarded has quotes, which a stranger could leave open to swallow what is appended behind them: a field
//             that does not follow the grammar is refused as a whole. Addresses are written as base/ip.h reads them;
//             IPv6 stands in brackets in Forwarded, with or without in X-Forwarded-For. A port may follow (RFC 7239
//             section 6.3); it is 0 where there is none.
// Threads     pure functions; any thread.
// Not here    the PROXY protocol, which speaks before HTTP does (ingress/websocket/proxy_header.h).
#pragma once

#include <functional>

#include "base/ip.h"
#include "base/result.h"
#include "websocket/upgrade.h"

namespace penstock::websocket {

// The client of `request`, which `peer` sent us. `peer` itself, unless `trusted` says true of its address and the
// request has one of the headers; several fields of a name are one list, in their order. Where all who spoke are
// trusted, it is the leftmost of the list. `trusted` is asked with IPv4 addresses in place of IPv4-mapped ones; for a
// peer on a Unix socket it is asked about the peer's unspecified address.
//
// Refusals, all protocol_error: an element that decides and names no address ("unknown", an obfuscated node, nonsense);
// a Forwarded that breaks the grammar; both headers, and they name different addresses.
Result<Endpoint> forwarded_client(const UpgradeRequest& request, const Endpoint& peer,
                                  const std::function<bool(const IpAddress&)>& trusted);

}  // namespace penstock::websocket
