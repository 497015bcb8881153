// The digests of Windows' own library, CNG.
#include <windows.h>
//
#include <bcrypt.h>

#include <limits>

#include "base/digest.h"

namespace penstock {

namespace {

constexpr std::size_t kMostBytes = std::numeric_limits<ULONG>::max();

// Loading an algorithm is slow, hashing with it is not and may be done by any thread. Never closed: it lives as long as
// the process.
BCRYPT_ALG_HANDLE load(const wchar_t* name, ULONG flags) {
  BCRYPT_ALG_HANDLE algorithm = nullptr;
  PENSTOCK_ASSERT(::BCryptOpenAlgorithmProvider(&algorithm, name, nullptr, flags) == 0);
  return algorithm;
}

void digest_into(MutableByteView out, BCRYPT_ALG_HANDLE algorithm, ByteView key, ByteView data) {
  PENSTOCK_ASSERT(key.size() <= kMostBytes && data.size() <= kMostBytes);
  // The call takes what it only reads as something to write to.
  const auto input = [](ByteView bytes) { return const_cast<PUCHAR>(bytes.data()); };
  PENSTOCK_ASSERT(::BCryptHash(algorithm, input(key), static_cast<ULONG>(key.size()), input(data),
                               static_cast<ULONG>(data.size()), out.data(), static_cast<ULONG>(out.size())) == 0);
}

}  // namespace

Digest256 sha256(ByteView data) {
  static const BCRYPT_ALG_HANDLE algorithm = load(BCRYPT_SHA256_ALGORITHM, 0);
  Digest256 digest;
  digest_into(digest, algorithm, {}, data);
  return digest;
}

Digest160 sha1(ByteView data) {
  static const BCRYPT_ALG_HANDLE algorithm = load(BCRYPT_SHA1_ALGORITHM, 0);
  Digest160 digest;
  digest_into(digest, algorithm, {}, data);
  return digest;
}

Digest256 hmac_sha256(ByteView key, ByteView data) {
  static const BCRYPT_ALG_HANDLE algorithm = load(BCRYPT_SHA256_ALGORITHM, BCRYPT_ALG_HANDLE_HMAC_FLAG);
  Digest256 digest;
  digest_into(digest, algorithm, key, data);
  return digest;
}

bool constant_time_equal(ByteView left, ByteView right) {
  if (left.size() != right.size()) return false;
  // Volatile, so that the compiler cannot stop at the first difference.
  volatile std::uint8_t difference = 0;
  for (std::size_t i = 0; i < left.size(); ++i) difference = difference | (left[i] ^ right[i]);
  return difference == 0;
}

}  // namespace penstock
