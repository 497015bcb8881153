// Outer ends that are numbers: of addresses that are nobody's but the translator's, so that no socket has to be bound
// for one to be true. For a packet device (packet_gateway.h).
//
//   free numbers [ x x x x | held ]   acquire(): one of the free, each as likely as the others
//                                     release(): free again
//
// Chance      a port that can be guessed helps whoever forges answers. Of the algorithms of RFC 6056 it is the first
//             (section 3.3.1), but where that takes the next free number behind one that is taken, and so prefers those
//             behind long runs, this one chooses among the free alone. So it takes the same few steps however full.
// Not kept    parity and neighbourhood of ports (RFC 4787 sections 4.2.2 and 4.2.3; who needs them says so, RFC 3605),
//             nor one address for all that a client has (REQ-2, "paired"), since who asks for an end does not say for
//             whom: with several addresses each end is of any of them.
// Range       RFC 6056 section 3.2 wants it as large as can be: all that are not well-known. Of echo the numbers are
//             identifiers, and all of them as good. Addresses are shared by the transports, numbers are not.
//
// Always true   no end is held twice; every number of the range can come; nothing comes where all are held
//               (numbered_ports_test.cc). Releasing what is not held, or by another, is a bug.
// Memory        12 bytes a number, of each transport and family from the first time that it is asked for: 2.3 MB for
//               UDP, TCP and echo of one address.
// Ownership     borrows random.
// Threads       one.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <expected>
#include <optional>
#include <vector>

#include "base/random.h"
#include "egress/nat/external_ports.h"

namespace penstock::egress {

class NumberedPorts final : public ExternalPorts {
 public:
  // first <= last, both included.
  struct Range {
    std::uint16_t first = 1024;
    std::uint16_t last = 65535;
  };
  struct Settings {
    std::vector<IpAddress> addresses;  // of both families, none of them twice; a family without one has no ends
    Range udp;
    Range tcp;
    Range echo{.first = 0, .last = 65535};
  };

  NumberedPorts(const Settings& settings, Random& random);

  std::expected<Endpoint, NoPort> acquire(Transport transport, Family family, Binding binding) override;
  void release(Transport transport, const Endpoint& external, Binding binding) override;

  std::size_t held(Transport transport, Family family) const;

 private:
  // Of one transport and family. A number names an address and a port of it.
  struct Pool {
    std::vector<IpAddress> addresses;
    Range range;
    std::vector<std::uint32_t> free;  // in no order
    std::vector<Binding> holders;     // by number; none of those that are free
    bool filled = false;

    std::size_t ports() const { return range.last - range.first + std::size_t{1}; }
    void fill();
    Endpoint endpoint_of(std::uint32_t number) const;
    std::optional<std::uint32_t> number_of(const Endpoint& endpoint) const;
  };
  static constexpr std::size_t kTransports = 3;

  static std::size_t index_of(Transport transport, Family family) {
    return static_cast<std::size_t>(transport) * 2 + (family == Family::ipv6 ? 1 : 0);
  }

  Random* random_;
  std::array<Pool, kTransports * 2> pools_;
};

}  // namespace penstock::egress
