// The client's half of the handshake.
#include <algorithm>
#include <array>

#include "base/digest.h"
#include "websocket/upgrade.h"

namespace penstock::websocket {
namespace {

bool is_digit(char c) { return c >= '0' && c <= '9'; }

// What a stranger's server wrote, fit for a log line: short and printable.
std::string printable(std::string_view text) {
  constexpr std::size_t kLongest = 100;
  std::string out(text.substr(0, kLongest));
  std::ranges::replace_if(out, [](char c) { return c < 0x20 || c > 0x7E; }, '?');
  return out;
}

std::unexpected<Error> not_http(std::string_view what) {
  return fail(ErrorCode::protocol_error,
              "the server's answer is no valid HTTP (" + std::string(what) + "): is server.url right?");
}

}  // namespace

std::string new_key(Random& random) {
  std::array<std::uint8_t, 16> bytes{};
  random.fill(bytes);
  return base64_encode(bytes);
}

// RFC 6455 section 4.1.
std::string upgrade_request(std::string_view host_header, std::string_view target, std::string_view key_base64) {
  std::string request = "GET ";
  request.append(target).append(" HTTP/1.1\r\nHost: ").append(host_header);
  request.append(
      "\r\nUpgrade: websocket\r\n"
      "Connection: Upgrade\r\n"
      "Sec-WebSocket-Key: ");
  request.append(key_base64).append("\r\nSec-WebSocket-Version: 13\r\n\r\n");
  return request;
}

std::optional<std::string_view> UpgradeResponse::find(std::string_view name) const {
  return find_header(headers, name);
}

Result<std::optional<UpgradeResponse>> ResponseParser::next(ByteQueue& in) {
  while (!refused_ && !done_) {
    auto line = head_.take_line(in);
    if (!line) {
      refused_ = not_http(line.error() == HeadProblem::too_large ? "head too large" : "malformed line").error();
      break;
    }
    if (!*line) return std::nullopt;
    if (!has_status_line_) {
      if (const auto read = read_status_line(**line); !read) refused_ = read.error();
    } else if (!(*line)->empty()) {
      if (!append_header(**line, response_.headers)) refused_ = not_http("malformed header field").error();
    } else if (response_.status < 200 && response_.status != 101) {
      // RFC 9110 section 15.2: an interim response, the real one follows.
      response_ = {};
      has_status_line_ = false;
    } else {
      done_ = true;
      return std::move(response_);
    }
  }
  if (refused_) return std::unexpected(*refused_);
  return std::nullopt;
}

// RFC 9112 section 4: "HTTP/1.1 404 Not Found"; some leave the phrase out, with the space before it.
Result<void> ResponseParser::read_status_line(std::string_view line) {
  has_status_line_ = true;
  constexpr std::size_t kCodeAt = 9;
  const std::string_view code = line.substr(std::min(line.size(), kCodeAt), 3);
  if (!line.starts_with("HTTP/1.") || line.size() < kCodeAt + 3 || !is_digit(line[7]) || line[8] != ' ' ||
      !std::ranges::all_of(code, is_digit) || code[0] == '0' || (line.size() > 12 && line[12] != ' ')) {
    return not_http("no status line");
  }
  response_.status = (code[0] - '0') * 100 + (code[1] - '0') * 10 + (code[2] - '0');
  if (line.size() > 13) response_.phrase = line.substr(13);
  return {};
}

Result<void> check_response(const UpgradeResponse& response, std::string_view key) {
  if (response.status != 101) {
    std::string answer = "the server answered " + std::to_string(response.status);
    if (!response.phrase.empty()) answer += " " + printable(response.phrase);
    const int status = response.status;
    if (status == 404) return fail(ErrorCode::not_found, answer + ": is server.url right?");
    if (status == 429) {
      return fail(ErrorCode::unavailable, answer + ": too many failed logins or connections from this address");
    }
    if (status >= 500) return fail(ErrorCode::unavailable, answer + ": it cannot serve anybody for now");
    if (status == 401 || status == 403 || status == 407) {
      return fail(ErrorCode::protocol_error, answer + ": something in front of the gateway refuses the connection");
    }
    if (const auto location = response.find("location"); location && status >= 300 && status < 400) {
      return fail(ErrorCode::protocol_error,
                  answer + " and points to " + printable(*location) + ": is server.url right?");
    }
    return fail(ErrorCode::protocol_error, answer + " instead of a WebSocket: is server.url right?");
  }
  if (!has_token(response.headers, "upgrade", "websocket") || !has_token(response.headers, "connection", "upgrade")) {
    return fail(ErrorCode::protocol_error, "the server switched to something other than a WebSocket");
  }
  if (response.find("sec-websocket-accept") != accept_key(key)) {
    return fail(ErrorCode::protocol_error,
                "the server's Sec-WebSocket-Accept does not belong to our key: a cache or a broken proxy answered");
  }
  // Nothing of the kind was offered, so nothing may be chosen.
  for (const char* name : {"sec-websocket-extensions", "sec-websocket-protocol"}) {
    if (response.find(name)) {
      return fail(ErrorCode::protocol_error, std::string("the server chose a ") + name + " that was not offered");
    }
  }
  return {};
}

}  // namespace penstock::websocket
