#include "tls/traffic_key.h"

#include <openssl/evp.h>
#include <openssl/hmac.h>

#include <algorithm>

#include "base/result.h"

namespace penstock::tls {

void hkdf_expand_label(const TrafficSecret& secret, std::string_view label, MutableByteView out) {
  constexpr std::string_view kPrefix = "tls13 ";
  // HkdfLabel, and the counter of RFC 5869 2.3's only round.
  std::array<std::uint8_t, 64> info{};
  PENSTOCK_ASSERT(out.size() <= secret.size() && label.size() + kPrefix.size() + 5 <= info.size());
  store_be16(info.data(), static_cast<std::uint16_t>(out.size()));
  info[2] = static_cast<std::uint8_t>(kPrefix.size() + label.size());
  auto* at = std::copy(kPrefix.begin(), kPrefix.end(), info.begin() + 3);
  at = std::copy(label.begin(), label.end(), at);
  *at++ = 0;  // no context
  *at++ = 1;
  Secret<32> block;
  unsigned size = 0;
  PENSTOCK_ASSERT(HMAC(EVP_sha256(), secret.data(), static_cast<int>(secret.size()), info.data(),
                       static_cast<std::size_t>(at - info.begin()), block.data(), &size) != nullptr);
  std::copy_n(block.begin(), out.size(), out.begin());
}

TrafficKey::TrafficKey(const TrafficSecret& secret, MakeAead make_aead) : secret_(secret), make_aead_(make_aead) {
  derive();
}

void TrafficKey::derive() {
  hkdf_expand_label(secret_, "key", key_);
  hkdf_expand_label(secret_, "iv", iv_);
  sequence_ = 0;
  aead_.reset();
}

void TrafficKey::advance() {
  TrafficSecret next;
  hkdf_expand_label(secret_, "traffic upd", next);
  secret_ = next;
  derive();
}

Aead& TrafficKey::aead() {
  if (!aead_) aead_ = make_aead_(key_);
  return *aead_;
}

AeadNonce TrafficKey::nonce() const {
  AeadNonce nonce = iv_;
  std::uint8_t* const low = nonce.data() + kAeadNonceSize - sizeof sequence_;
  store_be64(low, load_be64(low) ^ sequence_);
  return nonce;
}

void TrafficKey::seal(ByteView associated, ByteView text, std::uint8_t last, std::uint8_t* out) {
  PENSTOCK_ASSERT(!exhausted());
  aead().seal(nonce(), associated, text, last, out);
  ++sequence_;
}

bool TrafficKey::open(ByteView associated, ByteView sealed, std::uint8_t* out) {
  if (exhausted() || !aead().open(nonce(), associated, sealed, out)) return false;
  ++sequence_;
  return true;
}

}  // namespace penstock::tls
