// DNS messages: what is read is written and read again as the same, whole or cut; no answer to a client is larger than
// it takes.
#include <algorithm>

#include "base/result.h"
#include "dns/cache.h"
#include "dns/client_query.h"
#include "dns/message.h"

using namespace penstock;
using namespace penstock::dns;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const ByteView input(data, size);
  const auto message = Message::parse(input);
  for (const Transport transport : {Transport::udp, Transport::stream}) {
    const auto read = read_client_query(input, transport);
    if (const auto* refused = std::get_if<RefusedQuery>(&read)) {
      PENSTOCK_ASSERT(refused->answer.empty() || parse_header(refused->answer)->response);
      // An OPT record may be shorter than ours by nothing: both have no options.
      PENSTOCK_ASSERT(refused->answer.size() <= std::max(size, kHeaderSize));
    } else {
      const auto& query = std::get<ClientQuery>(read);
      PENSTOCK_ASSERT(message && query.head.question == message->question);
      const auto answer = query.answer(rcode::kNoError, message->records);
      PENSTOCK_ASSERT(answer.size() <= query.limit && Message::parse(answer));
    }
  }
  if (!message) return 0;
  PENSTOCK_ASSERT(message->records.all().size() <= Message::kMaxRecords);
  PENSTOCK_ASSERT(lifetime_of(*message) <= Cache::kMaxTtl);
  ttl_cap_of(*message);

  const auto written = write(*message, message->records);
  const auto again = Message::parse(written);
  PENSTOCK_ASSERT(again);
  const bool whole = again->records.all().size() == message->records.all().size();
  if (whole) {
    PENSTOCK_ASSERT(again->header == message->header && again->question == message->question);
    PENSTOCK_ASSERT(again->spelling == message->spelling && again->edns == message->edns);
    PENSTOCK_ASSERT(again->records == message->records);
    PENSTOCK_ASSERT(write(*again, again->records) == written);
  }
  const auto cut = write(*message, message->records, {.limit = kPlainUdpSize, .age = 10});
  PENSTOCK_ASSERT(cut.size() <= kPlainUdpSize);
  PENSTOCK_ASSERT(Message::parse(cut));
  return 0;
}
