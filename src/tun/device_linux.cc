#include "tun/device_linux.h"

// net/if.h first: the kernel's own header then leaves out what both define.
#include <fcntl.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <sys/ioctl.h>
#include <sys/uio.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <optional>
#include <utility>

#include "tun/device_holder.h"
#include "tun/netlink.h"

namespace penstock::tun {
namespace {

constexpr const char* kTunPath = "/dev/net/tun";

// What fits into the smaller class of packet buffers: all but jumbo MTUs.
constexpr std::size_t kUsualSize = 2048 - Packet::kHeadroom;

class FileDescriptor {
 public:
  explicit FileDescriptor(int value) : value_(value) {}
  FileDescriptor(FileDescriptor&& other) noexcept : value_(std::exchange(other.value_, -1)) {}
  ~FileDescriptor() {
    if (value_ >= 0) ::close(value_);
  }
  int get() const { return value_; }

 private:
  int value_;
};

class LinuxDevice final : public Device {
 public:
  LinuxDevice(FileDescriptor tun, std::string name, int index)
      : tun_(std::move(tun)), name_(std::move(name)), index_(index) {}

  Result<std::size_t> read(PacketBatch& into, std::size_t max) override {
    std::size_t count = 0;
    while (count < max) {
      Packet packet = Packet::with_size(kUsualSize);
      // The kernel cuts off silently what does not fit, so there is room for the largest packet: the rest of one that
      // is larger than usual lands in overflow_.
      std::array<iovec, 2> parts{
          {{packet.mutable_bytes().data(), packet.size()}, {overflow_.data(), overflow_.size()}}};
      const ssize_t received = ::readv(tun_.get(), parts.data(), static_cast<int>(parts.size()));
      if (received < 0 && errno == EINTR) continue;
      if (received < 0 && errno == EAGAIN) break;
      if (received < 0) {
        // What was read before is delivered first; the next call meets the same error again.
        if (count > 0) break;
        return fail(ErrorCode::closed, "interface " + name_ + " has been deleted: " + std::strerror(errno));
      }
      into.push_back(complete(std::move(packet), static_cast<std::size_t>(received)));
      ++count;
    }
    return count;
  }

  bool write(const Packet& packet) override {
    ssize_t sent = 0;
    do sent = ::write(tun_.get(), packet.bytes().data(), packet.size());
    while (sent < 0 && errno == EINTR);
    return sent >= 0;
  }

  NativeHandle handle() const override { return tun_.get(); }
  const std::string& name() const override { return name_; }
  int index() const override { return index_; }

 private:
  // The packet of `size` bytes that stand in `usual` and, as far as they did not fit, in overflow_.
  Packet complete(Packet usual, std::size_t size) const {
    if (size <= usual.size()) {
      usual.truncate(size);
      return usual;
    }
    Packet large = Packet::with_size(size);
    std::memcpy(large.mutable_bytes().data(), usual.bytes().data(), usual.size());
    std::memcpy(large.mutable_bytes().data() + usual.size(), overflow_.data(), size - usual.size());
    return large;
  }

  FileDescriptor tun_;
  std::string name_;
  int index_;
  std::array<std::uint8_t, Packet::kMaxSize - kUsualSize> overflow_;
};

std::unexpected<Error> open_refusal(int error) {
  switch (error) {
    case ENOENT:
    case ENODEV:
    case ENXIO:
      return fail(
          ErrorCode::not_found,
          std::string(kTunPath) +
              " is missing: load the module (modprobe tun), in a container pass the device (docker run --device "
              "/dev/net/tun --cap-add NET_ADMIN), or let a gateway do without it (vpn.tun: off)");
    case EACCES:
    case EPERM:
      return fail(ErrorCode::permission_denied,
                  std::string("not allowed to open ") + kTunPath +
                      ": a TUN device needs CAP_NET_ADMIN; run as root, in a container pass the device, or let a "
                      "gateway do without it (vpn.tun: off)");
    default: return fail_errno(std::string("cannot open ") + kTunPath, error);
  }
}

std::unexpected<Error> held_refusal(const std::string& name) {
  const auto holder = find_device_holder(name);
  return fail(ErrorCode::address_in_use, "vpn.interface_name: the TUN device " + name + " is held by " +
                                             holder.value_or("another process") +
                                             ": stop that, or choose another vpn.interface_name");
}

std::unexpected<Error> attach_refusal(const std::string& name, int error) {
  if (error == EPERM || error == EACCES)
    return fail(ErrorCode::permission_denied,
                "not allowed to make the TUN device " + name +
                    ": this needs CAP_NET_ADMIN; run as root, or let a gateway do without it (vpn.tun: off)");
  if (error == EBUSY) return held_refusal(name);
  return fail_errno("vpn.interface_name: cannot make the TUN device " + name, error);
}

// Whether a TUN can be had under a name that `existing` has already.
Result<void> check_usable(const LinkInfo& existing) {
  if (existing.kind == "tun" && !existing.is_tap && !existing.multi_queue) return {};
  return fail(ErrorCode::address_in_use, "vpn.interface_name: " + existing.name + " exists and is " +
                                             existing.describe() +
                                             ", not a TUN device that can be used: choose another vpn.interface_name");
}

}  // namespace

Result<void> check_interface_name(std::string_view name) {
  const auto refuse = [&](std::string_view why) {
    return fail(ErrorCode::invalid_argument,
                "vpn.interface_name: \"" + std::string(name) + "\" is no name for an interface: " + std::string(why));
  };
  if (name.empty() || name.size() >= IFNAMSIZ) return refuse("it must have 1 to 15 characters");
  if (name == "." || name == ".." || name == "all" || name == "default")
    return refuse("the system keeps it for itself");
  const bool plain =
      std::ranges::all_of(name, [](char c) { return c > ' ' && c <= '~' && c != '/' && c != ':' && c != '%'; });
  if (!plain) return refuse("only letters, digits and punctuation without '/', ':' and '%' can be used");
  return {};
}

Result<std::unique_ptr<Device>> open_device(const DeviceOptions& options) {
  const std::string& name = options.name;
  PENSTOCK_TRY_VOID(check_interface_name(name));
  PENSTOCK_TRY(const auto netlink, Netlink::create());
  PENSTOCK_TRY(const auto existing, netlink->find_link(name));
  if (existing) PENSTOCK_TRY_VOID(check_usable(*existing));

  FileDescriptor tun(::open(kTunPath, O_RDWR | O_NONBLOCK | O_CLOEXEC));
  if (tun.get() < 0) return open_refusal(errno);

  ifreq request{};
  std::ranges::copy(name, request.ifr_name);
  // IFF_VNET_HDR will stand here when super-packets travel whole.
  int flags = IFF_TUN | IFF_NO_PI;
  // What appears under a free name in the meantime is not ours to use.
  if (!existing) flags |= IFF_TUN_EXCL;
  request.ifr_flags = static_cast<short>(flags);
  if (::ioctl(tun.get(), TUNSETIFF, &request) < 0) return attach_refusal(name, errno);
  // Whoever held a persistent device before may have left it handing out super-packets without checksums.
  if (::ioctl(tun.get(), TUNSETOFFLOAD, 0) < 0) return attach_refusal(name, errno);

  PENSTOCK_TRY(const auto link, netlink->find_link(name));
  if (!link) return fail(ErrorCode::closed, "interface " + name + " was deleted or renamed while it was being made");
  return std::make_unique<LinuxDevice>(std::move(tun), name, link->index);
}

}  // namespace penstock::tun
