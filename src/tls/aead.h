// AES-128-GCM for TLS 1.3 records (RFC 5116 5.1, RFC 8446 5.2): the seam behind which ciphers of different speed stand.
//
//   new_evp_aead        OpenSSL's, everywhere
//   new_ipsec_mb_aead   Intel's Multi-Buffer library, where it was built in and the processor has VAES and AVX-512,
//                       on which it is more than twice as fast; null elsewhere
//   new_aead            the fastest of them here
//
// Always true   all of them write the same bytes (AeadTest). open() compares tags in constant time, and what it wrote
//               is of use only where it said true. A nonce is for its key's one record: that is the caller's part
//               (traffic_key.h).
// Ownership     An Aead holds the expanded key, about 1 KB, and wipes it when it goes. Keys are read during the call.
// Threads       one at a time.
// Errors        none but a record that is not authentic; a library that fails at what cannot fail is a bug.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>

#include "base/bytes.h"

namespace penstock::tls {

inline constexpr std::size_t kAeadKeySize = 16;
inline constexpr std::size_t kAeadNonceSize = 12;
inline constexpr std::size_t kAeadTagSize = 16;

void wipe(MutableByteView bytes);

// Bytes that nobody shall find in memory afterwards.
template <std::size_t kSize>
struct Secret : std::array<std::uint8_t, kSize> {
  Secret() : std::array<std::uint8_t, kSize>{} {}
  Secret(const Secret&) = default;
  Secret& operator=(const Secret&) = default;
  ~Secret() { wipe(*this); }
};

using AeadKey = Secret<kAeadKeySize>;
using AeadNonce = std::array<std::uint8_t, kAeadNonceSize>;

class Aead {
 public:
  virtual ~Aead() = default;

  // Encrypts `text` and, behind it, `last`: a record's content type stands behind its content, and nobody shall copy a
  // record to put it there. Writes text.size() + 1 + kAeadTagSize bytes to `out`, which is not `text`.
  virtual void seal(const AeadNonce& nonce, ByteView associated, ByteView text, std::uint8_t last,
                    std::uint8_t* out) = 0;

  // Decrypts all of `sealed` but its tag, and says whether it is authentic. `sealed` holds a tag at least and does not
  // overlap with `out`.
  virtual bool open(const AeadNonce& nonce, ByteView associated, ByteView sealed, std::uint8_t* out) = 0;

 protected:
  Aead() = default;
  Aead(const Aead&) = delete;
  Aead& operator=(const Aead&) = delete;
};

using MakeAead = std::unique_ptr<Aead> (*)(const AeadKey&);

std::unique_ptr<Aead> new_evp_aead(const AeadKey& key);
std::unique_ptr<Aead> new_ipsec_mb_aead(const AeadKey& key);
std::unique_ptr<Aead> new_aead(const AeadKey& key);

}  // namespace penstock::tls
