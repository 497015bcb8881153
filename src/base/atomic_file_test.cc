#include "base/atomic_file.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>

#include "base/atomic_file_testing.h"

namespace penstock {
namespace {

using ::testing::HasSubstr;
using ::testing::StartsWith;

TEST_F(AtomicFile, WhatIsWrittenIsReadBack) {
  ASSERT_TRUE(write_file_atomically(path("state"), as_bytes("first"), 0644));
  EXPECT_EQ(read_whole_file(path("state"), 100), "first");
  ASSERT_TRUE(write_file_atomically(path("state"), as_bytes(""), 0644));
  EXPECT_EQ(read_whole_file(path("state"), 100), "");
  EXPECT_EQ(files(), 1U) << "nothing is left beside it";
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
}

TEST_F(AtomicFile, ReadingRefusalsNameThePath) {
  EXPECT_EQ(read_whole_file(path("none"), 10).error().code, ErrorCode::not_found);
  EXPECT_THAT(read_whole_file(path("none"), 10).error().message, StartsWith(path("none") + ": "));
  EXPECT_EQ(read_whole_file(directory_, 10).error().code, ErrorCode::invalid_argument);
}

}  // namespace
}  // namespace penstock
