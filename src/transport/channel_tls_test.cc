// Channels over the TLS that Penstock runs with.
#include <gtest/gtest.h>

#include "tls/engine.h"
#include "tls/test_certificates.h"
#include "transport/channel_testing.h"

namespace penstock::transport {
namespace {

TEST_F(ChannelTest, MessagesPassThroughTls) {
  const tls::TestDirectory directory;
  const auto certificate = tls::make_test_certificate(directory.path());
  const auto server_context = tls::ServerContext::create(certificate.cert_path, certificate.key_path).value();
  const auto client_context = tls::ClientContext::create({.ca_file = certificate.cert_path}).value();
  expect_messages_pass(
      [&] { return Channel::server(server_context->new_engine(), "/", 70000, random); },
      [&] { return Channel::client(client_context->new_engine("localhost"), "localhost", "/", 70000, random); });
}

}  // namespace
}  // namespace penstock::transport
