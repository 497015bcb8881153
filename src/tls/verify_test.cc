// Whom a client believes, and what it says to those it does not: one handshake for each case.
#include "tls/verify.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/atomic_file.h"
#include "tls/engine.h"
#include "tls/test_certificates.h"
#include "tls/test_pair.h"

namespace penstock::tls {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;

class VerifyTest : public ::testing::Test {
 protected:
  static ManualClock on_the_10th_of_march_2030() {
    ManualClock clock;
    const WallTime wanted = std::chrono::sys_days(
        std::chrono::year_month_day(std::chrono::year(2030), std::chrono::month(3), std::chrono::day(10)));
    clock.advance(wanted - clock.wall_now());
    return clock;
  }

  TestCertificate make(TestCertificateOptions options) const {
    options.now = clock_.wall_now();
    return make_test_certificate(directory_.path(), options);
  }

  // The client's refusal of a server with that certificate; an empty message if it connects.
  Error refusal(const TestCertificate& shown, const ClientOptions& options, const std::string& name = "localhost") {
    const auto server =
        ServerContext::create(shown.cert_path, shown.key_path, clock_, ServerContext::Dates::any).value();
    const auto client = ClientContext::create(options, clock_).value();
    pair_.emplace(client->new_engine(name), server->new_engine());
    const bool connected = pair_->connect();
    EXPECT_EQ(connected, pair_->client_result.has_value());
    if (connected) return {};
    EXPECT_EQ(pair_->client_result.error().code, ErrorCode::unauthenticated);
    EXPECT_EQ(pair_->client->state(), Engine::State::closed);
    return pair_->client_result.error();
  }
  std::string words(const TestCertificate& shown, const ClientOptions& options, const std::string& name = "localhost") {
    return refusal(shown, options, name).message;
  }

