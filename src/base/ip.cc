#include "base/ip.h"

#include <algorithm>
#include <charconv>
#include <limits>

#include "base/bytes.h"
#include "base/in_quotes.h"

namespace penstock {
namespace {

std::unexpected<Error> not_an_address(std::string_view text) {
  return fail(ErrorCode::invalid_argument, in_quotes(text) + " is not an IP address");
}

bool parse_v4(std::string_view text, std::array<std::uint8_t, 16>& out, std::size_t at) {
  for (int part = 0; part < 4; ++part) {
    const std::size_t dot = part < 3 ? text.find('.') : text.size();
    if (dot == std::string_view::npos || dot == 0 || dot > 3) return false;
    const std::string_view digits = text.substr(0, dot);
    if (digits.size() > 1 && digits[0] == '0') return false;
    unsigned value = 0;
    const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), value);
    if (error != std::errc{} || end != digits.data() + digits.size() || value > 255) return false;
    out[at + static_cast<std::size_t>(part)] = static_cast<std::uint8_t>(value);
    text.remove_prefix(part < 3 ? dot + 1 : dot);
  }
  return text.empty();
}

// RFC 4291 section 2.2, all three forms.
bool parse_v6(std::string_view text, std::array<std::uint8_t, 16>& out) {
  std::array<std::uint8_t, 16> head{};
  std::size_t used = 0;  // bytes filled so far
  std::size_t gap = 17;  // where "::" stands; 17: nowhere yet
  if (text.starts_with("::")) {
    gap = 0;
    text.remove_prefix(2);
  } else if (text.starts_with(':')) {
    return false;
  }
  while (!text.empty()) {
    if (used >= 16) return false;
    const std::size_t colon = std::min(text.find(':'), text.size());
    const std::string_view group = text.substr(0, colon);
    if (group.find('.') != std::string_view::npos) {
      if (colon != text.size() || used > 12 || !parse_v4(group, head, used)) return false;
      used += 4;
      break;
    }
    if (group.empty() || group.size() > 4) return false;
    unsigned value = 0;
    const auto [end, error] = std::from_chars(group.data(), group.data() + group.size(), value, 16);
    if (error != std::errc{} || end != group.data() + group.size()) return false;
    head[used++] = static_cast<std::uint8_t>(value >> 8);
    head[used++] = static_cast<std::uint8_t>(value);
    text.remove_prefix(colon);
    if (text.empty()) break;
    text.remove_prefix(1);
    if (text.empty()) return false;  // a single colon at the end
    if (text[0] == ':') {
      if (gap != 17) return false;
      gap = used;
      text.remove_prefix(1);
    }
  }
  if (gap == 17) {
    if (used != 16) return false;
  } else {
    if (used > 14) return false;
    std::copy_backward(head.begin() + static_cast<std::ptrdiff_t>(gap),
                       head.begin() + static_cast<std::ptrdiff_t>(used), head.end());
    std::fill(head.begin() + static_cast<std::ptrdiff_t>(gap), head.end() - static_cast<std::ptrdiff_t>(used - gap), 0);
  }
  out = head;
  return true;
}

}  // namespace

IpAddress IpAddress::from_bytes(std::span<const std::uint8_t> network_order) {
  PENSTOCK_ASSERT(network_order.size() == 4 || network_order.size() == 16);
  IpAddress address;
  address.family_ = network_order.size() == 4 ? Family::ipv4 : Family::ipv6;
  std::copy(network_order.begin(), network_order.end(), address.bytes_.begin());
  return address;
}

Result<IpAddress> IpAddress::parse(std::string_view text) {
  IpAddress address;
  if (text.find(':') != std::string_view::npos) {
    address.family_ = Family::ipv6;
    if (!parse_v6(text, address.bytes_)) return not_an_address(text);
  } else if (!parse_v4(text, address.bytes_, 0)) {
    return not_an_address(text);
  }
  return address;
}

std::uint32_t IpAddress::to_v4() const {
  PENSTOCK_ASSERT(is_v4());
  return load_be32(bytes_.data());
}

std::uint64_t IpAddress::upper() const { return load_be64(bytes_.data()); }
std::uint64_t IpAddress::lower() const { return load_be64(bytes_.data() + 8); }

IpAddress IpAddress::plus(std::uint64_t offset) const {
  if (is_v4()) return v4(to_v4() + static_cast<std::uint32_t>(offset));
  IpAddress sum = *this;
  const std::uint64_t low = lower() + offset;
  store_be64(sum.bytes_.data() + 8, low);
  store_be64(sum.bytes_.data(), upper() + (low < offset ? 1 : 0));
  return sum;
}

std::uint64_t IpAddress::distance_from(const IpAddress& base) const {
  PENSTOCK_ASSERT(family_ == base.family_);
  if (*this < base) return 0;
  if (is_v4()) return to_v4() - base.to_v4();
  const std::uint64_t borrow = lower() < base.lower() ? 1 : 0;
  if (upper() - base.upper() - borrow != 0) return std::numeric_limits<std::uint64_t>::max();
  return lower() - base.lower();
}

IpAddress IpAddress::unmapped() const {
  if (is_v4() || upper() != 0 || lower() >> 32 != 0xFFFF) return *this;
  return from_bytes(bytes().last(4));
}

bool IpAddress::is_unspecified() const { return upper() == 0 && lower() == 0; }
bool IpAddress::is_loopback() const { return is_v4() ? bytes_[0] == 127 : upper() == 0 && lower() == 1; }
bool IpAddress::is_multicast() const { return is_v4() ? (bytes_[0] & 0xF0) == 0xE0 : bytes_[0] == 0xFF; }
bool IpAddress::is_link_local() const {
  return is_v4() ? bytes_[0] == 169 && bytes_[1] == 254 : bytes_[0] == 0xFE && (bytes_[1] & 0xC0) == 0x80;
}

