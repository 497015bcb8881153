// The parts of tcp_load, which tcp_load.cc tells of.
#pragma once

#include <netinet/in.h>
#include <unistd.h>

#include <chrono>
#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>
#include <utility>
#include <vector>

namespace penstock::bench {

using Clock = std::chrono::steady_clock;
using Seconds = std::chrono::duration<double>;
using Json = nlohmann::ordered_json;

inline constexpr auto kPatience = std::chrono::seconds(5);  // for the other end to do something

struct Plan {
  std::string address;
  std::uint16_t port = 9000;
  std::size_t ports = 1;
  std::string load = "up";
  double seconds = 1;
  std::size_t count = 5000;
  std::size_t parallel = 64;
  double rate = 200;  // requests a second
  std::size_t request = 1;
  std::size_t answer = 1;
};

[[noreturn]] void fail(const std::string& what);  // by errno

class Descriptor {
 public:
  Descriptor(int fd, const char* what) : fd_(fd) {
    if (fd < 0) fail(what);
  }
  Descriptor(Descriptor&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  Descriptor& operator=(Descriptor&& other) noexcept {
    std::swap(fd_, other.fd_);
    return *this;
  }
  ~Descriptor() {
    if (fd_ >= 0) ::close(fd_);
  }
  int get() const { return fd_; }

 private:
  int fd_;
};

inline Clock::duration lasting(double seconds) { return std::chrono::duration_cast<Clock::duration>(Seconds(seconds)); }
sockaddr_in address_of(const Plan& plan, std::size_t port);  // the server's, by the number of its port
void set_patience(int fd);                                   // of calls that wait
Descriptor connected(const Plan& plan);                      // that is patient
double cpu_seconds();                                        // of this process

[[noreturn]] void answer_all(const std::vector<Descriptor>& listeners, const Plan& plan);
Json connect_all(const Plan& plan);
Json hold(const Plan& plan);
Json ask_at_a_pace(const Plan& plan);

}  // namespace penstock::bench
