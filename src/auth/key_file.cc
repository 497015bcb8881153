#include "auth/key_file.h"

#include <algorithm>
#include <filesystem>
#include <string_view>
#include <system_error>

#include "base/atomic_file.h"
#include "base/digest.h"

namespace penstock::auth {
namespace {

using Key = std::array<std::uint8_t, 32>;
constexpr std::size_t kTextSize = 2 * std::tuple_size_v<Key> + 1;

Result<Key> make_key(const std::string& path, Random& random) {
  Key key;
  random.fill(key);
  PENSTOCK_TRY_VOID(write_file_atomically(path, as_bytes(to_hex(key) + "\n"), 0600));
  return key;
}

Result<void> refuse_if_readable_by_others(const std::string& path) {
  using std::filesystem::perms;
  std::error_code error;
  const perms mode = std::filesystem::status(path, error).permissions();
  if (error) return fail(ErrorCode::system_error, path + ": " + error.message());
  if ((mode & (perms::group_read | perms::others_read)) != perms::none) {
    return fail(ErrorCode::permission_denied,
                path + " holds a secret key and others may read it. If nobody has, run \"chmod 600 " + path +
                    "\"; else delete it, and a new one is made (sessions then start anew)");
  }
  return {};
}

}  // namespace

Result<Key> load_or_create_key(const std::string& path, Random& random) {
  const auto text = read_whole_file(path, 4096);
  if (!text && text.error().code == ErrorCode::not_found) return make_key(path, random);
  if (!text) return std::unexpected(text.error());
  PENSTOCK_TRY_VOID(refuse_if_writable_by_others(path));
  PENSTOCK_TRY_VOID(refuse_if_readable_by_others(path));

  const std::string_view digits = std::string_view(*text).substr(0, kTextSize - 1);
  const auto bytes = from_hex(digits);
  Key key;
  if (text->size() != kTextSize || text->back() != '\n' || !bytes || bytes->size() != key.size()) {
    return fail(ErrorCode::invalid_argument,
                path + " must hold 64 hexadecimal digits and a newline; delete it, and a new key is made");
  }
  std::ranges::copy(*bytes, key.begin());
  return key;
}

}  // namespace penstock::auth
