// Which port a packet goes to: longest-prefix match over IPv4 and IPv6.
//
// Theory of operation
// -------------------
// A RouteTable is a value that never changes. with() and without() answer another table, which shares all but a few
// nodes with this one; so a copy costs one reference count, and a loop goes on forwarding by the table it has while the
// next one is built.
//
// A family keeps one trie for each prefix length that occurs, longest first, and asks them in turn. A trie is keyed by
// a hash of the masked address and always three branches deep (64 ways each, only the children that exist are stored):
//
//   /32 -> branch -> branch -> branch -> leaf {10.100.0.2 -> port 7}
//   /24 -> branch -> branch -> branch -> leaf {10.100.0.0 -> port 1}
//   /0  -> ...
//
// Since the depth does not grow with the number of routes, neither does the price of a lookup, whether it finds
// something or not: a leaf holds one route until there are some 100 000 of one length. Addresses in a table are the
// operator's and the pool's, so nobody outside can aim for one leaf.
//
// Always true    find() answers as a scan over all routes would (ItAnswersLikeANaiveListThroughManyChanges); a table
//                once made never answers differently (AnOldTableKeepsItsRoutes).
// Ownership      nodes are shared by the tables that reach them and die with the last one.
// Threads        any number may read one table, or copies of it, at once: find() writes nothing, not even a reference
//                count. A RouteTable variable that is assigned to while others read it needs its owner's care.
// Cost           find: three steps a prefix length tried; with, without: the nodes of one such way copied.
#pragma once

#include <cstddef>
#include <functional>
#include <memory>
#include <optional>

#include "base/ip.h"
#include "router/port_id.h"

namespace penstock::router {

class RouteTable {
 public:
  // No routes.
  RouteTable() = default;

  // This table with `prefix` going to `port` (in place of where it went before). `port` must be one.
  RouteTable with(const Prefix& prefix, PortId port) const;
  // This table without exactly `prefix`; equal to this one where there is no such route.
  RouteTable without(const Prefix& prefix) const;

  // The port of the longest prefix that contains `address`; no port (generation 0) where none does.
  PortId find(const IpAddress& address) const;
  // The port of exactly `prefix`.
  std::optional<PortId> exact(const Prefix& prefix) const;

  std::size_t size() const;
  bool empty() const { return size() == 0; }
  // Every route once: IPv4 before IPv6, longer prefixes before shorter, in no particular order among equals.
  void for_each(const std::function<void(const Prefix&, PortId)>& visit) const;

 private:
  struct Routes;
  explicit RouteTable(std::shared_ptr<const Routes> routes) : routes_(std::move(routes)) {}

  std::shared_ptr<const Routes> routes_;  // null: no routes
};

}  // namespace penstock::router
