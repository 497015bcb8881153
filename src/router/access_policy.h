// Which clients of the LAN may reach which: the rules of lan.allow, made ready for the packet path.
//
// A rule says from whom to whom, each of them a client by name, a group, a prefix or anybody, and at which ports. What
// no rule allows is not allowed; there is no AccessPolicy at all where the LAN is not isolated. Rules speak of
// beginning a conversation: that its answers pass is access_gate.h's part.
//
// A *member* is a client as rules know it: a credential. Its number is the same in all policies of a gateway, so it can
// travel with a packet from shard to shard while one policy replaces another. Members to whom the same rules apply are
// one *class*, and a class is two sets of rules, those whose `from` it fits and those whose `to` it fits; a prefix fits
// every class, and is compared with the packet. So a decision is an intersection of two bit sets and a look at what is
// left.
//
// Always true   the answer is that of going through all rules one by one (ItAgreesWithANaiveEvaluation).
// Ownership     an immutable value; sessions of all shards share it.
// Threads       any number may ask at once.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "base/ip.h"
#include "router/flow_key.h"
#include "router/sip_hash.h"

namespace penstock::router {

// One end of a rule: a prefix, or the name of a client or a group, or neither for anybody.
struct AccessParty {
  std::optional<Prefix> prefix;
  std::string name;
};

struct AccessPorts {
  std::uint8_t protocol = 0;  // kProtocolTcp, kProtocolUdp, or 0 for both
  std::uint16_t first = 0;
  std::uint16_t last = 0;
};

struct AccessRule {
  AccessParty from;
  AccessParty to;
  std::vector<AccessPorts> ports;  // none: all, and every protocol, ICMP too
};

struct AccessMember {
  std::uint32_t number = 0;  // from 1 on, and not much above the number of members that there ever were
  std::string name;
  std::vector<std::string> groups;
};

class AccessPolicy {
 public:
  // `generation` tells policies apart; `flow_key` is the secret of the tables of replies.
  AccessPolicy(const std::vector<AccessRule>& rules, std::span<const AccessMember> members, std::uint32_t generation,
               const SipKey& flow_key);

  // Whether member `from` may begin what `key` names with member `to`. A member that the policy does not know is
  // reached, and reaches, by prefixes and `any` only.
  bool permits(std::uint32_t from, std::uint32_t to, const FlowKey& key) const;

  std::uint32_t generation() const { return generation_; }
  const SipKey& flow_key() const { return flow_key_; }
  // Names in rules that no member has, neither as its own nor as a group's: perhaps misspelt.
  const std::vector<std::string>& unknown_names() const { return unknown_names_; }
  std::size_t classes() const { return from_sets_.size() / words_; }

 private:
  using Word = std::uint64_t;

  struct Block {
    Family family;
    AddressBits bits;
    AddressBits mask;
    bool contains(Family of, const AddressBits& address) const { return family == of && address.masked(mask) == bits; }
  };
  struct Rule {
    std::optional<Block> from;
    std::optional<Block> to;
    std::vector<AccessPorts> ports;
    bool permits(const FlowKey& key) const;
  };

  static std::optional<Block> block_of(const AccessParty& party);
  std::size_t class_of(std::uint32_t member) const { return member < class_of_.size() ? class_of_[member] : 0; }

  std::uint32_t generation_;
  SipKey flow_key_;
  std::vector<Rule> rules_;
  std::size_t words_;                    // of a set of rules
  std::vector<Word> from_sets_;          // by class; class 0 is that of members unknown
  std::vector<Word> to_sets_;            // likewise
  std::vector<std::uint32_t> class_of_;  // by member
  std::vector<std::string> unknown_names_;
};

}  // namespace penstock::router
