#include "tls/record_layer.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <openssl/err.h>
#include <openssl/ssl.h>

#include <string>

#include "base/random.h"
#include "tls/engine.h"
#include "tls/openssl.h"
#include "tls/openssl_engine.h"
#include "tls/test_certificates.h"
#include "tls/test_pair.h"
#include "tls/test_records.h"

namespace penstock::tls {
namespace {

using ::testing::HasSubstr;
using Bytes = std::vector<std::uint8_t>;
using State = Engine::State;

constexpr std::uint64_t kManyRecords = std::uint64_t{1} << 23;

Bytes random_bytes(std::size_t size) {
  Bytes bytes(size);
  SeededRandom(size).fill(bytes);
  return bytes;
}

Role other(Role role) { return role == Role::client ? Role::server : Role::client; }

// A record layer, and a peer that forges what it likes.
struct Forged {
  explicit Forged(Role role = Role::server, MakeAead make_aead = new_aead)
      : layer(role, test_secrets(), kManyRecords, make_aead), peer(other(role)) {}

  std::optional<Ending> open(ByteView bytes) { return layer.open(bytes, plain, out); }
  std::optional<Ending> open(const Bytes& bytes) { return open(ByteView(bytes)); }
  void expect_violation(const Bytes& bytes, int alert) {
    const std::size_t before = plain.size();
    const auto ending = open(bytes);
    ASSERT_TRUE(ending);
    EXPECT_EQ(ending->alert, alert) << ending->reason;
    EXPECT_NE(ending->cause, Ending::Cause::alert);
    EXPECT_EQ(plain.size(), before);
    EXPECT_EQ(out.size(), 5U + 2 + 1 + kAeadTagSize) << "an alert";
  }

