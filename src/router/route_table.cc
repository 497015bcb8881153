#include "router/route_table.h"

#include <algorithm>
#include <array>
#include <utility>
#include <vector>

#include "base/bytes.h"
#include "router/address_bits.h"

namespace penstock::router {
namespace {

constexpr int kDepth = 3;
constexpr int kStepBits = 6;
constexpr std::size_t kWays = std::size_t{1} << kStepBits;

struct Route {
  AddressBits address;
  PortId port;
};

struct Node;
using NodePtr = std::shared_ptr<const Node>;

// A branch has `place` and `children`, a leaf has `routes`.
struct Node {
  // For each of the kWays, where in `children` it leads. Those that lead nowhere go on in children[0], which is empty
  // down to its leaf: so a lookup asks nothing on its way, and one that finds nothing costs what others cost.
  std::array<std::uint8_t, kWays> place{};
  std::vector<NodePtr> children;
  std::vector<Route> routes;  // all that have this path

  bool empty() const { return children.size() <= 1 && routes.empty(); }
};

NodePtr empty_node(int depth = 0) {
  auto node = std::make_shared<Node>();
  if (depth < kDepth) node->children.push_back(empty_node(depth + 1));
  return node;
}

// The way from the root to a leaf: kDepth numbers below kWays.
class Path {
 public:
  // Sequential addresses, which pools hand out, spread evenly: a multiplication's upper bits are Fibonacci hashing.
  explicit Path(const AddressBits& address) {
    std::uint64_t mixed = address.upper ^ address.lower * 0xBF58476D1CE4E5B9ULL;
    mixed ^= mixed >> 32;
    steps_ = mixed * 0x9E3779B97F4A7C15ULL;
  }
  std::size_t step(int depth) const { return steps_ >> (64 - (depth + 1) * kStepBits) & (kWays - 1); }

 private:
  std::uint64_t steps_;
};

const Route* look_up(const Node* node, const AddressBits& address) {
  const Path path(address);
  for (int depth = 0; depth < kDepth; ++depth) {
    const std::size_t place = node->place[path.step(depth)];
    node = node->children[place].get();
  }
  for (const Route& route : node->routes) {
    if (route.address == address) return &route;
  }
  return nullptr;
}

auto position_of(const AddressBits& address, std::vector<Route>& routes) {
  return std::ranges::find(routes, address, &Route::address);
}

// `node` and what is below it, with `route`.
NodePtr with_route(const Node& node, const Route& route, const Path& path, int depth = 0) {
  auto copy = std::make_shared<Node>(node);
  if (depth == kDepth) {
    const auto old = position_of(route.address, copy->routes);
    if (old == copy->routes.end()) {
      copy->routes.push_back(route);
    } else {
      *old = route;
    }
    return copy;
  }
  std::uint8_t& place = copy->place[path.step(depth)];
  NodePtr child = with_route(*copy->children[place], route, path, depth + 1);
  if (place == 0) {
    place = static_cast<std::uint8_t>(copy->children.size());
    copy->children.push_back(std::move(child));
  } else {
    copy->children[place] = std::move(child);
  }
  return copy;
}

// `node` and what is below it, without the route to `address`, which is there.
NodePtr without_route(const Node& node, const AddressBits& address, const Path& path, int depth = 0) {
  auto copy = std::make_shared<Node>(node);
  if (depth == kDepth) {
    copy->routes.erase(position_of(address, copy->routes));
    return copy;
  }
  std::uint8_t& place = copy->place[path.step(depth)];
  NodePtr& child = copy->children[place];
  child = without_route(*child, address, path, depth + 1);
  if (child->empty()) {
    // The last child takes the place that is free now.
    const std::uint8_t freed = std::exchange(place, std::uint8_t{0});
    child.swap(copy->children.back());
    copy->children.pop_back();
    std::ranges::replace(copy->place, static_cast<std::uint8_t>(copy->children.size()), freed);
  }
  return copy;
}

IpAddress to_address(Family family, const AddressBits& bits) {
  std::array<std::uint8_t, 16> bytes;
  store_be64(bytes.data(), bits.upper);
  store_be64(bytes.data() + 8, bits.lower);
  return IpAddress::from_bytes(ByteView(bytes).first(family == Family::ipv4 ? 4 : 16));
}

// All routes of one family and one prefix length; at least one.
struct Trie {
  int length;
  AddressBits mask;
  NodePtr root;
};
using Tries = std::vector<Trie>;  // longest prefixes first

Tries::const_iterator first_not_longer(const Tries& tries, int length) {
  return std::ranges::find_if(tries, [length](const Trie& trie) { return trie.length <= length; });
}

void visit_routes(const Node& node, Family family, int length,
                  const std::function<void(const Prefix&, PortId)>& visit) {
  for (const NodePtr& child : node.children) visit_routes(*child, family, length, visit);
  for (const Route& route : node.routes) visit(Prefix(to_address(family, route.address), length), route.port);
}

}  // namespace

struct RouteTable::Routes {
  std::size_t size = 0;
  Tries v4;
  Tries v6;

