// Files and sockets of the operating system are the point here.
#include "net/unix_listener.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <filesystem>
#include <fstream>

#include "net/unix_address.h"
#include "test/support/manual_loop.h"

namespace penstock::net {
namespace {

namespace fs = std::filesystem;
using testing::HasSubstr;

class UnixListenerTest : public testing::Test {
 protected:
  UnixListenerTest() {
    fs::remove_all(directory_);
    fs::create_directories(directory_);
  }
  ~UnixListenerTest() override { fs::remove_all(directory_); }

  // 0, or errno.
  int dial(FileDescriptor& fd) const {
    fd = unix_stream();
    const sockaddr_un address = unix_address(path_).value();
    return ::connect(fd.get(), generic(address), sizeof address) == 0 ? 0 : errno;
  }

  test::ManualLoop loop_;
  const fs::path directory_ = fs::path(testing::TempDir()) / ("penstock-listener-" + std::to_string(::getpid()));
  const std::string path_ = (directory_ / "http.sock").string();
};

TEST_F(UnixListenerTest, BytesTravelBothWaysOverASocketWithoutAddresses) {
  const auto listener = UnixListener::create(loop_, path_).value();
  std::unique_ptr<StreamSocket> accepted;
  listener->on_accept([&](auto socket) { accepted = std::move(socket); });
  FileDescriptor client;
  ASSERT_EQ(dial(client), 0);
  loop_.run_until_idle();
  ASSERT_TRUE(accepted);
  EXPECT_EQ(accepted->peer(), Endpoint{});
  EXPECT_EQ(accepted->local(), Endpoint{});

  std::array<std::uint8_t, 16> block{};
  EXPECT_EQ(accepted->read(block).value(), std::nullopt);
  ASSERT_EQ(::send(client.get(), "hello", 5, 0), 5);
  EXPECT_EQ(accepted->read(block).value(), 5U);
  EXPECT_EQ(accepted->write(as_bytes("answer")).value(), 6U);
  EXPECT_EQ(::recv(client.get(), block.data(), block.size(), 0), 6);
  client.reset();
  EXPECT_EQ(accepted->read(block).value(), 0U) << "the end is seen";
  const auto late = accepted->write(as_bytes("anybody?"));
  ASSERT_FALSE(late);
  EXPECT_EQ(late.error().message, "connection with a program of this machine: Broken pipe");
}

TEST_F(UnixListenerTest, TheFileIsForOwnerAndGroupAndGoesWhenNoMoreAreAccepted) {
  const mode_t before = ::umask(0);
  const auto listener = UnixListener::create(loop_, path_).value();
  ::umask(before);
  struct stat file{};
  ASSERT_EQ(::stat(path_.c_str(), &file), 0);
  EXPECT_EQ(file.st_mode & 07777, 0660U);
  EXPECT_TRUE(listener->give_to(::getuid(), ::getgid()));
  listener->stop_accepting();
  EXPECT_FALSE(fs::exists(path_));
  listener->stop_accepting();
}

TEST_F(UnixListenerTest, AStaleFileIsReplacedAndALiveOneIsNot) {
  {
    // Bound, and gone without cleaning up, as after a crash.
    const FileDescriptor dead = unix_stream();
    const sockaddr_un address = unix_address(path_).value();
    ASSERT_EQ(::bind(dead.get(), generic(address), sizeof address), 0);
  }
  auto first = UnixListener::create(loop_, path_);
  ASSERT_TRUE(first) << first.error().message;
  const auto second = UnixListener::create(loop_, path_);
  ASSERT_FALSE(second);
  EXPECT_EQ(second.error().code, ErrorCode::address_in_use);
  EXPECT_EQ(second.error().message,
            "server.listen_http: another process already serves " + path_ + ": stop it first, or choose another path");
}

TEST_F(UnixListenerTest, AFileThatAnotherProcessPutThereMeanwhileStays) {
  const auto listener = UnixListener::create(loop_, path_).value();
  fs::remove(path_);
  std::ofstream(path_) << "somebody else's";
  listener->stop_accepting();
  EXPECT_TRUE(fs::exists(path_));
}

TEST_F(UnixListenerTest, RefusalsSayWhatIsInTheWay) {
  const auto message = [&](const std::string& path) {
    const auto refused = UnixListener::create(loop_, path);
    return refused ? "none" : refused.error().message;
  };
  std::ofstream(path_) << "precious";
  EXPECT_THAT(message(path_), HasSubstr("exists and is not a socket"));
  EXPECT_TRUE(fs::exists(path_));
  const std::string nowhere = (directory_ / "nowhere" / "http.sock").string();
  EXPECT_EQ(message(nowhere), "server.listen_http: there is no directory " + (directory_ / "nowhere").string() +
                                  " for the socket " + nowhere + ": make it, or choose another path");
  EXPECT_THAT(message("/" + std::string(200, 'x')), HasSubstr("its path must have 1 to 107 bytes"));
}

}  // namespace
}  // namespace penstock::net
