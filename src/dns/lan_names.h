// What the gateway itself says about names: those of its LAN, both ways, and those that are special everywhere.
//
//   alice.penstock.internal        A, AAAA     LanNames: find(name)
//   2.0.100.10.in-addr.arpa        PTR         LanNames: find(address), for addresses of the VPN's subnets
//   localhost, test, 10.in-addr.arpa, ...      special_names.h
//   anything else                              none of the gateway's business: nothing
//
// Always true   whatever stands in the domain, in the reverse zones of the subnets or in a special zone gets an answer
//               here and so is never sent to an upstream, there or not; special reverse zones of private addresses
//               only while `forward_private_reverse` is off.
// Answers       are authoritative. What is not there is NXDOMAIN where nothing can be below it, else NODATA, with an
//               SOA of its zone (RFC 2308 section 3, RFC 8020). Each zone has an SOA and an NS that names the zone
//               itself (RFC 6303 section 3), and nothing else.
// Names         of LAN members have 1 to 64 characters, dots among them: "a.b" is a.b.penstock.internal. One of 64
//               without a dot fits no label (RFC 1035 section 2.3.4) and is not found, either way.
// TTLs          kLanTtl for the LAN, where members come and go; kSpecialTtl for what never changes.
// Threads       those of the LanNames.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/ip.h"
#include "dns/message.h"
#include "dns/special_names.h"

namespace penstock::dns {

// Who is on the LAN.
class LanNames {
 public:
  virtual ~LanNames() = default;
  // The addresses of the member of that name, which is in lower case: compare without case. None where there is none.
  virtual std::vector<IpAddress> find(std::string_view name) const = 0;
  // The name of the member that has this address.
  virtual std::optional<std::string> find(const IpAddress& address) const = 0;
};

struct LocalAnswer {
  std::uint16_t rcode = rcode::kNoError;
  Records records;
};

class LocalZones {
 public:
  static constexpr std::uint32_t kLanTtl = 10;
  static constexpr std::uint32_t kSpecialTtl = 3600;

  struct Settings {
    Name domain = Name::parse("penstock.internal").value();
    std::vector<Prefix> subnets;           // the VPN's, whose addresses the members have
    bool forward_private_reverse = false;  // the upstream knows the private addresses around it
  };

  // `names` outlives the zones.
  LocalZones(Settings settings, const LanNames& names) : settings_(std::move(settings)), names_(&names) {}

  // Nothing where the question is not one for the gateway itself. Of class IN.
  std::optional<LocalAnswer> answer(const Question& question) const;

 private:
  LocalAnswer member(const Question& question) const;
  // Whether there is a name of a subnet below this one of a reverse zone.
  bool is_above_subnet(const Name& name) const;
  std::optional<LocalAnswer> reverse(const Question& question, const ReverseName& reverse) const;

  Settings settings_;
  const LanNames* names_;
};

}  // namespace penstock::dns
