// Certificates and a place for them, for the tests of every room that connects through TLS.
#pragma once

#include <string>
#include <vector>

#include "base/clock.h"

namespace penstock::tls {

// A directory of its own that goes away with this object.
class TestDirectory {
 public:
  TestDirectory();
  ~TestDirectory();
  TestDirectory(const TestDirectory&) = delete;
  TestDirectory& operator=(const TestDirectory&) = delete;

  const std::string& path() const { return path_; }
  std::string file(const std::string& name) const { return path_ + "/" + name; }
  // Writes `content` to file(name) and says that path.
  std::string write(const std::string& name, const std::string& content) const;

 private:
  std::string path_;
};

struct TestCertificate {
  std::string cert_path;
  std::string key_path;
  std::string pin;
};

struct TestCertificateOptions {
  // DNS names and IP addresses. The first is the subject's common name too.
  std::vector<std::string> names{"localhost", "127.0.0.1", "::1"};
  // From and to, in days after `now`. From long ago, so that a ManualClock finds it valid as the real one does.
  int days_from = -20 * 365;
  int days_to = 365;
  WallTime now = SystemClock().wall_now();
  // Null: by itself.
  const TestCertificate* signed_by = nullptr;
  // It may sign others.
  bool authority = false;
  // The file goes on with that of `signed_by`, as servers with an intermediate authority have it.
  bool with_chain = false;
  // No subjectAltName: the common name alone, as many old instructions make it.
  bool common_name_only = false;
};

// A P-256 key and its certificate in files of their own in `directory`. Asserts that it works.
TestCertificate make_test_certificate(const std::string& directory, const TestCertificateOptions& options = {});

// A root that others are `signed_by`; its cert_path is what a client has as ca_file.
TestCertificate make_test_authority(const std::string& directory);

}  // namespace penstock::tls
