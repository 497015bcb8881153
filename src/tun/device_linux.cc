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
#include <system_error>
#include <utility>

#include "base/log.h"
#include "tun/device_holder.h"
#include "tun/netlink.h"
#include "tun/packet_writer.h"
#include "tun/vnet_header.h"

namespace penstock::tun {
namespace {

constexpr const char* kTunPath = "/dev/net/tun";

// UDP super-packets, which linux/if_tun.h knows since 6.2: TUN_F_USO4 and TUN_F_USO6.
constexpr unsigned kUdpOffloads = 0x20U | 0x40U;
// TSO_ECN: also those of which the first segment has CWR.
constexpr unsigned kTcpOffloads = TUN_F_CSUM | TUN_F_TSO4 | TUN_F_TSO6 | TUN_F_TSO_ECN;

// Up to this size a packet is copied out of the large buffer that it was read into, so that an acknowledgement in a
// queue does not hold 64 KiB; a larger one takes the buffer along. It is what the class of buffers below the largest
// takes: copying so much costs 0.1 us more than handing on the buffer, and needs a quarter of the memory.
constexpr std::size_t kCopiedSize = 16384 - Packet::kHeadroom;

class FileDescriptor {
 public:
  explicit FileDescriptor(int value) : value_(value) {}
  FileDescriptor(FileDescriptor&& other) noexcept : value_(std::exchange(other.value_, -1)) {}
  ~FileDescriptor() { close(); }
  int get() const { return value_; }
  void close() {
    if (value_ >= 0) ::close(std::exchange(value_, -1));
  }

 private:
  int value_;
};

// What TUNSETIFF and its followers made of the device.
struct Offloads {
  bool header = false;  // a virtio_net_hdr in front of each packet
  GsoKinds kinds;
};

int write_to(int tun, ByteView header, ByteView packet) {
  std::array<iovec, 2> parts;
  std::size_t count = 0;
  for (const ByteView part : {header, packet}) {
    // The system's type knows no bytes that are only read.
    if (!part.empty()) parts[count++] = {const_cast<std::uint8_t*>(part.data()), part.size()};
  }
  ssize_t sent = 0;
  do sent = ::writev(tun, parts.data(), static_cast<int>(count));
  while (sent < 0 && errno == EINTR);
  return sent < 0 ? errno : 0;
}

PacketWriter writer_for(int tun, const Offloads& offloads) {
  const auto sink = [tun](ByteView header, ByteView packet) { return write_to(tun, header, packet); };
  return offloads.header ? PacketWriter::with_offloads(sink, offloads.kinds) : PacketWriter::plain(sink);
}

class LinuxDevice final : public Device {
 public:
  LinuxDevice(FileDescriptor tun, std::string name, int index, const Offloads& offloads)
      : tun_(std::move(tun)),
        name_(std::move(name)),
        index_(index),
        header_size_(offloads.header ? kVnetHeaderSize : 0),
        writer_(writer_for(tun_.get(), offloads)) {}
  ~LinuxDevice() override { ::ioctl(tun_.get(), TUNSETOFFLOAD, 0); }
  LinuxDevice(const LinuxDevice&) = delete;
  LinuxDevice& operator=(const LinuxDevice&) = delete;

  Result<std::size_t> read(PacketBatch& into, std::size_t max_packets, std::size_t max_bytes) override {
    std::size_t count = 0;
    std::size_t bytes = 0;
    for (std::size_t reads = 0; reads < max_packets && bytes < max_bytes; ++reads) {
      // The kernel cuts off silently what does not fit: so there is always room for the largest packet.
      if (large_.empty()) large_ = Packet::with_size(Packet::kMaxSize);
      ssize_t received = 0;
      do received = ::read(tun_.get(), large_.front(header_size_).data(), header_size_ + Packet::kMaxSize);
      while (received < 0 && errno == EINTR);
      if (received < 0 && errno == EAGAIN) break;
      // A super-packet of a kind for which there is no virtio_net_hdr: it is gone, the next one may be well.
      if (received < 0 && errno == EINVAL) {
        ++disbelieved_;
        continue;
      }
      if (received < 0) {
        // What was read before is delivered first; the next call meets the same error again.
        if (count > 0) break;
        return fail(ErrorCode::closed, "interface " + name_ + " has been deleted: " + std::strerror(errno));
      }
      if (!append_to(into, static_cast<std::size_t>(received))) {
        ++disbelieved_;
        continue;
      }
      bytes += into.back().size();
      ++count;
    }
    return count;
  }

