#include "websocket/forwarded.h"

#include <algorithm>
#include <charconv>
#include <string>
#include <string_view>
#include <vector>

#include "base/in_quotes.h"

namespace penstock::websocket {
namespace {

using Trusted = std::function<bool(const IpAddress&)>;

// What one proxy wrote: the node that called it, still as text. None: an element that says nothing of its client.
using Node = std::optional<std::string>;

std::string_view trim(std::string_view text) {
  const std::size_t first = text.find_first_not_of(" \t");
  if (first == std::string_view::npos) return {};
  return text.substr(first, text.find_last_not_of(" \t") - first + 1);
}

// ---- addresses ----

// ":4711" behind an address; an obfuscated port (RFC 7239 section 6.3) is as good as none.
std::optional<std::uint16_t> parse_port(std::string_view text) {
  if (text.empty()) return 0;
  if (text[0] != ':') return std::nullopt;
  text.remove_prefix(1);
  if (text.starts_with('_')) return is_token(text) && text.size() > 1 ? std::optional<std::uint16_t>(0) : std::nullopt;
  std::uint16_t port = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), port);
  if (error != std::errc{} || end != text.data() + text.size()) return std::nullopt;
  return port;
}

std::optional<Endpoint> parse_parts(std::string_view host, std::string_view port_text, Family family) {
  const auto address = IpAddress::parse(host);
  const auto port = parse_port(port_text);
  if (!address || !port || address->family() != family) return std::nullopt;
  return Endpoint{address->unmapped(), *port};
}

// 192.0.2.43, 192.0.2.43:47011, [2001:db8::17], [2001:db8::17]:47011 (RFC 7239 section 6).
std::optional<Endpoint> parse_node(std::string_view text) {
  if (text.starts_with('[')) {
    const std::size_t end = text.find(']');
    if (end == std::string_view::npos) return std::nullopt;
    return parse_parts(text.substr(1, end - 1), text.substr(end + 1), Family::ipv6);
  }
  const std::size_t colon = std::min(text.find(':'), text.size());
  return parse_parts(text.substr(0, colon), text.substr(colon), Family::ipv4);
}

// ---- X-Forwarded-For ----

// No standard says what it looks like; commas part its elements, and a bare IPv6 address is usual.
void append_x_forwarded_for(std::string_view value, std::vector<Node>& nodes) {
  for (std::size_t at = 0; at <= value.size();) {
    const std::size_t comma = std::min(value.find(',', at), value.size());
    if (const auto element = trim(value.substr(at, comma - at)); !element.empty()) nodes.emplace_back(element);
    at = comma + 1;
  }
}

std::optional<Endpoint> parse_x_node(std::string_view text) {
  if (const auto node = parse_node(text)) return node;
  const auto address = IpAddress::parse(text);
  if (!address) return std::nullopt;
  return Endpoint{address->unmapped(), 0};
}

// ---- Forwarded ----

// Reads one field value by the grammar of RFC 7239 section 4; space around "," and ";" is no matter.
class ForwardedReader {
 public:
  explicit ForwardedReader(std::string_view value) : rest_(value) {}

  bool read(std::vector<Node>& nodes) {
    while (true) {
      if (!read_element(nodes)) return false;
      if (rest_.empty()) return true;
      rest_.remove_prefix(1);  // the comma
    }
  }

 private:
  // Up to the comma behind it or the end. An empty element is none (RFC 9110 section 5.6.1).
  bool read_element(std::vector<Node>& nodes) {
    Node client;
    std::vector<std::string> seen;  // names; each at most once
    while (true) {
      skip_space();
      if (!rest_.empty() && rest_[0] != ';' && rest_[0] != ',' && !read_pair(client, seen)) return false;
      skip_space();
      if (rest_.empty() || rest_[0] == ',') break;
      if (rest_[0] != ';') return false;
      rest_.remove_prefix(1);
    }
    if (!seen.empty()) nodes.push_back(std::move(client));
    return true;
  }

