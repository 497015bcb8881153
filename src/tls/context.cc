#include <openssl/err.h>
#include <openssl/pem.h>

#include <array>
#include <utility>

#include "base/atomic_file.h"
#include "tls/engine.h"
#include "tls/openssl.h"
#include "tls/openssl_engine.h"
#include "tls/verify.h"

namespace penstock::tls {

namespace {

constexpr const char* kTls13Ciphers = "TLS_AES_128_GCM_SHA256:TLS_CHACHA20_POLY1305_SHA256:TLS_AES_256_GCM_SHA384";
constexpr const char* kTls12Ciphers =
    "ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-RSA-AES128-GCM-SHA256:"
    "ECDHE-ECDSA-CHACHA20-POLY1305:ECDHE-RSA-CHACHA20-POLY1305:"
    "ECDHE-ECDSA-AES256-GCM-SHA384:ECDHE-RSA-AES256-GCM-SHA384";
// RFC 7301 3.1: each protocol after its length.
constexpr std::array<std::uint8_t, 9> kHttp11{8, 'h', 't', 't', 'p', '/', '1', '.', '1'};
constexpr std::size_t kMaxKeyFileSize = std::size_t{1} << 20;

// Without state: what a caller gets who passes no clock.
const SystemClock machine_calendar;

SslContextPtr new_context(const SSL_METHOD* method) {
  SslContextPtr context(SSL_CTX_new(method));
  PENSTOCK_ASSERT(context != nullptr);
  SSL_CTX* const ssl = context.get();
  // The system's openssl.cnf may say otherwise for other programs.
  PENSTOCK_ASSERT(SSL_CTX_set_min_proto_version(ssl, TLS1_2_VERSION) == 1);
  PENSTOCK_ASSERT(SSL_CTX_set_max_proto_version(ssl, 0) == 1);
  PENSTOCK_ASSERT(SSL_CTX_set_ciphersuites(ssl, kTls13Ciphers) == 1);
  PENSTOCK_ASSERT(SSL_CTX_set_cipher_list(ssl, kTls12Ciphers) == 1);
  SSL_CTX_set_options(ssl, SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION | SSL_OP_NO_TICKET |
                               SSL_OP_CIPHER_SERVER_PREFERENCE | SSL_OP_PRIORITIZE_CHACHA);
  SSL_CTX_set_session_cache_mode(ssl, SSL_SESS_CACHE_OFF);
  PENSTOCK_ASSERT(SSL_CTX_set_num_tickets(ssl, 0) == 1);
  // Whole records into the owner's buffers, and record buffers that stay while there is traffic.
  SSL_CTX_set_read_ahead(ssl, 0);
  SSL_CTX_clear_mode(ssl, SSL_MODE_RELEASE_BUFFERS);
  let_engine_protect_records(ssl);
  return context;
}

int choose_protocol(SSL*, const unsigned char** chosen, unsigned char* chosen_size, const unsigned char* offered,
                    unsigned int offered_size, void*) {
  unsigned char* found = nullptr;
  const int result = SSL_select_next_proto(&found, chosen_size, kHttp11.data(), kHttp11.size(), offered, offered_size);
  *chosen = found;
  // RFC 7301 3.2: a client that offers protocols and not this one would not be understood.
  return result == OPENSSL_NPN_NEGOTIATED ? SSL_TLSEXT_ERR_OK : SSL_TLSEXT_ERR_ALERT_FATAL;
}

// Puts the configuration's word before a refusal that names the path, and what to do after it.
std::unexpected<Error> about(std::string_view config_key, Error error) {
  error.message = std::string(config_key) + ": " + error.message;
  if (error.code == ErrorCode::not_found) error.message += " (is the path right?)";
  if (error.code == ErrorCode::permission_denied) error.message += " (let the user that penstock runs as read it)";
  return std::unexpected(std::move(error));
}

Result<void> check_dates(const CertificateInfo& info, const std::string& path, WallTime now) {
  if (now > info.not_after)
    return fail(ErrorCode::invalid_argument,
                "server.tls_cert: " + path + ": the certificate expired on " + calendar_text(info.not_after) +
                    ": renew it (certbot renew, or openssl req -x509 for a self-signed one) and start again");
  if (now < info.not_before)
    return fail(ErrorCode::invalid_argument,
                "server.tls_cert: " + path + ": the certificate is not valid before " + calendar_text(info.not_before) +
                    ": set this machine's clock if it is wrong (it says " + calendar_text(now) + ")");
  return {};
}

Result<KeyPtr> read_key(const std::string& path) {
  auto pem = read_whole_file(path, kMaxKeyFileSize);
  if (!pem) return about("server.tls_key", std::move(pem).error());
  const BioPtr text(BIO_new_mem_buf(pem->data(), static_cast<int>(pem->size())));
  PENSTOCK_ASSERT(text != nullptr);
  bool asked_for_passphrase = false;
  const auto no_passphrase = [](char*, int, int, void* asked) {
    *static_cast<bool*>(asked) = true;
    return -1;
  };
  KeyPtr key(PEM_read_bio_PrivateKey(text.get(), nullptr, no_passphrase, &asked_for_passphrase));
  OPENSSL_cleanse(pem->data(), pem->size());
  const std::string reason = take_openssl_reason();
  if (key) return key;
  if (asked_for_passphrase)
    return fail(ErrorCode::invalid_argument,
                "server.tls_key: " + path +
                    ": the key is protected by a passphrase, which nobody could type when the "
                    "server starts by itself: remove it with openssl pkey -in " +
                    path + " -out key.pem");
  return fail(ErrorCode::invalid_argument,
              "server.tls_key: " + path + ": holds no private key in PEM form (" + reason + ")");
}

class OpenSslServerContext final : public ServerContext {
 public:
  OpenSslServerContext(SslContextPtr context, CertificateInfo certificate)
      : context_(std::move(context)), certificate_(std::move(certificate)) {}

