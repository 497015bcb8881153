// Children that put the filter on and try what it forbids, and what it must not.
#include "gateway/seccomp.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <linux/netlink.h>
#include <netinet/in.h>
#include <sched.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <functional>
#include <iostream>
#include <thread>
#include <tuple>

#include "base/atomic_file.h"
#include "gateway/sanitized.h"
#include "net/host_addresses.h"

namespace penstock::gateway {
namespace {

using ::testing::ExitedWithCode;
using ::testing::KilledBySignal;

// Runs `action` under the filter and ends the child: 0 when it answers true.
[[noreturn]] void filtered(const std::function<bool()>& action) {
  ::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
  if (const auto installed = install_system_call_filter(); !installed) {
    std::cerr << installed.error().message << "\n";
    std::_Exit(100);
  }
  std::_Exit(action() ? 0 : 1);
}

class Seccomp : public ::testing::Test {
 protected:
  void SetUp() override {
    if (kSanitized) GTEST_SKIP() << "a sanitizer's own calls would be forbidden";
  }
};

TEST_F(Seccomp, RunningAnotherProgramKills) {
  EXPECT_EXIT(filtered([] {
                std::string program = "/bin/true";
                char* arguments[] = {program.data(), nullptr};
                char* environment[] = {nullptr};
                return ::execve(program.c_str(), arguments, environment) == 0;
              }),
              KilledBySignal(SIGSYS), "");
}

TEST_F(Seccomp, WhatOnlyAnIntruderDoesKills) {
  const std::function<void()> deadly[] = {
      [] { ::ptrace(PTRACE_TRACEME, 0, nullptr, nullptr); },
      [] { ::mount("none", "/mnt", "tmpfs", 0, nullptr); },
      [] { ::syscall(SYS_init_module, nullptr, 0, ""); },
      [] { ::syscall(SYS_finit_module, -1, "", 0); },
      [] { ::syscall(SYS_kexec_load, 0, 0, nullptr, 0); },
      [] { ::syscall(SYS_bpf, 0, nullptr, 0); },
      [] { ::syscall(SYS_perf_event_open, nullptr, 0, -1, -1, 0); },
      [] { ::syscall(SYS_userfaultfd, 0); },
      [] { ::syscall(SYS_keyctl, 0, 0, 0, 0, 0); },
      [] { ::syscall(SYS_process_vm_readv, ::getpid(), nullptr, 0, nullptr, 0, 0); },
      [] { (void)::unshare(CLONE_NEWUSER); },
      [] { std::ignore = ::setuid(0); },
      [] { std::ignore = ::chroot("/"); },
  };
  for (const auto& attempt : deadly) {
    EXPECT_EXIT(filtered([&] {
                  attempt();
                  return true;
                }),
                KilledBySignal(SIGSYS), "")
        << "number " << &attempt - deadly;
  }
}

TEST_F(Seccomp, OtherProcessesSocketsAndExecutableMemoryAreNotToBeHad) {
  const std::function<bool()> forbidden[] = {
      [] { return ::fork() >= 0; },
      [] { return ::socket(AF_PACKET, SOCK_RAW, 0) >= 0; },
      [] { return ::socket(AF_NETLINK, SOCK_RAW, NETLINK_NETFILTER) >= 0; },
      [] { return ::socket(AF_VSOCK, SOCK_STREAM, 0) >= 0; },
      [] { return ::mmap(nullptr, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) != MAP_FAILED; },
      [] { return ::syscall(SYS_memfd_create, "x", 0) >= 0; },
      [] { return ::syscall(SYS_io_uring_setup, 1, nullptr) >= 0; },
      [] { return ::prctl(PR_SET_DUMPABLE, 1, 0, 0, 0) == 0; },
  };
  for (const auto& attempt : forbidden) {
    EXPECT_EXIT(filtered([&] { return !attempt() && errno == ENOSYS; }), ExitedWithCode(0), "")
        << "number " << &attempt - forbidden;
  }
}

TEST_F(Seccomp, WhatAGatewayDoesIsLeft) {
  const std::string directory = ::testing::TempDir() + "penstock-seccomp-" + std::to_string(::getpid());
  std::filesystem::create_directory(directory);
  const std::string file = directory + "/state";
  const std::function<bool()> harmless[] = {
      [&] { return write_file_atomically(file, as_bytes("x"), 0600) && read_whole_file(file, 10).has_value(); },
      [] { return ::socket(AF_INET6, SOCK_STREAM | SOCK_NONBLOCK, IPPROTO_TCP) >= 0; },
      [] { return ::socket(AF_UNIX, SOCK_STREAM, 0) >= 0; },
      [] { return net::host_addresses().has_value(); },  // netlink
      [] { return ::eventfd(0, EFD_NONBLOCK) >= 0; },
      [] {
        int answer = 0;
        std::thread thread([&] { answer = 42; });
        thread.join();
        return answer == 42;
      },
      [] { return !std::string(std::size_t{64} << 20U, 'x').empty(); },
  };
  for (const auto& action : harmless)
    EXPECT_EXIT(filtered(action), ExitedWithCode(0), "") << "number " << &action - harmless;
  std::filesystem::remove_all(directory);
}

TEST_F(Seccomp, ThreadsAreUnderTheFilterAndAnAbortIsStillOne) {
  EXPECT_EXIT(filtered([] {
                std::thread([] { ::syscall(SYS_userfaultfd, 0); }).join();
                return true;
              }),
              KilledBySignal(SIGSYS), "");
  EXPECT_EXIT(filtered([] {
                std::abort();
                return true;
              }),
              KilledBySignal(SIGABRT), "");
}

TEST_F(Seccomp, ItCanBeBuiltForEveryArchitectureThatIsSupported) {
  for (const char* architecture : {"x86_64", "aarch64"}) {
    const auto size = size_of_system_call_filter(architecture);
    ASSERT_TRUE(size) << architecture << ": " << size.error().message;
    EXPECT_GT(*size, 100U) << architecture;
    EXPECT_LT(*size, 4096U) << "the kernel takes no more";
  }
}

}  // namespace
}  // namespace penstock::gateway
