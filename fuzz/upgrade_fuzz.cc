// Both HTTP parsers: what they accept is within bounds, the same however the bytes are cut, and the same when it is
// written down and read again. An upgrade that the server accepts has an answer that the client accepts.
#include "base/result.h"
#include "pieces.h"
#include "websocket/upgrade.h"

namespace {

using namespace penstock;
using namespace penstock::websocket;

void check_headers(const HttpHeaders& headers) {
  PENSTOCK_ASSERT(headers.size() <= kMaxHeaders);
  for (const auto& [name, value] : headers) {
    PENSTOCK_ASSERT(is_token(name));
    PENSTOCK_ASSERT(value.find_first_of("\r\n") == std::string::npos);
  }
}

std::string fields_of(const HttpHeaders& headers) {
  std::string text;
  for (const auto& [name, value] : headers) text.append(name).append(": ").append(value).append("\r\n");
  return text + "\r\n";
}

// A head that was read fits its bounds, but written down anew it may be a little longer than it came.
void check_reads_again(const UpgradeRequest& request) {
  const std::string head = request.method + " " + request.target + (request.http_1_0 ? " HTTP/1.0" : " HTTP/1.1") +
                           "\r\n" + fields_of(request.headers);
  if (head.size() > kMaxHead) return;
  ByteQueue in;
  in.append(as_bytes(head));
  const auto again = UpgradeParser().next(in);
  PENSTOCK_ASSERT(again && *again && in.empty());
  PENSTOCK_ASSERT((*again)->target == request.target && (*again)->headers == request.headers);
}

void check_client_takes(const std::string& answer, std::string_view key) {
  ByteQueue in;
  in.append(as_bytes(answer));
  const auto response = ResponseParser().next(in);
  PENSTOCK_ASSERT(response && *response && in.empty() && check_response(**response, key));
}

// What a parser said, in comparable form: nothing, a refusal's words, or the head that it read.
template <typename Parser, typename Describe>
std::string run(fuzz::Pieces pieces, bool at_once, Describe describe) {
  Parser parser;
  ByteQueue in;
  do {
    in.append(at_once ? pieces.whole() : pieces.next());
    auto said = parser.next(in);
    if (!said || *said) return describe(said);
  } while (!at_once && !pieces.done());
  return "";
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const fuzz::Pieces pieces(ByteView(data, size));
  const auto request = [](auto& said) -> std::string {
    if (!said) {
      PENSTOCK_ASSERT(said.error().status >= 400);
      return http_response(said.error()) + said.error().reason;
    }
    check_headers((*said)->headers);
    check_reads_again(**said);
    const auto accepted = accept_upgrade(**said, "/");
    if (accepted) {
      check_client_takes(*accepted, *(*said)->find("sec-websocket-key"));
      return *accepted;
    }
    return http_response(accepted.error()) + (*said)->target;
  };
  PENSTOCK_ASSERT(run<UpgradeParser>(pieces, true, request) == run<UpgradeParser>(pieces, false, request));

  const auto response = [](auto& said) -> std::string {
    if (!said) return said.error().message;
    check_headers((*said)->headers);
    const auto checked = check_response(**said, "dGhlIHNhbXBsZSBub25jZQ==");
    return checked ? "accepted" : checked.error().message;
  };
  PENSTOCK_ASSERT(run<ResponseParser>(pieces, true, response) == run<ResponseParser>(pieces, false, response));
  return 0;
}
