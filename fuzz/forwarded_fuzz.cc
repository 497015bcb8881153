// Forwarded and X-Forwarded-For: lines of input are fields by turns. Whoever is named is not trusted, or it is the
// leftmost; and a stranger who writes in front of what a proxy appends changes nothing, or is refused.
#include <string>
#include <string_view>

#include "base/result.h"
#include "websocket/forwarded.h"

namespace {

using namespace penstock;
using namespace penstock::websocket;

const Endpoint kProxy{IpAddress::v4(0x0A000001), 1234};
const IpAddress kClient = IpAddress::v4(0xC0000207);

bool trusted(const IpAddress& address) { return address.is_v4() && address.to_v4() >> 24 == 10; }

Result<Endpoint> client_of(const HttpHeaders& headers) {
  UpgradeRequest request;
  request.headers = headers;
  return forwarded_client(request, kProxy, trusted);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size > kMaxHead) return 0;
  HttpHeaders headers;
  std::string_view rest = as_text({data, size});
  std::string last[2];
  while (!rest.empty() && headers.size() < kMaxHeaders) {
    const std::size_t end = std::min(rest.find('\n'), rest.size());
    const bool x = headers.size() % 2 == 0;
    last[x ? 0 : 1] = rest.substr(0, end);
    headers.emplace_back(x ? "x-forwarded-for" : "forwarded", rest.substr(0, end));
    rest.remove_prefix(std::min(end + 1, rest.size()));
  }
  const auto client = client_of(headers);
  if (!client) PENSTOCK_ASSERT(!client.error().message.empty() && client.error().message.size() < 400);

  // What the proxy appends to a field decides, whatever stands before it.
  const auto by_x = client_of({{"x-forwarded-for", last[0] + ", 192.0.2.7"}});
  PENSTOCK_ASSERT(by_x && by_x->address == kClient);
  const auto by_forwarded = client_of({{"forwarded", last[1] + ", for=192.0.2.7"}});
  PENSTOCK_ASSERT(!by_forwarded || by_forwarded->address == kClient);
  return 0;
}