  bool write(Packet& packet) override { return writer_.write(packet); }
  bool write_as_it_lies(ByteView packet, const Offload& offload) override {
    return writer_.write_as_it_lies(packet, offload);
  }
  GsoKinds takes() const override { return writer_.takes(); }
  DeviceCounters counters() const override { return {disbelieved_, writer_.refused_whole()}; }

  NativeHandle handle() const override { return tun_.get(); }
  const std::string& name() const override { return name_; }
  int index() const override { return index_; }

 private:
  // Of the `received` bytes in large_. False: the kernel's header is not believed.
  bool append_to(PacketBatch& into, std::size_t received) {
    if (received < header_size_) return false;
    const std::size_t size = received - header_size_;
    Offload offload;
    if (header_size_ != 0) {
      const auto taken = take_vnet_header(large_.front(header_size_), large_.mutable_bytes().first(size));
      if (!taken) return false;
      offload = *taken;
    }
    if (size <= kCopiedSize) {
      into.push_back(Packet::copy_of(large_.bytes().first(size)));
    } else {
      large_.truncate(size);
      into.push_back(std::exchange(large_, {}));
    }
    into.back().offload = offload;
    return true;
  }

  FileDescriptor tun_;
  std::string name_;
  int index_;
  std::size_t header_size_;
  PacketWriter writer_;
  Packet large_;  // what is read into: kMaxSize bytes, or empty
  std::uint64_t disbelieved_ = 0;
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

// Whether the kernel's TUN knows the header at all: what it does not know in TUNSETIFF it leaves out silently.
bool has_vnet_header(int tun) {
  unsigned features = 0;
  return ::ioctl(tun, TUNGETFEATURES, &features) == 0 && (features & IFF_VNET_HDR) != 0;
}

// For a device whose TUNSETIFF was asked for the header, or not. A refusal is the kernel's errno.
std::expected<Offloads, int> set_offloads(int tun, bool header, OffloadMode mode) {
  const auto set = [tun](unsigned offloads) { return ::ioctl(tun, TUNSETOFFLOAD, offloads) == 0; };
  if (!header) {
    // Somebody may have left it with offloads. A kernel that knows none has nothing to take back.
    const bool none = set(0) || errno == ENOTTY || errno == EINVAL;
    return none ? std::expected<Offloads, int>(Offloads{}) : std::unexpected(errno);
  }
  int size = kVnetHeaderSize;
  int little_endian = 1;
  if (::ioctl(tun, TUNSETVNETHDRSZ, &size) < 0 || ::ioctl(tun, TUNSETVNETLE, &little_endian) < 0)
    return std::unexpected(errno);
  if (mode != OffloadMode::gso && set(kTcpOffloads | kUdpOffloads))
    return Offloads{true, {Offload::Gso::tcp4, Offload::Gso::tcp6, Offload::Gso::udp4, Offload::Gso::udp6}};
  if (!set(kTcpOffloads)) return std::unexpected(errno);
  return Offloads{true, {Offload::Gso::tcp4, Offload::Gso::tcp6}};
}

// In the words of vpn.offload.
std::string_view in_use(GsoKinds kinds) {
  if (kinds.has(Offload::Gso::udp4)) return "uso";
  return kinds.has(Offload::Gso::tcp4) ? "gso" : "off";
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
  const bool header = options.offload != OffloadMode::off && has_vnet_header(tun.get());
  int flags = IFF_TUN | IFF_NO_PI;
  if (header) flags |= IFF_VNET_HDR;
  // What appears under a free name in the meantime is not ours to use.
  if (!existing) flags |= IFF_TUN_EXCL;
  request.ifr_flags = static_cast<short>(flags);
  if (::ioctl(tun.get(), TUNSETIFF, &request) < 0) return attach_refusal(name, errno);
  const auto offloads = set_offloads(tun.get(), header, options.offload);
  if (!offloads && header) {
    log::warn("this kernel's TUN devices have no offloads: each packet is read and written by itself",
              {{"device", name}, {"error", std::generic_category().message(offloads.error())}});
    tun.close();  // gives the name back
    return open_device({.name = name, .offload = OffloadMode::off});
  }
  if (!offloads) return attach_refusal(name, offloads.error());

  PENSTOCK_TRY(const auto link, netlink->find_link(name));
  if (!link) return fail(ErrorCode::closed, "interface " + name + " was deleted or renamed while it was being made");
  log::info("interface opened", {{"interface", name}, {"offload", in_use(offloads->kinds)}});
  return std::make_unique<LinuxDevice>(std::move(tun), name, link->index, *offloads);
}

}  // namespace penstock::tun
