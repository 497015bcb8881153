#include "base/digest.h"

#include <gtest/gtest.h>

#include "base/random.h"

namespace penstock {
namespace {

TEST(Digest, Sha256OfTheStandardExamples) {
  EXPECT_EQ(to_hex(sha256(as_bytes(""))), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
  EXPECT_EQ(to_hex(sha256(as_bytes("abc"))), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
}

TEST(Digest, Sha1OfTheStandardExamples) {
  EXPECT_EQ(to_hex(sha1(as_bytes(""))), "da39a3ee5e6b4b0d3255bfef95601890afd80709");
  EXPECT_EQ(to_hex(sha1(as_bytes("abc"))), "a9993e364706816aba3e25717850c26c9cd0d89d");
}

// RFC 4231, test cases 1, 2 and 6 (a key longer than the block).
TEST(Digest, HmacSha256OfTheStandardExamples) {
  const std::vector<std::uint8_t> short_key(20, 0x0b);
  EXPECT_EQ(to_hex(hmac_sha256(short_key, as_bytes("Hi There"))),
            "b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7");
  EXPECT_EQ(to_hex(hmac_sha256(as_bytes("Jefe"), as_bytes("what do ya want for nothing?"))),
            "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843");
  const std::vector<std::uint8_t> long_key(131, 0xaa);
  EXPECT_EQ(to_hex(hmac_sha256(long_key, as_bytes("Test Using Larger Than Block-Size Key - Hash Key First"))),
            "60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54");
}

TEST(Digest, HmacTakesAnEmptyKeyAndEmptyData) {
  EXPECT_EQ(to_hex(hmac_sha256({}, {})), "b613679a0814d9ec772f95d778c35fc5ff1697c493715653c6c712144292c5ad");
}

TEST(Digest, ConstantTimeEqualSeesEveryBit) {
  std::vector<std::uint8_t> left(32, 0x5a);
  EXPECT_TRUE(constant_time_equal(left, std::vector<std::uint8_t>(left)));
  for (std::size_t bit = 0; bit < left.size() * 8; ++bit) {
    auto right = left;
    right[bit / 8] ^= static_cast<std::uint8_t>(1U << bit % 8);
    EXPECT_FALSE(constant_time_equal(left, right));
  }
  EXPECT_FALSE(constant_time_equal(left, ByteView(left).first(31)));
  EXPECT_TRUE(constant_time_equal({}, {}));
}

TEST(Digest, HexReadsBothCasesAndNothingElse) {
  const std::vector<std::uint8_t> bytes{0x00, 0x9f, 0xa0, 0xff};
  EXPECT_EQ(to_hex(bytes), "009fa0ff");
  EXPECT_EQ(from_hex("009FA0ff"), bytes);
  for (const char* wrong : {"0", "0g", " 00", "0x00", "-1"}) EXPECT_FALSE(from_hex(wrong)) << wrong;
}

// RFC 4648, section 10.
TEST(Digest, Base64OfTheStandardExamples) {
  const std::pair<const char*, const char*> examples[] = {{"", ""},
                                                          {"f", "Zg=="},
                                                          {"fo", "Zm8="},
                                                          {"foo", "Zm9v"},
                                                          {"foob", "Zm9vYg=="},
                                                          {"fooba", "Zm9vYmE="},
                                                          {"foobar", "Zm9vYmFy"}};
  for (const auto& [plain, text] : examples) {
    EXPECT_EQ(base64_encode(as_bytes(plain)), text);
    EXPECT_EQ(as_text(base64_decode(text).value()), plain);
  }
}

TEST(Digest, Base64ComesBackInBothAlphabets) {
  SeededRandom random(3);
  for (std::size_t size = 0; size < 200; ++size) {
    std::vector<std::uint8_t> bytes(size);
    random.fill(bytes);
    EXPECT_EQ(base64_decode(base64_encode(bytes)), bytes);
    const std::string url = base64url_encode(bytes);
    EXPECT_EQ(url.find_first_of("+/="), std::string::npos);
    EXPECT_EQ(base64url_decode(url), bytes);
  }
  const std::vector<std::uint8_t> extremes{0xfb, 0xff, 0xfe};
  EXPECT_EQ(base64_encode(extremes), "+//+");
  EXPECT_EQ(base64url_encode(extremes), "-__-");
}

TEST(Digest, Base64TextsThatAreNotTheOneOfTheirValueAreRefused) {
  for (const char* wrong :
       {"Z", "Zg", "Zg=", "Zg===", "Zh==", "Zm9=", "Zm 9v", "Zm9v\n", "=", "====", "Zg==Zg==", "-__-"})
    EXPECT_FALSE(base64_decode(wrong)) << wrong;
  for (const char* wrong : {"Z", "Zg==", "Zh", "Zm9", "+//+", "Zm9v "}) EXPECT_FALSE(base64url_decode(wrong)) << wrong;
}

}  // namespace
}  // namespace penstock
