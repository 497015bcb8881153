#include "tls/engine.h"

#include <openssl/err.h>
#include <openssl/ssl.h>

#include <algorithm>
#include <array>
#include <utility>

#include "tls/openssl.h"
#include "tls/openssl_engine.h"
#include "tls/record_layer.h"

namespace penstock::tls {

namespace {

// Header, content type, tag and, in TLS 1.2, the explicit nonce: 22 to 29 bytes.
constexpr std::size_t kRecordOverhead = 32;
constexpr std::size_t kSmallestRoom = 512;
constexpr const char* kOwnRecords = "TLSv1.3 TLS_AES_128_GCM_SHA256";  // what the record layer speaks

// Both ends of OpenSSL's transport, with no buffer between it and ours: it takes its input from the very bytes that
// receive() was given and puts its output at the end of the queue that is sent from. It asks for a record's five bytes
// of header and then for its body, and keeps what there is of an incomplete one, so that nothing is ever left over.
struct Wire {
  ByteView input;
  ByteQueue output;
};

Wire& wire_of(BIO* bio) { return *static_cast<Wire*>(BIO_get_data(bio)); }

int read_from_wire(BIO* bio, char* out, std::size_t size, std::size_t* got) {
  BIO_clear_retry_flags(bio);
  ByteView& input = wire_of(bio).input;
  if (input.empty()) {
    BIO_set_retry_read(bio);
    return 0;
  }
  *got = std::min(size, input.size());
  std::memcpy(out, input.data(), *got);
  input = input.subspan(*got);
  return 1;
}

int write_to_wire(BIO* bio, const char* data, std::size_t size, std::size_t* written) {
  BIO_clear_retry_flags(bio);
  wire_of(bio).output.append(as_bytes({data, size}));
  *written = size;
  return 1;
}

long control_wire(BIO*, int command, long, void*) { return command == BIO_CTRL_FLUSH ? 1 : 0; }

const BIO_METHOD* wire_method() {
  // A table of functions, made once and the same for ever.
  static const BIO_METHOD* const method = [] {
    BIO_METHOD* const made = BIO_meth_new(BIO_get_new_index() | BIO_TYPE_SOURCE_SINK, "penstock wire");
    PENSTOCK_ASSERT(made != nullptr);
    BIO_meth_set_read_ex(made, read_from_wire);
    BIO_meth_set_write_ex(made, write_to_wire);
    BIO_meth_set_ctrl(made, control_wire);
    return made;
  }();
  return method;
}

// What a key log's line about one of the application traffic secrets says: "LABEL <client random> <secret>", in hex.
// Anything else, a secret of another hash too, is not ours to use.
bool read_secret(std::string_view line, std::string_view label, TrafficSecret& secret) {
  const std::size_t start = line.rfind(' ');
  if (!line.starts_with(label) || start == std::string_view::npos) return false;
  const std::string_view hex = line.substr(start + 1);
  if (hex.size() != 2 * secret.size()) return false;
  const auto value = [](char digit) { return OPENSSL_hexchar2int(static_cast<unsigned char>(digit)); };
  for (std::size_t i = 0; i < secret.size(); ++i) {
    const int high = value(hex[2 * i]);
    const int low = value(hex[2 * i + 1]);
    if (high < 0 || low < 0) return false;
    secret[i] = static_cast<std::uint8_t>(high << 4 | low);
  }
  return true;
}

class OpensslEngine final : public Engine {
 public:
  OpensslEngine(SSL_CTX* context, Role role, EngineSettings settings)
      : role_(role), settings_(std::move(settings)), ssl_(SSL_new(context)) {
    PENSTOCK_ASSERT(ssl_ != nullptr);
    BIO* const bio = BIO_new(wire_method());
    PENSTOCK_ASSERT(bio != nullptr);
    BIO_set_data(bio, &wire_);
    BIO_set_init(bio, 1);
    SSL_set_bio(ssl_.get(), bio, bio);
    SSL_set_app_data(ssl_.get(), this);
    SSL_set_msg_callback(ssl_.get(), see_message);
    if (role == Role::server) {
      SSL_set_accept_state(ssl_.get());
    } else {
      SSL_set_connect_state(ssl_.get());
      // SSL_set_tlsext_host_name() without the macro's old-style cast.
      if (!settings_.sni.empty())
        PENSTOCK_ASSERT(
            SSL_ctrl(ssl_.get(), SSL_CTRL_SET_TLSEXT_HOSTNAME, TLSEXT_NAMETYPE_host_name, settings_.sni.data()) == 1);
    }
  }

