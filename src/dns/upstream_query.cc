#include "dns/upstream_query.h"

#include <algorithm>
#include <array>

namespace penstock::dns {
namespace {

// Codes that are about the server and not about the name: another may know better.
bool is_failure(std::uint16_t code) {
  constexpr std::array kFailures{rcode::kFormErr, rcode::kServFail, rcode::kNotImp,
                                 rcode::kRefused, rcode::kNotAuth,  rcode::kBadVers};
  return std::ranges::find(kFailures, code) != kFailures.end();
}

}  // namespace

UpstreamQuery make_upstream_query(const CacheKey& key, bool spelled, bool edns, Random& random) {
  UpstreamQuery query;
  query.id = static_cast<std::uint16_t>(random.next32());
  query.spelling = as_text(key.question.name.wire());
  query.spelled = spelled;
  query.edns = edns;
  if (spelled) {
    std::array<std::uint8_t, Name::kMaxSize> dice;
    random.fill({dice.data(), query.spelling.size()});
    for (std::size_t i = 0; i < query.spelling.size(); ++i) {
      char& c = query.spelling[i];
      if (c >= 'a' && c <= 'z' && (dice[i] & 1) != 0) c = static_cast<char>(c & ~0x20);
    }
  }
  Head head;
  head.header.id = query.id;
  head.header.recursion_desired = true;
  head.header.checking_disabled = key.checking_disabled;
  head.question = key.question;
  head.spelling = query.spelling;
  if (edns) head.edns = Edns{.udp_size = kOwnUdpSize, .version = 0, .dnssec_ok = key.dnssec_ok};
  query.bytes = write(head, {});
  return query;
}

std::expected<Message, BadReply> read_reply(ByteView bytes, const CacheKey& key, const UpstreamQuery& query) {
  const auto bad = [](ReplyFault fault) { return std::unexpected(BadReply{fault, {}}); };
  // What must match is looked at before anything else is read: strangers' bytes cost little.
  const std::size_t name_end = kHeaderSize + query.spelling.size();
  const auto header = parse_header(bytes);
  if (!header || !header->response || header->opcode != 0 || header->id != query.id || load_be16(&bytes[4]) != 1 ||
      bytes.size() < name_end + 4 || load_be16(&bytes[name_end]) != key.question.type ||
      load_be16(&bytes[name_end + 2]) != key.question.rclass) {
    return bad(ReplyFault::strange);
  }
  const ByteView name = bytes.subspan(kHeaderSize, query.spelling.size());
  if (!equal_in_any_case(name, as_bytes(query.spelling))) return bad(ReplyFault::strange);
  if (query.spelled && !std::ranges::equal(name, as_bytes(query.spelling))) return bad(ReplyFault::case_lost);

  // Names that point into the question come out as they should be and not as the dice fell.
  std::vector<std::uint8_t> plain(bytes.begin(), bytes.end());
  std::ranges::copy(key.question.name.wire(), plain.begin() + kHeaderSize);
  auto message = Message::parse(plain);
  if (header->truncated) return std::unexpected(BadReply{ReplyFault::truncated, message ? *message : Message{}});
  // RFC 6891 section 7: one that does not know EDNS says so by its code, and by having no OPT.
  const bool knows_edns = message && message->edns;
  if (query.edns && !knows_edns && (header->rcode == rcode::kFormErr || header->rcode == rcode::kNotImp))
    return bad(ReplyFault::edns_lost);
  if (!message || is_failure(message->header.rcode)) return bad(ReplyFault::failed);
  return *std::move(message);
}

}  // namespace penstock::dns
