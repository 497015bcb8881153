// AES-128-GCM by Intel's Multi-Buffer library. It is asked for its single-buffer functions alone: a record after the
// other, no jobs, no queue.
#include <intel-ipsec-mb.h>
#include <openssl/crypto.h>

#include <optional>

#include "tls/aead.h"

namespace penstock::tls {

namespace {

// Stateless, so that any thread may call them.
struct Functions {
  aes_gcm_pre_t expand;
  aes_gcm_init_t begin;
  aes_gcm_enc_dec_update_t encrypt;
  aes_gcm_enc_dec_finalize_t finish;
  aes_gcm_enc_dec_t decrypt_whole;
};

// The library chooses its functions by the processor. Where that lacks what makes them fast (this set is the library's
// own for its VAES code), OpenSSL's are as good.
std::optional<Functions> functions_of_this_processor() {
  IMB_MGR* const manager = alloc_mb_mgr(0);
  if (manager == nullptr) return std::nullopt;
  IMB_ARCH chosen = IMB_ARCH_NONE;
  init_mb_mgr_auto(manager, &chosen);
  const bool self_test_failed =
      (manager->features & (IMB_FEATURE_SELF_TEST | IMB_FEATURE_SELF_TEST_PASS)) == IMB_FEATURE_SELF_TEST;
  const bool fast = (manager->features & IMB_CPUFLAGS_AVX512_T2) == IMB_CPUFLAGS_AVX512_T2;
  std::optional<Functions> functions;
  if (chosen == IMB_ARCH_AVX512 && fast && !self_test_failed)
    functions = Functions{manager->gcm128_pre, manager->gcm128_init, manager->gcm128_enc_update,
                          manager->gcm128_enc_finalize, manager->gcm128_dec};
  free_mb_mgr(manager);
  return functions;
}

const std::optional<Functions>& functions() {
  // A table of functions, made once and the same for ever.
  static const std::optional<Functions> found = functions_of_this_processor();
  return found;
}

class IpsecMbAead final : public Aead {
 public:
  IpsecMbAead(const Functions& functions, const AeadKey& key) : functions_(&functions) {
    functions_->expand(key.data(), &key_);
  }
  ~IpsecMbAead() override { OPENSSL_cleanse(&key_, sizeof key_); }

  void seal(const AeadNonce& nonce, ByteView associated, ByteView text, std::uint8_t last, std::uint8_t* out) override {
    gcm_context_data state;
    functions_->begin(&key_, &state, nonce.data(), associated.data(), associated.size());
    if (!text.empty()) functions_->encrypt(&key_, &state, out, text.data(), text.size());
    functions_->encrypt(&key_, &state, out + text.size(), &last, 1);
    functions_->finish(&key_, &state, out + text.size() + 1, kAeadTagSize);
    OPENSSL_cleanse(&state, sizeof state);
  }

  bool open(const AeadNonce& nonce, ByteView associated, ByteView sealed, std::uint8_t* out) override {
    gcm_context_data state;
    std::array<std::uint8_t, kAeadTagSize> tag;
    const std::size_t size = sealed.size() - tag.size();
    functions_->decrypt_whole(&key_, &state, out, sealed.data(), size, nonce.data(), associated.data(),
                              associated.size(), tag.data(), tag.size());
    const bool authentic = CRYPTO_memcmp(tag.data(), sealed.data() + size, tag.size()) == 0;
    // A forged record's right tag would be worth having.
    OPENSSL_cleanse(tag.data(), tag.size());
    OPENSSL_cleanse(&state, sizeof state);
    return authentic;
  }

 private:
  const Functions* functions_;
  gcm_key_data key_;
};

}  // namespace

std::unique_ptr<Aead> new_ipsec_mb_aead(const AeadKey& key) {
  if (!functions()) return nullptr;
  return std::make_unique<IpsecMbAead>(*functions(), key);
}

}  // namespace penstock::tls