  Result<void> start() override;
  Result<void> receive(ByteView ciphertext, ByteQueue& plain) override;
  Result<void> send(ByteView plain) override;
  void close() override;
  ByteQueue& output() override { return wire_.output; }
  State state() const override { return state_; }
  bool peer_closed() const override { return peer_closed_; }
  std::string description() const override;
  void release_idle_memory() override;

  bool has_own_records() const { return records_.has_value(); }

  // OpenSSL says it when it begins to use a secret.
  void hear_secret(std::string_view line) {
    if (!agreed_) return;
    agreed_->has_client = agreed_->has_client || read_secret(line, "CLIENT_TRAFFIC_SECRET_0 ", agreed_->secrets.client);
    agreed_->has_server = agreed_->has_server || read_secret(line, "SERVER_TRAFFIC_SECRET_0 ", agreed_->secrets.server);
  }

  // OpenSSL's question in the middle of a client's handshake.
  int judge(X509_STORE_CTX* chain) {
    auto judgement = settings_.judge_certificate(chain);
    if (judgement) return 1;
    refused_certificate_ = std::move(judgement).error();
    return 0;
  }

 private:
  // What the handshake leaves to the record layer.
  struct Agreed {
    RecordLayer::Secrets secrets;
    bool has_client = false;
    bool has_server = false;
    bool was_used = false;  // OpenSSL itself protected a record with one of them
  };

  static void see_message(int sent, int version, int kind, const void* bytes, std::size_t size, SSL* ssl, void*);
  void see_record(bool sent);
  Result<void> handshake();
  void take_over_records();
  Result<void> open_records(ByteQueue& plain);
  Result<void> decrypt(ByteQueue& plain);
  Result<void> outcome(int returned);
  Error needless_key_updates() const { return {ErrorCode::protocol_error, peer() + " changes its key without need"}; }
  Error damaged_record() const {
    return {ErrorCode::protocol_error, "a TLS record from " + peer() + " was damaged or forged on its way"};
  }
  void remember_first_bytes(ByteView ciphertext);
  Error end_with(Error error);
  Error explain_failure();
  Error explain_alert(int alert) const;
  std::optional<Error> explain_foreign_protocol() const;
  std::string peer() const { return role_ == Role::server ? "the client" : "the server"; }

