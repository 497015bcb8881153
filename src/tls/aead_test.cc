#include "tls/aead.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "base/random.h"
#include "tls/traffic_key.h"

namespace penstock::tls {
namespace {

using Bytes = std::vector<std::uint8_t>;

Bytes random_bytes(Random& random, std::size_t size) {
  Bytes bytes(size);
  random.fill(bytes);
  return bytes;
}

Bytes bytes_of(std::string_view hex) {
  Bytes bytes;
  for (std::size_t i = 0; i < hex.size(); i += 2)
    bytes.push_back(static_cast<std::uint8_t>(std::stoi(std::string(hex.substr(i, 2)), nullptr, 16)));
  return bytes;
}

Bytes seal(Aead& aead, const AeadNonce& nonce, ByteView associated, ByteView text, std::uint8_t last) {
  Bytes sealed(text.size() + 1 + kAeadTagSize);
  aead.seal(nonce, associated, text, last, sealed.data());
  return sealed;
}

class AeadTest : public ::testing::TestWithParam<MakeAead> {
 protected:
  void SetUp() override {
    if (GetParam()(AeadKey()) == nullptr) GTEST_SKIP() << "not built in, or nothing for this processor";
  }
};

TEST_P(AeadTest, WritesTheBytesOfOpenSslWhateverTheSize) {
  SeededRandom random(1);
  const auto check = [&](std::size_t size) {
    AeadKey key;
    AeadNonce nonce;
    random.fill(key);
    random.fill(nonce);
    const auto aead = GetParam()(key);
    const auto oracle = new_evp_aead(key);
    const Bytes associated = random_bytes(random, 5);
    const Bytes text = random_bytes(random, size);
    const Bytes sealed = seal(*aead, nonce, associated, text, 23);
    ASSERT_EQ(sealed, seal(*oracle, nonce, associated, text, 23)) << size;
    Bytes opened(size + 1);
    ASSERT_TRUE(aead->open(nonce, associated, sealed, opened.data())) << size;
    ASSERT_TRUE(std::equal(text.begin(), text.end(), opened.begin())) << size;
    ASSERT_EQ(opened.back(), 23);
  };
  for (std::size_t size = 0; size <= 1100; ++size) check(size);
  for (std::size_t size = 16384 - 260; size <= 16384; ++size) check(size);
  for (int i = 0; i < 500; ++i) check(random.next32() % 16385);
}

TEST_P(AeadTest, AChangedBitAnywhereIsNotAuthentic) {
  SeededRandom random(2);
  AeadKey key;
  random.fill(key);
  const auto aead = GetParam()(key);
  AeadNonce nonce{};
  Bytes associated = random_bytes(random, 5);
  for (const std::size_t size : {std::size_t{0}, std::size_t{15}, std::size_t{300}}) {
    Bytes sealed = seal(*aead, nonce, associated, random_bytes(random, size), 23);
    Bytes opened(size + 1);
    const auto authentic = [&] { return aead->open(nonce, associated, sealed, opened.data()); };
    for (std::size_t bit = 0; bit < 8 * sealed.size(); ++bit) {
      sealed[bit / 8] ^= static_cast<std::uint8_t>(1U << bit % 8);
      ASSERT_FALSE(authentic()) << bit;
      sealed[bit / 8] ^= static_cast<std::uint8_t>(1U << bit % 8);
    }
    associated[2] ^= 1;
    EXPECT_FALSE(authentic());
    associated[2] ^= 1;
    nonce[11] ^= 1;
    EXPECT_FALSE(authentic());
    nonce[11] ^= 1;
    EXPECT_TRUE(authentic()) << "one failure spoils nothing";
  }
}

// RFC 8448 3: the client's application data, and the key it comes from.
TEST_P(AeadTest, TheRecordOfRfc8448ComesOut) {
  TrafficSecret secret;
  const Bytes secret_bytes = bytes_of("9e40646ce79a7f9dc05af8889bce6552875afa0b06df0087f792ebb7c17504a5");
  std::copy(secret_bytes.begin(), secret_bytes.end(), secret.begin());
  AeadKey key;
  hkdf_expand_label(secret, "key", key);
  EXPECT_EQ(Bytes(key.begin(), key.end()), bytes_of("17422dda596ed5d9acd890e3c63f5051"));
  AeadNonce iv;
  hkdf_expand_label(secret, "iv", iv);
  EXPECT_EQ(Bytes(iv.begin(), iv.end()), bytes_of("5b78923dee08579033e523d9"));

  Bytes text(50);
  for (std::size_t i = 0; i < text.size(); ++i) text[i] = static_cast<std::uint8_t>(i);
  Bytes record = bytes_of("1703030043");
  record.resize(5 + text.size() + 1 + kAeadTagSize);
  TrafficKey writes(secret, GetParam());
  writes.seal(ByteView(record).first(5), text, 23, record.data() + 5);
  EXPECT_EQ(record,
            bytes_of("1703030043a23f7054b62c94d0affafe8228ba55cbefacea42f914aa66bcab3f2b9819a8a5b46b395bd54a9a20"
                     "441e2b62974e1f5a6292a2977014bd1e3deae63aeebb21694915e4"));
}

INSTANTIATE_TEST_SUITE_P(Evp, AeadTest, ::testing::Values(new_evp_aead));
INSTANTIATE_TEST_SUITE_P(IpsecMb, AeadTest, ::testing::Values(new_ipsec_mb_aead));

}  // namespace
}  // namespace penstock::tls