  std::unique_ptr<Engine> new_engine() override { return new_server_engine(context_.get(), {}); }
  const CertificateInfo& certificate() const override { return certificate_; }

 private:
  SslContextPtr context_;
  CertificateInfo certificate_;
};

class OpenSslClientContext final : public ClientContext {
 public:
  OpenSslClientContext(SslContextPtr context, Trust trust)
      : context_(std::move(context)), trust_(std::make_shared<const Trust>(std::move(trust))) {}

  std::unique_ptr<Engine> new_engine(const std::string& server_name) override {
    EngineSettings settings;
    auto name = ServerName::parse(server_name);
    if (!name) {
      settings.cannot_start = std::move(name).error();
      return new_client_engine(context_.get(), std::move(settings));
    }
    if (!name->is_address) settings.sni = name->text;
    settings.judge_certificate = [trust = trust_, name = *std::move(name)](X509_STORE_CTX* chain) {
      return judge_server_certificate(chain, *trust, name);
    };
    return new_client_engine(context_.get(), std::move(settings));
  }

 private:
  SslContextPtr context_;
  std::shared_ptr<const Trust> trust_;  // shared with the engines, whose handshake asks it
};

}  // namespace

Result<std::shared_ptr<ServerContext>> ServerContext::create(const std::string& certificate_path,
                                                             const std::string& key_path, const Clock& clock,
                                                             Dates dates) {
  auto chain = read_certificates(certificate_path);
  if (!chain) return about("server.tls_cert", std::move(chain).error());
  X509* const own = chain->front().get();
  CertificateInfo info = describe(*own);
  if (dates == Dates::must_be_valid) PENSTOCK_TRY_VOID(check_dates(info, certificate_path, clock.wall_now()));

  PENSTOCK_TRY(const KeyPtr key, read_key(key_path));
  ERR_clear_error();
  if (X509_check_private_key(own, key.get()) != 1) {
    ERR_clear_error();
    return fail(ErrorCode::invalid_argument,
                "server.tls_key: " + key_path + ": the key does not belong to the certificate in server.tls_cert: " +
                    certificate_path + " (" + info.subject + "): give the pair that was made together");
  }

  SslContextPtr context = new_context(TLS_server_method());
  SSL_CTX_set_alpn_select_cb(context.get(), choose_protocol, nullptr);
  bool used = SSL_CTX_use_certificate(context.get(), own) == 1;
  for (std::size_t i = 1; used && i < chain->size(); ++i)
    used = SSL_CTX_add1_chain_cert(context.get(), (*chain)[i].get()) == 1;
  used = used && SSL_CTX_use_PrivateKey(context.get(), key.get()) == 1;
  if (!used)
    return fail(ErrorCode::invalid_argument, "server.tls_cert: " + certificate_path + ": cannot be used for TLS (" +
                                                 take_openssl_reason() + "): make a new one with a stronger key");
  return std::make_shared<OpenSslServerContext>(std::move(context), std::move(info));
}

Result<std::shared_ptr<ServerContext>> ServerContext::create(const std::string& certificate_path,
                                                             const std::string& key_path) {
  return create(certificate_path, key_path, machine_calendar);
}

Result<std::shared_ptr<ClientContext>> ClientContext::create(const ClientOptions& options, const Clock& clock) {
  if (!options.pin.empty() && !is_valid_pin(options.pin))
    return fail(ErrorCode::invalid_argument,
                "server.pin: \"" + options.pin + "\" is no pin: it must be sha256// and 44 characters of base64");
  SslContextPtr context = new_context(TLS_client_method());
  PENSTOCK_ASSERT(SSL_CTX_set_alpn_protos(context.get(), kHttp11.data(), kHttp11.size()) == 0);
  use_engine_judgement(context.get());

  const bool needs_authorities = options.verify && options.pin.empty();
  if (needs_authorities && !options.ca_file.empty()) {
    auto authorities = read_certificates(options.ca_file);
    if (!authorities) return about("server.ca_file", std::move(authorities).error());
    for (const X509Ptr& authority : *authorities)
      PENSTOCK_ASSERT(X509_STORE_add_cert(SSL_CTX_get_cert_store(context.get()), authority.get()) == 1);
  } else if (needs_authorities && SSL_CTX_set_default_verify_paths(context.get()) != 1) {
    return fail(ErrorCode::system_error, "the system's certificate authorities cannot be read (" +
                                             take_openssl_reason() +
                                             "): install ca-certificates, or set server.ca_file or server.pin");
  }
  return std::make_shared<OpenSslClientContext>(
      std::move(context),
      Trust{
          .verify = options.verify, .pin = options.pin, .own_authorities = !options.ca_file.empty(), .clock = &clock});
}

Result<std::shared_ptr<ClientContext>> ClientContext::create(const ClientOptions& options) {
  return create(options, machine_calendar);
}

}  // namespace penstock::tls
