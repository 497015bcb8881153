// What is about modes, users, links and devices as POSIX has them.
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>

#include "base/atomic_file.h"
#include "base/atomic_file_testing.h"

namespace penstock {
namespace {

mode_t mode_of(const std::string& path) {
  struct stat status{};
  EXPECT_EQ(::stat(path.c_str(), &status), 0);
  return status.st_mode & 07777U;
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

TEST_F(AtomicFile, AFileWithoutEndIsReadUpToTheBound) {
  EXPECT_EQ(read_whole_file("/dev/zero", 10000).error().code, ErrorCode::exhausted);
  EXPECT_EQ(read_whole_file("/dev/null", 0), "");
}

}  // namespace
}  // namespace penstock
