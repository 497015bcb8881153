#include "tls/verify.h"

#include <openssl/x509v3.h>

#include <algorithm>
#include <cctype>

#include "base/bytes.h"
#include "base/digest.h"
#include "base/ip.h"
#include "tls/openssl.h"

namespace penstock::tls {

namespace {

// Certificates of large sites carry hundreds of names; a message needs the first few.
constexpr std::size_t kNamesShown = 8;

std::string list_of(const std::vector<std::string>& names) {
  if (names.empty()) return "no name at all";
  std::string text;
  for (std::size_t i = 0; i < std::min(names.size(), kNamesShown); ++i) text += (i == 0 ? "" : ", ") + names[i];
  if (names.size() > kNamesShown) text += " and " + std::to_string(names.size() - kNamesShown) + " more";
  return text;
}

void expect_name_and_time(X509_STORE_CTX* chain, const Trust& trust, const ServerName& name) {
  X509_VERIFY_PARAM* const expected = X509_STORE_CTX_get0_param(chain);
  X509_VERIFY_PARAM_set_time(expected, std::chrono::system_clock::to_time_t(trust.clock->wall_now()));
  X509_VERIFY_PARAM_set_hostflags(expected, X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS);
  // Whoever lists a certificate in server.ca_file trusts it, also where it is the server's own or an intermediate one.
  if (trust.own_authorities) X509_VERIFY_PARAM_set_flags(expected, X509_V_FLAG_PARTIAL_CHAIN);
  const int set = name.is_address ? X509_VERIFY_PARAM_set1_ip_asc(expected, name.text.c_str())
                                  : X509_VERIFY_PARAM_set1_host(expected, name.text.data(), name.text.size());
  PENSTOCK_ASSERT(set == 1);
}

std::string explain(X509_STORE_CTX* chain, const Trust& trust, const ServerName& name) {
  const X509* const leaf = X509_STORE_CTX_get0_cert(chain);
  const X509* const culprit = X509_STORE_CTX_get_current_cert(chain);
  const CertificateInfo server = describe(*leaf);
  const bool above = culprit != nullptr && X509_STORE_CTX_get_error_depth(chain) > 0;
  const CertificateInfo at_fault = above ? describe(*culprit) : server;
  const std::string whose = above ? "the certificate of the authority " + at_fault.subject : "the server's certificate";
  const std::string now = calendar_text(trust.clock->wall_now());

  const int error = X509_STORE_CTX_get_error(chain);
  switch (error) {
    case X509_V_ERR_DEPTH_ZERO_SELF_SIGNED_CERT:
      return "the server's certificate is self-signed and not trusted here: set server.ca_file to a copy of it, or "
             "server.pin to its pin; the one received has " +
             server.pin + ", compare it with the server's before you trust it";
    case X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT:
    case X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT_LOCALLY:
    case X509_V_ERR_UNABLE_TO_VERIFY_LEAF_SIGNATURE:
    case X509_V_ERR_SELF_SIGNED_CERT_IN_CHAIN:
      return "the server's certificate is signed by a CA that is not trusted here: set server.ca_file or server.pin" +
             std::string(trust.own_authorities ? " (it is not in the server.ca_file that is set)" : "");
    case X509_V_ERR_CERT_HAS_EXPIRED:
      return whose + " expired on " + calendar_text(at_fault.not_after) + ": the server's operator must renew it" +
             " (this machine's clock says " + now + ")";
    case X509_V_ERR_CERT_NOT_YET_VALID:
      return whose + " is not valid before " + calendar_text(at_fault.not_before) +
             ": set this machine's clock if it is wrong (it says " + now + ")";
    case X509_V_ERR_HOSTNAME_MISMATCH:
    case X509_V_ERR_IP_ADDRESS_MISMATCH:
      return "the server's certificate is for " + list_of(server.names) + ", not for " + name.text +
             ": set server.url to a name that it has, or set server.pin";
    default: return whose + " was refused (" + X509_verify_cert_error_string(error) + ")";
  }
}

}  // namespace

Result<ServerName> ServerName::parse(const std::string& text) {
  if (IpAddress::parse(text)) return ServerName{.text = text, .is_address = true};
  ServerName name{.text = text};
  if (name.text.ends_with('.')) name.text.pop_back();
  const auto belongs = [](char c) {
    return std::isalnum(static_cast<unsigned char>(c)) != 0 || c == '-' || c == '.' || c == '_';
  };
  // RFC 1035 2.3.4: 253 characters without the last dot. Anything else would not come back from a resolver either.
  if (name.text.empty() || name.text.size() > 253 || name.text.front() == '.' ||
      !std::all_of(name.text.begin(), name.text.end(), belongs))
    return fail(ErrorCode::invalid_argument, "\"" + text + "\" is neither a DNS name nor an IP address");
  return name;
}

Result<void> judge_server_certificate(X509_STORE_CTX* chain, const Trust& trust, const ServerName& name) {
  X509_STORE_CTX_set_error(chain, X509_V_OK);
  if (!trust.verify) return {};

  if (!trust.pin.empty()) {
    const X509* const leaf = X509_STORE_CTX_get0_cert(chain);
    const std::string received = pin_of(*leaf);
    if (constant_time_equal(as_bytes(received), as_bytes(trust.pin))) return {};
    X509_STORE_CTX_set_error(chain, X509_V_ERR_CERT_UNTRUSTED);
    return fail(ErrorCode::unauthenticated,
                "the server's key is not the pinned one: server.pin is " + trust.pin + ", the server has " + received +
                    "; if its key was changed on purpose, compare this with the server's and set server.pin to it");
  }

  expect_name_and_time(chain, trust, name);
  if (X509_verify_cert(chain) == 1) return {};
  // An out of memory leaves no error; without one OpenSSL would take the chain for good.
  if (X509_STORE_CTX_get_error(chain) == X509_V_OK) X509_STORE_CTX_set_error(chain, X509_V_ERR_UNSPECIFIED);
  return fail(ErrorCode::unauthenticated, explain(chain, trust, name));
}

}  // namespace penstock::tls
