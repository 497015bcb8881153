// The client's judgement on the certificate that a server shows. Only .cc files include it.
//
// OpenSSL asks once in each handshake, before anything that the server sent is believed. All of the judgement is here,
// instead of being spread over OpenSSL's flags, so that each refusal can say what was expected, what came, and what to
// do about it.
#pragma once

#include <openssl/x509.h>

#include <string>

#include "base/clock.h"
#include "base/result.h"

namespace penstock::tls {

// What a client believes: see ClientOptions.
struct Trust {
  bool verify = true;
  std::string pin;
  bool own_authorities = false;  // server.ca_file is set, so the system's are not asked
  const Clock* clock = nullptr;
};

// The name as certificates and SNI have it: without the dot that may end a fully qualified name.
struct ServerName {
  std::string text;
  bool is_address = false;

  // Refusal: invalid_argument for what is neither a DNS name nor an IP address.
  static Result<ServerName> parse(const std::string& text);
};

// `chain` is as OpenSSL prepares it for a verify callback; its error is set so that the right alert goes out.
// Refusal: unauthenticated.
Result<void> judge_server_certificate(X509_STORE_CTX* chain, const Trust& trust, const ServerName& name);

}  // namespace penstock::tls
