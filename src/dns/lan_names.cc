#include "dns/lan_names.h"

#include <algorithm>
#include <array>

namespace penstock::dns {
namespace {

// What `zone` says of a question for which it has no record but its own.
LocalAnswer nothing(const Question& question, const Name& zone, std::uint32_t ttl, bool exists) {
  LocalAnswer answer;
  if (question.name == zone) {
    exists = true;
    if (question.type == type::kSoa) {
      answer.records.add_soa(Section::answer, zone, ttl);
      return answer;
    }
    if (question.type == type::kNs) {
      answer.records.add_name(Section::answer, zone, type::kNs, ttl, zone);
      return answer;
    }
  }
  answer.rcode = exists ? rcode::kNoError : rcode::kNxDomain;
  answer.records.add_soa(Section::authority, zone, ttl);
  return answer;
}

// The addresses of the type that was asked for.
LocalAnswer addresses(const Question& question, const Name& zone, std::uint32_t ttl,
                      const std::vector<IpAddress>& found) {
  LocalAnswer answer;
  for (const IpAddress& address : found) {
    if (question.type == (address.is_v4() ? type::kA : type::kAaaa))
      answer.records.add_address(Section::answer, question.name, ttl, address);
  }
  if (answer.records.empty()) return nothing(question, zone, ttl, true);
  return answer;
}

}  // namespace

std::optional<LocalAnswer> LocalZones::answer(const Question& question) const {
  if (question.name.is_within(settings_.domain)) return member(question);
  if (const auto about = parse_reverse(question.name)) {
    if (auto answer = reverse(question, *about)) return answer;
  }
  const auto special = special_zone_of(question.name);
  if (!special) return std::nullopt;
  bool exists = false;
  switch (special->kind) {
    case SpecialKind::private_reverse:
      if (settings_.forward_private_reverse) return std::nullopt;
      exists = is_above_subnet(question.name);
      break;
    case SpecialKind::loopback: {
      static constexpr std::array<std::uint8_t, 16> kLoopback6{0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1};
      return addresses(question, special->zone, kSpecialTtl,
                       {IpAddress::v4(0x7F000001), IpAddress::from_bytes(kLoopback6)});
    }
    case SpecialKind::empty: break;
  }
  return nothing(question, special->zone, kSpecialTtl, exists);
}

bool LocalZones::is_above_subnet(const Name& name) const {
  const auto about = parse_reverse(name);
  return about && about->whole &&
         std::ranges::any_of(settings_.subnets, [&](const Prefix& subnet) { return about->prefix.contains(subnet); });
}

LocalAnswer LocalZones::member(const Question& question) const {
  const auto labels = question.name.labels();
  const std::size_t below = labels.size() - settings_.domain.labels().size();
  if (below == 0) return nothing(question, settings_.domain, kLanTtl, true);
  std::string name;
  for (std::size_t i = 0; i < below; ++i) {
    // A dot within a label is not one between two.
    if (labels[i].find('.') != std::string_view::npos) return nothing(question, settings_.domain, kLanTtl, false);
    if (i > 0) name += '.';
    name += labels[i];
  }
  const std::vector<IpAddress> found = names_->find(name);
  if (found.empty()) return nothing(question, settings_.domain, kLanTtl, false);
  return addresses(question, settings_.domain, kLanTtl, found);
}

std::optional<LocalAnswer> LocalZones::reverse(const Question& question, const ReverseName& about) const {
  for (const Prefix& subnet : settings_.subnets) {
    if (!about.prefix.overlaps(subnet)) continue;
    // The smallest zone of whole labels around the subnet.
    const int step = subnet.is_v4() ? 8 : 4;
    const Prefix around(subnet.address(), subnet.length() / step * step);
    const Name zone = reverse_name(around);
    if (!subnet.contains(about.prefix)) {
      // Above the subnet, or beside it where there is more in front. Of our zone only what is above it is ours to say.
      if (about.whole && around.contains(about.prefix)) return nothing(question, zone, kLanTtl, true);
      continue;
    }
    const bool address = about.prefix.length() == about.prefix.address().width();
    if (!about.whole || !address) return nothing(question, zone, kLanTtl, about.whole);
    const auto member = names_->find(about.prefix.address());
    if (!member) return nothing(question, zone, kLanTtl, false);
    const auto target = Name::parse(*member + "." + settings_.domain.to_string());
    if (!target) return nothing(question, zone, kLanTtl, false);
    if (question.type != type::kPtr) return nothing(question, zone, kLanTtl, true);
    LocalAnswer answer;
    answer.records.add_name(Section::answer, question.name, type::kPtr, kLanTtl, *target);
    return answer;
  }
  return std::nullopt;
}

}  // namespace penstock::dns
