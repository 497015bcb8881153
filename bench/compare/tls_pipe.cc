// tls_pipe: bytes, or a TUN device's packets, through one bare TLS connection. What the comparison's limits are made
// of.
//
//   send       128 KiB writes for some seconds, no TUN: the machine's limit for TLS over TCP with OpenSSL's records
//   receive    the other end of that; prints what arrived as JSON
//   tunnel     the sketch of a VPN: each packet of a TUN device with virtio_net_hdr, super-packets as the kernel
//              hands them over, behind four bytes of length in host order
//
// Each mode listens (--listen, with --certificate and --key) or connects (--connect); no certificate is verified.
// One thread, one connection, OpenSSL straight on the socket, and no more care than a measurement takes: it trusts its
// peer. It ends when the peer does.

#include <arpa/inet.h>
#include <fcntl.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <netinet/tcp.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstdint>
#include <cstring>
#include <iostream>
#include <memory>
#include <nlohmann/json.hpp>
#include <span>
#include <stdexcept>
#include <string>
#include <system_error>
#include <utility>
#include <vector>

namespace penstock::bench {
namespace {

using Clock = std::chrono::steady_clock;
using Byte = unsigned char;

constexpr int kWriteSize = 128 * 1024;
constexpr std::size_t kReadBuffer = 128 * 1024;
constexpr std::size_t kLargestPacket = 10 + 65535;  // virtio_net_hdr and an IP packet
constexpr std::size_t kOutgoing = 256 * 1024;       // from here on the TUN device waits
constexpr std::size_t kIncoming = 1024 * 1024;
constexpr int kPacketsATurn = 4;
constexpr int kReadsATurn = 8;

struct Options {
  std::string address = "0.0.0.0";
  std::uint16_t listen = 0, connect = 0;
  std::string certificate, key;
  double seconds = 5;
  std::string interface = "pipe0";
  bool offload = true;
};

[[noreturn]] void fail(const std::string& what) { throw std::system_error(errno, std::generic_category(), what); }

[[noreturn]] void fail_tls(const std::string& what) {
  throw std::runtime_error(what + ": " + ERR_error_string(ERR_get_error(), nullptr));
}

class Descriptor {
 public:
  explicit Descriptor(int fd, const char* what) : fd_(fd) {
    if (fd < 0) fail(what);
  }
  Descriptor(Descriptor&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  Descriptor& operator=(Descriptor&&) = delete;
  ~Descriptor() {
    if (fd_ >= 0) ::close(fd_);
  }
  int get() const { return fd_; }
  void make_nonblocking() const {
    if (::fcntl(fd_, F_SETFL, O_NONBLOCK) != 0) fail("O_NONBLOCK");
  }

 private:
  int fd_;
};

Descriptor open_connection(const Options& options) {
  Descriptor socket(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), "socket");
  const int on = 1;
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(options.listen != 0 ? options.listen : options.connect);
  if (::inet_pton(AF_INET, options.address.c_str(), &address.sin_addr) != 1)
    throw std::runtime_error("not an IPv4 address: " + options.address);
  const auto* name = reinterpret_cast<const sockaddr*>(&address);
  if (options.listen != 0) {
    ::setsockopt(socket.get(), SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (::bind(socket.get(), name, sizeof address) != 0) fail("bind");
    if (::listen(socket.get(), 1) != 0) fail("listen");
    std::cerr << "listening" << std::endl;
    Descriptor connection(::accept4(socket.get(), nullptr, nullptr, SOCK_CLOEXEC), "accept");
    ::setsockopt(connection.get(), IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    return connection;
  }
  if (::connect(socket.get(), name, sizeof address) != 0) fail("connect");
  ::setsockopt(socket.get(), IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
  return socket;
}

class Tls {
 public:
  Tls(const Options& options, int socket) {
    const bool server = options.listen != 0;
    context_.reset(SSL_CTX_new(server ? TLS_server_method() : TLS_client_method()));
    SSL_CTX* context = context_.get();
    if (context == nullptr || SSL_CTX_set_ciphersuites(context, "TLS_AES_128_GCM_SHA256") != 1) fail_tls("TLS");
    SSL_CTX_set_min_proto_version(context, TLS1_3_VERSION);
    if (server && (SSL_CTX_use_certificate_chain_file(context, options.certificate.c_str()) != 1 ||
                   SSL_CTX_use_PrivateKey_file(context, options.key.c_str(), SSL_FILETYPE_PEM) != 1))
      fail_tls(options.certificate);
    SSL_CTX_set_mode(context, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
    SSL_CTX_set_read_ahead(context, 1);
    SSL_CTX_set_default_read_buffer_len(context, kReadBuffer);
    ssl_.reset(SSL_new(context));
    SSL_set_fd(ssl_.get(), socket);
    if ((server ? SSL_accept(ssl_.get()) : SSL_connect(ssl_.get())) != 1) fail_tls("handshake");
  }

  // How many bytes went; 0 or less: none now.
  int write(std::span<const Byte> bytes) {
    return SSL_write(ssl_.get(), bytes.data(), static_cast<int>(std::min<std::size_t>(bytes.size(), kIncoming)));
  }
  int read(std::span<Byte> room) {
    const int count = SSL_read(ssl_.get(), room.data(), static_cast<int>(room.size()));
    if (count <= 0) {
      const int error = SSL_get_error(ssl_.get(), count);
      ended_ = error != SSL_ERROR_WANT_READ && error != SSL_ERROR_WANT_WRITE;
    }
    return count;
  }
  bool ended() const { return ended_; }
  void shut_down() { SSL_shutdown(ssl_.get()); }

 private:
  struct Free {
    void operator()(SSL_CTX* context) const { SSL_CTX_free(context); }
    void operator()(SSL* ssl) const { SSL_free(ssl); }
  };
  std::unique_ptr<SSL_CTX, Free> context_;
  std::unique_ptr<SSL, Free> ssl_;
  bool ended_ = false;
};

double seconds_since(Clock::time_point start) { return std::chrono::duration<double>(Clock::now() - start).count(); }

double cpu_seconds() {
  rusage usage{};
  ::getrusage(RUSAGE_SELF, &usage);
  const auto seconds = [](const timeval& time) {
    return static_cast<double>(time.tv_sec) + static_cast<double>(time.tv_usec) * 1e-6;
  };
  return seconds(usage.ru_utime) + seconds(usage.ru_stime);
}

void print(std::uint64_t bytes, double seconds) {
  std::cout << nlohmann::ordered_json{{"bytes", bytes}, {"seconds", seconds}, {"cpu_seconds", cpu_seconds()}}
            << std::endl;
}

void send(Tls& tls, double seconds) {
  const std::vector<Byte> block(kWriteSize, 7);
  const auto start = Clock::now();
  std::uint64_t bytes = 0;
  while (seconds_since(start) < seconds) {
    const int count = tls.write(block);
    if (count <= 0) fail_tls("write");
    bytes += static_cast<std::uint64_t>(count);
  }
  print(bytes, seconds_since(start));
  tls.shut_down();
}

void receive(Tls& tls) {
  std::vector<Byte> room(kWriteSize);
  const auto start = Clock::now();
  std::uint64_t bytes = 0;
  for (int count = 0; (count = tls.read(room)) > 0;) bytes += static_cast<std::uint64_t>(count);
  print(bytes, seconds_since(start));
}

Descriptor open_tun(const Options& options) {
  Descriptor tun(::open("/dev/net/tun", O_RDWR | O_NONBLOCK | O_CLOEXEC), "/dev/net/tun");
  ifreq request{};
  options.interface.copy(request.ifr_name, IFNAMSIZ - 1);
  request.ifr_flags = IFF_TUN | IFF_NO_PI | IFF_VNET_HDR;
  if (::ioctl(tun.get(), TUNSETIFF, &request) != 0) fail("TUNSETIFF " + options.interface);
  const unsigned offloads = options.offload ? TUN_F_CSUM | TUN_F_TSO4 | TUN_F_TSO6 : 0;
  if (::ioctl(tun.get(), TUNSETOFFLOAD, offloads) != 0) fail("TUNSETOFFLOAD");
  return tun;
}

// Both ways of the sketch. Each step says whether it got anything done; when none did, wait() sleeps.
class Tunnel {
 public:
  Tunnel(Tls& tls, int socket, int tun) : tls_(tls), socket_(socket), tun_(tun), incoming_(kIncoming) {}

  void run() {
    while (!tls_.ended()) {
      bool progress = take_packets();
      progress |= send_outgoing();
      progress |= receive_incoming();
      if (!progress) wait();
    }
  }

 private:
  std::size_t waiting() const { return outgoing_.size() - sent_; }

  bool take_packets() {
    if (waiting() >= kOutgoing) return false;
    int packets = 0;
    for (; packets < kPacketsATurn; ++packets) {
      const ssize_t size = ::read(tun_, packet_.data(), packet_.size());
      if (size <= 0) break;
      std::array<Byte, 4> length{};
      const auto number = static_cast<std::uint32_t>(size);
      std::memcpy(length.data(), &number, length.size());
      outgoing_.insert(outgoing_.end(), length.begin(), length.end());
      outgoing_.insert(outgoing_.end(), packet_.begin(), packet_.begin() + size);
    }
    return packets > 0;
  }

  bool send_outgoing() {
    const std::size_t before = sent_;
    while (waiting() > 0) {
      const int count = tls_.write(std::span(outgoing_).subspan(sent_));
      if (count <= 0) break;
      sent_ += static_cast<std::size_t>(count);
    }
    const bool progress = sent_ != before;
    if (waiting() == 0) {
      outgoing_.clear();
      sent_ = 0;
    } else if (sent_ > kOutgoing) {
      outgoing_.erase(outgoing_.begin(), outgoing_.begin() + static_cast<std::ptrdiff_t>(sent_));
      sent_ = 0;
    }
    return progress;
  }

  bool receive_incoming() {
    int reads = 0;
    for (; reads < kReadsATurn; ++reads) {
      const int count = tls_.read(std::span(incoming_).subspan(received_));
      if (count <= 0) break;
      received_ += static_cast<std::size_t>(count);
      deliver();
    }
    return reads > 0;
  }

  void deliver() {
    std::size_t at = 0;
    for (std::uint32_t size = 0; received_ - at >= sizeof size; at += sizeof size + size) {
      std::memcpy(&size, &incoming_[at], sizeof size);
      if (size > kLargestPacket) throw std::runtime_error("the peer lost its place in the stream");
      if (received_ - at - sizeof size < size) break;
      if (::write(tun_, &incoming_[at + sizeof size], size) < 0 && errno != EAGAIN && errno != EIO) fail("TUN write");
    }
    std::memmove(incoming_.data(), incoming_.data() + at, received_ - at);
    received_ -= at;
  }

  void wait() {
    const short from_tun = waiting() < kOutgoing ? POLLIN : 0;
    const short to_socket = waiting() > 0 ? POLLOUT : 0;
    std::array<pollfd, 2> sources{{{tun_, from_tun, 0}, {socket_, static_cast<short>(POLLIN | to_socket), 0}}};
    ::poll(sources.data(), sources.size(), -1);
  }

  Tls& tls_;
  int socket_, tun_;
  std::array<Byte, kLargestPacket> packet_{};
  std::vector<Byte> outgoing_;  // what lies before sent_ has gone
  std::size_t sent_ = 0;
  std::vector<Byte> incoming_;  // whole and torn messages in its first received_ bytes
  std::size_t received_ = 0;
};

void tunnel(const Options& options) {
  const Descriptor tun = open_tun(options);
  const Descriptor connection = open_connection(options);
  Tls tls(options, connection.get());
  connection.make_nonblocking();
  std::make_unique<Tunnel>(tls, connection.get(), tun.get())->run();
}

void pipe(const Options& options, bool sending) {
  const Descriptor connection = open_connection(options);
  Tls tls(options, connection.get());
  if (sending)
    send(tls, options.seconds);
  else
    receive(tls);
}

int run(int argc, char** argv) {
  Options options;
  CLI::App app("bytes, or a TUN device's packets, through one bare TLS connection");
  app.require_subcommand(1);
  const auto mode = [&](const char* name, const char* what) {
    CLI::App* command = app.add_subcommand(name, what);
    auto* listen = command->add_option("--listen", options.listen, "wait for the peer on this port");
    auto* connect = command->add_option("--connect", options.connect, "the peer's port");
    command->add_option("--address", options.address, "where to listen or connect");
    command->add_option("--certificate", options.certificate, "PEM, of who listens")->needs(listen);
    command->add_option("--key", options.key, "PEM, of who listens")->needs(listen);
    listen->excludes(connect);
    return command;
  };
  auto* sender = mode("send", "write as fast as it goes");
  sender->add_option("--seconds", options.seconds, "for how long");
  mode("receive", "read to the end");
  auto* tunneler = mode("tunnel", "carry the packets of a TUN device");
  tunneler->add_option("--interface", options.interface, "the device's name");
  tunneler->add_flag("!--no-offload", options.offload, "a packet a read");
  CLI11_PARSE(app, argc, argv);
  if ((options.listen == 0) == (options.connect == 0)) throw std::runtime_error("either --listen or --connect");

  if (tunneler->parsed())
    tunnel(options);
  else
    pipe(options, sender->parsed());
  return 0;
}

}  // namespace
}  // namespace penstock::bench

int main(int argc, char** argv) {
  ::signal(SIGPIPE, SIG_IGN);
  try {
    return penstock::bench::run(argc, argv);
  } catch (const std::exception& error) {
    std::cerr << "tls_pipe: " << error.what() << "\n";
    return 1;
  }
}
