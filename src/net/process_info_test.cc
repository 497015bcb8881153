#include "net/process_info.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <condition_variable>
#include <mutex>
#include <thread>

#include "net/file_descriptor.h"

namespace penstock::net {
namespace {

TEST(ProcessInfo, CountsFilesAndThreads) {
  const auto before = process_info();
  ASSERT_TRUE(before) << before.error().message;
  EXPECT_EQ(before->pid, ::getpid());
  EXPECT_GT(before->resident_bytes, 100'000U);

  const FileDescriptor file(::open("/dev/null", O_RDONLY | O_CLOEXEC));
  std::mutex held;
  std::unique_lock lock(held);
  std::thread waiting([&] { const std::lock_guard until_released(held); });
  const auto after = process_info();
  lock.unlock();
  waiting.join();
  ASSERT_TRUE(after);
  EXPECT_EQ(after->open_files, before->open_files + 1);
  EXPECT_GE(after->threads, 2U) << "lookups of other tests may still be ending";
}

TEST(ProcessInfo, TheLimitOfOpenFilesIsRaisedAsFarAsItGoes) {
  const auto limit = raise_open_files_limit();
  ASSERT_TRUE(limit) << limit.error().message;
  EXPECT_EQ(process_info().value().open_files_limit, *limit);
}

TEST(ProcessInfo, TheLimitOfOpenFilesIsTheOneAskedForOrARefusalThatSaysWhatThereIs) {
  const auto limit = raise_open_files_limit(200);
  ASSERT_TRUE(limit) << limit.error().message;
  EXPECT_EQ(process_info().value().open_files_limit, 200U);
  // More than any kernel allows (fs.nr_open).
  const auto refused = raise_open_files_limit(std::uint64_t{1} << 40U);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, ErrorCode::permission_denied);
  EXPECT_NE(refused.error().message.find("fs.nr_open"), std::string::npos) << refused.error().message;
  EXPECT_TRUE(refuse_more_open_files_than_the_kernel_allows(1000));
  EXPECT_EQ(process_info().value().open_files_limit, 200U);
}

}  // namespace
}  // namespace penstock::net
