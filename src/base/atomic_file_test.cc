#include "base/atomic_file.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>

namespace penstock {
namespace {

using ::testing::HasSubstr;
using ::testing::StartsWith;

class AtomicFile : public ::testing::Test {
 protected:
  AtomicFile() {
    std::string name = ::testing::TempDir() + "penstock-atomic-file-XXXXXX";
    directory_ = ::mkdtemp(name.data());
  }
  ~AtomicFile() override {
    std::error_code ignored;
    std::filesystem::remove_all(directory_, ignored);
  }
  std::string path(const std::string& name) const { return directory_ + "/" + name; }
  std::size_t files() const {
    return static_cast<std::size_t>(std::distance(std::filesystem::directory_iterator(directory_), {}));
  }
  static mode_t mode_of(const std::string& path) {
    struct stat status{};
    EXPECT_EQ(::stat(path.c_str(), &status), 0);
    return status.st_mode & 07777U;
  }
  std::string directory_;
};

TEST_F(AtomicFile, WhatIsWrittenIsReadBack) {
  ASSERT_TRUE(write_file_atomically(path("state"), as_bytes("first"), 0644));
  EXPECT_EQ(read_whole_file(path("state"), 100), "first");
  ASSERT_TRUE(write_file_atomically(path("state"), as_bytes(""), 0644));
  EXPECT_EQ(read_whole_file(path("state"), 100), "");
  EXPECT_EQ(files(), 1U) << "nothing is left beside it";
}

TEST_F(AtomicFile, TheModeIsTheOneAskedForWhateverTheUmaskAndTheOldFile) {
  const mode_t before = ::umask(077);
  ASSERT_TRUE(write_file_atomically(path("public"), as_bytes("x"), 0644));
  ::umask(0);
  ASSERT_TRUE(write_file_atomically(path("public"), as_bytes("y"), 0640));
  ASSERT_TRUE(write_file_atomically(path("secret"), as_bytes("x"), 0600));
  ::umask(before);
  EXPECT_EQ(mode_of(path("public")), 0640U);
  EXPECT_EQ(mode_of(path("secret")), 0600U);
}

TEST_F(AtomicFile, AReaderOfTheOldFileKeepsIt) {
  ASSERT_TRUE(write_file_atomically(path("state"), as_bytes("old"), 0644));
  std::ifstream reader(path("state"));
  ASSERT_TRUE(write_file_atomically(path("state"), as_bytes("new"), 0644));
  std::string seen;
  reader >> seen;
  EXPECT_EQ(seen, "old");
}

TEST_F(AtomicFile, ASymbolicLinkIsReplacedAndItsTargetLeftAlone) {
  ASSERT_TRUE(write_file_atomically(path("target"), as_bytes("kept"), 0644));
  std::filesystem::create_symlink("target", path("link"));
  ASSERT_TRUE(write_file_atomically(path("link"), as_bytes("new"), 0600));
  EXPECT_EQ(read_whole_file(path("target"), 100), "kept");
  EXPECT_FALSE(std::filesystem::is_symlink(path("link")));
}

TEST_F(AtomicFile, AFailedWriteLeavesTheOldAndNothingBesideIt) {
  // A directory under the target's name makes the last step, the rename, fail.
  std::filesystem::create_directories(path("state/full"));
  const auto written = write_file_atomically(path("state"), as_bytes("x"), 0644);
  ASSERT_FALSE(written);
  EXPECT_THAT(written.error().message, StartsWith(path("state") + ": "));
  EXPECT_EQ(files(), 1U);
}

TEST_F(AtomicFile, AMissingDirectoryIsNamed) {
  const auto written = write_file_atomically(path("no/state"), as_bytes("x"), 0644);
  ASSERT_FALSE(written);
  EXPECT_EQ(written.error().code, ErrorCode::not_found);
  EXPECT_THAT(written.error().message, HasSubstr("directory " + path("no")));
}

TEST_F(AtomicFile, ReadingStopsAtTheBound) {
  ASSERT_TRUE(write_file_atomically(path("state"), as_bytes(std::string(5000, 'x')), 0644));
  EXPECT_EQ(read_whole_file(path("state"), 5000).value().size(), 5000U);
  const auto read = read_whole_file(path("state"), 4999);
  ASSERT_FALSE(read);
  EXPECT_EQ(read.error().code, ErrorCode::exhausted);
  EXPECT_EQ(read_whole_file("/dev/zero", 10000).error().code, ErrorCode::exhausted);
  EXPECT_EQ(read_whole_file("/dev/null", 0), "");
}

TEST_F(AtomicFile, ReadingRefusalsNameThePath) {
  EXPECT_EQ(read_whole_file(path("none"), 10).error().code, ErrorCode::not_found);
  EXPECT_THAT(read_whole_file(path("none"), 10).error().message, StartsWith(path("none") + ": "));
  EXPECT_EQ(read_whole_file(directory_, 10).error().code, ErrorCode::invalid_argument);
}

TEST_F(AtomicFile, AFileThatOthersMayWriteToIsRefused) {
  const std::pair<mode_t, bool> cases[] = {{0600, true},  {0644, true},  {0755, true},
                                           {0660, false}, {0602, false}, {0666, false}};
  for (const auto& [mode, good] : cases) {
    ASSERT_TRUE(write_file_atomically(path("script"), as_bytes("x"), mode));
    const auto checked = refuse_if_writable_by_others(path("script"));
    EXPECT_EQ(checked.has_value(), good) << std::oct << mode;
    if (!checked) {
      EXPECT_THAT(checked.error().message, HasSubstr("chmod go-w"));
    }
  }
  EXPECT_EQ(refuse_if_writable_by_others(path("none")).error().code, ErrorCode::not_found);
}

TEST_F(AtomicFile, AFileOfAnotherUserIsRefused) {
  ASSERT_TRUE(write_file_atomically(path("script"), as_bytes("x"), 0600));
  if (::chown(path("script").c_str(), 12345, static_cast<gid_t>(-1)) != 0) GTEST_SKIP() << "needs root";
  const auto checked = refuse_if_writable_by_others(path("script"));
  ASSERT_FALSE(checked);
  EXPECT_THAT(checked.error().message, HasSubstr("belongs to user 12345"));
}

}  // namespace
}  // namespace penstock