  ManualClock clock_ = on_the_10th_of_march_2030();
  TestDirectory directory_;
  TestCertificate authority_ = make({.names = {"Test Authority"}, .authority = true});
  TestCertificate good_ = make({.signed_by = &authority_});
  std::optional<TestPair> pair_;
};

TEST_F(VerifyTest, ACertificateOfTheAuthorityWithTheRightNameIsAccepted) {
  for (const char* name : {"localhost", "LOCALHOST", "localhost.", "127.0.0.1", "::1"})
    EXPECT_EQ(words(good_, {.ca_file = authority_.cert_path}, name), "") << name;
}

TEST_F(VerifyTest, AWildcardStandsForOneLabel) {
  const auto wild = make({.names = {"*.example.org"}, .signed_by = &authority_});
  EXPECT_EQ(words(wild, {.ca_file = authority_.cert_path}, "vpn.example.org"), "");
  EXPECT_NE(words(wild, {.ca_file = authority_.cert_path}, "a.vpn.example.org"), "");
}

TEST_F(VerifyTest, AnIntermediateAuthorityComesFromTheServersFile) {
  const auto between = make({.names = {"Between"}, .signed_by = &authority_, .authority = true});
  const auto chained = make({.signed_by = &between, .with_chain = true});
  const auto alone = make({.signed_by = &between});
  EXPECT_EQ(words(chained, {.ca_file = authority_.cert_path}), "");
  EXPECT_THAT(words(alone, {.ca_file = authority_.cert_path}), HasSubstr("signed by a CA that is not trusted here"));
  EXPECT_EQ(words(alone, {.ca_file = between.cert_path}), "") << "it may be named as the one to trust";
}

TEST_F(VerifyTest, ASelfSignedCertificateIsAcceptedWhereItIsTheCaFile) {
  const auto self_signed = make({});
  EXPECT_EQ(words(self_signed, {.ca_file = self_signed.cert_path}), "");
  const auto old_style = make({.names = {"vpn-server"}, .common_name_only = true});
  EXPECT_EQ(words(old_style, {.ca_file = old_style.cert_path}, "vpn-server"), "");
}

TEST_F(VerifyTest, ACaFileMayHoldSeveralAndOneTwice) {
  const std::string pem = read_whole_file(authority_.cert_path, 100000).value();
  const std::string other = read_whole_file(make({.names = {"Other"}, .authority = true}).cert_path, 100000).value();
  const std::string bundle = directory_.write("bundle.pem", "# ours\n" + other + pem + pem);
  EXPECT_EQ(words(good_, {.ca_file = bundle}), "");
}

TEST_F(VerifyTest, AnUnknownAuthorityIsRefusedWithTheSettingsThatHelp) {
  const auto other = make({.names = {"Other Authority"}, .authority = true});
  EXPECT_THAT(words(good_, {.ca_file = other.cert_path}),
              AllOf(HasSubstr("the server's certificate is signed by a CA that is not trusted here: set server.ca_file "
                              "or server.pin"),
                    HasSubstr("not in the server.ca_file")));
  EXPECT_THAT(words(good_, {}), Not(HasSubstr("not in the server.ca_file"))) << "the system's authorities";
}

TEST_F(VerifyTest, ASelfSignedCertificateIsRefusedAndItsPinShown) {
  const auto self_signed = make({});
  EXPECT_THAT(words(self_signed, {.ca_file = authority_.cert_path}),
              AllOf(HasSubstr("is self-signed and not trusted here"), HasSubstr(self_signed.pin)));
}

TEST_F(VerifyTest, ACertificateOutsideItsDatesIsRefusedWithTheDate) {
  const auto expired = make({.days_to = -1, .signed_by = &authority_});
  EXPECT_THAT(words(expired, {.ca_file = authority_.cert_path}),
              AllOf(HasSubstr("the server's certificate expired on 2030-03-09 00:00 UTC"),
                    HasSubstr("clock says 2030-03-10 00:00 UTC")));
  const auto early = make({.days_from = 1, .signed_by = &authority_});
  EXPECT_THAT(words(early, {.ca_file = authority_.cert_path}), HasSubstr("is not valid before 2030-03-11 00:00 UTC"));
}

TEST_F(VerifyTest, AnExpiredAuthorityIsNamedInsteadOfTheServer) {
  const auto old = make({.names = {"Old Authority"}, .days_to = -1, .authority = true});
  const auto signed_by_old = make({.signed_by = &old});
  EXPECT_THAT(words(signed_by_old, {.ca_file = old.cert_path}),
              HasSubstr("the certificate of the authority CN=Old Authority expired on 2030-03-09"));
}

TEST_F(VerifyTest, AWrongNameIsRefusedAndTheRightOnesAreListed) {
  for (const char* name : {"vpn.example.org", "127.0.0.2"})
    EXPECT_THAT(words(good_, {.ca_file = authority_.cert_path}, name),
                HasSubstr(std::string("the server's certificate is for localhost, 127.0.0.1, ::1, not for ") + name));
}

TEST_F(VerifyTest, ALongListOfNamesIsCut) {
  TestCertificateOptions options{.names = {}, .signed_by = &authority_};
  for (int i = 0; i < 30; ++i) options.names.push_back("n" + std::to_string(i));
  EXPECT_THAT(words(make(options), {.ca_file = authority_.cert_path}), HasSubstr("n7 and 22 more, not for localhost"));
}

// The key is the identity: nothing else about the certificate counts.
TEST_F(VerifyTest, APinAloneDecides) {
  const auto expired_stranger = make({.names = {"elsewhere"}, .days_to = -1});
  EXPECT_EQ(words(expired_stranger, {.pin = expired_stranger.pin}), "");
  const std::string mismatch = words(good_, {.ca_file = authority_.cert_path, .pin = expired_stranger.pin});
  EXPECT_THAT(mismatch, AllOf(HasSubstr("server.pin is " + expired_stranger.pin), HasSubstr("has " + good_.pin)));
}

TEST_F(VerifyTest, NothingIsCheckedWithoutVerify) {
  const auto expired_stranger = make({.names = {"elsewhere"}, .days_to = -1});
  EXPECT_EQ(words(expired_stranger, {.verify = false}), "");
  EXPECT_EQ(words(expired_stranger, {.verify = false, .pin = good_.pin}), "");
}

TEST_F(VerifyTest, TheServerLearnsThatItsCertificateWasRefused) {
  ASSERT_NE(words(good_, {}), "");
  ASSERT_FALSE(pair_->server_result);
  EXPECT_EQ(pair_->server_result.error().code, ErrorCode::closed);
  EXPECT_THAT(pair_->server_result.error().message,
              AllOf(HasSubstr("the client does not accept this server's certificate"), HasSubstr("unknown CA")));
}

TEST_F(VerifyTest, NamesThatCannotBeAreRefusedAtTheStart) {
  const auto client = ClientContext::create({.ca_file = authority_.cert_path}, clock_).value();
  for (const char* name : {"", ".", "a b", "[::1]", "vpn.example.org:443", "f\xc3\xbcr.example"}) {
    const auto engine = client->new_engine(name);
    const auto started = engine->start();
    ASSERT_FALSE(started) << name;
    EXPECT_EQ(started.error().code, ErrorCode::invalid_argument);
    EXPECT_TRUE(engine->output().empty());
  }
}

}  // namespace
}  // namespace penstock::tls
