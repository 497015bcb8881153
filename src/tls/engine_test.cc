#include "tls/engine.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <openssl/ssl.h>

#include <thread>
#include <vector>

#include "base/digest.h"
#include "base/random.h"
#include "tls/openssl.h"
#include "tls/openssl_engine.h"
#include "tls/test_certificates.h"
#include "tls/test_pair.h"

namespace penstock::tls {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using State = Engine::State;

std::vector<std::uint8_t> random_bytes(std::size_t size) {
  std::vector<std::uint8_t> bytes(size);
  SeededRandom(size).fill(bytes);
  return bytes;
}

class EngineTest : public ::testing::Test {
 protected:
  TestPair pair() const { return {client_->new_engine("localhost"), server_->new_engine()}; }
  TestPair connected() const {
    TestPair made = pair();
    EXPECT_TRUE(made.connect());
    return made;
  }
  // A peer with settings that our contexts do not offer.
  SslContextPtr foreign_context(const SSL_METHOD* method, int newest_version) const {
    SslContextPtr context(SSL_CTX_new(method));
    SSL_CTX_set_security_level(context.get(), 0);
    SSL_CTX_set_min_proto_version(context.get(), TLS1_VERSION);
    SSL_CTX_set_max_proto_version(context.get(), newest_version);
    SSL_CTX_use_certificate_file(context.get(), certificate_.cert_path.c_str(), SSL_FILETYPE_PEM);
    SSL_CTX_use_PrivateKey_file(context.get(), certificate_.key_path.c_str(), SSL_FILETYPE_PEM);
    return context;
  }

