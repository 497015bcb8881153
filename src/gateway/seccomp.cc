#include "gateway/seccomp.h"

#include <fcntl.h>
#include <linux/if_tun.h>
#include <linux/netlink.h>
#include <sched.h>
#include <seccomp.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>
#include <initializer_list>
#include <memory>
#include <string>
#include <type_traits>

#include "net/file_descriptor.h"

#ifndef PR_SET_VMA
#define PR_SET_VMA 0x53564d41
#endif

namespace penstock::gateway {
namespace {

// Names as the kernel has them; those that an architecture has not are passed over there.
constexpr const char* kAllowed[] = {
    // Descriptors and what moves bytes
    "read", "write", "readv", "writev", "pread64", "pwrite64", "lseek", "close", "dup", "dup2", "dup3", "fcntl", "pipe",
    "pipe2", "eventfd2", "timerfd_create", "timerfd_settime", "timerfd_gettime", "signalfd4", "epoll_create",
    "epoll_create1", "epoll_ctl", "epoll_wait", "epoll_pwait", "epoll_pwait2", "poll", "ppoll", "select", "pselect6",
    // Sockets; socket() by its arguments below
    "bind", "listen", "accept", "accept4", "connect", "shutdown", "getsockname", "getpeername", "getsockopt",
    "setsockopt", "sendto", "recvfrom", "sendmsg", "recvmsg", "sendmmsg", "recvmmsg",
    // Files: state, certificates, /proc/self
    "open", "openat", "openat2", "stat", "lstat", "fstat", "newfstatat", "statx", "statfs", "fstatfs", "access",
    "faccessat", "faccessat2", "readlink", "readlinkat", "getcwd", "getdents64", "mkdir", "mkdirat", "rename",
    "renameat", "renameat2", "unlink", "unlinkat", "chmod", "fchmod", "fchmodat", "fsync", "fdatasync", "ftruncate",
    "fallocate", "fadvise64", "flock", "umask",
    // Memory; mmap() and mprotect() by their arguments below
    "brk", "munmap", "mremap", "madvise", "msync", "mlock", "mlock2", "munlock",
    // Threads; clone() by its flags below
    "futex", "futex_waitv", "set_robust_list", "get_robust_list", "rseq", "set_tid_address", "membarrier",
    "sched_yield", "sched_getaffinity", "sched_getparam", "sched_getscheduler", "getcpu", "exit", "exit_group",
    "arch_prctl",
    // Signals, among them the one that abort() sends itself
    "rt_sigaction", "rt_sigprocmask", "rt_sigreturn", "rt_sigpending", "rt_sigtimedwait", "sigaltstack", "tgkill",
    "restart_syscall",
    // Time and chance
    "clock_gettime", "clock_getres", "clock_nanosleep", "nanosleep", "gettimeofday", "time", "times", "getrandom",
    // What it asks about itself and the machine
    "getpid", "gettid", "getppid", "getuid", "geteuid", "getgid", "getegid", "getresuid", "getresgid", "getgroups",
    "capget", "getrlimit", "prlimit64", "getrusage", "sysinfo", "uname"};

constexpr std::uint64_t kNewNamespaces =
    CLONE_NEWCGROUP | CLONE_NEWIPC | CLONE_NEWNET | CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWUSER | CLONE_NEWUTS;

constexpr const char* kDeadly[] = {
    "execve", "execveat", "fork", "vfork",
    // Other processes, and this one's insides
    "ptrace", "process_vm_readv", "process_vm_writev", "process_madvise", "pidfd_getfd", "kcmp", "userfaultfd",
    "perf_event_open", "bpf", "modify_ldt", "personality", "iopl", "ioperm",
    // Mounts, roots and namespaces
    "mount", "umount2", "pivot_root", "chroot", "move_mount", "open_tree", "fsopen", "fsconfig", "fsmount", "fspick",
    "mount_setattr", "unshare", "setns", "open_by_handle_at", "mknod", "mknodat",
    // The kernel and the machine
    "init_module", "finit_module", "delete_module", "kexec_load", "kexec_file_load", "reboot", "swapon", "swapoff",
    "acct", "quotactl", "syslog", "settimeofday", "clock_settime", "clock_adjtime", "adjtimex", "sethostname",
    "setdomainname",
    // Keys of the kernel, and who one is
    "keyctl", "add_key", "request_key", "setuid", "setgid", "setreuid", "setregid", "setresuid", "setresgid",
    "setgroups", "setfsuid", "setfsgid", "capset"};

std::unexpected<Error> refusal(int result) {
  return fail(ErrorCode::unavailable,
              "system call filter: " + fail_errno("seccomp", result < 0 ? -result : result).error().message);
}

class Filter {
 public:
  static Result<Filter> create() {
    Filter filter(::seccomp_init(SCMP_ACT_ERRNO(ENOSYS)));
    if (!filter.context_) return refusal(ENOMEM);
    return filter;
  }

  // Instead of the architecture that it was built on.
  Result<void> set_architecture(const char* name) {
    const std::uint32_t token = ::seccomp_arch_resolve_name(name);
    if (token == 0) return refusal(EINVAL);
    if (token == ::seccomp_arch_native()) return {};
    if (const int added = ::seccomp_arch_add(context_.get(), token); added != 0) return refusal(added);
    if (const int removed = ::seccomp_arch_remove(context_.get(), SCMP_ARCH_NATIVE); removed != 0)
      return refusal(removed);
    return {};
  }

