// For tests: a thread in a network namespace of its own, with nothing in it but a loopback that is up.
//
// What it leaves behind vanishes with it, and the program's other tests see nothing of it. Needs root.
#pragma once

#include <gtest/gtest.h>
#include <net/if.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <string>
#include <thread>

namespace penstock::net {

class OwnNamespace {
 public:
  // Runs `body` in there. False, and `why` says why, where such a namespace cannot be had.
  template <typename Body>
  static bool run(std::string& why, Body body) {
    bool entered = false;
    std::thread thread([&] {
      if (::unshare(CLONE_NEWNET) != 0) {
        why = std::string("no network namespace of its own: ") + std::strerror(errno);
        return;
      }
      entered = true;
      set_up_loopback();
      body();
    });
    thread.join();
    return entered;
  }

  // "net/ipv4/ping_group_range". /proc/sys/net shows the namespace of the thread that looks.
  static bool set(const std::string& setting, const std::string& value) {
    std::ofstream file("/proc/sys/" + setting);
    file << value << std::flush;
    return file.good();
  }

  // Runs a command for the world around the code under test. False where it cannot do that.
  static bool shell(const std::string& command) {
    return std::system(("{ " + command + "; } >/dev/null 2>&1").c_str()) == 0;
  }

  static void set_loopback_mtu(int mtu) {
    ifreq request = loopback();
    request.ifr_mtu = mtu;
    change(SIOCSIFMTU, request);
  }

 private:
  static ifreq loopback() {
    ifreq request{};
    std::strcpy(request.ifr_name, "lo");
    return request;
  }
  static void set_up_loopback() {
    ifreq request = loopback();
    request.ifr_flags = IFF_UP | IFF_LOOPBACK | IFF_RUNNING;
    change(SIOCSIFFLAGS, request);
  }
  static void change(unsigned long what, ifreq& request) {
    const int fd = ::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    EXPECT_EQ(::ioctl(fd, what, &request), 0) << std::strerror(errno);
    ::close(fd);
  }
};

}  // namespace penstock::net
