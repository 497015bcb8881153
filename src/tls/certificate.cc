#include "tls/certificate.h"

#include <openssl/err.h>
#include <openssl/pem.h>

#include <algorithm>
#include <array>
#include <cstdio>
#include <ctime>

#include "base/atomic_file.h"
#include "base/digest.h"
#include "base/ip.h"
#include "tls/openssl.h"

namespace penstock::tls {

namespace {

constexpr std::string_view kPinPrefix = "sha256//";
// The largest bundles of authorities have some 250 KB.
constexpr std::size_t kMaxFileSize = std::size_t{4} << 20;

std::string printable(std::string_view text) {
  std::string result(text.substr(0, 253));  // the longest DNS name
  std::replace_if(result.begin(), result.end(), [](char c) { return c < ' ' || c > '~'; }, '?');
  return result;
}

std::string text_of(const ASN1_STRING* string) {
  return printable(as_text({ASN1_STRING_get0_data(string), static_cast<std::size_t>(ASN1_STRING_length(string))}));
}

std::string subject_of(const X509& certificate) {
  const BioPtr text(BIO_new(BIO_s_mem()));
  PENSTOCK_ASSERT(text != nullptr);
  X509_NAME_print_ex(text.get(), X509_get_subject_name(&certificate), 0, XN_FLAG_RFC2253);
  char* data = nullptr;
  const long size = BIO_get_mem_data(text.get(), &data);
  return printable({data, static_cast<std::size_t>(size)});
}

std::vector<std::string> names_of(const X509& certificate) {
  std::vector<std::string> names;
  bool has_dns_name = false;
  using NamesPtr = std::unique_ptr<GENERAL_NAMES, FreeWith<GENERAL_NAMES_free>>;
  const NamesPtr listed(
      static_cast<GENERAL_NAMES*>(X509_get_ext_d2i(&certificate, NID_subject_alt_name, nullptr, nullptr)));
  for (int i = 0; i < sk_GENERAL_NAME_num(listed.get()); ++i) {
    const GENERAL_NAME* const name = sk_GENERAL_NAME_value(listed.get(), i);
    if (name->type == GEN_DNS) {
      has_dns_name = true;
      names.push_back(text_of(name->d.dNSName));
    } else if (name->type == GEN_IPADD) {
      const auto size = static_cast<std::size_t>(ASN1_STRING_length(name->d.iPAddress));
      if (size == 4 || size == 16)
        names.push_back(IpAddress::from_bytes({ASN1_STRING_get0_data(name->d.iPAddress), size}).to_string());
    }
  }
  if (has_dns_name) return names;
  // RFC 6125 6.4.4: the common name counts only where no DNS name is listed.
  const X509_NAME* const subject = X509_get_subject_name(&certificate);
  const int at = X509_NAME_get_index_by_NID(subject, NID_commonName, -1);
  if (at >= 0) names.push_back(text_of(X509_NAME_ENTRY_get_data(X509_NAME_get_entry(subject, at))));
  return names;
}

WallTime wall_time_of(const ASN1_TIME* time) {
  std::tm utc{};
  if (ASN1_TIME_to_tm(time, &utc) != 1) return WallTime{};
  using std::chrono::year_month_day;
  const std::chrono::sys_days day =
      year_month_day(std::chrono::year(utc.tm_year + 1900), std::chrono::month(static_cast<unsigned>(utc.tm_mon + 1)),
                     std::chrono::day(static_cast<unsigned>(utc.tm_mday)));
  return day + std::chrono::hours(utc.tm_hour) + std::chrono::minutes(utc.tm_min) + std::chrono::seconds(utc.tm_sec);
}

}  // namespace

std::string take_openssl_reason() {
  const unsigned long error = ERR_peek_last_error();
  const char* const reason = error == 0 ? nullptr : ERR_reason_error_string(error);
  std::string text = reason != nullptr ? reason : "no reason given";
  ERR_clear_error();
  return text;
}

Result<std::vector<X509Ptr>> parse_certificates(const std::string& pem, const std::string& path) {
  const BioPtr text(BIO_new_mem_buf(pem.data(), static_cast<int>(pem.size())));
  PENSTOCK_ASSERT(text != nullptr);
  std::vector<X509Ptr> certificates;
  while (X509Ptr certificate{PEM_read_bio_X509(text.get(), nullptr, nullptr, nullptr)})
    certificates.push_back(std::move(certificate));

  // Running out of "-----BEGIN CERTIFICATE-----" is how reading ends well.
  const bool ended_well = ERR_GET_REASON(ERR_peek_last_error()) == PEM_R_NO_START_LINE;
  const std::string reason = take_openssl_reason();
  if (!ended_well)
    return fail(ErrorCode::invalid_argument, path + ": certificate number " + std::to_string(certificates.size() + 1) +
                                                 " in it is damaged (" + reason + ")");
  if (certificates.empty())
    return fail(ErrorCode::invalid_argument,
                path + ": holds no certificate in PEM form (a DER file is converted by: openssl x509 -inform der -in " +
                    path + " -out cert.pem)");
  return certificates;
}

Result<std::vector<X509Ptr>> read_certificates(const std::string& path) {
  PENSTOCK_TRY(const std::string pem, read_whole_file(path, kMaxFileSize));
  return parse_certificates(pem, path);
}

CertificateInfo describe(const X509& certificate) {
  return {.subject = subject_of(certificate),
          .names = names_of(certificate),
          .not_before = wall_time_of(X509_get0_notBefore(&certificate)),
          .not_after = wall_time_of(X509_get0_notAfter(&certificate)),
          .pin = pin_of(certificate)};
}

std::string pin_of(const X509& certificate) {
  std::uint8_t* der = nullptr;
  const int size = i2d_X509_PUBKEY(X509_get_X509_PUBKEY(&certificate), &der);
  PENSTOCK_ASSERT(size > 0);
  const Digest256 digest = sha256({der, static_cast<std::size_t>(size)});
  OPENSSL_free(der);
  return std::string(kPinPrefix) + base64_encode(digest);
}

std::string calendar_text(WallTime time) {
  const auto day = std::chrono::floor<std::chrono::days>(time);
  const std::chrono::year_month_day date(day);
  const auto minutes = std::chrono::floor<std::chrono::minutes>(time - day).count();
  std::array<char, 48> text{};
  std::snprintf(text.data(), text.size(), "%04d-%02u-%02u %02d:%02d UTC", static_cast<int>(date.year()),
                static_cast<unsigned>(date.month()), static_cast<unsigned>(date.day()), static_cast<int>(minutes / 60),
                static_cast<int>(minutes % 60));
  return text.data();
}

Result<CertificateInfo> read_certificate_file(const std::string& path) {
  PENSTOCK_TRY(const auto certificates, read_certificates(path));
  return describe(*certificates.front());
}

Result<std::string> pin_of_certificate_file(const std::string& path) {
  PENSTOCK_TRY(const CertificateInfo info, read_certificate_file(path));
  return info.pin;
}

bool is_valid_pin(std::string_view text) {
  if (!text.starts_with(kPinPrefix)) return false;
  const auto digest = base64_decode(text.substr(kPinPrefix.size()));
  return digest && digest->size() == Digest256().size();
}

}  // namespace penstock::tls
