#include "tls/aead.h"

#include <openssl/crypto.h>
#include <openssl/err.h>
#include <openssl/evp.h>

#include "base/result.h"
#include "tls/openssl.h"

namespace penstock::tls {

namespace {

class EvpAead final : public Aead {
 public:
  explicit EvpAead(const AeadKey& key) : context_(EVP_CIPHER_CTX_new()) {
    PENSTOCK_ASSERT(context_ != nullptr);
    PENSTOCK_ASSERT(EVP_CipherInit_ex(context_.get(), EVP_aes_128_gcm(), nullptr, key.data(), nullptr, 1) == 1);
  }

  void seal(const AeadNonce& nonce, ByteView associated, ByteView text, std::uint8_t last, std::uint8_t* out) override {
    begin(nonce, associated, 1);
    update(out, text);
    update(out + text.size(), {&last, 1});
    int size = 0;
    std::uint8_t* const tag = out + text.size() + 1;
    PENSTOCK_ASSERT(EVP_CipherFinal_ex(context_.get(), tag, &size) == 1);
    PENSTOCK_ASSERT(EVP_CIPHER_CTX_ctrl(context_.get(), EVP_CTRL_AEAD_GET_TAG, kAeadTagSize, tag) == 1);
  }

  bool open(const AeadNonce& nonce, ByteView associated, ByteView sealed, std::uint8_t* out) override {
    begin(nonce, associated, 0);
    update(out, sealed.first(sealed.size() - kAeadTagSize));
    // OpenSSL asks for the tag without a const, and copies it.
    std::array<std::uint8_t, kAeadTagSize> tag;
    std::memcpy(tag.data(), sealed.last(kAeadTagSize).data(), tag.size());
    PENSTOCK_ASSERT(EVP_CIPHER_CTX_ctrl(context_.get(), EVP_CTRL_AEAD_SET_TAG, kAeadTagSize, tag.data()) == 1);
    int size = 0;
    if (EVP_CipherFinal_ex(context_.get(), tag.data(), &size) == 1) return true;
    ERR_clear_error();
    return false;
  }

 private:
  void begin(const AeadNonce& nonce, ByteView associated, int encrypts) {
    PENSTOCK_ASSERT(EVP_CipherInit_ex(context_.get(), nullptr, nullptr, nullptr, nonce.data(), encrypts) == 1);
    update(nullptr, associated);
  }
  void update(std::uint8_t* out, ByteView in) {
    if (in.empty()) return;
    int size = 0;
    PENSTOCK_ASSERT(EVP_CipherUpdate(context_.get(), out, &size, in.data(), static_cast<int>(in.size())) == 1);
  }

  std::unique_ptr<EVP_CIPHER_CTX, FreeWith<EVP_CIPHER_CTX_free>> context_;  // wiped by its owner when it is freed
};

}  // namespace

void wipe(MutableByteView bytes) { OPENSSL_cleanse(bytes.data(), bytes.size()); }

std::unique_ptr<Aead> new_evp_aead(const AeadKey& key) { return std::make_unique<EvpAead>(key); }

#ifndef PENSTOCK_IPSEC_MB
std::unique_ptr<Aead> new_ipsec_mb_aead(const AeadKey&) { return nullptr; }
#endif

std::unique_ptr<Aead> new_aead(const AeadKey& key) {
  auto fast = new_ipsec_mb_aead(key);
  return fast ? std::move(fast) : new_evp_aead(key);
}

}  // namespace penstock::tls
