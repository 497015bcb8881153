// Where a translator gets the outer ends of its mappings from, and who is told when one is gone.
//
// For UDP and echo, acquiring binds a real socket, so a mapped port is true: nobody else on the machine has it. For TCP
// it is a number in any case, since one port carries many connections. A table alone (tests, a packet device of its own
// address) hands out numbers for all.
//
// Threads   those of the Nat.
#pragma once

#include <cstdint>
#include <expected>

#include "base/ip.h"
#include "egress/nat/rewrite.h"

namespace penstock::egress {

// Names one mapping for as long as somebody may still speak of it: a slot that is used again gets another generation.
struct Binding {
  std::uint32_t index = 0;
  std::uint32_t generation = 0;  // 0: none

  explicit operator bool() const { return generation != 0; }
  friend constexpr bool operator==(const Binding&, const Binding&) = default;
};

enum class NoPort : std::uint8_t {
  none,       // of this transport and family there are none at all
  all_taken,  // there may be one as soon as another is released
};

class ExternalPorts {
 public:
  // An outer end that nobody has. `binding` is whose it will be.
  virtual std::expected<Endpoint, NoPort> acquire(Transport transport, Family family, Binding binding) = 0;
  // The mapping is gone, and whatever stands for it (a socket, its conversations) goes with it.
  virtual void release(Transport transport, const Endpoint& external, Binding binding) = 0;
  // A conversation of TCP between these two is forgotten: silent for too long, its owner or its outer end gone, its
  // place needed. Told of each once and before release(), but not of those that the gateway itself reported
  // (ExternalGateway::Inside::closed()); also of those between two members, which no gateway has seen. Whoever is told
  // does not call the translator from inside.
  virtual void ended(Transport /*transport*/, const Endpoint& /*external*/, const Endpoint& /*remote*/) {}

 protected:
  ~ExternalPorts() = default;
};

}  // namespace penstock::egress
