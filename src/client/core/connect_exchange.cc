#include "client/core/connect_exchange.h"

#include <algorithm>
#include <charconv>

#include "base/digest.h"

namespace penstock::client {
namespace {

// "%40" is "@" (RFC 3986 section 2.1); what is no such thing stands for itself.
std::string percent_decoded(std::string_view text) {
  std::string out;
  for (std::size_t i = 0; i < text.size(); ++i) {
    unsigned value = 0;
    const std::string_view digits = text.substr(std::min(i + 1, text.size()), 2);
    const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), value, 16);
    if (text[i] == '%' && error == std::errc{} && digits.size() == 2 && end == digits.data() + 2) {
      out += static_cast<char>(value);
      i += 2;
    } else {
      out += text[i];
    }
  }
  return out;
}

// RFC 7617 section 2.
std::string basic(std::string_view credentials) {
  const std::size_t colon = std::min(credentials.find(':'), credentials.size());
  const std::string user = percent_decoded(credentials.substr(0, colon));
  const std::string password = percent_decoded(credentials.substr(std::min(colon + 1, credentials.size())));
  return "Basic " + base64_encode(as_bytes(user + ":" + password));
}

// What a stranger's proxy wrote, fit for a log line.
std::string printable(std::string_view text) {
  constexpr std::size_t kLongest = 100;
  std::string out(text.substr(0, kLongest));
  std::ranges::replace_if(out, [](char c) { return c < 0x20 || c > 0x7E; }, '?');
  return out;
}

}  // namespace

ConnectExchange::ConnectExchange(const ProxyChoice& proxy, const std::string& host, std::uint16_t port)
    : proxy_name_("the proxy " + proxy.to_string() + " (" + proxy.setting + ")"),
      setting_(proxy.setting),
      target_((host.find(':') == std::string::npos ? host : "[" + host + "]") + ":" + std::to_string(port)),
      has_credentials_(!proxy.url.credentials.empty()) {
  std::string request = "CONNECT " + target_ + " HTTP/1.1\r\nHost: " + target_ + "\r\n";
  if (has_credentials_) request += "Proxy-Authorization: " + basic(proxy.url.credentials) + "\r\n";
  output_.append(as_bytes(request + "\r\n"));
}

Result<ConnectExchange::Progress> ConnectExchange::receive(ByteView bytes) {
  input_.append(bytes);
  const auto response = parser_.next(input_);
  if (!response) {
    return fail(ErrorCode::protocol_error,
                proxy_name_ + " did not answer in HTTP: is " + setting_ + " the address of an HTTP proxy?");
  }
  if (!*response) return Progress::more;
  if ((*response)->status < 200 || (*response)->status > 299) return refused(**response);
  if (!output_.empty() || !input_.empty()) {
    return fail(ErrorCode::protocol_error, proxy_name_ + " speaks out of turn: it answered before it was asked, or " +
                                               "sent more than its answer");
  }
  return Progress::open;
}

std::unexpected<Error> ConnectExchange::refused(const websocket::UpgradeResponse& response) const {
  const int status = response.status;
  if (status == 407 || status == 401) return wants_login(response);  // 401: tinyproxy about a wrong password
  std::string answer = proxy_name_ + " answered " + std::to_string(status);
  if (!response.phrase.empty()) answer += " " + printable(response.phrase);
  if (status == 403) {
    return fail(ErrorCode::permission_denied,
                answer + ": it does not let us through to " + target_ + "; whoever runs it must allow CONNECT there");
  }
  if (status == 429 || (status >= 500 && status != 501)) {
    return fail(ErrorCode::unavailable, answer + ": it could not reach " + target_ + " (is server.url right?)");
  }
  return fail(ErrorCode::protocol_error,
              answer + " to CONNECT " + target_ + ": is " + setting_ + " the address of a proxy that takes CONNECT?");
}

std::unexpected<Error> ConnectExchange::wants_login(const websocket::UpgradeResponse& response) const {
  std::string offered;
  bool basic_offered = false;
  for (const auto& [name, value] : response.headers) {
    if (name != "proxy-authenticate" && name != "www-authenticate") continue;
    const std::string scheme = printable(std::string_view(value).substr(0, value.find_first_of(" ,")));
    basic_offered = basic_offered || websocket::equals_ignoring_case(scheme, "Basic");
    offered += (offered.empty() ? "" : ", ") + scheme;
  }
  if (!basic_offered && !offered.empty()) {
    return fail(ErrorCode::unauthenticated, proxy_name_ + " wants a login by " + offered +
                                                ", and only Basic is spoken here: ask whoever runs it to allow " +
                                                target_ + " without a login");
  }
  return fail(ErrorCode::unauthenticated,
              proxy_name_ +
                  (has_credentials_ ? " refused the user and password of " : " wants a user and a password: ") +
                  (has_credentials_ ? setting_ : "write " + setting_ + " as http://user:password@host:port"));
}

}  // namespace penstock::client
