#include "dns/special_names.h"

#include <algorithm>
#include <array>
#include <charconv>

namespace penstock::dns {
namespace {

struct Zone {
  std::string_view name;
  SpecialKind kind;
};

constexpr auto kPrivate = SpecialKind::private_reverse;
constexpr auto kEmpty = SpecialKind::empty;
constexpr std::array kZones{
    Zone{"localhost", SpecialKind::loopback},
    Zone{"invalid", kEmpty},
    Zone{"test", kEmpty},
    Zone{"onion", kEmpty},
    Zone{"resolver.arpa", kEmpty},
    Zone{"home.arpa", kEmpty},
    Zone{"0.in-addr.arpa", kEmpty},
    Zone{"127.in-addr.arpa", kEmpty},
    Zone{"254.169.in-addr.arpa", kEmpty},
    Zone{"2.0.192.in-addr.arpa", kEmpty},
    Zone{"100.51.198.in-addr.arpa", kEmpty},
    Zone{"113.0.203.in-addr.arpa", kEmpty},
    Zone{"255.255.255.255.in-addr.arpa", kEmpty},
    Zone{"8.e.f.ip6.arpa", kEmpty},
    Zone{"9.e.f.ip6.arpa", kEmpty},
    Zone{"a.e.f.ip6.arpa", kEmpty},
    Zone{"b.e.f.ip6.arpa", kEmpty},
    Zone{"8.b.d.0.1.0.0.2.ip6.arpa", kEmpty},
    Zone{"0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.ip6.arpa", kEmpty},
    Zone{"1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.ip6.arpa", kEmpty},
    Zone{"10.in-addr.arpa", kPrivate},
    Zone{"168.192.in-addr.arpa", kPrivate},
    Zone{"d.f.ip6.arpa", kPrivate},
};

// 16 to 31 of 172.in-addr.arpa, and 64 to 127 of 100.in-addr.arpa.
constexpr std::array kPrivateBlocks{
    std::pair(IpAddress::v4(0xAC100000), 12),
    std::pair(IpAddress::v4(0x64400000), 10),
};

// "10" but not "010", at most 255.
std::optional<std::uint8_t> octet(std::string_view label) {
  std::uint8_t value = 0;
  const auto [end, error] = std::from_chars(label.data(), label.data() + label.size(), value);
  if (error != std::errc{} || end != label.data() + label.size() || (label.size() > 1 && label[0] == '0'))
    return std::nullopt;
  return value;
}

std::optional<std::uint8_t> nibble(std::string_view label) {
  std::uint8_t value = 0;
  if (label.size() != 1 || std::from_chars(label.data(), label.data() + label.size(), value, 16).ec != std::errc{})
    return std::nullopt;
  return value;
}

}  // namespace

std::optional<SpecialZone> special_zone_of(const Name& name) {
  const auto labels = name.labels();
  // No zone here can be told without its last label, which nearly no name has.
  if (labels.empty()) return std::nullopt;
  for (const Zone& zone : kZones) {
    if (!zone.name.ends_with(labels.back())) continue;
    Name candidate = Name::parse(zone.name).value();
    if (name.is_within(candidate)) return SpecialZone{std::move(candidate), zone.kind};
  }
  const auto reverse = parse_reverse(name);
  if (!reverse) return std::nullopt;
  for (const auto& [address, length] : kPrivateBlocks) {
    // Zones are cut at whole labels, of which these blocks have several side by side.
    if (reverse->prefix.length() >= 16 && Prefix(address, length).contains(reverse->prefix))
      return SpecialZone{reverse_name(Prefix(reverse->prefix.address(), 16)), kPrivate};
  }
  return std::nullopt;
}

std::optional<ReverseName> parse_reverse(const Name& name) {
  auto labels = name.labels();
  if (labels.size() < 2 || labels.back() != "arpa") return std::nullopt;
  labels.pop_back();
  const bool v4 = labels.back() == "in-addr";
  if (!v4 && labels.back() != "ip6") return std::nullopt;
  labels.pop_back();

  std::array<std::uint8_t, 16> bytes{};
  const int width = v4 ? 32 : 128;
  int length = 0;
  while (!labels.empty() && length < width) {
    const auto value = v4 ? octet(labels.back()) : nibble(labels.back());
    if (!value) break;
    auto& byte = bytes[static_cast<std::size_t>(length / 8)];
    byte = static_cast<std::uint8_t>(byte | (!v4 && length % 8 == 0 ? *value << 4 : *value));
    length += v4 ? 8 : 4;
    labels.pop_back();
  }
  const auto address = IpAddress::from_bytes({bytes.data(), v4 ? 4U : 16U});
  return ReverseName{.prefix = Prefix(address, length), .whole = labels.empty()};
}

Name reverse_name(const Prefix& prefix) {
  constexpr std::string_view kHex = "0123456789abcdef";
  const auto bytes = prefix.address().bytes();
  std::string text;
  if (prefix.is_v4()) {
    for (auto i = static_cast<std::size_t>(prefix.length() / 8); i-- > 0;) text += std::to_string(bytes[i]) + '.';
    text += "in-addr.arpa";
  } else {
    for (auto i = static_cast<std::size_t>(prefix.length() / 4); i-- > 0;) {
      text += kHex[i % 2 == 0 ? bytes[i / 2] >> 4 : bytes[i / 2] & 0x0F];
      text += '.';
    }
    text += "ip6.arpa";
  }
  return Name::parse(text).value();
}

}  // namespace penstock::dns
