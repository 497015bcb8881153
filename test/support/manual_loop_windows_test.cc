#include <gtest/gtest.h>
#include <winsock2.h>

#include <string>

#include "test/support/manual_loop.h"

namespace penstock::test {
namespace {

// A datagram socket on loopback that writes to itself.
class Echo {
 public:
  Echo() {
    sockaddr_in at{};
    at.sin_family = AF_INET;
    at.sin_addr.s_addr = ::htonl(INADDR_LOOPBACK);
    int size = sizeof at;
    EXPECT_EQ(::bind(socket_, reinterpret_cast<sockaddr*>(&at), size), 0);
    EXPECT_EQ(::getsockname(socket_, reinterpret_cast<sockaddr*>(&at), &size), 0);
    EXPECT_EQ(::connect(socket_, reinterpret_cast<sockaddr*>(&at), size), 0);
  }
  Echo(const Echo&) = delete;
  Echo& operator=(const Echo&) = delete;
  ~Echo() { ::closesocket(socket_); }
  NativeHandle handle() const { return socket_; }
  void write() { EXPECT_EQ(::send(socket_, "x", 1, 0), 1); }

 private:
  SOCKET socket_ = ::socket(AF_INET, SOCK_DGRAM, 0);
};

TEST(ManualLoop, ReadySocketsTakeTurns) {
  WSADATA ignored{};
  ASSERT_EQ(::WSAStartup(MAKEWORD(2, 2), &ignored), 0);
  {
    ManualLoop loop;
    Echo first;
    Echo second;
    std::string ran;
    const auto a = loop.watch(first.handle());
    const auto b = loop.watch(second.handle());
    a->when_readable([&] {
      ran += 'a';
      a->when_readable([&] { ran += 'a'; });
    });
    b->when_readable([&] { ran += 'b'; });
    b->when_writable([&] { ran += 'w'; });
    loop.run_until_idle();
    EXPECT_EQ(ran, "w") << "nothing is there to be read";
    first.write();
    second.write();
    loop.run_until_idle();
    EXPECT_EQ(ran, "waba");
  }
  ::WSACleanup();
}

}  // namespace
}  // namespace penstock::test
