#include "net/resolver.h"

#include <netdb.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <map>
#include <mutex>
#include <system_error>
#include <thread>
#include <utility>

#include "net/socket_address.h"

namespace penstock::net {
namespace {

Result<std::vector<IpAddress>> look_up(const std::string& host, Family family) {
  addrinfo hints{};
  hints.ai_family = family == Family::ipv6 ? AF_INET6 : AF_INET;
  hints.ai_socktype = SOCK_STREAM;
  addrinfo* found = nullptr;
  const int error = ::getaddrinfo(host.c_str(), nullptr, &hints, &found);
  const std::unique_ptr<addrinfo, void (*)(addrinfo*)> owner(found, [](addrinfo* list) {
    if (list != nullptr) ::freeaddrinfo(list);
  });
  const std::string what = "cannot resolve " + host + ": ";
  switch (error) {
    case 0: break;
    case EAI_NONAME:
#ifdef EAI_NODATA
    case EAI_NODATA:
#endif
#ifdef EAI_ADDRFAMILY
    case EAI_ADDRFAMILY:
#endif
      return fail(ErrorCode::not_found, what + "no such host (is the name spelled right?)");
    case EAI_AGAIN:
      return fail(ErrorCode::unavailable, what + "the name server does not answer (is this machine online?)");
    case EAI_SYSTEM: return fail_errno("cannot resolve " + host, errno);
    default: return fail(ErrorCode::system_error, what + ::gai_strerror(error));
  }
  std::vector<IpAddress> addresses;
  for (const addrinfo* at = found; at != nullptr; at = at->ai_next) {
    SocketAddress socket_address;
    std::memcpy(&socket_address.storage, at->ai_addr, at->ai_addrlen);
    const IpAddress address = socket_address.endpoint().address;
    // An IPv4-mapped answer has changed family: the other lookup brings it.
    if (address.family() == family && std::ranges::find(addresses, address) == addresses.end())
      addresses.push_back(address);
  }
  if (addresses.empty()) return fail(ErrorCode::not_found, what + "it has no address of this family");
  return addresses;
}

}  // namespace

// What lookups, their threads and the resolver have in common.
struct SystemResolver::Shared {
  std::mutex mutex;
  EventLoop* loop = nullptr;  // guarded; null once the resolver is gone: threads must not touch the loop any more
  int threads = 0;            // guarded

  // The rest belongs to the loop's thread.
  std::uint64_t last_id = 0;
  std::map<std::uint64_t, Done> waiting;

  // Gives the answer to the lookup, if it still wants one.
  void answer(std::uint64_t id, Result<std::vector<IpAddress>> result) {
    auto found = waiting.extract(id);
    if (!found.empty()) found.mapped()(std::move(result));
  }
};

namespace {

class SystemLookup final : public Resolver::Lookup {
 public:
  explicit SystemLookup(std::move_only_function<void()> forget) : forget_(std::move(forget)) {}
  ~SystemLookup() override { forget_(); }
  SystemLookup(const SystemLookup&) = delete;
  SystemLookup& operator=(const SystemLookup&) = delete;

 private:
  std::move_only_function<void()> forget_;
};

}  // namespace

SystemResolver::SystemResolver(EventLoop& loop) : shared_(std::make_shared<Shared>()) { shared_->loop = &loop; }

SystemResolver::~SystemResolver() {
  {
    const std::lock_guard lock(shared_->mutex);
    shared_->loop = nullptr;
  }
  // Out of the map first: what a callback owned may itself be a lookup.
  const auto dropped = std::exchange(shared_->waiting, {});
}

std::unique_ptr<Resolver::Lookup> SystemResolver::resolve(const std::string& host, Family family, Done done) {
  const std::uint64_t id = ++shared_->last_id;
  shared_->waiting.emplace(id, std::move(done));
  auto lookup = std::make_unique<SystemLookup>([shared = shared_, id] { shared->waiting.erase(id); });

  const auto refuse = [&](std::string why) {
    shared_->loop->post([shared = shared_, id, host, why = std::move(why)]() mutable {
      shared->answer(id, fail(ErrorCode::exhausted, "cannot resolve " + host + ": " + why));
    });
  };
  {
    const std::lock_guard lock(shared_->mutex);
    if (shared_->threads == kMostThreads) {
      refuse(std::to_string(kMostThreads) + " earlier lookups still wait for the name server");
      return lookup;
    }
    ++shared_->threads;
  }
  try {
    std::thread([shared = shared_, id, host, family] {
      auto result = look_up(host, family);
      const std::lock_guard lock(shared->mutex);
      --shared->threads;
      if (shared->loop == nullptr) return;
      shared->loop->post([shared, id, result = std::move(result)]() mutable { shared->answer(id, std::move(result)); });
    }).detach();
  } catch (const std::system_error& error) {
    const std::lock_guard lock(shared_->mutex);
    --shared_->threads;
    refuse(error.code().message());
  }
  return lookup;
}

}  // namespace penstock::net
