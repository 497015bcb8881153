// What this room's files share of OpenSSL: owners for its objects and words for its errors. Only .cc files include it.
#pragma once

#include <openssl/bio.h>
#include <openssl/evp.h>
#include <openssl/ssl.h>
#include <openssl/x509.h>
#include <openssl/x509v3.h>

#include <memory>
#include <string>
#include <vector>

#include "base/clock.h"
#include "base/result.h"
#include "tls/certificate.h"

namespace penstock::tls {

template <auto kFree>
struct FreeWith {
  void operator()(auto* object) const { kFree(object); }
};
using BioPtr = std::unique_ptr<BIO, FreeWith<BIO_free_all>>;
using KeyPtr = std::unique_ptr<EVP_PKEY, FreeWith<EVP_PKEY_free>>;
using SslPtr = std::unique_ptr<SSL, FreeWith<SSL_free>>;
using SslContextPtr = std::unique_ptr<SSL_CTX, FreeWith<SSL_CTX_free>>;
using X509Ptr = std::unique_ptr<X509, FreeWith<X509_free>>;

// The reason of the newest error in this thread's queue, "no reason given" where there is none; empties the queue.
std::string take_openssl_reason();

// The certificates of a PEM text, at least one. `path` is only for the messages.
Result<std::vector<X509Ptr>> parse_certificates(const std::string& pem, const std::string& path);
Result<std::vector<X509Ptr>> read_certificates(const std::string& path);

// Texts in it are safe to print: whoever made the certificate may be hostile.
CertificateInfo describe(const X509& certificate);
std::string pin_of(const X509& certificate);

// "2027-01-31 23:59 UTC"
std::string calendar_text(WallTime time);

}  // namespace penstock::tls
