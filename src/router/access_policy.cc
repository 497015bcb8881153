#include "router/access_policy.h"

#include <algorithm>
#include <bit>
#include <map>
#include <set>

namespace penstock::router {

std::optional<AccessPolicy::Block> AccessPolicy::block_of(const AccessParty& party) {
  if (!party.prefix) return std::nullopt;
  return Block{party.prefix->family(), AddressBits::of(party.prefix->address()),
               AddressBits::mask(party.prefix->length())};
}

AccessPolicy::AccessPolicy(const std::vector<AccessRule>& rules, std::span<const AccessMember> members,
                           std::uint32_t generation, const SipKey& flow_key)
    : generation_(generation), flow_key_(flow_key), words_(std::max<std::size_t>((rules.size() + 63) / 64, 1)) {
  std::set<std::string, std::less<>> names;
  for (const AccessMember& member : members) {
    names.insert(member.name);
    names.insert(member.groups.begin(), member.groups.end());
  }
  std::set<std::string> unknown;
  for (const AccessRule& rule : rules) {
    rules_.push_back({block_of(rule.from), block_of(rule.to), rule.ports});
    for (const AccessParty* party : {&rule.from, &rule.to}) {
      if (!party->name.empty() && !names.contains(party->name)) unknown.insert(party->name);
    }
  }
  unknown_names_.assign(unknown.begin(), unknown.end());

  using Sets = std::pair<std::vector<Word>, std::vector<Word>>;
  std::map<Sets, std::uint32_t> classes;
  const auto class_of = [&](const AccessMember& member) {
    const auto fits = [&member](const AccessParty& party) {
      return party.name.empty() || party.name == member.name ||
             std::ranges::find(member.groups, party.name) != member.groups.end();
    };
    Sets sets{std::vector<Word>(words_), std::vector<Word>(words_)};
    for (std::size_t i = 0; i < rules.size(); ++i) {
      const Word bit = Word{1} << (i % 64);
      if (fits(rules[i].from)) sets.first[i / 64] |= bit;
      if (fits(rules[i].to)) sets.second[i / 64] |= bit;
    }
    const auto [entry, is_new] = classes.emplace(std::move(sets), static_cast<std::uint32_t>(classes.size()));
    if (is_new) {
      from_sets_.insert(from_sets_.end(), entry->first.first.begin(), entry->first.first.end());
      to_sets_.insert(to_sets_.end(), entry->first.second.begin(), entry->first.second.end());
    }
    return entry->second;
  };
  class_of({});  // class 0
  for (const AccessMember& member : members) {
    if (class_of_.size() <= member.number) class_of_.resize(member.number + std::size_t{1});
    class_of_[member.number] = class_of(member);
  }
}

bool AccessPolicy::Rule::permits(const FlowKey& key) const {
  if (from && !from->contains(key.family, key.from)) return false;
  if (to && !to->contains(key.family, key.to)) return false;
  if (ports.empty()) return true;
  if (key.protocol != kProtocolTcp && key.protocol != kProtocolUdp) return false;
  return std::ranges::any_of(ports, [&key](const AccessPorts& range) {
    return (range.protocol == 0 || range.protocol == key.protocol) && key.to_port >= range.first &&
           key.to_port <= range.last;
  });
}

bool AccessPolicy::permits(std::uint32_t from, std::uint32_t to, const FlowKey& key) const {
  const Word* from_set = &from_sets_[class_of(from) * words_];
  const Word* to_set = &to_sets_[class_of(to) * words_];
  for (std::size_t word = 0; word < words_; ++word) {
    for (Word left = from_set[word] & to_set[word]; left != 0; left &= left - 1) {
      const auto rule = word * 64 + static_cast<std::size_t>(std::countr_zero(left));
      if (rules_[rule].permits(key)) return true;
    }
  }
  return false;
}

}  // namespace penstock::router