  RecordLayer layer;
  ForgingPeer peer;
  ByteQueue plain;
  ByteQueue out;
};

Bytes operator+(Bytes a, const Bytes& b) {
  a.insert(a.end(), b.begin(), b.end());
  return a;
}

TEST(RecordLayerTest, TwoOfThemUnderstandEachOtherWithEitherCipherAtAllBorders) {
  for (const MakeAead left : {new_evp_aead, new_aead})
    for (const MakeAead right : {new_evp_aead, new_aead}) {
      RecordLayer client(Role::client, test_secrets(), kManyRecords, left);
      RecordLayer server(Role::server, test_secrets(), kManyRecords, right);
      for (const std::size_t size : {1U, 2U, 15U, 16U, 17U, 16383U, 16384U, 16385U, 32767U, 32768U, 32769U, 100000U}) {
        const Bytes sent = random_bytes(size);
        ByteQueue wire;
        ByteQueue plain;
        ByteQueue answers;
        client.seal(sent, wire);
        EXPECT_FALSE(server.open(wire.view(), plain, answers));
        EXPECT_EQ(as_text(plain.view()), as_text(sent));
        EXPECT_TRUE(answers.empty());
      }
    }
}

TEST(RecordLayerTest, HoweverTheBytesAreCutTheyMeanTheSame) {
  for (const std::size_t piece : {1U, 4U, 5U, 6U, 21U, 22U, 777U, 16405U, 16406U, 16407U, 30000U}) {
    Forged forged;
    Bytes wire;
    Bytes sent;
    for (const std::size_t size : {1U, 16384U, 3U, 16384U, 200U}) {
      const Bytes content = random_bytes(size);
      wire = wire + forged.peer.record(kDataType, content);
      wire = wire + forged.peer.key_update(false);
      sent = sent + content;
    }
    for (ByteView left = wire; !left.empty();) {
      const ByteView now = left.first(std::min(piece, left.size()));
      left = left.subspan(now.size());
      ASSERT_FALSE(forged.open(now));
      forged.layer.release_idle_memory();
    }
    EXPECT_EQ(as_text(forged.plain.view()), as_text(sent)) << piece;
  }
}

TEST(RecordLayerTest, PaddingIsCutOff) {
  Forged forged;
  EXPECT_FALSE(forged.open(forged.peer.record(kDataType, as_bytes("no secret of its length"), 1000)));
  EXPECT_FALSE(forged.open(forged.peer.record(kDataType, random_bytes(16384))));
  EXPECT_FALSE(forged.open(forged.peer.record(kDataType, as_bytes("x"), 16383)));
  EXPECT_EQ(forged.plain.size(), 23U + 16384 + 1);
}

TEST(RecordLayerTest, ContentMayEndWithZeros) {
  Forged forged;
  EXPECT_FALSE(forged.open(forged.peer.record(kDataType, Bytes(100), 50)));
  EXPECT_EQ(forged.plain.size(), 100U);
}

TEST(RecordLayerTest, TheVersionOfARecordIsIgnored) {
  Forged forged;
  forged.peer.version = 0x0301;
  EXPECT_FALSE(forged.open(forged.peer.record(kDataType, as_bytes("x"))));
  EXPECT_EQ(as_text(forged.plain.view()), "x");
}

TEST(RecordLayerTest, ARecordTooLongIsRefusedAtItsHeader) {
  Forged().expect_violation({23, 3, 3, 0x40, 0x12}, 22);
  Forged longest;
  EXPECT_FALSE(longest.open(Bytes{23, 3, 3, 0x40, 0x11}));
  Forged padded;
  padded.expect_violation(padded.peer.record(kDataType, as_bytes("x"), 16384), 22);
}

TEST(RecordLayerTest, ARecordTooShortForATagIsRefused) {
  for (std::uint8_t size = 0; size < 16; ++size) Forged().expect_violation({23, 3, 3, 0, size}, 20);
}

TEST(RecordLayerTest, WhatIsNotEncryptedIsRefused) {
  for (const std::uint8_t type : Bytes{0, 20, 21, 22, 24, 255}) Forged().expect_violation({type, 3, 3, 0, 1, 1}, 10);
}

TEST(RecordLayerTest, RecordsWithoutATypeOrOfAForeignOneAreRefused) {
  for (const std::size_t size : {1U, 100U}) {
    Forged forged;
    forged.expect_violation(forged.peer.record_of(Bytes(size)), 10);
  }
  for (const std::uint8_t type : Bytes{1, 20, 24, 255}) {
    Forged forged;
    forged.expect_violation(forged.peer.record(type, as_bytes("x")), 10);
  }
}

TEST(RecordLayerTest, AChangedByteAnywhereIsRefusedAndNothingComesOut) {
  for (const MakeAead make_aead : {new_evp_aead, new_aead})
    for (std::size_t at = 0; at < 5 + 14 + 1 + kAeadTagSize; ++at) {
      Forged forged(Role::client, make_aead);
      Bytes record = forged.peer.record(kDataType, as_bytes("attack at dawn"));
      record[at] ^= 0x40;
      const auto ending = forged.open(record);
      EXPECT_TRUE(forged.plain.empty());
      // A changed length may as well wait for more.
      if (at == 3 || at == 4) continue;
      ASSERT_TRUE(ending) << at;
      EXPECT_EQ(ending->cause == Ending::Cause::damaged, at != 0) << at;
    }
}

TEST(RecordLayerTest, ARecordThatComesAgainOrTooEarlyIsRefused) {
  Forged replayed;
  const Bytes once = replayed.peer.record(kDataType, as_bytes("pay"));
  EXPECT_FALSE(replayed.open(once));
  EXPECT_EQ(replayed.open(once)->cause, Ending::Cause::damaged);
  EXPECT_EQ(as_text(replayed.plain.view()), "pay");

  Forged reordered;
  const Bytes first = reordered.peer.record(kDataType, as_bytes("1"));
  const Bytes second = reordered.peer.record(kDataType, as_bytes("2"));
  EXPECT_EQ(reordered.open(second + first)->cause, Ending::Cause::damaged);
  EXPECT_TRUE(reordered.plain.empty());

  Forged reflected;
  reflected.layer.seal(as_bytes("echo"), reflected.out);
  const ByteQueue own = std::exchange(reflected.out, {});
  EXPECT_EQ(reflected.open(own.view())->cause, Ending::Cause::damaged);
}

TEST(RecordLayerTest, AKeyUpdateThatAsksForOneIsAnsweredBeforeTheNextDataAndOnce) {
  Forged forged;
  EXPECT_FALSE(forged.open(forged.peer.key_update(true)));
  EXPECT_FALSE(forged.open(forged.peer.key_update(true)));
  EXPECT_FALSE(forged.open(forged.peer.record(kDataType, as_bytes("new key"))));
  EXPECT_EQ(as_text(forged.plain.view()), "new key");
  EXPECT_TRUE(forged.out.empty());

  RecordLayer peer(Role::client, test_secrets(), kManyRecords);
  forged.layer.seal(as_bytes("answer"), forged.out);
  const std::size_t size = forged.out.size();
  forged.layer.seal(as_bytes("answer"), forged.out);
  EXPECT_EQ(size, 22U + 5 + 22 + 6);
  EXPECT_EQ(forged.out.size() - size, 22U + 6);
  ByteQueue plain;
  ByteQueue answers;
  EXPECT_FALSE(peer.open(forged.out.view(), plain, answers));
  EXPECT_EQ(as_text(plain.view()), "answeranswer");
}

TEST(RecordLayerTest, KeyUpdatesThatMakeNoSenseAreRefused) {
  const auto refused = [](const Bytes& content, int alert) {
    Forged forged;
    forged.expect_violation(forged.peer.record(kHandshakeType, content), alert);
  };
  refused({24, 0, 0, 1, 2}, 47);
  refused({24, 0, 0, 0}, 50);
  refused({24, 0, 0, 2, 0, 0}, 50);
  refused({24, 1, 0, 1, 0}, 50);
  refused({24, 0, 0, 1, 0, 24}, 10);
  refused({24, 0, 0, 1, 0, 24, 0, 0, 1, 0}, 10);
}

TEST(RecordLayerTest, KeyUpdatesMayComeInPiecesOfRecordsButNothingInBetween) {
  Forged split;
  for (const std::uint8_t byte : Bytes{24, 0, 0, 1, 0})
    EXPECT_FALSE(split.open(split.peer.record(kHandshakeType, ByteView(&byte, 1), 3)));
  split.peer.advance();
  EXPECT_FALSE(split.open(split.peer.record(kDataType, as_bytes("x"))));
  EXPECT_EQ(split.plain.size(), 1U);

  const Bytes half{24, 0};
  const Bytes cancel{1, 90};
  const Bytes close{1, 0};
  for (const auto& [type, content] : {std::pair{kDataType, half}, {kAlertType, cancel}, {kAlertType, close}}) {
    Forged mixed;
    EXPECT_FALSE(mixed.open(mixed.peer.record(kHandshakeType, half)));
    mixed.expect_violation(mixed.peer.record(type, content), 10);
    EXPECT_FALSE(mixed.layer.peer_closed());
  }
}

TEST(RecordLayerTest, AFloodOfKeyUpdatesIsEnded) {
  Forged forged;
  for (int i = 0; i < 32; ++i) ASSERT_FALSE(forged.open(forged.peer.key_update(i % 2 != 0)));
  EXPECT_TRUE(forged.out.empty());
  EXPECT_EQ(forged.open(forged.peer.key_update(false))->cause, Ending::Cause::key_updates);
}

TEST(RecordLayerTest, OtherHandshakeMessagesAreRefused) {
  for (const Role role : {Role::client, Role::server})
    for (int type = 0; type < 256; ++type) {
      if (type == 24 || (type == 4 && role == Role::client)) continue;
      Forged forged(role);
      forged.expect_violation(forged.peer.record(kHandshakeType, Bytes{static_cast<std::uint8_t>(type)}), 10);
    }
  Forged empty;
  empty.expect_violation(empty.peer.record(kHandshakeType, {}), 10);
}

TEST(RecordLayerTest, TicketsAreSkippedHoweverTheyAreSplitAndJoined) {
  Bytes messages;
  for (const std::size_t size : {14U, 200U, 60000U, 131337U}) {
    Bytes ticket(4 + size, 0x77);
    store_be32(ticket.data(), static_cast<std::uint32_t>(size));
    ticket[0] = 4;
    messages = messages + ticket;
  }
  messages = messages + Bytes{24, 0, 0, 1, 0};
  for (const std::size_t piece : {3U, 4096U, 16384U}) {
    Forged forged(Role::client);
    for (ByteView left = messages; !left.empty();) {
      const ByteView now = left.first(std::min(piece, left.size()));
      left = left.subspan(now.size());
      ASSERT_FALSE(forged.open(forged.peer.record(kHandshakeType, now)));
    }
    forged.peer.advance();
    EXPECT_FALSE(forged.open(forged.peer.record(kDataType, as_bytes("after"))));
    EXPECT_EQ(as_text(forged.plain.view()), "after");
  }
  for (const Bytes& wrong : {Bytes{4, 0, 0, 13}, Bytes{4, 2, 1, 10}, Bytes{4, 255, 255, 255}}) {
    Forged forged(Role::client);
    forged.expect_violation(forged.peer.record(kHandshakeType, wrong), 50);
  }
}

TEST(RecordLayerTest, AlertsEndItWhateverTheirLevelButForTwo) {
  for (const std::uint8_t level : Bytes{1, 2, 7})
    for (int alert = 1; alert < 256; ++alert) {
      if (alert == 90) continue;
      Forged forged;
      const auto ending = forged.open(forged.peer.record(kAlertType, Bytes{level, static_cast<std::uint8_t>(alert)}));
      ASSERT_TRUE(ending);
      EXPECT_EQ(ending->cause, Ending::Cause::alert);
      EXPECT_EQ(ending->alert, alert);
      EXPECT_TRUE(forged.out.empty()) << "an alert is not answered";
    }
  Forged cancelled;
  EXPECT_FALSE(cancelled.open(cancelled.peer.record(kAlertType, Bytes{1, 90})));
  EXPECT_FALSE(cancelled.open(cancelled.peer.record(kAlertType, Bytes{2, 0}) + Bytes{1, 2, 3, 4, 5, 6}));
  EXPECT_TRUE(cancelled.layer.peer_closed());
  for (const Bytes& wrong : {Bytes{}, Bytes{2}, Bytes{1, 0, 0}}) {
    Forged forged;
    forged.expect_violation(forged.peer.record(kAlertType, wrong), 50);
  }
}

TEST(RecordLayerTest, ThirtyTwoEmptyRecordsInARowAreBorne) {
  Forged forged;
  for (int round = 0; round < 3; ++round) {
    for (int i = 0; i < 32; ++i)
      ASSERT_FALSE(forged.open(i % 2 == 0 ? forged.peer.record(kDataType, {}, static_cast<std::size_t>(i))
                                          : forged.peer.record(kAlertType, Bytes{1, 90})));
    ASSERT_FALSE(forged.open(forged.peer.record(kDataType, as_bytes("x"))));
  }
  for (int i = 0; i < 32; ++i) ASSERT_FALSE(forged.open(forged.peer.record(kDataType, {})));
  forged.expect_violation(forged.peer.record(kDataType, {}), 10);
}

// OpenSSL by itself, on the other side of an Engine of ours.
class OpensslPeer {
 public:
  OpensslPeer(SSL_CTX* context, Role role) : ssl_(SSL_new(context)) {
    in_ = BIO_new(BIO_s_mem());
    out_ = BIO_new(BIO_s_mem());
    BIO_set_mem_eof_return(in_, -1);
    SSL_set_bio(ssl_.get(), in_, out_);
    role == Role::client ? SSL_set_connect_state(ssl_.get()) : SSL_set_accept_state(ssl_.get());
  }

