#include "net/sd_notify.h"

#include <gtest/gtest.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <array>
#include <cstdlib>
#include <cstring>

#include "base/log.h"
#include "net/file_descriptor.h"

namespace penstock::net {
namespace {

// Stands in for systemd.
class Manager {
 public:
  explicit Manager(std::string name) : name_(std::move(name)), fd_(::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0)) {
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    std::memcpy(address.sun_path, name_.data(), name_.size());
    if (abstract()) address.sun_path[0] = '\0';
    const auto size = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + name_.size());
    EXPECT_EQ(::bind(fd_.get(), reinterpret_cast<const sockaddr*>(&address), size), 0);
  }
  ~Manager() {
    if (!abstract()) ::unlink(name_.c_str());
  }
  Manager(const Manager&) = delete;
  Manager& operator=(const Manager&) = delete;

  const std::string& name() const { return name_; }
  std::string next() const {
    std::array<char, 256> block{};
    const ssize_t size = ::recv(fd_.get(), block.data(), block.size(), MSG_DONTWAIT);
    return size < 0 ? "nothing" : std::string(block.data(), static_cast<std::size_t>(size));
  }

 private:
  bool abstract() const { return name_.front() == '@'; }
  std::string name_;
  FileDescriptor fd_;
};

TEST(ServiceNotifier, SpeaksToPathsAndToAbstractNames) {
  const std::string pid = std::to_string(::getpid());
  for (const std::string& name : {"@penstock-notify-" + pid, testing::TempDir() + "notify-" + pid}) {
    const Manager manager(name);
    ServiceNotifier notifier(name);
    notifier.ready();
    EXPECT_EQ(manager.next(), "READY=1") << name;
    notifier.status("3 sessions\nREADY=0");
    EXPECT_EQ(manager.next(), "STATUS=3 sessions READY=0");
    notifier.reloading(TimePoint(std::chrono::milliseconds(1500)));
    EXPECT_EQ(manager.next(), "RELOADING=1\nMONOTONIC_USEC=1500000");
    notifier.stopping();
    EXPECT_EQ(manager.next(), "STOPPING=1");
    EXPECT_EQ(manager.next(), "nothing");
  }
}

TEST(ServiceNotifier, TakesTheSocketOutOfTheEnvironment) {
  ::setenv("NOTIFY_SOCKET", "@somewhere", 1);
  EXPECT_TRUE(ServiceNotifier::from_environment().enabled());
  EXPECT_EQ(std::getenv("NOTIFY_SOCKET"), nullptr);
  EXPECT_FALSE(ServiceNotifier::from_environment().enabled());
}

TEST(ServiceNotifier, ComplainsOnceWhenNobodyListens) {
  const log::Capture log;
  ServiceNotifier notifier("@penstock-nobody-" + std::to_string(::getpid()));
  notifier.ready();
  const std::string once = log.text();
  EXPECT_NE(once, "");
  notifier.stopping();
  EXPECT_EQ(log.text(), once);
}

}  // namespace
}  // namespace penstock::net
