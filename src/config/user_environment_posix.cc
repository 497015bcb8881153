#include <unistd.h>

#include <cstdlib>

#include "config/common.h"

namespace penstock {
namespace {

std::filesystem::path environment_path(const char* name) {
  const char* value = std::getenv(name);
  return value == nullptr ? std::filesystem::path() : std::filesystem::path(value);
}

}  // namespace

UserEnvironment UserEnvironment::current() {
  return {.root = ::geteuid() == 0,
          .user_id = ::geteuid(),
          .home = environment_path("HOME"),
          .state_home = environment_path("XDG_STATE_HOME"),
          .runtime_dir = environment_path("XDG_RUNTIME_DIR")};
}

std::vector<std::filesystem::path> standard_directories() { return {"/etc/penstock", "/etc/penstock/clients"}; }

}  // namespace penstock