  // Both ways until both are silent.
  void carry(Engine& engine, std::size_t piece = SIZE_MAX) {
    if (SSL_is_init_finished(ssl_.get()) == 0) SSL_do_handshake(ssl_.get());
    while (BIO_pending(out_) != 0 || !engine.output().empty()) {
      Bytes wire(static_cast<std::size_t>(BIO_pending(out_)));
      if (!wire.empty()) BIO_read(out_, wire.data(), static_cast<int>(wire.size()));
      for (ByteView left = wire; !left.empty();) {
        const ByteView now = left.first(std::min(piece, left.size()));
        left = left.subspan(now.size());
        result = engine.receive(now, engine_plain);
      }
      const ByteQueue answer = std::exchange(engine.output(), {});
      if (!answer.empty()) BIO_write(in_, answer.view().data(), static_cast<int>(answer.size()));
      read();
    }
  }
  void read() {
    ERR_clear_error();
    while (true) {
      std::size_t got = 0;
      const MutableByteView room = plain.prepare(20000);
      const int returned = SSL_read_ex(ssl_.get(), room.data(), room.size(), &got);
      if (returned != 1) {
        if (SSL_get_error(ssl_.get(), returned) == SSL_ERROR_SSL) alert = ERR_GET_REASON(ERR_peek_last_error()) - 1000;
        return;
      }
      plain.commit(got);
    }
  }
  void send(const Bytes& bytes) {
    ASSERT_EQ(SSL_write(ssl_.get(), bytes.data(), static_cast<int>(bytes.size())), static_cast<int>(bytes.size()));
  }
  SSL* ssl() { return ssl_.get(); }

