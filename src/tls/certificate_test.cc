#include "tls/certificate.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/atomic_file.h"
#include "tls/test_certificates.h"

namespace penstock::tls {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::StartsWith;

// Made once with: openssl req -x509 -newkey ed25519 -subj /CN=vpn-server/O=Example -days 36500 -nodes
// and its pin with the commands of curl's manual: openssl x509 -pubkey -noout | openssl pkey -pubin -outform der |
// openssl dgst -sha256 -binary | openssl base64
constexpr const char* kKnownCertificate = R"(-----BEGIN CERTIFICATE-----
MIIBZTCCARegAwIBAgIULHePbi7SLXREHjrunuaSIvhPayEwBQYDK2VwMCcxEzAR
BgNVBAMMCnZwbi1zZXJ2ZXIxEDAOBgNVBAoMB0V4YW1wbGUwIBcNMjYxMTIxMDgy
NzU1WhgPMjEyNjEwMjgwODI3NTVaMCcxEzARBgNVBAMMCnZwbi1zZXJ2ZXIxEDAO
BgNVBAoMB0V4YW1wbGUwKjAFBgMrZXADIQDLq6C0SsJbCUviDv8CCj1trCDnowem
yTN0Jx904207UaNTMFEwHQYDVR0OBBYEFJvfMQ0dGHYWIm6xUar9CNKZqARCMB8G
A1UdIwQYMBaAFJvfMQ0dGHYWIm6xUar9CNKZqARCMA8GA1UdEwEB/wQFMAMBAf8w
BQYDK2VwA0EAVJG4HF/SUqw4MDLD7ubmx0ej3Sa6rheNIbZvpNq+UFG2gZf758iJ
dZquV8IS9GxkvbAgMDukZ0hwlfUcROPpBg==
-----END CERTIFICATE-----
)";
constexpr const char* kKnownPin = "sha256//rXTzACbw5dDHCEO8piriRlXkWs4Gdx1BaxLj6lxdD7Q=";

TEST(Certificate, ThePinIsTheOneThatCurlWouldTake) {
  const TestDirectory directory;
  const std::string path = directory.write("known.crt", kKnownCertificate);
  EXPECT_EQ(pin_of_certificate_file(path).value(), kKnownPin);
}

TEST(Certificate, TheCommonNameIsItsNameWhereNoDnsNameIsListed) {
  const TestDirectory directory;
  const auto info = read_certificate_file(directory.write("known.crt", kKnownCertificate)).value();
  EXPECT_EQ(info.subject, "O=Example,CN=vpn-server");
  EXPECT_THAT(info.names, ElementsAre("vpn-server"));
}

TEST(Certificate, NamesAndDatesAreRead) {
  const TestDirectory directory;
  const WallTime now = std::chrono::sys_days(std::chrono::year_month_day(std::chrono::year(2030), std::chrono::month(2),
                                                                         std::chrono::day(27))) +
                       std::chrono::hours(13);
  const auto made = make_test_certificate(
      directory.path(),
      {.names = {"vpn.example.org", "192.0.2.1", "2001:db8::1"}, .days_from = -1, .days_to = 2, .now = now});
  const auto info = read_certificate_file(made.cert_path).value();
  EXPECT_EQ(info.subject, "CN=vpn.example.org");
  EXPECT_THAT(info.names, ElementsAre("vpn.example.org", "192.0.2.1", "2001:db8::1"));
  EXPECT_EQ(info.not_before, now - std::chrono::hours(24));
  EXPECT_EQ(info.not_after, now + std::chrono::hours(48));
  EXPECT_EQ(info.pin, made.pin);
  EXPECT_TRUE(is_valid_pin(info.pin));
}

TEST(Certificate, TheFirstOfAChainIsRead) {
  const TestDirectory directory;
  const auto authority = make_test_authority(directory.path());
  const auto made = make_test_certificate(directory.path(), {.signed_by = &authority, .with_chain = true});
  EXPECT_EQ(pin_of_certificate_file(made.cert_path), made.pin);
}

TEST(Certificate, APinIsAPrefixAndADigest) {
  EXPECT_TRUE(is_valid_pin("sha256//47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU="));
  for (const char* wrong :
       {"", "sha256//", "47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=",
        "sha1//47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=", "sha256//47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU",
        "sha256//47DEQpj8HBSa-_TImW-5JCeuQeRkm5NMpJWZG3hSuFU=", "sha256//Zm9v"})
    EXPECT_FALSE(is_valid_pin(wrong)) << wrong;
}

TEST(Certificate, FilesWithoutOneAreRefusedByName) {
  const TestDirectory directory;
  const auto made = make_test_certificate(directory.path());

  const auto missing = pin_of_certificate_file(directory.file("none.crt"));
  EXPECT_EQ(missing.error().code, ErrorCode::not_found);
  EXPECT_THAT(missing.error().message, StartsWith(directory.file("none.crt") + ": "));

  const auto key = pin_of_certificate_file(made.key_path);
  EXPECT_EQ(key.error().code, ErrorCode::invalid_argument);
  EXPECT_THAT(key.error().message, HasSubstr("holds no certificate in PEM form"));

  std::string pem = read_whole_file(made.cert_path, 100000).value();
  pem += pem;
  pem.erase(pem.size() - 100, 40);
  const auto damaged = pin_of_certificate_file(directory.write("damaged.crt", pem));
  EXPECT_THAT(damaged.error().message, HasSubstr("certificate number 2 in it is damaged"));
}

}  // namespace
}  // namespace penstock::tls
