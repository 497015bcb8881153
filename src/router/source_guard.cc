#include "router/source_guard.h"

#include <algorithm>

namespace penstock::router {

void SourceGuard::add(const Prefix& prefix) {
  const AddressBits bits = AddressBits::of(prefix.address());
  Host& host = prefix.is_v4() ? host4_ : host6_;
  if (prefix.length() == prefix.address().width() && !host.known) {
    host = {bits, true};
  } else {
    add_site(prefix);
  }
}

void SourceGuard::add_site(const Prefix& prefix) {
  blocks_.push_back({prefix.family(), AddressBits::of(prefix.address()), AddressBits::mask(prefix.length())});
}

bool SourceGuard::allows_block(Family family, const AddressBits& bits) const {
  return std::ranges::any_of(
      blocks_, [&](const Block& block) { return block.family == family && bits.masked(block.mask) == block.bits; });
}

}  // namespace penstock::router
