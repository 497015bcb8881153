#include <windows.h>

#include "base/atomic_file.h"
//
#include <aclapi.h>
#include <sddl.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <limits>
#include <vector>

#include "base/digest.h"
#include "base/random.h"
#include "base/system_windows.h"

namespace penstock {

namespace {

class Handle {
 public:
  explicit Handle(HANDLE handle) : handle_(handle) {}
  Handle(const Handle&) = delete;
  Handle& operator=(const Handle&) = delete;
  ~Handle() { close(); }
  HANDLE get() const { return handle_; }
  bool valid() const { return handle_ != INVALID_HANDLE_VALUE; }
  void close() {
    if (valid()) ::CloseHandle(std::exchange(handle_, INVALID_HANDLE_VALUE));
  }

 private:
  HANDLE handle_;
};

// What the system allocated for us with LocalAlloc.
template <typename T>
class Local {
 public:
  Local() = default;
  Local(const Local&) = delete;
  Local& operator=(const Local&) = delete;
  ~Local() { ::LocalFree(pointer_); }
  T get() const { return pointer_; }
  T* out() { return &pointer_; }

 private:
  T pointer_ = nullptr;
};

// The temporary file, which disappears unless it was renamed.
class Leftover {
 public:
  explicit Leftover(const std::wstring& path) : path_(&path) {}
  Leftover(const Leftover&) = delete;
  Leftover& operator=(const Leftover&) = delete;
  ~Leftover() {
    if (path_ != nullptr) ::DeleteFileW(path_->c_str());
  }
  void keep() { path_ = nullptr; }

