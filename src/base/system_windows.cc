#include "base/system_windows.h"

#include <windows.h>

#include <array>

namespace penstock {

namespace {

ErrorCode code_of(DWORD error) {
  switch (error) {
    case ERROR_INVALID_NAME:
    case ERROR_BAD_PATHNAME:
    case ERROR_FILENAME_EXCED_RANGE:
    case ERROR_DIRECTORY:
    case ERROR_INVALID_PARAMETER: return ErrorCode::invalid_argument;
    case ERROR_FILE_NOT_FOUND:
    case ERROR_PATH_NOT_FOUND:
    case ERROR_INVALID_DRIVE:
    case ERROR_BAD_NETPATH:
    case ERROR_NOT_FOUND: return ErrorCode::not_found;
    case ERROR_ACCESS_DENIED:
    case ERROR_WRITE_PROTECT:
    case ERROR_PRIVILEGE_NOT_HELD: return ErrorCode::permission_denied;
    case ERROR_FILE_EXISTS:
    case ERROR_ALREADY_EXISTS:
    case ERROR_BUSY: return ErrorCode::address_in_use;
    case ERROR_NOT_ENOUGH_MEMORY:
    case ERROR_OUTOFMEMORY:
    case ERROR_NO_SYSTEM_RESOURCES:
    case ERROR_TOO_MANY_OPEN_FILES:
    case ERROR_HANDLE_DISK_FULL:
    case ERROR_DISK_FULL: return ErrorCode::exhausted;
    case ERROR_BROKEN_PIPE:
    case ERROR_NO_DATA: return ErrorCode::closed;
    case ERROR_TIMEOUT:
    case ERROR_SEM_TIMEOUT: return ErrorCode::timed_out;
    case ERROR_SHARING_VIOLATION:
    case ERROR_LOCK_VIOLATION: return ErrorCode::unavailable;
    default: return ErrorCode::system_error;
  }
}

}  // namespace

std::wstring to_wide(std::string_view utf8) {
  const int size = static_cast<int>(utf8.size());
  std::wstring wide(static_cast<std::size_t>(::MultiByteToWideChar(CP_UTF8, 0, utf8.data(), size, nullptr, 0)), L'\0');
  ::MultiByteToWideChar(CP_UTF8, 0, utf8.data(), size, wide.data(), static_cast<int>(wide.size()));
  return wide;
}

std::string to_utf8(std::wstring_view wide) {
  const int size = static_cast<int>(wide.size());
  std::string utf8(
      static_cast<std::size_t>(::WideCharToMultiByte(CP_UTF8, 0, wide.data(), size, nullptr, 0, nullptr, nullptr)),
      '\0');
  ::WideCharToMultiByte(CP_UTF8, 0, wide.data(), size, utf8.data(), static_cast<int>(utf8.size()), nullptr, nullptr);
  return utf8;
}

std::unexpected<Error> fail_windows(std::string_view what, unsigned long error) {
  std::array<wchar_t, 512> text{};
  DWORD size = ::FormatMessageW(FORMAT_MESSAGE_FROM_SYSTEM | FORMAT_MESSAGE_IGNORE_INSERTS, nullptr, error, 0,
                                text.data(), static_cast<DWORD>(text.size()), nullptr);
  while (size > 0 && (text[size - 1] <= L' ' || text[size - 1] == L'.')) --size;
  std::string message(what);
  message += ": ";
  message += size > 0 ? to_utf8({text.data(), size}) : "error " + std::to_string(error);
  return fail(code_of(error), std::move(message));
}

}  // namespace penstock