  const Role role_;
  EngineSettings settings_;
  Wire wire_;                                                    // before ssl_, whose BIO points to it
  SslPtr ssl_;                                                   // null once we protect the records
  std::unique_ptr<Agreed> agreed_ = std::make_unique<Agreed>();  // while handshaking
  std::optional<RecordLayer> records_;
  State state_ = State::handshaking;
  bool peer_closed_ = false;
  std::uint64_t records_sent_ = 0;    // with the current key
  std::uint64_t bytes_received_ = 0;  // of data
  std::uint64_t key_updates_ = 0;     // of the peer's
  std::array<std::uint8_t, 5> first_bytes_{};
  std::size_t first_bytes_size_ = 0;
  std::optional<Error> refused_certificate_;
  std::optional<Error> failure_;
};

Result<void> OpensslEngine::start() {
  if (failure_) return std::unexpected(*failure_);
  if (role_ == Role::server || state_ != State::handshaking) return {};
  if (settings_.cannot_start) return std::unexpected(end_with(*settings_.cannot_start));
  return handshake();
}

Result<void> OpensslEngine::receive(ByteView ciphertext, ByteQueue& plain) {
  if (failure_) return std::unexpected(*failure_);
  if (state_ == State::closed || peer_closed_) return {};
  if (settings_.cannot_start) return std::unexpected(end_with(*settings_.cannot_start));
  remember_first_bytes(ciphertext);
  wire_.input = ciphertext;
  auto result = state_ == State::handshaking ? handshake() : Result<void>{};
  if (result && state_ == State::open) result = records_ ? open_records(plain) : decrypt(plain);
  if (result && changes_keys_without_need(key_updates_, bytes_received_))
    result = std::unexpected(end_with(needless_key_updates()));
  // OpenSSL asks for more only when it has taken all; a peer that finds an exception must not grow a queue with it.
  if (result && !peer_closed_ && !wire_.input.empty())
    result = std::unexpected(
        end_with({ErrorCode::protocol_error, "TLS with " + peer() + " failed: it left part of the input"}));
  wire_.input = {};
  return result;
}

Result<void> OpensslEngine::handshake() {
  ERR_clear_error();
  const int returned = SSL_do_handshake(ssl_.get());
  if (returned != 1) return outcome(returned);
  state_ = State::open;
  take_over_records();
  return {};
}

// From here on OpenSSL has nothing more to do, if both secrets are known and it holds no part of a record: without
// read-ahead it never takes more than the record it works on. A server that sends tickets has used its key already.
void OpensslEngine::take_over_records() {
  const std::unique_ptr<Agreed> agreed = std::move(agreed_);  // wiped here
  const SSL_CIPHER* const cipher = SSL_get_current_cipher(ssl_.get());
  if (SSL_version(ssl_.get()) != TLS1_3_VERSION || SSL_CIPHER_get_id(cipher) != TLS1_3_CK_AES_128_GCM_SHA256) return;
  if (!agreed->has_client || !agreed->has_server || agreed->was_used) return;
  if (SSL_has_pending(ssl_.get()) != 0 || std::string_view(SSL_rstate_string(ssl_.get())) != "RH") return;
  records_.emplace(role_, agreed->secrets, settings_.records_per_key);
  ssl_.reset();
  settings_.judge_certificate = {};
}

Result<void> OpensslEngine::open_records(ByteQueue& plain) {
  const auto ending = records_->open(std::exchange(wire_.input, {}), plain, wire_.output);
  peer_closed_ = records_->peer_closed();
  if (!ending) return {};
  switch (ending->cause) {
    case Ending::Cause::alert: return std::unexpected(end_with(explain_alert(ending->alert)));
    case Ending::Cause::damaged: return std::unexpected(end_with(damaged_record()));
    case Ending::Cause::key_updates: return std::unexpected(end_with(needless_key_updates()));
    case Ending::Cause::violation: break;
  }
  return std::unexpected(
      end_with({ErrorCode::protocol_error, "TLS with " + peer() + " failed: " + std::string(ending->reason)}));
}

Result<void> OpensslEngine::decrypt(ByteQueue& plain) {
  ERR_clear_error();
  while (true) {
    const auto pending = static_cast<std::size_t>(SSL_pending(ssl_.get()));
    if (wire_.input.empty() && pending == 0) return {};
    const MutableByteView room = plain.prepare(std::max(wire_.input.size() + pending, kSmallestRoom));
    std::size_t got = 0;
    const int returned = SSL_read_ex(ssl_.get(), room.data(), room.size(), &got);
    if (returned != 1) return outcome(returned);
    plain.commit(got);
    bytes_received_ += got;
  }
}

// OpenSSL works through any number of KeyUpdates in one call and cannot be told to stop; but it stops where its input
// ends.
void OpensslEngine::see_message(int sent, int, int kind, const void* bytes, std::size_t size, SSL* ssl, void*) {
  if (kind == SSL3_RT_HEADER) return static_cast<OpensslEngine*>(SSL_get_app_data(ssl))->see_record(sent != 0);
  if (sent != 0 || kind != SSL3_RT_HANDSHAKE || size == 0) return;
  if (*static_cast<const std::uint8_t*>(bytes) != SSL3_MT_KEY_UPDATE) return;
  auto& engine = *static_cast<OpensslEngine*>(SSL_get_app_data(ssl));
  ++engine.key_updates_;
  if (changes_keys_without_need(engine.key_updates_, engine.bytes_received_)) engine.wire_.input = {};
}

void OpensslEngine::see_record(bool sent) {
  if (!agreed_) return;
  const bool clients = sent == (role_ == Role::client);
  if (clients ? agreed_->has_client : agreed_->has_server) agreed_->was_used = true;
}

// What OpenSSL means by anything but success: more input is needed, the peer has finished, or it is over.
Result<void> OpensslEngine::outcome(int returned) {
  switch (SSL_get_error(ssl_.get(), returned)) {
    case SSL_ERROR_WANT_READ: return {};
    case SSL_ERROR_ZERO_RETURN:
      if (state_ == State::handshaking)
        return std::unexpected(
            end_with({ErrorCode::closed, peer() + " closed the connection before TLS was established"}));
      peer_closed_ = true;
      return {};
    default: return std::unexpected(end_with(explain_failure()));
  }
}

Result<void> OpensslEngine::send(ByteView plain) {
  if (failure_) return std::unexpected(*failure_);
  if (state_ != State::open)
    return fail(ErrorCode::closed, state_ == State::closed ? "the TLS connection was closed"
                                                           : "the TLS connection is not yet established");
  if (plain.empty()) return {};
  if (records_) {
    records_->seal(plain, wire_.output);
    return {};
  }

  ERR_clear_error();
  const std::size_t records = (plain.size() + kMaxRecordPlaintext - 1) / kMaxRecordPlaintext;
  if (records_sent_ + records > settings_.records_per_key && SSL_version(ssl_.get()) == TLS1_3_VERSION) {
    // The KeyUpdate goes out before the next record. OpenSSL declines while the peer is in the middle of such a message
    // of its own: then it is the next send's turn. TLS 1.2 has nothing like it.
    if (SSL_key_update(ssl_.get(), SSL_KEY_UPDATE_NOT_REQUESTED) == 1) records_sent_ = 0;
    ERR_clear_error();
  }
  records_sent_ += records;

  wire_.output.prepare(plain.size() + records * kRecordOverhead);
  std::size_t written = 0;
  if (SSL_write_ex(ssl_.get(), plain.data(), plain.size(), &written) != 1)
    return std::unexpected(end_with(explain_failure()));
  PENSTOCK_ASSERT(written == plain.size());
  return {};
}

void OpensslEngine::close() {
  if (state_ == State::open && records_) {
    records_->close(wire_.output);
  } else if (state_ == State::open) {
    ERR_clear_error();
    SSL_shutdown(ssl_.get());
  }
  state_ = State::closed;
}

std::string OpensslEngine::description() const {
  if (records_) return kOwnRecords;
  const SSL_CIPHER* const cipher = SSL_get_current_cipher(ssl_.get());
  if (cipher == nullptr || SSL_is_init_finished(ssl_.get()) == 0) return "handshaking";
  return std::string(SSL_get_version(ssl_.get())) + " " + SSL_CIPHER_standard_name(cipher);
}

void OpensslEngine::release_idle_memory() {
  if (wire_.output.empty()) wire_.output.release();
  if (records_) return records_->release_idle_memory();
  // In the middle of a record the buffer holds its beginning. OpenSSL refuses then, but before 3.0.14 it forgot to
  // where only the header had come (CVE-2024-4741): "RH" means that it waits for a header.
  if (state_ == State::open && std::string_view(SSL_rstate_string(ssl_.get())) == "RH") SSL_free_buffers(ssl_.get());
}

void OpensslEngine::remember_first_bytes(ByteView ciphertext) {
  const std::size_t taken = std::min(ciphertext.size(), first_bytes_.size() - first_bytes_size_);
  std::copy_n(ciphertext.data(), taken, first_bytes_.data() + first_bytes_size_);
  first_bytes_size_ += taken;
}

Error OpensslEngine::end_with(Error error) {
  state_ = State::closed;
  agreed_.reset();
  failure_ = error;
  return error;
}

Error OpensslEngine::explain_failure() {
  const unsigned long error = ERR_peek_last_error();
  const int reason = ERR_GET_LIB(error) == ERR_LIB_SSL ? ERR_GET_REASON(error) : 0;
  const std::string words = take_openssl_reason();
  if (refused_certificate_) return *refused_certificate_;
  if (auto foreign = explain_foreign_protocol()) return *foreign;
  if (reason >= SSL_AD_REASON_OFFSET) return explain_alert(reason - SSL_AD_REASON_OFFSET);
  switch (reason) {
    case SSL_R_UNSUPPORTED_PROTOCOL:
    case SSL_R_WRONG_SSL_VERSION:
    case SSL_R_NO_PROTOCOLS_AVAILABLE:
      return {ErrorCode::protocol_error, peer() + " speaks only TLS versions older than 1.2: update it"};
    case SSL_R_NO_SHARED_CIPHER:
      return {ErrorCode::protocol_error, peer() + " offers no cipher that is good enough here: update it"};
    case SSL_R_DECRYPTION_FAILED_OR_BAD_RECORD_MAC: return damaged_record();
    default: return {ErrorCode::protocol_error, "TLS with " + peer() + " failed: " + words};
  }
}

// A person who reaches the wrong port should read about the port, not about record versions.
std::optional<Error> OpensslEngine::explain_foreign_protocol() const {
  constexpr std::uint8_t kFirstContentType = 20;  // RFC 8446 5.1: change_cipher_spec ... application_data
  constexpr std::uint8_t kLastContentType = 23;
  if (first_bytes_size_ < first_bytes_.size()) return std::nullopt;
  if (first_bytes_[0] >= kFirstContentType && first_bytes_[0] <= kLastContentType && first_bytes_[1] == 3)
    return std::nullopt;
  const std::string_view start = as_text(first_bytes_);
  for (const std::string_view http : {"HTTP/", "GET /", "HEAD ", "POST ", "PUT /", "OPTIO", "CONNE", "DELET", "PATCH"})
    if (start == http)
      return Error{ErrorCode::protocol_error, role_ == Role::server
                                                  ? "the client speaks plain HTTP to a port that is for TLS: it must "
                                                    "use https:// or wss://"
                                                  : "the server answers in plain HTTP, not TLS: is this the right "
                                                    "port, or is there a proxy in between?"};
  return Error{ErrorCode::protocol_error,
               peer() + " does not speak TLS" + (role_ == Role::client ? ": is this the right port?" : "")};
}

Error OpensslEngine::explain_alert(int alert) const {
  const std::string name = "(TLS alert " + std::to_string(alert) + ", " + SSL_alert_desc_string_long(alert) + ")";
  switch (alert) {
    case SSL_AD_BAD_CERTIFICATE:
    case SSL_AD_UNSUPPORTED_CERTIFICATE:
    case SSL_AD_CERTIFICATE_REVOKED:
    case SSL_AD_CERTIFICATE_EXPIRED:
    case SSL_AD_CERTIFICATE_UNKNOWN:
    case SSL_AD_UNKNOWN_CA:
      return {ErrorCode::closed, role_ == Role::server ? "the client does not accept this server's certificate " + name
                                                       : "the server asks for a certificate of ours " + name};
    case SSL_AD_PROTOCOL_VERSION: return {ErrorCode::closed, peer() + " speaks neither TLS 1.2 nor TLS 1.3 " + name};
    case SSL_AD_HANDSHAKE_FAILURE:
    case SSL_AD_INSUFFICIENT_SECURITY:
      return {ErrorCode::closed, peer() + " found no cipher in common, or refuses the connection " + name};
    case SSL_AD_UNRECOGNIZED_NAME:
      return {ErrorCode::closed, peer() + " does not know the name it was asked for " + name};
    default: return {ErrorCode::closed, peer() + " ended the TLS connection " + name};
  }
}

}  // namespace

void use_engine_judgement(SSL_CTX* context) {
  SSL_CTX_set_verify(context, SSL_VERIFY_PEER, nullptr);
  SSL_CTX_set_cert_verify_callback(
      context,
      [](X509_STORE_CTX* chain, void*) {
        auto* const ssl = static_cast<SSL*>(X509_STORE_CTX_get_ex_data(chain, SSL_get_ex_data_X509_STORE_CTX_idx()));
        return static_cast<OpensslEngine*>(SSL_get_app_data(ssl))->judge(chain);
      },
      nullptr);
}

void let_engine_protect_records(SSL_CTX* context) {
  SSL_CTX_set_keylog_callback(context, [](const SSL* ssl, const char* line) {
    if (auto* const engine = static_cast<OpensslEngine*>(SSL_get_app_data(ssl))) engine->hear_secret(line);
  });
}

bool protects_records(const Engine& engine) { return dynamic_cast<const OpensslEngine&>(engine).has_own_records(); }

std::unique_ptr<Engine> new_server_engine(SSL_CTX* context, EngineSettings settings) {
  return std::make_unique<OpensslEngine>(context, Role::server, std::move(settings));
}

std::unique_ptr<Engine> new_client_engine(SSL_CTX* context, EngineSettings settings) {
  return std::make_unique<OpensslEngine>(context, Role::client, std::move(settings));
}

}  // namespace penstock::tls