  TestDirectory directory_;
  TestCertificate certificate_ = make_test_certificate(directory_.path());
  std::shared_ptr<ServerContext> server_ = ServerContext::create(certificate_.cert_path, certificate_.key_path).value();
  std::shared_ptr<ClientContext> client_ = ClientContext::create({.pin = certificate_.pin}).value();
};

TEST_F(EngineTest, TwoEnginesAgreeOnTls13AndAes128) {
  TestPair pair = this->pair();
  EXPECT_EQ(pair.server->description(), "handshaking");
  ASSERT_TRUE(pair.connect());
  EXPECT_EQ(pair.client->description(), "TLSv1.3 TLS_AES_128_GCM_SHA256");
  EXPECT_EQ(pair.server->description(), "TLSv1.3 TLS_AES_128_GCM_SHA256");
}

TEST_F(EngineTest, TheServerSendsNoTicketsAfterTheHandshake) {
  TestPair pair = this->pair();
  ASSERT_TRUE(pair.client->start());
  // ClientHello, the server's flight, Finished: then nothing is left to say.
  for (Engine* const engine : {pair.server.get(), pair.client.get(), pair.server.get()}) {
    Engine* const other = engine == pair.server.get() ? pair.client.get() : pair.server.get();
    const ByteQueue wire = std::exchange(other->output(), {});
    ASSERT_TRUE(engine->receive(wire.view(), pair.server_plain));
  }
  EXPECT_EQ(pair.server->state(), State::open);
  EXPECT_TRUE(pair.server->output().empty());
}

TEST_F(EngineTest, BytesMayArriveOneByOne) {
  TestPair pair = this->pair();
  ASSERT_TRUE(pair.connect(1));
  const auto sent = random_bytes(40000);
  ASSERT_TRUE(pair.client->send(sent));
  pair.carry(1);
  EXPECT_EQ(as_text(pair.server_plain.view()), as_text(sent));
}

TEST_F(EngineTest, AMebibyteGoesBothWaysHoweverItIsCut) {
  const auto up = random_bytes(1 << 20);
  const auto down = random_bytes((1 << 20) + 1);
  for (const std::size_t piece : {std::size_t{777}, std::size_t{65536}, SIZE_MAX}) {
    TestPair pair = connected();
    ASSERT_TRUE(pair.client->send(up));
    ASSERT_TRUE(pair.server->send(down));
    pair.carry(piece);
    EXPECT_EQ(sha256(pair.server_plain.view()), sha256(up));
    EXPECT_EQ(sha256(pair.client_plain.view()), sha256(down));
  }
}

TEST_F(EngineTest, LargeSendsFillTheirRecords) {
  TestPair pair = connected();
  ASSERT_TRUE(pair.client->send(random_bytes(3 * kMaxRecordPlaintext + 100)));
  std::vector<std::size_t> bodies;
  for (ByteView left = pair.client->output().view(); !left.empty();) {
    const std::size_t body = load_be16(left.data() + 3);
    bodies.push_back(body);
    left = left.subspan(5 + body);
  }
  // RFC 8446 5.2: the content type and the tag of AES-GCM make it 17 bytes longer.
  EXPECT_THAT(bodies, ::testing::ElementsAre(16384 + 17, 16384 + 17, 16384 + 17, 100 + 17));
}

TEST_F(EngineTest, PlainIsAppendedToWhatIsThere) {
  TestPair pair = connected();
  pair.server_plain.append(as_bytes("before "));
  ASSERT_TRUE(pair.client->send(as_bytes("and ")));
  ASSERT_TRUE(pair.client->send({}));
  ASSERT_TRUE(pair.client->send(as_bytes("after")));
  pair.carry();
  EXPECT_EQ(as_text(pair.server_plain.view()), "before and after");
}

TEST_F(EngineTest, AWriterMayHavePutApplicationDataRightBehindItsHandshake) {
  TestPair pair = this->pair();
  ASSERT_TRUE(pair.client->start());
  ByteQueue wire = std::exchange(pair.client->output(), {});
  ASSERT_TRUE(pair.server->receive(wire.view(), pair.server_plain));
  wire = std::exchange(pair.server->output(), {});
  ASSERT_TRUE(pair.client->receive(wire.view(), pair.client_plain));
  ASSERT_TRUE(pair.client->send(as_bytes("GET / HTTP/1.1\r\n")));
  pair.carry();
  EXPECT_EQ(as_text(pair.server_plain.view()), "GET / HTTP/1.1\r\n");
}

TEST_F(EngineTest, CloseNotifyIsSeenAndTheOtherDirectionLivesOn) {
  TestPair pair = connected();
  ASSERT_TRUE(pair.client->send(as_bytes("last words")));
  pair.client->close();
  pair.client->close();
  EXPECT_EQ(pair.client->state(), State::closed);
  pair.carry();
  EXPECT_EQ(as_text(pair.server_plain.view()), "last words");
  EXPECT_TRUE(pair.server->peer_closed());
  EXPECT_EQ(pair.server->state(), State::open);
  ASSERT_TRUE(pair.server->send(as_bytes("unheard")));
  pair.server->close();
  pair.carry();
  EXPECT_TRUE(pair.client_result) << "what comes after close() is ignored";
  EXPECT_TRUE(pair.client_plain.empty());
}

TEST_F(EngineTest, SendIsRefusedUnlessOpen) {
  TestPair pair = this->pair();
  EXPECT_EQ(pair.client->send(as_bytes("x")).error().code, ErrorCode::closed);
  ASSERT_TRUE(pair.connect());
  pair.client->close();
  EXPECT_EQ(pair.client->send(as_bytes("x")).error().code, ErrorCode::closed);
}

TEST_F(EngineTest, AServerThatEndsTheHandshakeIsARefusalThatNamesItsAlert) {
  const struct {
    std::uint8_t level;
    std::uint8_t alert;
    const char* words;
  } cases[] = {{1, 0, "the server closed the connection before TLS was established"},
               {2, 40, "found no cipher in common, or refuses the connection (TLS alert 40, handshake failure)"},
               {2, 112, "does not know the name it was asked for (TLS alert 112, unrecognized name)"},
               {2, 80, "the server ended the TLS connection (TLS alert 80, internal error)"}};
  for (const auto& [level, alert, words] : cases) {
    const auto engine = client_->new_engine("localhost");
    ASSERT_TRUE(engine->start());
    ByteQueue plain;
    const std::uint8_t record[] = {21, 3, 3, 0, 2, level, alert};
    const auto received = engine->receive(record, plain);
    ASSERT_FALSE(received) << words;
    EXPECT_EQ(received.error().code, ErrorCode::closed);
    EXPECT_THAT(received.error().message, HasSubstr(words));
  }
}

TEST_F(EngineTest, NothingIsDecryptedFromAServerThatWasRefused) {
  const auto stranger = ClientContext::create({.pin = "sha256//47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU="}).value();
  TestPair pair(stranger->new_engine("localhost"), server_->new_engine());
  EXPECT_FALSE(pair.connect());
  ASSERT_FALSE(pair.client_result);
  const auto again = pair.client->receive(as_bytes("more"), pair.client_plain);
  ASSERT_FALSE(again);
  EXPECT_EQ(again.error().message, pair.client_result.error().message) << "a refusal repeats";
  EXPECT_FALSE(pair.client->send(as_bytes("secret")));
  EXPECT_TRUE(pair.client_plain.empty());
  EXPECT_TRUE(pair.client->output().empty());
}

TEST_F(EngineTest, PlainHttpIsNamedByBothEnds) {
  ByteQueue plain;
  const auto server = server_->new_engine();
  const auto at_server = server->receive(as_bytes("GET / HTTP/1.1\r\nHost: vpn\r\n\r\n"), plain);
  ASSERT_FALSE(at_server);
  EXPECT_EQ(at_server.error().code, ErrorCode::protocol_error);
  EXPECT_THAT(at_server.error().message, HasSubstr("the client speaks plain HTTP to a port that is for TLS"));

  const auto client = client_->new_engine("localhost");
  ASSERT_TRUE(client->start());
  const auto at_client = client->receive(as_bytes("HTTP/1.1 400 Bad Request\r\n\r\n"), plain);
  ASSERT_FALSE(at_client);
  EXPECT_EQ(at_client.error().code, ErrorCode::protocol_error);
  EXPECT_THAT(at_client.error().message, HasSubstr("the server answers in plain HTTP, not TLS"));
}

TEST_F(EngineTest, AnotherProtocolIsNoTls) {
  ByteQueue plain;
  const auto client = client_->new_engine("localhost");
  ASSERT_TRUE(client->start());
  const auto received = client->receive(as_bytes("SSH-2.0-OpenSSH_9.2\r\n"), plain);
  ASSERT_FALSE(received);
  EXPECT_THAT(received.error().message, HasSubstr("the server does not speak TLS: is this the right port?"));
}

TEST_F(EngineTest, GarbageNeverOpensAndNeverDecrypts) {
  SeededRandom random(11);
  for (int round = 0; round < 2000; ++round) {
    std::vector<std::uint8_t> garbage(random.next32() % 300 + 1);
    random.fill(garbage);
    // Half of them look like the beginning of a handshake record.
    if (round % 2 == 0 && garbage.size() > 6) {
      garbage[0] = 22;
      garbage[1] = garbage[2] = 3;
      garbage[3] = 0;
      garbage[5] = round % 4 == 0 ? 1 : 2;
    }
    ByteQueue plain;
    for (const bool is_client : {false, true}) {
      const auto engine = is_client ? client_->new_engine("localhost") : server_->new_engine();
      ASSERT_TRUE(engine->start());
      const auto received = engine->receive(garbage, plain);
      if (!received) {
        EXPECT_FALSE(received.error().message.empty());
        EXPECT_EQ(engine->state(), State::closed);
      }
      EXPECT_NE(engine->state(), State::open);
      EXPECT_TRUE(plain.empty());
    }
  }
}

// Every byte of a real conversation in turn arrives changed.
TEST_F(EngineTest, AChangedByteAnywhereInARecordIsRefused) {
  TestPair measured = connected();
  ASSERT_TRUE(measured.client->send(as_bytes("attack at dawn")));
  const std::size_t size = measured.client->output().size();
  for (std::size_t at = 0; at < size; ++at) {
    TestPair pair = connected();
    ASSERT_TRUE(pair.client->send(as_bytes("attack at dawn")));
    pair.client->output().mutable_view()[at] ^= 0x40;
    pair.carry();
    EXPECT_TRUE(pair.server_plain.empty()) << at;
    if (at >= 5) {  // a changed length may as well wait for more
      ASSERT_FALSE(pair.server_result) << at;
      EXPECT_THAT(pair.server_result.error().message, HasSubstr("was damaged or forged on its way"));
      EXPECT_EQ(pair.server_result.error().code, ErrorCode::protocol_error);
      EXPECT_EQ(pair.client_result.error().code, ErrorCode::closed) << "the alert";
    }
  }
}

// The handshake may stop anywhere; engines must neither open nor fail by that alone.
TEST_F(EngineTest, AHandshakeCutAnywhereJustWaits) {
  TestPair whole = pair();
  ASSERT_TRUE(whole.client->start());
  const ByteQueue hello = std::exchange(whole.client->output(), {});
  for (std::size_t size = 0; size < hello.size(); ++size) {
    const auto engine = server_->new_engine();
    ByteQueue plain;
    ASSERT_TRUE(engine->receive(hello.view().first(size), plain)) << size;
    EXPECT_EQ(engine->state(), State::handshaking);
    EXPECT_TRUE(engine->output().empty());
  }
}

TEST_F(EngineTest, Tls12IsSpokenWithPeersThatHaveNoNewer) {
  const SslContextPtr old = foreign_context(TLS_client_method(), TLS1_2_VERSION);
  TestPair pair(new_client_engine(old.get(), {}), server_->new_engine());
  ASSERT_TRUE(pair.connect());
  EXPECT_EQ(pair.server->description(), "TLSv1.2 TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256");
  const auto sent = random_bytes(100000);
  ASSERT_TRUE(pair.server->send(sent));
  pair.carry(1000);
  EXPECT_EQ(as_text(pair.client_plain.view()), as_text(sent));
}

TEST_F(EngineTest, Tls11IsRefusedByBothEnds) {
  const SslContextPtr old_client = foreign_context(TLS_client_method(), TLS1_1_VERSION);
  TestPair at_server(new_client_engine(old_client.get(), {}), server_->new_engine());
  EXPECT_FALSE(at_server.connect());
  ASSERT_FALSE(at_server.server_result);
  EXPECT_EQ(at_server.server_result.error().code, ErrorCode::protocol_error);
  EXPECT_THAT(at_server.server_result.error().message, HasSubstr("the client speaks only TLS versions older than 1.2"));

  const SslContextPtr old_server = foreign_context(TLS_server_method(), TLS1_1_VERSION);
  TestPair at_client(client_->new_engine("localhost"), new_server_engine(old_server.get(), {}));
  EXPECT_FALSE(at_client.connect());
  ASSERT_FALSE(at_client.client_result);
  EXPECT_EQ(at_client.client_result.error().code, ErrorCode::closed);
  EXPECT_THAT(at_client.client_result.error().message,
              AllOf(HasSubstr("the server speaks neither TLS 1.2 nor TLS 1.3"), HasSubstr("protocol version")));
}

TEST_F(EngineTest, AClientWithoutAesInstructionsGetsChaCha20) {
  const SslContextPtr phone = foreign_context(TLS_client_method(), TLS1_3_VERSION);
  SSL_CTX_set_ciphersuites(phone.get(), "TLS_CHACHA20_POLY1305_SHA256:TLS_AES_128_GCM_SHA256");
  TestPair pair(new_client_engine(phone.get(), {}), server_->new_engine());
  ASSERT_TRUE(pair.connect());
  EXPECT_EQ(pair.client->description(), "TLSv1.3 TLS_CHACHA20_POLY1305_SHA256");
}

TEST_F(EngineTest, AClientWithoutACommonCipherIsRefused) {
  const SslContextPtr weak = foreign_context(TLS_client_method(), TLS1_2_VERSION);
  SSL_CTX_set_cipher_list(weak.get(), "ECDHE-ECDSA-AES128-SHA");
  TestPair pair(new_client_engine(weak.get(), {}), server_->new_engine());
  EXPECT_FALSE(pair.connect());
  ASSERT_FALSE(pair.server_result);
  EXPECT_THAT(pair.server_result.error().message, HasSubstr("no cipher that is good enough"));
}

TEST_F(EngineTest, Http11IsAgreedOnAndAClientThatOffersOnlyOthersIsRefused) {
  const SslContextPtr browser = foreign_context(TLS_client_method(), TLS1_3_VERSION);
  SSL_CTX_set_alpn_protos(browser.get(), as_bytes("\x02h2\x08http/1.1").data(), 12);
  TestPair both(new_client_engine(browser.get(), {}), server_->new_engine());
  EXPECT_TRUE(both.connect());

  const SslContextPtr h2_only = foreign_context(TLS_client_method(), TLS1_3_VERSION);
  SSL_CTX_set_alpn_protos(h2_only.get(), as_bytes("\x02h2").data(), 3);
  TestPair other(new_client_engine(h2_only.get(), {}), server_->new_engine());
  EXPECT_FALSE(other.connect());
}

TEST_F(EngineTest, TheKeyIsChangedBeforeItIsUsedUp) {
  const SslContextPtr context = foreign_context(TLS_server_method(), TLS1_3_VERSION);
  EngineSettings settings;
  settings.records_per_key = 4;
  TestPair pair(client_->new_engine("localhost"), new_server_engine(context.get(), std::move(settings)));
  ASSERT_TRUE(pair.connect());
  const auto sent = random_bytes(100);
  std::vector<std::size_t> sizes;
  for (int i = 0; i < 10; ++i) {
    ASSERT_TRUE(pair.server->send(sent));
    sizes.push_back(pair.server->output().size());
    pair.carry();
  }
  EXPECT_GT(sizes[4], sizes[3]) << "a KeyUpdate before the fifth record";
  EXPECT_EQ(sizes[5], sizes[3]);
  EXPECT_GT(sizes[8], sizes[7]);
  EXPECT_EQ(pair.client_plain.size(), 1000U);
  ASSERT_TRUE(pair.client->send(sent));
  pair.carry();
  EXPECT_EQ(pair.server_plain.size(), 100U) << "the other direction keeps its key";
}

// A client that changes its key before every record.
TEST_F(EngineTest, AFloodOfKeyUpdatesEndsTheConnectionBeforeTheyAreAllWorkedThrough) {
  const SslContextPtr context = foreign_context(TLS_client_method(), TLS1_3_VERSION);
  for (const std::size_t data : {std::size_t{1}, std::size_t{128 * 1024}}) {
    EngineSettings settings;
    settings.records_per_key = 0;
    TestPair pair(new_client_engine(context.get(), std::move(settings)), server_->new_engine());
    ASSERT_TRUE(pair.connect());
    const auto sent = random_bytes(data);
    for (int i = 0; i < 100; ++i) ASSERT_TRUE(pair.client->send(sent));
    pair.carry();
    if (data == 1) {
      ASSERT_FALSE(pair.server_result);
      EXPECT_EQ(pair.server_result.error().message, "the client changes its key without need");
      EXPECT_EQ(pair.server->state(), State::closed);
      EXPECT_EQ(pair.server_plain.size(), 32U);
    } else {
      ASSERT_TRUE(pair.server_result) << "whoever sends that much may";
      EXPECT_EQ(pair.server_plain.size(), 100 * data);
    }
  }
}

TEST_F(EngineTest, AnIdleEngineGivesItsMemoryBackAndGoesOn) {
  TestPair pair = connected();
  const auto sent = random_bytes(50000);
  for (int round = 0; round < 3; ++round) {
    ASSERT_TRUE(pair.client->send(sent));
    // In the middle of a record too, which must not be lost.
    const ByteQueue wire = std::exchange(pair.client->output(), {});
    ByteView left = wire.view();
    for (const std::size_t size : {std::size_t{3}, std::size_t{2}, std::size_t{1}, std::size_t{20000}, SIZE_MAX}) {
      const ByteView now = left.first(std::min(size, left.size()));
      left = left.subspan(now.size());
      ASSERT_TRUE(pair.server->receive(now, pair.server_plain));
      pair.server->release_idle_memory();
    }
    pair.client->release_idle_memory();
    EXPECT_EQ(pair.client->output().capacity(), 0U);
    EXPECT_EQ(as_text(pair.server_plain.view()), as_text(sent));
    pair.server_plain.clear();
  }
}

TEST_F(EngineTest, OutputThatWaitsSurvivesReleaseIdleMemory) {
  TestPair pair = connected();
  ASSERT_TRUE(pair.client->send(as_bytes("not yet sent")));
  pair.client->release_idle_memory();
  pair.carry();
  EXPECT_EQ(as_text(pair.server_plain.view()), "not yet sent");
}

TEST_F(EngineTest, AnEngineMayBeHandedToAnotherThreadAndContextsAreShared) {
  std::vector<std::thread> threads;
  std::vector<TestPair> pairs;
  threads.reserve(4);
  pairs.reserve(4);
  for (int i = 0; i < 4; ++i) pairs.push_back(pair());
  for (TestPair& pair : pairs)
    threads.emplace_back([&pair, this] {
      EXPECT_TRUE(pair.connect());
      TestPair another = this->pair();
      EXPECT_TRUE(another.connect());
    });
  for (std::thread& thread : threads) thread.join();
  for (TestPair& pair : pairs) {
    ASSERT_TRUE(pair.client->send(as_bytes("back home")));
    pair.carry();
    EXPECT_EQ(as_text(pair.server_plain.view()), "back home");
  }
}

}  // namespace
}  // namespace penstock::tls
