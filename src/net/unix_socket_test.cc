#include "net/unix_socket.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <array>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <thread>

#include "net/asio_loop.h"
#include "test/support/manual_loop.h"

namespace penstock::net {
namespace {

namespace fs = std::filesystem;
using std::chrono::seconds;
using testing::HasSubstr;

class StatusSocketTest : public testing::Test {
 protected:
  StatusSocketTest() { fs::remove_all(directory_); }
  ~StatusSocketTest() override { fs::remove_all(directory_); }

  // A client whose two halves the test holds in its hands.
  FileDescriptor dial() const {
    FileDescriptor fd(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    std::memcpy(address.sun_path, path_.data(), path_.size());
    EXPECT_EQ(::connect(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address), 0);
    return fd;
  }
  static void say(const FileDescriptor& fd, std::string_view text) {
    EXPECT_EQ(::send(fd.get(), text.data(), text.size(), MSG_NOSIGNAL), static_cast<ssize_t>(text.size()));
  }
  // What has arrived, and "<end>" if the server has closed.
  static std::string heard(const FileDescriptor& fd) {
    std::string text;
    std::array<char, 4096> block{};
    for (;;) {
      const ssize_t size = ::recv(fd.get(), block.data(), block.size(), MSG_DONTWAIT);
      if (size == 0 || (size < 0 && errno == ECONNRESET)) return text + "<end>";
      if (size < 0) return text;
      text.append(block.data(), static_cast<std::size_t>(size));
    }
  }

  const fs::path directory_ = fs::path(testing::TempDir()) / ("penstock-status-" + std::to_string(::getpid()));
  const std::string path_ = (directory_ / "run" / "status.sock").string();
};

std::string echo(std::string_view request) { return "[" + std::string(request) + "]"; }

TEST_F(StatusSocketTest, AnswersABlockingClientFromItsLoop) {
  AsioLoop loop;
  std::vector<std::string> asked;
  const auto server = StatusSocket::create(loop, path_, [&](std::string_view request) {
    asked.emplace_back(request);
    return std::string(3'000'000, 'x') + std::string(request);  // more than the socket holds at once
  });
  ASSERT_TRUE(server) << server.error().message;
  std::vector<Result<std::string>> answers;
  std::thread client([&] {
    for (const char* request : {"status json", ""}) answers.push_back(ask_status(path_, request, seconds(20)));
    loop.stop();
  });
  loop.run();
  client.join();
  ASSERT_EQ(answers.size(), 2U);
  ASSERT_TRUE(answers[0]) << answers[0].error().message;
  EXPECT_TRUE(answers[0]->ends_with("xstatus json"));
  EXPECT_EQ(answers[1].value().size(), 3'000'000U);
  EXPECT_EQ(asked, (std::vector<std::string>{"status json", ""}));
}

TEST_F(StatusSocketTest, TheRequestEndsWithItsLineOrWithTheStream) {
  test::ManualLoop loop;
  const auto server = StatusSocket::create(loop, path_, echo).value();
  const FileDescriptor slow = dial();
  const FileDescriptor windows = dial();
  const FileDescriptor silent = dial();
  say(slow, "st");
  say(windows, "status\r\nignored");
  ::shutdown(silent.get(), SHUT_WR);
  loop.run_until_idle();
  EXPECT_EQ(heard(slow), "");
  EXPECT_EQ(heard(windows), "[status]<end>");
  EXPECT_EQ(heard(silent), "[]<end>");
  say(slow, "atus\n");
  loop.run_until_idle();
  EXPECT_EQ(heard(slow), "[status]<end>");
}

TEST_F(StatusSocketTest, TheSilentAndTheEndlessAreClosedUnanswered) {
  test::ManualLoop loop;
  const auto server = StatusSocket::create(loop, path_, echo).value();
  const FileDescriptor silent = dial();
  const FileDescriptor endless = dial();
  say(endless, std::string(StatusSocket::kMostRequestBytes + 1, 'x'));
  loop.run_until_idle();
  EXPECT_EQ(heard(endless), "<end>");
  EXPECT_EQ(heard(silent), "");
  loop.advance(StatusSocket::kPatience);
  EXPECT_EQ(heard(silent), "<end>");
}

TEST_F(StatusSocketTest, ItsFileIsForOwnerAndGroupAndGoesWithIt) {
  test::ManualLoop loop;
  const mode_t umask_before = ::umask(077);
  auto server = StatusSocket::create(loop, path_, echo).value();
  ::umask(umask_before);
  struct stat made{};
  ASSERT_EQ(::stat(path_.c_str(), &made), 0);
  EXPECT_EQ(made.st_mode & 0777U, 0660U);
  server.reset();
  EXPECT_FALSE(fs::exists(path_));
}

TEST_F(StatusSocketTest, ALiveServerIsNotReplacedAndADeadOnesFileIs) {
  test::ManualLoop loop;
  auto first = StatusSocket::create(loop, path_, echo).value();
  const auto second = StatusSocket::create(loop, path_, echo);
  ASSERT_FALSE(second);
  EXPECT_EQ(second.error().code, ErrorCode::address_in_use);
  EXPECT_THAT(second.error().message, HasSubstr(path_));

  // The file that a killed process leaves behind.
  const std::string stale = path_ + ".stale";
  {
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    std::memcpy(address.sun_path, stale.data(), stale.size());
    const FileDescriptor dead(::socket(AF_UNIX, SOCK_STREAM, 0));
    ASSERT_EQ(::bind(dead.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address), 0);
  }
  const auto replaced = StatusSocket::create(loop, stale, echo);
  EXPECT_TRUE(replaced) << replaced.error().message;

  std::ofstream(path_ + ".txt") << "precious";
  EXPECT_FALSE(StatusSocket::create(loop, path_ + ".txt", echo));
  EXPECT_TRUE(fs::exists(path_ + ".txt"));
}

TEST_F(StatusSocketTest, ItLeavesAFileThatIsNoLongerItsOwn) {
  test::ManualLoop loop;
  auto first = StatusSocket::create(loop, path_, echo).value();
  fs::rename(path_, path_ + ".kept");  // so that its inode is not used again
  const auto second = StatusSocket::create(loop, path_, echo).value();
  first.reset();
  EXPECT_TRUE(fs::exists(path_));
}

TEST_F(StatusSocketTest, AskingNobodySaysSo) {
  const auto missing = ask_status(path_, "status", seconds(1));
  ASSERT_FALSE(missing);
  EXPECT_EQ(missing.error().code, ErrorCode::unavailable);
  EXPECT_THAT(missing.error().message, HasSubstr(path_));
  EXPECT_EQ(ask_status(std::string(200, 'x'), "", seconds(1)).error().code, ErrorCode::invalid_argument);
  EXPECT_EQ(ask_status(path_, "two\nlines", seconds(1)).error().code, ErrorCode::protocol_error);
}

TEST_F(StatusSocketTest, AskingAServerThatHangsEndsAtTheDeadline) {
  test::ManualLoop loop;  // which nobody runs
  const auto server = StatusSocket::create(loop, path_, echo).value();
  const auto answer = ask_status(path_, "status", std::chrono::milliseconds(20));
  ASSERT_FALSE(answer);
  EXPECT_EQ(answer.error().code, ErrorCode::timed_out);
}

}  // namespace
}  // namespace penstock::net
