// What is about access lists, sharing and names as Windows has them.
#include <windows.h>
//
#include <aclapi.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sddl.h>

#include "base/atomic_file_testing.h"
#include "base/system_windows.h"

namespace penstock {
namespace {

using ::testing::HasSubstr;
using ::testing::StartsWith;

// Gives the file the access list that `words` describe (SDDL).
void set_access(const std::string& path, const wchar_t* words) {
  PSECURITY_DESCRIPTOR descriptor = nullptr;
  ASSERT_TRUE(::ConvertStringSecurityDescriptorToSecurityDescriptorW(words, SDDL_REVISION_1, &descriptor, nullptr));
  EXPECT_TRUE(::SetFileSecurityW(to_wide(path).c_str(), DACL_SECURITY_INFORMATION, descriptor));
  ::LocalFree(descriptor);
}

TEST_F(AtomicFile, AFileThatEverybodyMayWriteToOrExchangeIsRefused) {
  ASSERT_TRUE(write_file_atomically(path("script"), as_bytes("x"), 0600));
  EXPECT_TRUE(refuse_if_writable_by_others(path("script")));
  set_access(path("script"), L"D:P(A;;FA;;;OW)(A;;FA;;;WD)");
  const auto checked = refuse_if_writable_by_others(path("script"));
  ASSERT_FALSE(checked);
  EXPECT_EQ(checked.error().code, ErrorCode::permission_denied);
  EXPECT_THAT(checked.error().message, StartsWith(path("script") + ": "));
  EXPECT_THAT(checked.error().message, HasSubstr("icacls"));

  ASSERT_TRUE(write_file_atomically(path("script"), as_bytes("x"), 0600));
  set_access(directory_, L"D:P(A;;FA;;;OW)(A;;FA;;;WD)");
  const auto directory_checked = refuse_if_writable_by_others(path("script"));
  ASSERT_FALSE(directory_checked);
  EXPECT_THAT(directory_checked.error().message, HasSubstr("its directory " + directory_));
  EXPECT_EQ(refuse_if_writable_by_others(path("none")).error().code, ErrorCode::not_found);
}

TEST_F(AtomicFile, ASecretIsForItsOwnerWhateverTheOldFileAllowed) {
  ASSERT_TRUE(write_file_atomically(path("secret"), as_bytes("x"), 0644));
  set_access(path("secret"), L"D:P(A;;FA;;;WD)");
  ASSERT_TRUE(write_file_atomically(path("secret"), as_bytes("y"), 0600));
  PACL entries = nullptr;
  PSECURITY_DESCRIPTOR descriptor = nullptr;
  ASSERT_EQ(::GetNamedSecurityInfoW(to_wide(path("secret")).c_str(), SE_FILE_OBJECT, DACL_SECURITY_INFORMATION, nullptr,
                                    nullptr, &entries, nullptr, &descriptor),
            static_cast<DWORD>(ERROR_SUCCESS));
  ASSERT_NE(entries, nullptr);
  for (DWORD i = 0; i < entries->AceCount; ++i) {
    void* entry = nullptr;
    ASSERT_TRUE(::GetAce(entries, i, &entry));
    auto* const allowed = static_cast<ACCESS_ALLOWED_ACE*>(entry);
    if (allowed->Header.AceType != ACCESS_ALLOWED_ACE_TYPE) continue;
    EXPECT_FALSE(::IsWellKnownSid(&allowed->SidStart, WinWorldSid));
    EXPECT_FALSE(::IsWellKnownSid(&allowed->SidStart, WinBuiltinUsersSid));
  }
  ::LocalFree(descriptor);
}

TEST_F(AtomicFile, AFileThatSomebodyHoldsIsRefusedAndStays) {
  ASSERT_TRUE(write_file_atomically(path("state"), as_bytes("old"), 0644));
  HANDLE holder = ::CreateFileW(to_wide(path("state")).c_str(), GENERIC_READ, 0, nullptr, OPEN_EXISTING, 0, nullptr);
  ASSERT_NE(holder, INVALID_HANDLE_VALUE);
  const auto written = write_file_atomically(path("state"), as_bytes("new"), 0644);
  const auto read = read_whole_file(path("state"), 10);
  ::CloseHandle(holder);
  ASSERT_FALSE(written);
  EXPECT_THAT(written.error().message, StartsWith(path("state") + ": "));
  EXPECT_EQ(files(), 1U) << "nothing is left beside it";
  ASSERT_FALSE(read);
  EXPECT_EQ(read.error().code, ErrorCode::unavailable);
  EXPECT_EQ(read_whole_file(path("state"), 10), "old");
}

TEST_F(AtomicFile, PathsAreUtf8) {
  const std::string name = path("\xD0\xBA\xD0\xBB\xD1\x8E\xD1\x87");  // ключ
  ASSERT_TRUE(write_file_atomically(name, as_bytes("x"), 0644));
  EXPECT_EQ(read_whole_file(name, 10), "x");
  EXPECT_NE(::GetFileAttributesW((to_wide(path("")) + L"\x043A\x043B\x044E\x0447").c_str()), INVALID_FILE_ATTRIBUTES);
}

TEST_F(AtomicFile, ErrorsAreTheSystemsWordsWithoutTheirFullStop) {
  const Error error = fail_windows("a thing", ERROR_FILE_NOT_FOUND).error();
  EXPECT_EQ(error.code, ErrorCode::not_found);
  EXPECT_THAT(error.message, StartsWith("a thing: "));
  EXPECT_THAT(error.message, ::testing::Not(::testing::EndsWith(".")));
  EXPECT_THAT(fail_windows("a thing", 0x2FFFFFFF).error().message, HasSubstr("error 805306367"));
}

}  // namespace
}  // namespace penstock
