#include <cstdlib>

#include "config/common.h"

namespace penstock {
namespace {

// The plain getenv() would lose what the code page of this machine cannot write.
std::filesystem::path environment_path(const wchar_t* name) {
  const wchar_t* value = ::_wgetenv(name);
  return value == nullptr ? std::filesystem::path() : std::filesystem::path(value);
}

}  // namespace

UserEnvironment UserEnvironment::current() {
  return {.home = environment_path(L"USERPROFILE"),
          .state_home = environment_path(L"ProgramData"),
          .runtime_dir = environment_path(L"ProgramData")};
}

std::vector<std::filesystem::path> standard_directories() { return {environment_path(L"ProgramData") / "penstock"}; }

}  // namespace penstock
