#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <openssl/sha.h>

#include <climits>

#include "base/digest.h"

namespace penstock {

Digest256 sha256(ByteView data) {
  Digest256 digest;
  SHA256(data.data(), data.size(), digest.data());
  return digest;
}

Digest160 sha1(ByteView data) {
  Digest160 digest;
  SHA1(data.data(), data.size(), digest.data());
  return digest;
}

Digest256 hmac_sha256(ByteView key, ByteView data) {
  PENSTOCK_ASSERT(key.size() <= INT_MAX);
  Digest256 digest;
  unsigned int length = 0;
  // OpenSSL takes a null key for "the key of the last call".
  static constexpr std::uint8_t kNoKey = 0;
  const std::uint8_t* const key_data = key.empty() ? &kNoKey : key.data();
  PENSTOCK_ASSERT(HMAC(EVP_sha256(), key_data, static_cast<int>(key.size()), data.data(), data.size(), digest.data(),
                       &length) != nullptr);
  PENSTOCK_ASSERT(length == digest.size());
  return digest;
}

bool constant_time_equal(ByteView left, ByteView right) {
  return left.size() == right.size() && CRYPTO_memcmp(left.data(), right.data(), left.size()) == 0;
}

}  // namespace penstock
