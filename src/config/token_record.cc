#include "config/token_record.h"

#include <algorithm>
#include <map>
#include <nlohmann/json.hpp>
#include <set>

#include "config/common.h"
#include "config/policy.h"

namespace penstock {
namespace {

// The hash is as good as a name for the token, so it is not repeated in messages.
Result<Digest256> digest(const Node& node) {
  if (node.is_scalar()) {
    if (const auto bytes = from_hex(node.text); bytes && bytes->size() == 32) {
      Digest256 digest{};
      std::ranges::copy(*bytes, digest.begin());
      return digest;
    }
  }
  return fail(ErrorCode::invalid_argument, "expected the 64 hex digits of a token's SHA-256");
}

// A rule for the client or group `any` would be one for everybody.
constexpr std::string_view kReservedName = "\"any\" means everybody in the rules of lan.allow: choose another name";

Result<std::string> group(const Node& node) {
  if (node.is_scalar() && node.text == kAnybody) return fail(ErrorCode::invalid_argument, std::string(kReservedName));
  return form::name(node);
}

void read_record(Section& item, TokenRecord& record) {
  item.required("name", record.name, form::name);
  if (record.name == kAnybody) item.refuse("name", kReservedName);
  item.required("sha256", record.sha256, digest);
  item.value("address", record.address, form::address);
  item.value("address6", record.address6, form::address);
  item.value("single", record.single, form::flag);
  item.list("groups", record.groups, group);
  item.list("sites", record.sites, form::prefix);
  if (record.address && !record.address->is_v4()) item.refuse("address", "must be an IPv4 address");
  if (record.address6 && !record.address6->is_v6()) item.refuse("address6", "must be an IPv6 address");
  if (record.address || record.address6 || !record.sites.empty()) {
    if (item.has("single") && !record.single) {
      item.refuse("single", "a fixed address or a site can have one session only; leave this out");
    }
    record.single = true;
  }
}

Result<std::vector<TokenRecord>> tokens_of(const Document& document) {
  ConfigReader reader(document);
  std::vector<TokenRecord> tokens;
  Section root = reader.root();
  read_tokens(root, "tokens", tokens, {});
  PENSTOCK_TRY_VOID(reader.finish());
  return tokens;
}

}  // namespace

void read_tokens(Section& section, std::string_view key, std::vector<TokenRecord>& out, const TokenCheck& check) {
  out.clear();
  std::set<std::string> names;
  std::map<Digest256, std::string> owners;
  std::size_t place = 0;
  section.each(key, [&](Section item) {
    const Node& node = *item.node();
    ++place;
    TokenRecord record;
    if (node.is_map() && (item.has("name") || item.has("sha256"))) {
      read_record(item, record);
    } else if (node.is_scalar() && !node.text.empty()) {
      record.name = "token-" + std::to_string(place);
      record.sha256 = sha256(as_bytes(node.text));
    } else {
      // An unquoted token with a colon and a space in it is a map, whose keys are pieces of the token.
      item.refuse("expected a token in quotes, or a section with name and sha256");
      item.ignore_unknown_keys();
      return;
    }
    if (!record.name.empty() && !names.insert(record.name).second) {
      item.refuse("name", "\"" + record.name + "\" is the name of another token too");
    } else if (record.sha256 != Digest256{}) {  // all zeros: refused already
      if (const auto [other, is_new] = owners.emplace(record.sha256, record.name); !is_new) {
        item.refuse("the same token as \"" + other->second + "\"");
      }
    }
    if (check) check(item, record);
    out.push_back(std::move(record));
  });
}

Result<std::vector<TokenRecord>> load_token_file(const std::filesystem::path& file) {
  const auto read = [&]() -> Result<std::vector<TokenRecord>> {
    PENSTOCK_TRY(const Document document, read_document(file));
    return tokens_of(document);
  };
  auto tokens = read();
  if (!tokens && tokens.error().code == ErrorCode::invalid_argument) {
    tokens.error().message += "; mend " + file.string() +
                              " or put a copy of it back; moved away, its tokens are lost and profiles have to be "
                              "made anew";
  }
  return tokens;
}

Result<std::vector<TokenRecord>> token_file_from_text(std::string_view text, const std::string& file_name) {
  PENSTOCK_TRY(const Document document, parse_document(text, file_name));
  return tokens_of(document);
}

std::string token_file_text(std::span<const TokenRecord> tokens) {
  using Json = nlohmann::ordered_json;
  Json list = Json::array();
  for (const TokenRecord& token : tokens) {
    Json record = {{"name", token.name}, {"sha256", to_hex(token.sha256)}};
    if (token.address) record["address"] = token.address->to_string();
    if (token.address6) record["address6"] = token.address6->to_string();
    if (token.single) record["single"] = true;
    if (!token.groups.empty()) record["groups"] = token.groups;
    for (const Prefix& site : token.sites) record["sites"].push_back(site.to_string());
    list.push_back(std::move(record));
  }
  return Json{{"tokens", std::move(list)}}.dump(2) + "\n";
}

}  // namespace penstock
