#include "config/config_kind.h"

#include <algorithm>
#include <string_view>
#include <vector>

#include "config/client_config.h"
#include "config/server_config.h"

namespace penstock {
namespace {

using Keys = std::vector<std::string>;

// Whether `path` is one of `keys` (all sorted), or a section or list that holds some.
bool has(const Keys& keys, std::string_view path) {
  return std::ranges::any_of(keys, [&](std::string_view key) {
    return key.starts_with(path) && (key.size() == path.size() || key[path.size()] == '.' || key[path.size()] == '[');
  });
}

int votes(const Node& node, const std::string& path, const Keys& server, const Keys& client) {
  int sum = 0;
  for (const Node& child : node.children) {
    const std::string below = node.is_sequence() ? path + "[]" : path + (path.empty() ? "" : ".") + child.key;
    if (node.is_map()) sum += (has(server, below) ? 1 : 0) - (has(client, below) ? 1 : 0);
    sum += votes(child, below, server, client);
  }
  return sum;
}

template <typename Config>
std::ptrdiff_t mistakes(const Result<Config>& loaded) {
  return loaded ? 0 : 1 + std::ranges::count(loaded.error().message, '\n');
}

}  // namespace

int votes_for_server(const Document& document) {
  return votes(document.root, {}, server_config_keys(), client_config_keys());
}

ConfigKind kind_of_config(const std::filesystem::path& file, std::span<const std::string> overrides) {
  auto document = read_document(file);
  if (!document) return ConfigKind::server;
  for (const std::string& assignment : overrides)
    if (!apply_override(*document, assignment)) return ConfigKind::server;
  int sum = votes_for_server(*document);
  if (sum == 0) {
    const bool fewer_as_client =
        mistakes(load_client_config(file, overrides)) < mistakes(load_server_config(file, overrides));
    sum = fewer_as_client ? -1 : 1;
  }
  return sum < 0 ? ConfigKind::client : ConfigKind::server;
}

}  // namespace penstock