  Tries& of(Family family) { return family == Family::ipv4 ? v4 : v6; }
  const Tries& of(Family family) const { return family == Family::ipv4 ? v4 : v6; }
};

RouteTable RouteTable::with(const Prefix& prefix, PortId port) const {
  PENSTOCK_ASSERT(port);
  auto next = routes_ == nullptr ? std::make_shared<Routes>() : std::make_shared<Routes>(*routes_);
  if (!exact(prefix)) ++next->size;

  Tries& tries = next->of(prefix.family());
  auto place = tries.begin() + (first_not_longer(tries, prefix.length()) - tries.begin());
  if (place == tries.end() || place->length != prefix.length())
    place = tries.insert(place, {prefix.length(), AddressBits::mask(prefix.length()), empty_node()});
  const Route route{AddressBits::of(prefix.address()), port};
  place->root = with_route(*place->root, route, Path(route.address));
  return RouteTable(std::move(next));
}

RouteTable RouteTable::without(const Prefix& prefix) const {
  if (!exact(prefix)) return *this;
  auto next = std::make_shared<Routes>(*routes_);
  --next->size;

  Tries& tries = next->of(prefix.family());
  const auto place = tries.begin() + (first_not_longer(tries, prefix.length()) - tries.begin());
  const AddressBits address = AddressBits::of(prefix.address());
  place->root = without_route(*place->root, address, Path(address));
  if (place->root->empty()) tries.erase(place);
  return RouteTable(std::move(next));
}

PortId RouteTable::find(const IpAddress& address) const {
  if (routes_ == nullptr) return {};
  const AddressBits bits = AddressBits::of(address);
  for (const Trie& trie : routes_->of(address.family())) {
    if (const Route* route = look_up(trie.root.get(), bits.masked(trie.mask))) return route->port;
  }
  return {};
}

std::optional<PortId> RouteTable::exact(const Prefix& prefix) const {
  if (routes_ == nullptr) return std::nullopt;
  const Tries& tries = routes_->of(prefix.family());
  const auto trie = first_not_longer(tries, prefix.length());
  if (trie == tries.end() || trie->length != prefix.length()) return std::nullopt;
  const Route* route = look_up(trie->root.get(), AddressBits::of(prefix.address()));
  if (route == nullptr) return std::nullopt;
  return route->port;
}

std::size_t RouteTable::size() const { return routes_ == nullptr ? 0 : routes_->size; }

void RouteTable::for_each(const std::function<void(const Prefix&, PortId)>& visit) const {
  if (routes_ == nullptr) return;
  for (const Family family : {Family::ipv4, Family::ipv6}) {
    for (const Trie& trie : routes_->of(family)) visit_routes(*trie.root, family, trie.length, visit);
  }
}

}  // namespace penstock::router
