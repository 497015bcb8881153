#include "auth/credential.h"

#include "base/bytes.h"
#include "base/digest.h"

namespace penstock::auth {

std::uint64_t Credential::epoch() const {
  // Every part is preceded by its length, so that no two records run together into the same bytes.
  std::vector<std::uint8_t> record;
  const auto add = [&record](ByteView part) {
    std::array<std::uint8_t, 8> size;
    store_be64(size.data(), part.size());
    record.insert(record.end(), size.begin(), size.end());
    record.insert(record.end(), part.begin(), part.end());
  };
  add(as_bytes(name));
  add(token_sha256);
  add(address ? address->bytes() : ByteView());
  add(address6 ? address6->bytes() : ByteView());
  return load_be64(sha256(record).data());
}

}  // namespace penstock::auth
