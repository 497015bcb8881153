#include "dns/name.h"

#include <algorithm>

#include "base/in_quotes.h"

namespace penstock::dns {

bool equal_in_any_case(ByteView a, ByteView b) {
  return std::ranges::equal(a, b, [](std::uint8_t x, std::uint8_t y) { return to_lower(x) == to_lower(y); });
}

Result<Name> Name::parse(std::string_view text) {
  const auto refuse = [text](const char* why) {
    return fail(ErrorCode::invalid_argument, in_quotes(text) + " is not a domain name: " + why);
  };
  Name name;
  if (text == ".") return name;
  if (text.empty()) return refuse("it is empty");
  std::string_view rest = text;
  if (rest.ends_with('.')) rest.remove_suffix(1);
  name.wire_.clear();
  while (true) {
    const std::size_t dot = std::min(rest.find('.'), rest.size());
    if (dot == 0) return refuse("there is nothing between two of its dots");
    if (dot > kMaxLabel) return refuse("a part between dots is longer than 63 characters");
    name.wire_ += static_cast<char>(dot);
    for (const char c : rest.substr(0, dot)) name.wire_ += static_cast<char>(to_lower(static_cast<std::uint8_t>(c)));
    if (dot == rest.size()) break;
    rest.remove_prefix(dot + 1);
  }
  name.wire_ += '\0';
  if (name.wire_.size() > kMaxSize) return refuse("it is longer than 253 characters");
  return name;
}

Name Name::from_wire(ByteView wire) {
  PENSTOCK_ASSERT(!wire.empty() && wire_name_size(wire) == wire.size());
  Name name;
  name.wire_.resize(wire.size());
  std::ranges::transform(wire, name.wire_.begin(), [](std::uint8_t byte) { return static_cast<char>(to_lower(byte)); });
  return name;
}

std::vector<std::string_view> Name::labels() const {
  std::vector<std::string_view> labels;
  const std::string_view wire = wire_;
  for (std::size_t at = 0; wire[at] != '\0';) {
    const auto size = std::size_t{static_cast<std::uint8_t>(wire[at])};
    labels.push_back(wire.substr(at + 1, size));
    at += 1 + size;
  }
  return labels;
}

bool Name::is_within(const Name& zone) const {
  const std::string_view wire = wire_;
  std::size_t at = 0;
  while (wire.size() - at > zone.wire_.size()) at += 1 + std::size_t{static_cast<std::uint8_t>(wire[at])};
  return wire.substr(at) == zone.wire_;
}

std::string Name::to_string() const {
  std::string text;
  for (const std::string_view label : labels()) {
    if (!text.empty()) text += '.';
    for (const char c : label) {
      const auto byte = static_cast<std::uint8_t>(c);
      const bool plain = (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-' || c == '_' || c == '@';
      if (plain) {
        text += c;
      } else {
        text += '\\';
        for (const int unit : {100, 10, 1}) text += static_cast<char>('0' + byte / unit % 10);
      }
    }
  }
  return text.empty() ? "." : text;
}

std::size_t wire_name_size(ByteView bytes, std::size_t at) {
  const std::size_t begin = at;
  while (at < bytes.size() && bytes[at] <= Name::kMaxLabel) {
    const std::size_t label = bytes[at];
    at += 1 + label;
    if (at - begin > Name::kMaxSize || at > bytes.size()) return 0;
    if (label == 0) return at - begin;
  }
  return 0;
}

}  // namespace penstock::dns
