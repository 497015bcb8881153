// One query to one server, and what a reply to it is worth.
//
// Who does not see the query must guess, besides address and port, its id and the case of each letter of its name
// (0x20, draft-vixie-dnsext-dns0x20; RFC 5452 section 9): a reply that has the one and not the other is no answer. Over
// a stream, and to a server that does not keep the case, the name is in lower case and its case is not looked at.
//
// What goes out     RD, the client's CD and DO, an OPT record that takes kOwnUdpSize. None of the client's options: who
//                   it is and where is not the upstream's to know (RFC 7871 section 11).
// Threads           values and pure functions.
#pragma once

#include <expected>
#include <string>
#include <vector>

#include "base/bytes.h"
#include "base/random.h"
#include "dns/cache.h"
#include "dns/message.h"

namespace penstock::dns {

// What was sent.
struct UpstreamQuery {
  std::uint16_t id = 0;
  std::string spelling;  // of the question's name, in wire form
  bool spelled = false;  // with dice: a reply must have the same
  bool edns = true;
  std::vector<std::uint8_t> bytes;
};

UpstreamQuery make_upstream_query(const CacheKey& key, bool spelled, bool edns, Random& random);

enum class ReplyFault : std::uint8_t {
  strange,    // not a reply to this query
  case_lost,  // one, but for the case of the name
  edns_lost,  // the server does not know EDNS: ask again without
  truncated,  // ask again by TCP
  failed,     // the server cannot answer, or not in a way that can be read
};

struct BadReply {
  ReplyFault fault;
  Message message;  // of a truncated reply what there is of it
};

// The question of a good reply is in lower case, and so are the names in it that lean on the question. A reply that is
// cut in the middle of a record is `truncated` without records where it says so.
std::expected<Message, BadReply> read_reply(ByteView bytes, const CacheKey& key, const UpstreamQuery& query);

}  // namespace penstock::dns