  Result<void> add_rules() {
    for (const char* name : kAllowed) PENSTOCK_TRY_VOID(add(SCMP_ACT_ALLOW, name, {}));
    for (const char* name : kDeadly) PENSTOCK_TRY_VOID(add(SCMP_ACT_KILL_PROCESS, name, {}));
    return add_rules_by_argument();
  }

  Result<void> load() {
    for (const auto attribute : {SCMP_FLTATR_CTL_TSYNC, SCMP_FLTATR_CTL_OPTIMIZE}) {
      // Optimize 2 is a binary tree: a dozen comparisons a call instead of a hundred.
      const std::uint32_t value = attribute == SCMP_FLTATR_CTL_OPTIMIZE ? 2 : 1;
      if (const int set = ::seccomp_attr_set(context_.get(), attribute, value); set != 0) return refusal(set);
    }
    if (const int bad = ::seccomp_attr_set(context_.get(), SCMP_FLTATR_ACT_BADARCH, SCMP_ACT_KILL_PROCESS); bad != 0)
      return refusal(bad);
    if (const int loaded = ::seccomp_load(context_.get()); loaded != 0) return refusal(loaded);
    return {};
  }

  Result<void> write_program(int fd) const {
    if (const int written = ::seccomp_export_bpf(context_.get(), fd); written != 0) return refusal(written);
    return {};
  }

 private:
  struct Release {
    void operator()(void* context) const { ::seccomp_release(context); }
  };
  using Conditions = std::initializer_list<scmp_arg_cmp>;

  explicit Filter(scmp_filter_ctx context) : context_(context) {}

  // All conditions of a rule must hold; several rules for one call are alternatives.
  Result<void> add(std::uint32_t action, const char* name, Conditions conditions) {
    const int call = ::seccomp_syscall_resolve_name(name);
    if (call == __NR_SCMP_ERROR) return {};  // newer than the library: answered with ENOSYS, as all else
    const int added = ::seccomp_rule_add_array(context_.get(), action, call, static_cast<unsigned>(conditions.size()),
                                               conditions.begin());
    if (added != 0) return refusal(added);
    return {};
  }

  static scmp_arg_cmp equals(unsigned argument, std::uint64_t value) {
    return {.arg = argument, .op = SCMP_CMP_EQ, .datum_a = value, .datum_b = 0};
  }
  // An int: its upper half is whatever the register held.
  static scmp_arg_cmp equals_int(unsigned argument, int value) {
    return {.arg = argument, .op = SCMP_CMP_MASKED_EQ, .datum_a = 0xFFFFFFFF, .datum_b = static_cast<unsigned>(value)};
  }
  static scmp_arg_cmp has_bits(unsigned argument, std::uint64_t mask, std::uint64_t bits) {
    return {.arg = argument, .op = SCMP_CMP_MASKED_EQ, .datum_a = mask, .datum_b = bits};
  }

  Result<void> add_rules_by_argument() {
    for (const int family : {AF_INET, AF_INET6, AF_UNIX})
      PENSTOCK_TRY_VOID(add(SCMP_ACT_ALLOW, "socket", {equals_int(0, family)}));
    PENSTOCK_TRY_VOID(add(SCMP_ACT_ALLOW, "socket", {equals_int(0, AF_NETLINK), equals_int(2, NETLINK_ROUTE)}));
    // Services of ours, for clients without a port of the system (egress/tcp/local_streams.h).
    PENSTOCK_TRY_VOID(add(SCMP_ACT_ALLOW, "socketpair", {equals_int(0, AF_UNIX)}));
    for (const char* call : {"mmap", "mmap2", "mprotect"})
      PENSTOCK_TRY_VOID(add(SCMP_ACT_ALLOW, call, {has_bits(2, PROT_EXEC, 0)}));
    PENSTOCK_TRY_VOID(add(SCMP_ACT_ALLOW, "clone", {has_bits(0, CLONE_THREAD | kNewNamespaces, CLONE_THREAD)}));
    for (const int request : {FIONBIO, FIONREAD, FIOCLEX, TCGETS})
      PENSTOCK_TRY_VOID(add(SCMP_ACT_ALLOW, "ioctl", {equals_int(1, request)}));
    // A device that outlives us is left as one that hands over ordinary packets.
    PENSTOCK_TRY_VOID(add(SCMP_ACT_ALLOW, "ioctl", {equals_int(1, static_cast<int>(TUNSETOFFLOAD)), equals(2, 0)}));
    for (const int option : {PR_SET_NAME, PR_GET_NAME, PR_SET_VMA})
      PENSTOCK_TRY_VOID(add(SCMP_ACT_ALLOW, "prctl", {equals_int(0, option)}));
    return {};
  }

  std::unique_ptr<std::remove_pointer_t<scmp_filter_ctx>, Release> context_;
};

}  // namespace

Result<void> install_system_call_filter() {
  PENSTOCK_TRY(Filter filter, Filter::create());
  PENSTOCK_TRY_VOID(filter.add_rules());
  return filter.load();
}

Result<std::size_t> size_of_system_call_filter(const char* architecture) {
  PENSTOCK_TRY(Filter filter, Filter::create());
  PENSTOCK_TRY_VOID(filter.set_architecture(architecture));
  PENSTOCK_TRY_VOID(filter.add_rules());
  const net::FileDescriptor file(::memfd_create("filter", MFD_CLOEXEC));
  if (!file) return fail_errno("memfd_create", errno);
  PENSTOCK_TRY_VOID(filter.write_program(file.get()));
  struct stat status{};
  if (::fstat(file.get(), &status) != 0) return fail_errno("memfd", errno);
  return static_cast<std::size_t>(status.st_size) / 8;
}

}  // namespace penstock::gateway
