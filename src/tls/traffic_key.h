// One direction's key of a TLS 1.3 connection: derived from a traffic secret, used for one record after the other,
// replaced by its successor (RFC 8446 5.3, 7.2, 7.3).
//
// Always true   no nonce is used twice: the sequence number moves on with every record that is sealed or was authentic,
//               starts anew with each key, and never wraps.
// Memory        about 100 bytes; the expanded key (aead.h, 1 KB) is made with the first record and again after
//               release().
// Threads       one at a time.
#pragma once

#include <limits>
#include <memory>

#include "base/bytes.h"
#include "tls/aead.h"

namespace penstock::tls {

// Of a cipher suite with SHA-256.
using TrafficSecret = Secret<32>;

class TrafficKey {
 public:
  explicit TrafficKey(const TrafficSecret& secret, MakeAead make_aead = new_aead);

  // As Aead, for the next record, whose header is `associated`.
  void seal(ByteView associated, ByteView text, std::uint8_t last, std::uint8_t* out);
  // False also when exhausted().
  bool open(ByteView associated, ByteView sealed, std::uint8_t* out);

  // The key after a KeyUpdate.
  void advance();
  // Records that it has protected so far.
  std::uint64_t records() const { return sequence_; }
  bool exhausted() const { return sequence_ == std::numeric_limits<std::uint64_t>::max(); }
  // Frees the expanded key.
  void release() { aead_.reset(); }

 private:
  void derive();
  Aead& aead();
  AeadNonce nonce() const;

  TrafficSecret secret_;
  AeadKey key_;
  Secret<kAeadNonceSize> iv_;
  std::uint64_t sequence_ = 0;
  MakeAead make_aead_;
  std::unique_ptr<Aead> aead_;
};

// RFC 8446 7.1, of SHA-256, with an empty context, for at most 32 bytes. For the tests too.
void hkdf_expand_label(const TrafficSecret& secret, std::string_view label, MutableByteView out);

}  // namespace penstock::tls