  ByteQueue plain;         // what it decrypted
  ByteQueue engine_plain;  // what the engine did
  Result<void> result;     // the engine's last
  int alert = 0;           // the last that it got

 private:
  SslPtr ssl_;
  BIO* in_;
  BIO* out_;
};

class AgainstOpensslTest : public ::testing::TestWithParam<Role> {
 protected:
  Role peer_role() const { return other(GetParam()); }
  void configure(const std::function<void(SSL_CTX*)>& change) {
    change(context_.get());
    peer_.emplace(context_.get(), peer_role());
  }
  // An open connection to an engine that has GetParam()'s role.
  void connect(std::size_t piece = SIZE_MAX) {
    if (!peer_) peer_.emplace(context_.get(), peer_role());
    engine_ = GetParam() == Role::client ? client_->new_engine("localhost") : server_->new_engine();
    ASSERT_TRUE(engine_->start());
    peer_->carry(*engine_, piece);
    ASSERT_EQ(engine_->state(), State::open);
  }
  // `size` bytes each way.
  void talk(std::size_t size, std::size_t piece = SIZE_MAX) {
    peer_->plain.clear();
    peer_->engine_plain.clear();
    const Bytes up = random_bytes(size);
    const Bytes down = random_bytes(size + 1);
    ASSERT_TRUE(engine_->send(up));
    peer_->send(down);
    peer_->carry(*engine_, piece);
    ASSERT_TRUE(peer_->result);
    EXPECT_EQ(as_text(peer_->plain.view()), as_text(up));
    EXPECT_EQ(as_text(peer_->engine_plain.view()), as_text(down));
  }

