#include "tls/test_certificates.h"

#include <openssl/ec.h>
#include <openssl/pem.h>
#include <openssl/rand.h>

#include <cstdlib>
#include <filesystem>

#include "base/atomic_file.h"
#include "base/ip.h"
#include "base/random.h"
#include "tls/openssl.h"

namespace penstock::tls {

namespace {

constexpr std::size_t kMaxSize = 1 << 20;

void add_extension(X509* certificate, int nid, const std::string& value) {
  X509V3_CTX context;
  X509V3_set_ctx(&context, certificate, certificate, nullptr, nullptr, 0);
  using ExtensionPtr = std::unique_ptr<X509_EXTENSION, FreeWith<X509_EXTENSION_free>>;
  const ExtensionPtr extension(X509V3_EXT_nconf_nid(nullptr, &context, nid, value.c_str()));
  PENSTOCK_ASSERT(extension != nullptr);
  PENSTOCK_ASSERT(X509_add_ext(certificate, extension.get(), -1) == 1);
}

std::string alternative_names(const std::vector<std::string>& names) {
  std::string text;
  for (const auto& name : names)
    text += (text.empty() ? "" : ",") + std::string(IpAddress::parse(name) ? "IP:" : "DNS:") + name;
  return text;
}

std::string pem_of(const BioPtr& bio) {
  char* data = nullptr;
  const long size = BIO_get_mem_data(bio.get(), &data);
  return {data, static_cast<std::size_t>(size)};
}

KeyPtr read_key(const std::string& path) {
  const std::string pem = read_whole_file(path, kMaxSize).value();
  const BioPtr text(BIO_new_mem_buf(pem.data(), static_cast<int>(pem.size())));
  return KeyPtr(PEM_read_bio_PrivateKey(text.get(), nullptr, nullptr, nullptr));
}

void save(const std::string& path, const std::string& content, mode_t mode) {
  PENSTOCK_ASSERT(write_file_atomically(path, as_bytes(content), mode));
}

}  // namespace

TestDirectory::TestDirectory() {
  path_ = (std::filesystem::temp_directory_path() / "penstock-test-XXXXXX").string();
  PENSTOCK_ASSERT(::mkdtemp(path_.data()) != nullptr);
}

TestDirectory::~TestDirectory() {
  std::error_code ignored;
  std::filesystem::remove_all(path_, ignored);
}

std::string TestDirectory::write(const std::string& name, const std::string& content) const {
  save(file(name), content, 0600);
  return file(name);
}

TestCertificate make_test_certificate(const std::string& directory, const TestCertificateOptions& options) {
  const X509Ptr certificate(X509_new());
  const KeyPtr key(EVP_EC_gen("P-256"));
  PENSTOCK_ASSERT(certificate != nullptr && key != nullptr);

  SystemRandom random;
  const std::uint64_t serial = random.next64() >> 1;
  std::time_t now = std::chrono::system_clock::to_time_t(options.now);
  X509_set_version(certificate.get(), X509_VERSION_3);
  ASN1_INTEGER_set_uint64(X509_get_serialNumber(certificate.get()), serial);
  X509_time_adj_ex(X509_getm_notBefore(certificate.get()), options.days_from, 0, &now);
  X509_time_adj_ex(X509_getm_notAfter(certificate.get()), options.days_to, 0, &now);
  X509_set_pubkey(certificate.get(), key.get());
  const std::string& common_name = options.names.front();
  X509_NAME* const subject = X509_get_subject_name(certificate.get());
  PENSTOCK_ASSERT(X509_NAME_add_entry_by_NID(subject, NID_commonName, MBSTRING_UTF8, as_bytes(common_name).data(),
                                             static_cast<int>(common_name.size()), -1, 0) == 1);
  add_extension(certificate.get(), NID_basic_constraints, options.authority ? "critical,CA:TRUE" : "CA:FALSE");
  if (!options.authority && !options.common_name_only)
    add_extension(certificate.get(), NID_subject_alt_name, alternative_names(options.names));

  std::string chain;
  if (options.signed_by != nullptr) {
    chain = read_whole_file(options.signed_by->cert_path, kMaxSize).value();
    const auto issuer = parse_certificates(chain, options.signed_by->cert_path).value();
    X509_set_issuer_name(certificate.get(), X509_get_subject_name(issuer.front().get()));
    PENSTOCK_ASSERT(X509_sign(certificate.get(), read_key(options.signed_by->key_path).get(), EVP_sha256()) > 0);
  } else {
    X509_set_issuer_name(certificate.get(), subject);
    PENSTOCK_ASSERT(X509_sign(certificate.get(), key.get(), EVP_sha256()) > 0);
  }

  const BioPtr certificate_text(BIO_new(BIO_s_mem()));
  const BioPtr key_text(BIO_new(BIO_s_mem()));
  PENSTOCK_ASSERT(PEM_write_bio_X509(certificate_text.get(), certificate.get()) == 1);
  PENSTOCK_ASSERT(PEM_write_bio_PrivateKey(key_text.get(), key.get(), nullptr, nullptr, 0, nullptr, nullptr) == 1);

  const std::string base = directory + "/" + std::to_string(serial);
  save(base + ".crt", pem_of(certificate_text) + (options.with_chain ? chain : ""), 0644);
  save(base + ".key", pem_of(key_text), 0600);
  return {.cert_path = base + ".crt", .key_path = base + ".key", .pin = pin_of(*certificate)};
}

TestCertificate make_test_authority(const std::string& directory) {
  return make_test_certificate(directory, {.names = {"Test Authority"}, .authority = true});
}

}  // namespace penstock::tls