std::string IpAddress::to_string() const {
  std::string text;
  if (is_v4()) {
    for (std::size_t i = 0; i < 4; ++i) {
      if (i != 0) text += '.';
      text += std::to_string(bytes_[i]);
    }
    return text;
  }
  // RFC 5952 section 4: the longest run of two or more zero groups is shortened, the first of equals.
  std::array<unsigned, 8> groups{};
  for (std::size_t i = 0; i < 8; ++i) groups[i] = static_cast<unsigned>(bytes_[2 * i] << 8 | bytes_[2 * i + 1]);
  std::size_t best_at = 8;
  std::size_t best_length = 1;
  for (std::size_t i = 0; i < 8;) {
    std::size_t end = i;
    while (end < 8 && groups[end] == 0) ++end;
    if (end - i > best_length) {
      best_at = i;
      best_length = end - i;
    }
    i = std::max(end, i + 1);
  }
  for (std::size_t i = 0; i < 8;) {
    if (i == best_at) {
      text += "::";
      i += best_length;
      continue;
    }
    if (!text.empty() && text.back() != ':') text += ':';
    std::array<char, 4> digits{};
    const auto end = std::to_chars(digits.data(), digits.data() + digits.size(), groups[i], 16).ptr;
    text.append(digits.data(), end);
    ++i;
  }
  return text;
}

Prefix::Prefix(IpAddress address, int length) : address_(address), length_(length) {
  PENSTOCK_ASSERT(length >= 0 && length <= address.width());
  for (int i = 0; i < address.width() / 8; ++i) {
    const int keep = std::clamp(length - 8 * i, 0, 8);
    address_.bytes_[static_cast<std::size_t>(i)] &= static_cast<std::uint8_t>(0xFF00 >> keep);
  }
}

Result<Prefix> Prefix::parse(std::string_view text) {
  const std::size_t slash = text.find('/');
  auto address = IpAddress::parse(text.substr(0, slash));
  if (!address) return fail(ErrorCode::invalid_argument, in_quotes(text) + " is not a prefix such as 10.100.0.0/24");
  if (slash == std::string_view::npos) return host(*address);
  const std::string_view digits = text.substr(slash + 1);
  int length = -1;
  const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), length);
  if (error != std::errc{} || end != digits.data() + digits.size() || digits[0] == '-' || length < 0 ||
      length > address->width() || (digits.size() > 1 && digits[0] == '0')) {
    return fail(ErrorCode::invalid_argument,
                in_quotes(text) + ": the length after the slash must be 0 to " + std::to_string(address->width()));
  }
  Prefix prefix(*address, length);
  if (prefix.address_ != *address) {
    return fail(ErrorCode::invalid_argument, in_quotes(text) + " has bits set after its first " +
                                                 std::to_string(length) + "; did you mean " + prefix.to_string() + "?");
  }
  return prefix;
}

bool Prefix::contains(const IpAddress& address) const {
  if (address.family() != family()) return false;
  return Prefix(address, length_).address_ == address_;
}

IpAddress Prefix::last() const {
  IpAddress last = address_;
  for (int i = 0; i < address_.width() / 8; ++i) {
    const int keep = std::clamp(length_ - 8 * i, 0, 8);
    last.bytes_[static_cast<std::size_t>(i)] |= static_cast<std::uint8_t>(0xFF >> keep);
  }
  return last;
}

IpAddress Prefix::mask() const {
  IpAddress ones = address_;
  std::fill_n(ones.bytes_.begin(), address_.width() / 8, std::uint8_t{0xFF});
  return Prefix(ones, length_).address_;
}

std::string Prefix::to_string() const { return address_.to_string() + "/" + std::to_string(length_); }

Result<Endpoint> Endpoint::parse(std::string_view text) {
  const auto refuse = [&] {
    return fail(ErrorCode::invalid_argument,
                in_quotes(text) + " is not an address with a port such as 0.0.0.0:443 or [::]:443");
  };
  const std::size_t colon = text.rfind(':');
  if (colon == std::string_view::npos) return refuse();
  std::string_view host = text.substr(0, colon);
  const std::string_view digits = text.substr(colon + 1);
  if (digits.size() > 1 && digits.front() == '0') return refuse();
  Endpoint endpoint;
  unsigned port = 0;
  const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), port);
  if (error != std::errc{} || end != digits.data() + digits.size() || port > 65535) return refuse();
  endpoint.port = static_cast<std::uint16_t>(port);
  if (host.empty()) {
    endpoint.address = IpAddress::from_bytes(std::array<std::uint8_t, 16>{});
    return endpoint;
  }
  const bool bracketed = host.size() > 2 && host.front() == '[' && host.back() == ']';
  if (bracketed) host = host.substr(1, host.size() - 2);
  auto address = IpAddress::parse(host);
  if (!address || address->is_v6() != bracketed) return refuse();
  endpoint.address = *address;
  return endpoint;
}

std::string Endpoint::to_string() const {
  const std::string host = address.is_v6() ? "[" + address.to_string() + "]" : address.to_string();
  return host + ":" + std::to_string(port);
}

}  // namespace penstock

std::size_t std::hash<penstock::IpAddress>::operator()(const penstock::IpAddress& address) const noexcept {
  // Inner addresses are ours to give, so nobody can aim collisions at this: one multiply spreads them well enough.
  std::uint64_t mixed = address.upper() * 0x9E3779B97F4A7C15ULL ^ address.lower();
  mixed ^= mixed >> 29;
  return static_cast<std::size_t>(mixed * 0xBF58476D1CE4E5B9ULL);
}