  bool read_pair(Node& client, std::vector<std::string>& seen) {
    const std::size_t equals = rest_.find('=');
    if (equals == std::string_view::npos || !is_token(rest_.substr(0, equals))) return false;
    const std::string name(rest_.substr(0, equals));
    rest_.remove_prefix(equals + 1);
    auto value = rest_.starts_with('"') ? read_quoted() : read_token();
    if (!value) return false;
    const auto same = [&](const std::string& other) { return equals_ignoring_case(other, name); };
    if (std::ranges::any_of(seen, same)) return false;
    seen.push_back(name);
    if (equals_ignoring_case(name, "for")) client = std::move(value);
    return true;
  }

  std::optional<std::string> read_token() {
    const std::size_t end = std::min(rest_.find_first_of(",; \t"), rest_.size());
    std::string token(rest_.substr(0, end));
    rest_.remove_prefix(end);
    if (!is_token(token)) return std::nullopt;
    return token;
  }

  // RFC 9110 section 5.6.4.
  std::optional<std::string> read_quoted() {
    std::string text;
    for (std::size_t i = 1; i < rest_.size(); ++i) {
      if (rest_[i] == '"') {
        rest_.remove_prefix(i + 1);
        return text;
      }
      if (rest_[i] == '\\') ++i;
      if (i == rest_.size()) break;
      text += rest_[i];
    }
    return std::nullopt;
  }

  void skip_space() { rest_.remove_prefix(std::min(rest_.find_first_not_of(" \t"), rest_.size())); }

  std::string_view rest_;
};

// ---- the walk ----

// From the right, as long as the one who speaks is trusted.
Result<Endpoint> walk(std::string_view header, const std::vector<Node>& nodes,
                      std::optional<Endpoint> (*parse)(std::string_view), const Endpoint& peer,
                      const Trusted& trusted) {
  Endpoint client = peer;
  for (auto node = nodes.rbegin(); node != nodes.rend(); ++node) {
    const auto parsed = *node ? parse(**node) : std::nullopt;
    if (!parsed) {
      return fail(ErrorCode::protocol_error,
                  std::string(header) + " from the proxy " + client.address.to_string() + " names no client address (" +
                      (*node ? in_quotes(**node) : "there is no \"for\"") + "): the proxy must write one");
    }
    client = *parsed;
    if (!trusted(client.address)) break;
  }
  return client;
}

}  // namespace

Result<Endpoint> forwarded_client(const UpgradeRequest& request, const Endpoint& peer, const Trusted& trusted) {
  if (!trusted(peer.address)) return peer;
  std::vector<Node> x_nodes;
  std::vector<Node> nodes;
  for (const auto& [name, value] : request.headers) {
    if (name == "x-forwarded-for") append_x_forwarded_for(value, x_nodes);
    if (name == "forwarded" && !ForwardedReader(value).read(nodes)) {
      return fail(ErrorCode::protocol_error, "Forwarded from the proxy " + peer.address.to_string() +
                                                 " does not follow RFC 7239: " + in_quotes(value));
    }
  }
  PENSTOCK_TRY(const Endpoint by_x, walk("X-Forwarded-For", x_nodes, parse_x_node, peer, trusted));
  PENSTOCK_TRY(const Endpoint by_forwarded, walk("Forwarded", nodes, parse_node, peer, trusted));
  if (nodes.empty()) return by_x;
  if (!x_nodes.empty() && by_x.address != by_forwarded.address) {
    return fail(ErrorCode::protocol_error, "the proxy " + peer.address.to_string() + " passes on X-Forwarded-For for " +
                                               by_x.address.to_string() + " and Forwarded for " +
                                               by_forwarded.address.to_string() +
                                               ": make it write one of the two and remove the other");
  }
  return by_forwarded;
}

}  // namespace penstock::websocket
