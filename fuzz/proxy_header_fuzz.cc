// The PROXY header: the same however the bytes are cut, never more waited for than its bounds, and what follows is
// kept.
#include <string>

#include "base/result.h"
#include "ingress/websocket/proxy_header.h"
#include "pieces.h"

namespace {

using namespace penstock;
using ingress::ProxyHeaderParser;

// What the parser said and what it left, in comparable form.
std::string run(fuzz::Pieces pieces, bool at_once) {
  ProxyHeaderParser parser;
  ByteQueue in;
  while (true) {
    in.append(at_once ? pieces.whole() : pieces.next());
    const bool last = at_once || pieces.done();
    const auto progress = parser.next(in);
    if (!progress) {
      PENSTOCK_ASSERT(!parser.next(in));
      return progress.error().message;
    }
    if (*progress == ProxyHeaderParser::Progress::more) {
      PENSTOCK_ASSERT(in.size() < 16 + ProxyHeaderParser::kMaxLength);
      if (last) return "more";
      continue;
    }
    while (!at_once && !pieces.done()) in.append(pieces.next());
    std::string said = "none";
    if (const auto& header = parser.header()) said = header->client ? header->client->to_string() : "the proxy itself";
    if (!parser.header()) PENSTOCK_ASSERT(in.size() == pieces.whole().size());
    return said + "|" + std::string(as_text(in.view()));
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const fuzz::Pieces pieces(ByteView(data, size));
  PENSTOCK_ASSERT(run(pieces, true) == run(pieces, false));
  return 0;
}
