// What a certificate says, and the pin that names its key.
//
// A pin is "sha256//" and the standard base64 of SHA-256 over the certificate's SubjectPublicKeyInfo in DER: the form
// of curl's --pinnedpubkey. It names the key, not the certificate, so a renewal that keeps the key keeps the pin.
//
// Threads     pure functions; any thread.
// Not here    deciding whom to trust (engine.h: ClientContext).
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "base/clock.h"
#include "base/result.h"

namespace penstock::tls {

struct CertificateInfo {
  std::string subject;             // RFC 4514: "CN=vpn.example.org,O=Example"
  std::vector<std::string> names;  // DNS names and IP addresses it is for; the common name where it lists none
  WallTime not_before;
  WallTime not_after;
  std::string pin;
};

// The first certificate of a PEM file, which is the server's own where the file holds a chain.
// Refusals name the path: not_found, permission_denied, invalid_argument for a file without a certificate.
Result<CertificateInfo> read_certificate_file(const std::string& path);

Result<std::string> pin_of_certificate_file(const std::string& path);

bool is_valid_pin(std::string_view text);

}  // namespace penstock::tls
