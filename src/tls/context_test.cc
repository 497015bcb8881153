// What is wrong with files and settings is said when a context is made, before any connection.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/atomic_file.h"
#include "tls/engine.h"
#include "tls/test_certificates.h"
#include "tls/test_pair.h"

namespace penstock::tls {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::StartsWith;

class ServerContextTest : public ::testing::Test {
 protected:
  // What create() says against the pair; empty if nothing.
  static Error refusal(const std::string& cert, const std::string& key) {
    auto context = ServerContext::create(cert, key);
    EXPECT_FALSE(context);
    return context ? Error{} : context.error();
  }
  TestDirectory directory_;
  TestCertificate good_ = make_test_certificate(directory_.path());
};

TEST_F(ServerContextTest, TellsWhatItsCertificateSays) {
  const auto context = ServerContext::create(good_.cert_path, good_.key_path).value();
  EXPECT_EQ(context->certificate().subject, "CN=localhost");
  EXPECT_EQ(context->certificate().pin, good_.pin);
}

TEST_F(ServerContextTest, AMissingFileIsNamedWithItsSetting) {
  const Error cert = refusal(directory_.file("none.crt"), good_.key_path);
  EXPECT_EQ(cert.code, ErrorCode::not_found);
  EXPECT_THAT(cert.message, StartsWith("server.tls_cert: " + directory_.file("none.crt") + ": "));
  const Error key = refusal(good_.cert_path, directory_.file("none.key"));
  EXPECT_EQ(key.code, ErrorCode::not_found);
  EXPECT_THAT(key.message, StartsWith("server.tls_key: " + directory_.file("none.key") + ": "));
}

TEST_F(ServerContextTest, AFileThatMayNotBeReadIsNamedWithItsSetting) {
  ASSERT_EQ(::chmod(good_.key_path.c_str(), 0), 0);
  const uid_t self = ::geteuid();
  // Root reads everything, so be somebody else for a moment.
  if (self == 0) {
    ASSERT_EQ(::chmod(directory_.path().c_str(), 0755), 0);
    ASSERT_EQ(::seteuid(65534), 0);
  }
  const Error key = refusal(good_.cert_path, good_.key_path);
  if (self == 0) {
    ASSERT_EQ(::seteuid(0), 0);
  }
  EXPECT_EQ(key.code, ErrorCode::permission_denied);
  EXPECT_THAT(key.message, AllOf(StartsWith("server.tls_key: " + good_.key_path + ": "), HasSubstr("as read it")));
}

TEST_F(ServerContextTest, FilesThatAreNotPemOrSwappedAreRefused) {
  const std::string junk = directory_.write("junk.pem", "not a certificate");
  EXPECT_THAT(refusal(junk, good_.key_path).message, HasSubstr("holds no certificate in PEM form"));
  EXPECT_THAT(refusal(good_.cert_path, junk).message,
              AllOf(StartsWith("server.tls_key: " + junk), HasSubstr("holds no private key in PEM form")));
  EXPECT_THAT(refusal(good_.key_path, good_.cert_path).message, StartsWith("server.tls_cert: " + good_.key_path));
}

TEST_F(ServerContextTest, AKeyWithAPassphraseIsRefusedWithTheWayToRemoveIt) {
  // openssl genpkey -algorithm ed25519 -aes-128-cbc: only the armour matters, nobody gets as far as decrypting it.
  const std::string key = directory_.write("locked.key", R"(-----BEGIN ENCRYPTED PRIVATE KEY-----
MIGbMFcGCSqGSIb3DQEFDTBKMCkGCSqGSIb3DQEFDDAcBAgJP5nEUUi90QICCAAw
DAYIKoZIhvcNAgkFADAdBglghkgBZQMEAQIEENLdTLmomdUIuOKOhm35vU0EQG5r
HffNWP1xIMpyCa06I3EMZuoUxZjlvjnbgE/vkcr1ZM5/DLq/HVhU/eRH4NGlUda8
SoBJNekE18nD5tn2LEo=
-----END ENCRYPTED PRIVATE KEY-----
)");
  EXPECT_THAT(refusal(good_.cert_path, key).message,
              AllOf(HasSubstr("passphrase"), HasSubstr("openssl pkey -in " + key)));
}

TEST_F(ServerContextTest, AKeyOfAnotherCertificateIsRefusedAndBothFilesNamed) {
  const auto other = make_test_certificate(directory_.path());
  const Error error = refusal(good_.cert_path, other.key_path);
  EXPECT_EQ(error.code, ErrorCode::invalid_argument);
  EXPECT_THAT(error.message, AllOf(HasSubstr("server.tls_key: " + other.key_path),
                                   HasSubstr("server.tls_cert: " + good_.cert_path), HasSubstr("does not belong")));
}

TEST_F(ServerContextTest, ACertificateOutsideItsDatesIsRefusedWithTheDate) {
  const WallTime now = std::chrono::sys_days(
      std::chrono::year_month_day(std::chrono::year(2030), std::chrono::month(3), std::chrono::day(10)));
  const auto old = make_test_certificate(directory_.path(), {.days_from = -9, .days_to = -1, .now = now});
  const auto early = make_test_certificate(directory_.path(), {.days_from = 1, .days_to = 9, .now = now});
  ManualClock clock;
  clock.advance(now - clock.wall_now());

  const auto expired = ServerContext::create(old.cert_path, old.key_path, clock);
  ASSERT_FALSE(expired);
  EXPECT_THAT(expired.error().message, AllOf(StartsWith("server.tls_cert: " + old.cert_path),
                                             HasSubstr("expired on 2030-03-09 00:00 UTC"), HasSubstr("renew it")));
  const auto too_early = ServerContext::create(early.cert_path, early.key_path, clock);
  ASSERT_FALSE(too_early);
  EXPECT_THAT(too_early.error().message,
              AllOf(HasSubstr("not valid before 2030-03-11 00:00 UTC"), HasSubstr("it says 2030-03-10 00:00 UTC")));

  const auto anyway = ServerContext::create(old.cert_path, old.key_path, clock, ServerContext::Dates::any);
  ASSERT_TRUE(anyway);
  EXPECT_LT((*anyway)->certificate().not_after, now) << "for the warning";
}

TEST_F(ServerContextTest, AReloadChangesNewConnectionsAndLeavesOpenOnes) {
  const auto renewed = make_test_certificate(directory_.path());
  auto serving = ServerContext::create(good_.cert_path, good_.key_path).value();
  const auto old_client = ClientContext::create({.pin = good_.pin}).value();
  const auto new_client = ClientContext::create({.pin = renewed.pin}).value();

  TestPair open(old_client->new_engine("localhost"), serving->new_engine());
  ASSERT_TRUE(open.connect());
  serving = ServerContext::create(renewed.cert_path, renewed.key_path).value();

  TestPair later(new_client->new_engine("localhost"), serving->new_engine());
  EXPECT_TRUE(later.connect());
  ASSERT_TRUE(open.client->send(as_bytes("still here")));
  open.carry();
  EXPECT_EQ(as_text(open.server_plain.view()), "still here");
}

TEST(ClientContextTest, SettingsThatCannotBeAreRefusedByName) {
  const TestDirectory directory;
  const auto pin = ClientContext::create({.pin = "sha256//abc"});
  ASSERT_FALSE(pin);
  EXPECT_THAT(pin.error().message, StartsWith("server.pin: \"sha256//abc\" is no pin"));
  const auto missing = ClientContext::create({.ca_file = directory.file("ca.pem")});
  ASSERT_FALSE(missing);
  EXPECT_EQ(missing.error().code, ErrorCode::not_found);
  EXPECT_THAT(missing.error().message, StartsWith("server.ca_file: " + directory.file("ca.pem")));
  const auto junk = ClientContext::create({.ca_file = directory.write("junk.pem", "junk")});
  ASSERT_FALSE(junk);
  EXPECT_THAT(junk.error().message, HasSubstr("holds no certificate"));
}

TEST(ClientContextTest, AnEngineOutlivesItsContexts) {
  const TestDirectory directory;
  const auto made = make_test_certificate(directory.path());
  TestPair pair(ClientContext::create({.ca_file = made.cert_path}).value()->new_engine("localhost"),
                ServerContext::create(made.cert_path, made.key_path).value()->new_engine());
  EXPECT_TRUE(pair.connect());
}

}  // namespace
}  // namespace penstock::tls
