#include "dns/client_query.h"

#include <algorithm>

namespace penstock::dns {
namespace {

// RFC 6895 section 3.1: OPT, and the upper half of the first 256, are questions about questions and not data.
bool is_meta(std::uint16_t type) { return type == 0 || type == type::kOpt || (type >= 128 && type <= 255); }

}  // namespace

std::vector<std::uint8_t> ClientQuery::answer(std::uint16_t code, const Records& records, std::uint32_t ttl_cap,
                                              std::uint32_t age) const {
  Head answer = head;
  answer.header.rcode = code;
  return write(answer, records, {.limit = limit, .ttl_cap = ttl_cap, .age = age});
}

std::variant<ClientQuery, RefusedQuery> read_client_query(ByteView bytes, Transport transport) {
  const auto header = parse_header(bytes);
  // An answer to an answer could go on for ever.
  if (!header || header->response) return RefusedQuery{Count::not_a_query, {}};
  if (header->opcode != 0) return RefusedQuery{Count::opcode, bare_answer(bytes, rcode::kNotImp)};
  auto message = Message::parse(bytes);
  const bool carries_data = message && std::ranges::any_of(message->records.all(), [](const Record& record) {
                              return record.section != Section::additional;
                            });
  if (!message || (carries_data && message->question.type != type::kIxfr))
    return RefusedQuery{Count::malformed, bare_answer(bytes, rcode::kFormErr)};

  ClientQuery query;
  query.recursion_desired = header->recursion_desired;
  query.head.header = {.id = header->id,
                       .response = true,
                       .recursion_desired = header->recursion_desired,
                       .recursion_available = true,
                       .checking_disabled = header->checking_disabled};
  query.head.question = std::move(message->question);
  query.head.spelling = std::move(message->spelling);
  if (const auto& edns = message->edns) {
    query.head.edns = Edns{.udp_size = kOwnUdpSize, .version = 0, .dnssec_ok = edns->dnssec_ok};
    query.limit = std::clamp<std::size_t>(edns->udp_size, kPlainUdpSize, kOwnUdpSize);
  }
  if (transport == Transport::stream) query.limit = kMaxMessage;

  const auto refuse = [&query](Count reason, std::uint16_t code) { return RefusedQuery{reason, query.answer(code)}; };
  const Question& question = query.head.question;
  if (message->edns && message->edns->version != 0) return refuse(Count::edns_version, rcode::kBadVers);
  if (question.rclass != kClassIn) return refuse(Count::not_internet, rcode::kRefused);
  if (question.type == type::kAny) return refuse(Count::any_refused, rcode::kRefused);
  if (is_meta(question.type)) return refuse(Count::meta_refused, rcode::kRefused);
  return query;
}

}  // namespace penstock::dns
