// A credential as the configuration and STATE_DIR/tokens.json write it down.
//
//   - "a token in plain text"                        named token-N after its place in the list, counted from 1
//   - { name: alice, sha256: 64 hex digits }         and optionally address, address6, single, groups, sites
//
// Either way only the SHA-256 of the token's bytes is kept.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "base/config_reader.h"
#include "base/digest.h"
#include "base/ip.h"
#include "base/result.h"

namespace penstock {

struct TokenRecord {
  std::string name;  // 1 to 64 of A-Z a-z 0-9 _ . @ -, and not "any"
  Digest256 sha256{};
  std::optional<IpAddress> address;   // a fixed inner IPv4 address; makes the record single
  std::optional<IpAddress> address6;  // a fixed inner IPv6 address; makes the record single
  bool single = false;                // a new session ends the one before; so with an address or sites
  std::vector<std::string> groups;
  std::vector<Prefix> sites;  // subnets behind the client
  friend bool operator==(const TokenRecord&, const TokenRecord&) = default;
};

// What else must be true of a record: refuses at `item` what is not.
using TokenCheck = std::function<void(Section& item, const TokenRecord& record)>;

// Reads the list `key` of `section`. Names and hashes are unique in what it returns.
void read_tokens(Section& section, std::string_view key, std::vector<TokenRecord>& out, const TokenCheck& check);

// The JSON file that issued tokens are kept in: {"tokens": [{"name": ..., "sha256": ...}, ...]}.
// Refusals: invalid_argument with one line per mistake and what to do; not_found, permission_denied, exhausted.
Result<std::vector<TokenRecord>> load_token_file(const std::filesystem::path& file);
Result<std::vector<TokenRecord>> token_file_from_text(std::string_view text, const std::string& file_name);
// What load_token_file() reads back as equal records. For write_file_atomically() with mode 0600.
std::string token_file_text(std::span<const TokenRecord> tokens);

}  // namespace penstock
