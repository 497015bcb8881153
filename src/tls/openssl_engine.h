// The Engine over OpenSSL, and over record_layer.h after the handshake. Only .cc files include it.
//
//   HANDSHAKING (OpenSSL) --TLS 1.3, AES-128--> OPEN (record layer; the SSL object is freed)
//            '------------anything else-------> OPEN (OpenSSL)
#pragma once

#include <openssl/ssl.h>

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "base/result.h"
#include "tls/engine.h"

namespace penstock::tls {

struct EngineSettings {
  // Asked once in a client's handshake; a refusal ends it and is what receive() returns.
  std::move_only_function<Result<void>(X509_STORE_CTX*)> judge_certificate;

  std::string sni;  // sent by a client unless it is empty

  // Why a client's start() refuses.
  std::optional<Error> cannot_start;

  // RFC 8446 5.5 allows 2^24.5 full records to one AES-GCM key, some 400 GB: minutes for a fast link. A third of it.
  std::uint64_t records_per_key = std::uint64_t{1} << 23;
};

// Engines of `context` ask EngineSettings::judge_certificate instead of OpenSSL's own verification.
void use_engine_judgement(SSL_CTX* context);

// Engines of `context` protect the records themselves after a handshake that agreed on TLS 1.3 with AES-128
// (record_layer.h); without it, and with anything else, OpenSSL does. They get the two secrets by OpenSSL's key log
// callback, and are all that listens to it: nothing is logged.
void let_engine_protect_records(SSL_CTX* context);
// Whether this one, which is of this file, does.
bool protects_records(const Engine& engine);

std::unique_ptr<Engine> new_server_engine(SSL_CTX* context, EngineSettings settings);
std::unique_ptr<Engine> new_client_engine(SSL_CTX* context, EngineSettings settings);

}  // namespace penstock::tls
