// The opening handshake (RFC 6455 section 4) over a strict little HTTP/1.1 (RFC 9112), sans-I/O, both sides.
//
//   server   UpgradeParser -> UpgradeRequest -> accept_upgrade() -> the 101 response, or http_response(refusal)
//   client   upgrade_request() ... ResponseParser -> UpgradeResponse -> check_response()
//
// Port 443 is scanned by everybody. Whatever is not an upgrade to the right path gets the page that a dull web server
// would give, which names no product and does not tell a wrong path from a right one. HttpRefusal::reason is for our
// log and never sent.
//
// Bounds      a parser keeps at most what http_head.h lets in. A request with a body is refused.
// Threads     one.
#pragma once

#include <cstdint>
#include <expected>
#include <optional>
#include <string>
#include <string_view>

#include "base/bytes.h"
#include "base/random.h"
#include "base/result.h"
#include "websocket/http_head.h"

namespace penstock::websocket {

struct HttpRefusal {
  int status = 400;
  std::string reason;         // for the log
  bool without_body = false;  // it answers a HEAD request
};

struct UpgradeRequest {
  std::string method;
  std::string target;  // as it was sent: "/", "/path?query", "https://host/path"
  std::string host;
  HttpHeaders headers;
  bool http_1_0 = false;

  // The first field of this lower-case name.
  std::optional<std::string_view> find(std::string_view name) const;
};

struct UpgradeResponse {
  int status = 0;
  std::string phrase;
  HttpHeaders headers;

  std::optional<std::string_view> find(std::string_view name) const;
};

// Reads one request head. Bytes behind it stay in the queue. After a refusal it only refuses.
class UpgradeParser {
 public:
  // Nothing yet, the request (once), or the refusal to answer with. Refusals come as early as the line that earns them.
  std::expected<std::optional<UpgradeRequest>, HttpRefusal> next(ByteQueue& in);

 private:
  std::expected<void, HttpRefusal> read_request_line(std::string_view line);
  std::expected<void, HttpRefusal> read_header(std::string_view line);
  std::expected<void, HttpRefusal> check_request() const;
  HttpRefusal refuse(int status, std::string reason) const;

  HeadReader head_;
  UpgradeRequest request_;
  std::optional<HttpRefusal> refused_;
  bool has_request_line_ = false;
  bool done_ = false;
};

// The 101 response to a valid upgrade of `path` (a request's query is ignored), or what to answer instead:
//   404 where it is no upgrade or asks for another path, 426 for a version other than 13, 400 for a bad key.
std::expected<std::string, HttpRefusal> accept_upgrade(const UpgradeRequest& request, std::string_view path);

// A whole response with a page of one line, after which the connection is to be closed. `extra` fields are sent as they
// are. A 426 names the version that is spoken (section 4.4).
std::string http_response(const HttpRefusal& refusal, const HttpHeaders& extra = {});

// A fresh Sec-WebSocket-Key: 16 random bytes in base64.
std::string new_key(Random& random);
// The Sec-WebSocket-Accept that belongs to a key (section 4.2.2).
std::string accept_key(std::string_view key);

// `host_header` and `target` come from our own configuration and hold no control characters.
std::string upgrade_request(std::string_view host_header, std::string_view target, std::string_view key_base64);

// Reads one response head, skipping interim ones (1xx other than 101). A body stays in the queue.
class ResponseParser {
 public:
  // Refusal: protocol_error, as often as it is asked.
  Result<std::optional<UpgradeResponse>> next(ByteQueue& in);

 private:
  Result<void> read_status_line(std::string_view line);

  HeadReader head_;
  UpgradeResponse response_;
  std::optional<Error> refused_;
  bool has_status_line_ = false;
  bool done_ = false;
};

// Whether `response` completes the handshake that sent `key` (section 4.1). The refusal says what came instead and what
// to look at; its code is not_found for 404, unavailable for 429 and 5xx, protocol_error otherwise.
Result<void> check_response(const UpgradeResponse& response, std::string_view key);

}  // namespace penstock::websocket