  TestDirectory directory_;
  TestCertificate certificate_ = make_test_certificate(directory_.path());
  std::shared_ptr<ServerContext> server_ = ServerContext::create(certificate_.cert_path, certificate_.key_path).value();
  std::shared_ptr<ClientContext> client_ = ClientContext::create({.pin = certificate_.pin}).value();
  SslContextPtr context_ = [this] {
    SslContextPtr context(SSL_CTX_new(TLS_method()));
    SSL_CTX_use_certificate_file(context.get(), certificate_.cert_path.c_str(), SSL_FILETYPE_PEM);
    SSL_CTX_use_PrivateKey_file(context.get(), certificate_.key_path.c_str(), SSL_FILETYPE_PEM);
    SSL_CTX_set_ciphersuites(context.get(), "TLS_AES_128_GCM_SHA256");
    return context;
  }();
  std::optional<OpensslPeer> peer_;
  std::unique_ptr<Engine> engine_;
};

TEST_P(AgainstOpensslTest, DataOfEverySizeGoesBothWaysHoweverItIsCut) {
  for (const std::size_t piece : {std::size_t{1}, std::size_t{1000}, SIZE_MAX}) {
    peer_.reset();
    connect(piece);
    EXPECT_TRUE(protects_records(*engine_));
    EXPECT_EQ(engine_->description(), "TLSv1.3 TLS_AES_128_GCM_SHA256");
    for (const std::size_t size : {1U, 2U, 16U, 1000U, 16382U, 16383U, 16384U, 16385U, 32768U, 100000U})
      talk(size, piece);
  }
}

TEST_P(AgainstOpensslTest, ThePeersKeyUpdatesOfBothKindsAreFollowed) {
  connect();
  for (int round = 0; round < 4; ++round)
    for (const int kind : {SSL_KEY_UPDATE_NOT_REQUESTED, SSL_KEY_UPDATE_REQUESTED}) {
      ASSERT_EQ(SSL_key_update(peer_->ssl(), kind), 1);
      talk(20000, 999);
      talk(1);
    }
}

TEST_P(AgainstOpensslTest, OurKeyUpdatesAreUnderstood) {
  SslContextPtr own(SSL_CTX_new(TLS_method()));
  SSL_CTX_use_certificate_file(own.get(), certificate_.cert_path.c_str(), SSL_FILETYPE_PEM);
  SSL_CTX_use_PrivateKey_file(own.get(), certificate_.key_path.c_str(), SSL_FILETYPE_PEM);
  SSL_CTX_set_num_tickets(own.get(), 0);
  let_engine_protect_records(own.get());
  EngineSettings settings;
  settings.records_per_key = 3;
  peer_.emplace(context_.get(), peer_role());
  engine_ = GetParam() == Role::client ? new_client_engine(own.get(), std::move(settings))
                                       : new_server_engine(own.get(), std::move(settings));
  ASSERT_TRUE(engine_->start());
  peer_->carry(*engine_);
  ASSERT_TRUE(protects_records(*engine_));
  for (int i = 0; i < 20; ++i) talk(20000);
}

TEST_P(AgainstOpensslTest, TicketsOfAServerAreIgnored) {
  if (GetParam() == Role::server) return;
  configure([](SSL_CTX* context) { SSL_CTX_set_num_tickets(context, 5); });
  connect(1);
  EXPECT_TRUE(protects_records(*engine_));
  talk(100);
  ASSERT_EQ(SSL_new_session_ticket(peer_->ssl()), 1);
  talk(100, 1);
}

TEST_P(AgainstOpensslTest, CloseNotifyIsUnderstoodBothWays) {
  connect();
  SSL_shutdown(peer_->ssl());
  peer_->carry(*engine_);
  EXPECT_TRUE(engine_->peer_closed());
  EXPECT_EQ(engine_->state(), State::open);
  ASSERT_TRUE(engine_->send(as_bytes("last words")));
  engine_->close();
  peer_->carry(*engine_);
  EXPECT_EQ(as_text(peer_->plain.view()), "last words");
  EXPECT_EQ(SSL_get_shutdown(peer_->ssl()), SSL_SENT_SHUTDOWN | SSL_RECEIVED_SHUTDOWN);
  EXPECT_EQ(engine_->send(as_bytes("x")).error().code, ErrorCode::closed);
}

TEST_P(AgainstOpensslTest, APeerThatGotDamagedDataSaysSoInWords) {
  connect();
  ASSERT_TRUE(engine_->send(as_bytes("x")));
  engine_->output().mutable_view()[7] ^= 1;
  peer_->carry(*engine_);
  ASSERT_FALSE(peer_->result);
  EXPECT_EQ(peer_->result.error().code, ErrorCode::closed);
  EXPECT_THAT(peer_->result.error().message, HasSubstr("ended the TLS connection (TLS alert 20, bad record mac)"));
}

TEST_P(AgainstOpensslTest, DamagedDataIsRefusedForGoodAndThePeerIsTold) {
  connect();
  const std::uint8_t forged[] = {23, 3, 3, 0, 17, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17};
  const auto first = engine_->receive(forged, peer_->engine_plain);
  ASSERT_FALSE(first);
  EXPECT_EQ(first.error().code, ErrorCode::protocol_error);
  EXPECT_THAT(first.error().message, HasSubstr("was damaged or forged on its way"));
  peer_->carry(*engine_);
  EXPECT_EQ(peer_->alert, 20);
  EXPECT_EQ(engine_->receive(forged, peer_->engine_plain).error().message, first.error().message);
  EXPECT_EQ(engine_->send(as_bytes("x")).error().message, first.error().message);
  EXPECT_EQ(engine_->state(), State::closed);
}

TEST_P(AgainstOpensslTest, AChangeOfCipherAfterTheHandshakeIsRefusedAndThePeerIsTold) {
  connect();
  const std::uint8_t change_cipher_spec[] = {20, 3, 3, 0, 1, 1};
  const auto received = engine_->receive(change_cipher_spec, peer_->engine_plain);
  ASSERT_FALSE(received);
  EXPECT_EQ(received.error().code, ErrorCode::protocol_error);
  EXPECT_THAT(received.error().message, HasSubstr("not encrypted after the handshake"));
  peer_->carry(*engine_);
  EXPECT_EQ(peer_->alert, 10);
}

TEST_P(AgainstOpensslTest, WithAnythingElseThanTls13AndAes128OpensslGoesOn) {
  for (const char* const cipher : {"TLS_AES_256_GCM_SHA384", "TLS_CHACHA20_POLY1305_SHA256", ""}) {
    configure([&](SSL_CTX* context) {
      if (*cipher != '\0') {
        SSL_CTX_set_ciphersuites(context, cipher);
      } else {
        SSL_CTX_set_max_proto_version(context, TLS1_2_VERSION);
      }
    });
    connect(1);
    EXPECT_FALSE(protects_records(*engine_)) << engine_->description();
    talk(50000, 1000);
  }
}

TEST_P(AgainstOpensslTest, AServerOfOursThatSentTicketsLeavesItsRecordsToOpenssl) {
  if (GetParam() == Role::client) return;
  let_engine_protect_records(context_.get());
  for (const std::size_t tickets : {0U, 2U}) {
    SSL_CTX_set_num_tickets(context_.get(), tickets);
    TestPair pair(client_->new_engine("localhost"), new_server_engine(context_.get(), {}));
    ASSERT_TRUE(pair.connect());
    EXPECT_EQ(protects_records(*pair.server), tickets == 0);
    EXPECT_TRUE(protects_records(*pair.client));
    ASSERT_TRUE(pair.server->send(as_bytes("hello")));
    ASSERT_TRUE(pair.client->send(as_bytes("hello")));
    pair.carry();
    EXPECT_EQ(as_text(pair.client_plain.view()), "hello");
    EXPECT_EQ(as_text(pair.server_plain.view()), "hello");
  }
}

INSTANTIATE_TEST_SUITE_P(AsClient, AgainstOpensslTest, ::testing::Values(Role::client));
INSTANTIATE_TEST_SUITE_P(AsServer, AgainstOpensslTest, ::testing::Values(Role::server));

}  // namespace
}  // namespace penstock::tls
