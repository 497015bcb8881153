// The server's half of the handshake; upgrade_client.cc has the other.
#include "websocket/upgrade.h"

#include <algorithm>

#include "base/digest.h"

namespace penstock::websocket {
namespace {

// RFC 6455 section 1.3.
constexpr std::string_view kAcceptSuffix = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

std::string_view phrase_of(int status) {
  switch (status) {
    case 400: return "Bad Request";
    case 403: return "Forbidden";
    case 404: return "Not Found";
    case 405: return "Method Not Allowed";
    case 408: return "Request Timeout";
    case 414: return "URI Too Long";
    case 426: return "Upgrade Required";
    case 429: return "Too Many Requests";
    case 431: return "Request Header Fields Too Large";
    case 503: return "Service Unavailable";
    case 505: return "HTTP Version Not Supported";
    default: return "Internal Server Error";
  }
}

bool is_printable(std::string_view text) {
  return std::ranges::all_of(text, [](char c) { return c > 0x20 && c < 0x7F; });
}

bool is_zero(std::string_view digits) {
  return !digits.empty() && digits.find_first_not_of('0') == std::string_view::npos;
}

// The path of "/path?query" or, as RFC 9112 section 3.2.2 asks, of "https://host/path?query".
std::string_view path_of(std::string_view target) {
  if (!target.starts_with('/')) {
    const std::size_t scheme_end = target.find("://");
    if (scheme_end == std::string_view::npos) return {};
    const std::size_t slash = target.find_first_of("/?", scheme_end + 3);
    if (slash == std::string_view::npos || target[slash] == '?') return "/";
    target.remove_prefix(slash);
  }
  return target.substr(0, target.find('?'));
}

// 16 bytes in base64. Stray bits in the last character are let through, as elsewhere: the key is only hashed.
bool is_key(std::string_view key) {
  return key.size() == 24 && key.ends_with("==") && std::ranges::all_of(key.substr(0, 22), [](char c) {
           return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '+' || c == '/';
         });
}

}  // namespace

std::optional<std::string_view> UpgradeRequest::find(std::string_view name) const { return find_header(headers, name); }

std::expected<std::optional<UpgradeRequest>, HttpRefusal> UpgradeParser::next(ByteQueue& in) {
  while (!refused_ && !done_) {
    auto line = head_.take_line(in);
    if (!line) {
      const bool large = line.error() == HeadProblem::too_large;
      if (!large) refused_ = refuse(400, "malformed line");
      if (large) refused_ = has_request_line_ ? refuse(431, "head too large") : refuse(414, "request line too long");
      break;
    }
    if (!*line) return std::nullopt;
    const bool end = has_request_line_ && (*line)->empty();
    const auto read = end ? check_request() : has_request_line_ ? read_header(**line) : read_request_line(**line);
    if (!read) refused_ = read.error();
    if (read && end) {
      done_ = true;
      return std::move(request_);
    }
  }
  if (refused_) return std::unexpected(*refused_);
  return std::nullopt;
}

HttpRefusal UpgradeParser::refuse(int status, std::string reason) const {
  return {.status = status, .reason = std::move(reason), .without_body = request_.method == "HEAD"};
}

// RFC 9112 section 3: method SP target SP version.
std::expected<void, HttpRefusal> UpgradeParser::read_request_line(std::string_view line) {
  has_request_line_ = true;
  const std::size_t first = line.find(' ');
  const std::size_t last = line.rfind(' ');
  if (first == std::string_view::npos || first == last) return std::unexpected(refuse(400, "no HTTP request"));
  const std::string_view target = line.substr(first + 1, last - first - 1);
  const std::string_view version = line.substr(last + 1);
  if (!is_token(line.substr(0, first)) || target.empty() || !is_printable(target) || !version.starts_with("HTTP/")) {
    return std::unexpected(refuse(400, "malformed request line"));
  }
  request_.method = line.substr(0, first);
  request_.target = target;
  request_.http_1_0 = version == "HTTP/1.0";
  if (!request_.http_1_0 && version != "HTTP/1.1") return std::unexpected(refuse(505, "not HTTP/1.1"));
  return {};
}

std::expected<void, HttpRefusal> UpgradeParser::read_header(std::string_view line) {
  if (const auto added = append_header(line, request_.headers); !added) {
    return std::unexpected(added.error() == HeadProblem::too_large ? refuse(431, "too many header fields")
                                                                   : refuse(400, "malformed header field"));
  }
  const auto& [name, value] = request_.headers.back();
  if (name == "transfer-encoding" || (name == "content-length" && !is_zero(value))) {
    return std::unexpected(refuse(400, "request with a body"));
  }
  const bool once = name == "host" || name == "sec-websocket-key" || name == "sec-websocket-version";
  if (once && std::ranges::count(request_.headers, name, &HttpHeaders::value_type::first) > 1) {
    return std::unexpected(refuse(400, "header field " + name + " twice"));
  }
  if (name == "host") request_.host = value;
  return {};
}

std::expected<void, HttpRefusal> UpgradeParser::check_request() const {
  if (!request_.http_1_0 && !request_.find("host")) return std::unexpected(refuse(400, "no Host"));
  return {};
}

// RFC 6455 section 4.2.1.
std::expected<std::string, HttpRefusal> accept_upgrade(const UpgradeRequest& request, std::string_view path) {
  const auto refuse = [&](int status, std::string reason) {
    return std::unexpected(HttpRefusal{status, std::move(reason), request.method == "HEAD"});
  };
  if (path_of(request.target) != path) return refuse(404, "another path than " + std::string(path));
  if (request.method != "GET" || request.http_1_0 || !has_token(request.headers, "upgrade", "websocket") ||
      !has_token(request.headers, "connection", "upgrade")) {
    return refuse(404, "not a WebSocket upgrade");
  }
  if (request.find("sec-websocket-version") != "13") return refuse(426, "WebSocket version other than 13");
  const auto key = request.find("sec-websocket-key");
  if (!key || !is_key(*key)) return refuse(400, "missing or malformed Sec-WebSocket-Key");
  return "HTTP/1.1 101 Switching Protocols\r\n"
         "Upgrade: websocket\r\n"
         "Connection: Upgrade\r\n"
         "Sec-WebSocket-Accept: " +
         accept_key(*key) + "\r\n\r\n";
}

std::string http_response(const HttpRefusal& refusal, const HttpHeaders& extra) {
  const std::string status = std::to_string(refusal.status) + " " + std::string(phrase_of(refusal.status));
  const std::string page = status + "\n";
  std::string response = "HTTP/1.1 " + status + "\r\n";
  if (refusal.status == 426) {
    response +=
        "Upgrade: websocket\r\n"
        "Sec-WebSocket-Version: 13\r\n"
        "Connection: Upgrade, close\r\n";
  } else {
    response += "Connection: close\r\n";
  }
  for (const auto& [name, value] : extra) response.append(name).append(": ").append(value).append("\r\n");
  response += "Content-Type: text/plain\r\nContent-Length: " + std::to_string(page.size()) + "\r\n\r\n";
  if (!refusal.without_body) response += page;
  return response;
}

std::string accept_key(std::string_view key) {
  const std::string text = std::string(key) + std::string(kAcceptSuffix);
  // SHA-1 proves here that the server speaks WebSocket, nothing more.
  return base64_encode(sha1(as_bytes(text)));
}

}  // namespace penstock::websocket