 private:
  const std::wstring* path_;
};

Result<void> write_all(HANDLE file, ByteView content, const std::string& path) {
  while (!content.empty()) {
    DWORD written = 0;
    const auto wanted = static_cast<DWORD>(std::min<std::size_t>(content.size(), std::size_t{1} << 30));
    if (!::WriteFile(file, content.data(), wanted, &written, nullptr)) return fail_windows(path, ::GetLastError());
    content = content.subspan(written);
  }
  return {};
}

std::string directory_of(const std::string& path) {
  const std::size_t slash = path.find_last_of("/\\");
  return slash == std::string::npos ? "." : path.substr(0, slash);
}

Result<std::string> text_of(PSID sid) {
  Local<LPWSTR> text;
  if (!::ConvertSidToStringSidW(sid, text.out())) return fail_windows("a security identifier", ::GetLastError());
  return to_utf8(text.get());
}

// "BUILTIN\Users", or S-1-... of somebody whom this machine does not know.
std::string name_of(PSID sid) {
  std::array<wchar_t, 256> name{};
  std::array<wchar_t, 256> domain{};
  DWORD name_size = name.size();
  DWORD domain_size = domain.size();
  SID_NAME_USE use{};
  if (!::LookupAccountSidW(nullptr, sid, name.data(), &name_size, domain.data(), &domain_size, &use))
    return text_of(sid).value_or("somebody");
  const std::string prefix = domain[0] == L'\0' ? "" : to_utf8(domain.data()) + "\\";
  return prefix + to_utf8(name.data());
}

// Whom this process runs as, as S-1-...
Result<std::string> own_user() {
  HANDLE token = nullptr;
  if (!::OpenProcessToken(::GetCurrentProcess(), TOKEN_QUERY, &token))
    return fail_windows("this process's user", ::GetLastError());
  const Handle owned(token);
  alignas(TOKEN_USER) std::array<std::uint8_t, sizeof(TOKEN_USER) + SECURITY_MAX_SID_SIZE> buffer{};
  DWORD size = 0;
  if (!::GetTokenInformation(token, TokenUser, buffer.data(), static_cast<DWORD>(buffer.size()), &size))
    return fail_windows("this process's user", ::GetLastError());
  return text_of(reinterpret_cast<const TOKEN_USER*>(buffer.data())->User.Sid);
}

constexpr std::string_view kSystem = "S-1-5-18";
constexpr std::string_view kAdministrators = "S-1-5-32-544";
constexpr std::string_view kTrustedInstaller = "S-1-5-80-956008885-3418522649-1831038044-1853292631-2271478464";
// In an entry these two stand for whoever owns the file.
constexpr std::string_view kCreatorOwner = "S-1-3-0";
constexpr std::string_view kOwnerRights = "S-1-3-4";

bool may_own(std::string_view sid, std::string_view self) {
  return sid == self || sid == kSystem || sid == kAdministrators || sid == kTrustedInstaller;
}

// Nobody but this user and those who may do everything anyway. P: nothing is passed on from the directory.
Result<void> describe_private(std::string_view self, Local<PSECURITY_DESCRIPTOR>& out) {
  const std::string words = "D:P(A;;FA;;;" + std::string(self) + ")(A;;FA;;;" + std::string(kSystem) + ")(A;;FA;;;" +
                            std::string(kAdministrators) + ")";
  if (!::ConvertStringSecurityDescriptorToSecurityDescriptorW(to_wide(words).c_str(), SDDL_REVISION_1, out.out(),
                                                              nullptr)) {
    return fail_windows("access for one user only", ::GetLastError());
  }
  return {};
}

// Refuses `path` if somebody else owns `thing`, which is that file or its directory, or may do any of `rights` to it.
Result<void> refuse_if_granted(const std::string& path, const std::string& thing, ACCESS_MASK rights) {
  const std::string about = path + (thing == path ? ": " : ": its directory " + thing + ": ");
  const auto run = [&](const std::string& arguments) { return "; run: icacls \"" + thing + "\" " + arguments; };
  PSID owner = nullptr;
  PACL entries = nullptr;
  Local<PSECURITY_DESCRIPTOR> descriptor;
  const DWORD error = ::GetNamedSecurityInfoW(to_wide(thing).c_str(), SE_FILE_OBJECT,
                                              OWNER_SECURITY_INFORMATION | DACL_SECURITY_INFORMATION, &owner, nullptr,
                                              &entries, nullptr, descriptor.out());
  if (error != ERROR_SUCCESS) return fail_windows(path, error);
  PENSTOCK_TRY(const std::string self, own_user());
  PENSTOCK_TRY(const std::string owner_sid, text_of(owner));
  if (!may_own(owner_sid, self)) {
    return fail(ErrorCode::permission_denied, about + "belongs to " + name_of(owner) +
                                                  ", who is neither an administrator nor the user that this runs as" +
                                                  run("/setowner Administrators"));
  }
  // Without a list everybody may do everything.
  if (entries == nullptr)
    return fail(ErrorCode::permission_denied, about + "everybody may write to it" + run("/reset"));

  // Denials are not weighed against it: who is both allowed and denied is refused here too.
  for (DWORD i = 0; i < entries->AceCount; ++i) {
    void* entry = nullptr;
    if (!::GetAce(entries, i, &entry)) return fail_windows(path, ::GetLastError());
    // A callback entry begins as a plain one; its condition is taken for granted.
    auto* const allowed = static_cast<ACCESS_ALLOWED_ACE*>(entry);
    const BYTE type = allowed->Header.AceType;
    if (type != ACCESS_ALLOWED_ACE_TYPE && type != ACCESS_ALLOWED_CALLBACK_ACE_TYPE) continue;
    if ((allowed->Header.AceFlags & INHERIT_ONLY_ACE) != 0 || (allowed->Mask & rights) == 0) continue;
    PSID const whom = &allowed->SidStart;
    PENSTOCK_TRY(const std::string sid, text_of(whom));
    if (may_own(sid, self) || sid == kCreatorOwner || sid == kOwnerRights) continue;
    const std::string name = name_of(whom);
    return fail(ErrorCode::permission_denied,
                about + name + " may write to it" + run("/inheritance:d /remove:g \"" + name + "\""));
  }
  return {};
}

}  // namespace

Result<void> write_file_atomically(const std::string& path, ByteView content, mode_t mode) {
  SECURITY_ATTRIBUTES access{
      .nLength = sizeof(SECURITY_ATTRIBUTES), .lpSecurityDescriptor = nullptr, .bInheritHandle = FALSE};
  Local<PSECURITY_DESCRIPTOR> only_us;
  if ((mode & 07U) == 0) {
    PENSTOCK_TRY(const std::string self, own_user());
    PENSTOCK_TRY_VOID(describe_private(self, only_us));
    access.lpSecurityDescriptor = only_us.get();
  }

  SystemRandom random;
  std::array<std::uint8_t, 8> chance{};
  random.fill(chance);
  const std::wstring target = to_wide(path);
  const std::wstring temporary = to_wide(path + "." + to_hex(chance));
  Handle file(::CreateFileW(temporary.c_str(), GENERIC_WRITE, 0, &access, CREATE_NEW, FILE_ATTRIBUTE_NORMAL, nullptr));
  if (!file.valid()) {
    const DWORD error = ::GetLastError();
    const bool no_directory = error == ERROR_PATH_NOT_FOUND;
    return fail_windows(path + (no_directory ? ": directory " + directory_of(path) : ": a new file beside it"), error);
  }
  Leftover leftover(temporary);

  PENSTOCK_TRY_VOID(write_all(file.get(), content, path));
  if (!::FlushFileBuffers(file.get())) return fail_windows(path, ::GetLastError());
  file.close();
  if (!::MoveFileExW(temporary.c_str(), target.c_str(), MOVEFILE_REPLACE_EXISTING | MOVEFILE_WRITE_THROUGH))
    return fail_windows(path, ::GetLastError());
  leftover.keep();
  return {};
}

Result<std::string> read_whole_file(const std::string& path, std::size_t max_size) {
  const std::wstring name = to_wide(path);
  const DWORD attributes = ::GetFileAttributesW(name.c_str());
  if (attributes != INVALID_FILE_ATTRIBUTES && (attributes & FILE_ATTRIBUTE_DIRECTORY) != 0)
    return fail(ErrorCode::invalid_argument, path + ": is a directory");
  const Handle file(::CreateFileW(name.c_str(), GENERIC_READ, FILE_SHARE_READ | FILE_SHARE_WRITE | FILE_SHARE_DELETE,
                                  nullptr, OPEN_EXISTING, FILE_ATTRIBUTE_NORMAL, nullptr));
  if (!file.valid()) return fail_windows(path, ::GetLastError());

  // Not by its size alone: a pipe has none, and a file may grow meanwhile.
  LARGE_INTEGER size{};
  if (!::GetFileSizeEx(file.get(), &size)) size.QuadPart = 0;
  std::string content;
  std::size_t used = 0;
  while (true) {
    if (used == content.size()) {
      const std::size_t expected = std::max<std::size_t>(static_cast<std::size_t>(size.QuadPart), 4096);
      content.resize(std::min(std::max(expected, used * 2), max_size) + 1);
    }
    const auto room = static_cast<DWORD>(std::min<std::size_t>(content.size() - used, std::size_t{1} << 30));
    DWORD got = 0;
    if (!::ReadFile(file.get(), content.data() + used, room, &got, nullptr)) {
      if (::GetLastError() != ERROR_BROKEN_PIPE) return fail_windows(path, ::GetLastError());
      got = 0;  // the end of a pipe
    }
    if (got == 0) break;
    used += got;
    if (used > max_size)
      return fail(ErrorCode::exhausted,
                  path + ": larger than the " + std::to_string(max_size) + " bytes that it may have");
  }
  content.resize(used);
  return content;
}

Result<void> refuse_if_writable_by_others(const std::string& path) {
  constexpr ACCESS_MASK kTaking = WRITE_DAC | WRITE_OWNER | GENERIC_WRITE | GENERIC_ALL;
  PENSTOCK_TRY_VOID(refuse_if_granted(path, path, kTaking | FILE_WRITE_DATA | FILE_APPEND_DATA | DELETE));
  // Where a file may be deleted, another can take its name.
  return refuse_if_granted(path, directory_of(path), kTaking | FILE_DELETE_CHILD);
}

}  // namespace penstock
