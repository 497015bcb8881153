#include "protocol/messages.h"

#include <limits>
#include <nlohmann/json.hpp>
#include <utility>

#include "base/in_quotes.h"

namespace penstock::protocol {
namespace {

using Json = nlohmann::ordered_json;

// Messages of ours nest three deep: message, dns, servers.
constexpr int kMaxDepth = 8;
// More than any message has: the longest are lists of routes.
constexpr std::size_t kMaxValues = 1024;

// What every IPv4 host takes (RFC 791), and the largest packet there is.
constexpr std::uint32_t kMinMtu = 576;
constexpr std::uint32_t kMaxMtu = 65535;

std::unexpected<Error> refuse(std::string message) { return fail(ErrorCode::invalid_argument, std::move(message)); }

// Reads the fields of one message. The first wrong one is remembered with its path ("dns.servers[1]") and what it
// should be; its value is not.
class Fields {
 public:
  Fields(const Json& message, std::string type) : object_(message), type_(std::move(type)), problem_(own_problem_) {}
  Fields(const Fields&) = delete;
  Fields& operator=(const Fields&) = delete;

  // Leaves `out` as it is where the field is absent.
  template <typename T>
  void read(const std::string& name, T& out) {
    if (const Json* value = find(name)) take(*value, path_ + name, out);
  }
  template <typename T>
  void require(const std::string& name, T& out) {
    if (find(name) == nullptr) return wrong(path_ + name, "is missing");
    read(name, out);
  }
  void require_at_least(const std::string& name, std::uint32_t found, std::uint32_t least) {
    if (found < least) wrong(path_ + name, "must be at least " + std::to_string(least));
  }
  void require_at_most(const std::string& name, std::uint32_t found, std::uint32_t most) {
    if (found > most) wrong(path_ + name, "must be at most " + std::to_string(most));
  }
  void require_family(const std::string& name, Family found, Family wanted) {
    if (found != wanted) wrong(path_ + name, wanted == Family::ipv4 ? "must be IPv4" : "must be IPv6");
  }

  template <typename T>
  Result<ControlMessage> finish(T message) const {
    if (!problem_.empty()) return refuse(type_ + ": " + problem_);
    return message;
  }

 private:
  // The fields of an object inside.
  Fields(const Json& object, std::string path, std::string& problem)
      : object_(object), path_(std::move(path)), problem_(problem) {}

  const Json* find(const std::string& name) const {
    const auto found = object_.find(name);
    return found == object_.end() || found->is_null() ? nullptr : &*found;
  }
  void wrong(const std::string& path, const std::string& what) {
    if (problem_.empty()) problem_ = "\"" + path + "\" " + what;
  }

  void take(const Json& value, const std::string& path, std::string& out) {
    if (!value.is_string()) return wrong(path, "must be a string");
    out = value.get_ref<const std::string&>();
  }
  void take(const Json& value, const std::string& path, bool& out) {
    if (!value.is_boolean()) return wrong(path, "must be true or false");
    out = value.get<bool>();
  }
  void take(const Json& value, const std::string& path, std::uint32_t& out) {
    if (!value.is_number_unsigned() || value.get<std::uint64_t>() > std::numeric_limits<std::uint32_t>::max()) {
      return wrong(path, "must be a whole number from 0 to 4294967295");
    }
    out = value.get<std::uint32_t>();
  }
  void take(const Json& value, const std::string& path, IpAddress& out) {
    const auto parsed =
        value.is_string() ? IpAddress::parse(value.get_ref<const std::string&>()) : Result<IpAddress>(refuse({}));
    if (!parsed) return wrong(path, "must be an IP address");
    out = *parsed;
  }
  void take(const Json& value, const std::string& path, Prefix& out) {
    const auto parsed =
        value.is_string() ? Prefix::parse(value.get_ref<const std::string&>()) : Result<Prefix>(refuse({}));
    if (!parsed) return wrong(path, "must be a prefix such as \"10.0.0.0/8\"");
    out = *parsed;
  }
  void take(const Json& value, const std::string& path, Receive& out) {
    if (!value.is_object()) return wrong(path, "must be an object");
    Fields fields(value, path + ".", problem_);
    fields.read("max_packet", out.max_packet);
    fields.read("gso", out.gso);
    fields.read("batch_bytes", out.batch_bytes);
    fields.read("mtu", out.mtu);
    for (const auto& [name, size] : {std::pair("max_packet", out.max_packet), std::pair("batch_bytes", out.batch_bytes),
                                     std::pair("mtu", out.mtu)}) {
      fields.require_at_least(name, size, kMinMtu);
    }
  }
  void take(const Json& value, const std::string& path, DnsSettings& out) {
    if (!value.is_object()) return wrong(path, "must be an object");
    Fields fields(value, path + ".", problem_);
    fields.read("servers", out.servers);
    fields.read("search", out.search);
    fields.read("split", out.split);
  }
  template <typename T>
  void take(const Json& value, const std::string& path, std::optional<T>& out) {
    take(value, path, out.emplace());
  }
  template <typename T>
  void take(const Json& value, const std::string& path, std::vector<T>& out) {
    if (!value.is_array()) return wrong(path, "must be an array");
    out.clear();
    for (const auto& element : value) {
      const std::string element_path = path + "[" + std::to_string(out.size()) + "]";
      take(element, element_path, out.emplace_back());
    }
  }

  const Json& object_;
  std::string type_;
  std::string path_;
  std::string own_problem_;
  std::string& problem_;
};

Result<ControlMessage> parse_auth(Fields fields) {
  Auth message;
  fields.read("token", message.token);
  fields.read("user", message.user);
  fields.read("password", message.password);
  fields.read("client", message.client);
  fields.read("receive", message.receive);
  return fields.finish(std::move(message));
}

Result<ControlMessage> parse_reconnect(Fields fields) {
  Reconnect message;
  std::string previous_ip;
  fields.read("token", message.token);
  fields.read("lease", message.lease);
  fields.read("previous_ip", previous_ip);
  if (!previous_ip.empty()) fields.read("previous_ip", message.previous_ip);
  fields.read("client", message.client);
  fields.read("receive", message.receive);
  return fields.finish(std::move(message));
}

Result<ControlMessage> parse_auth_response(Fields fields) {
  AuthResponse message;
  fields.require("success", message.success);
  fields.read("error", message.error);
  if (!message.success) return fields.finish(std::move(message));
  fields.require("assigned_ip", message.assigned_ip);
  fields.require("subnet", message.subnet);
  fields.require("server_ip", message.server_ip);
  fields.require("mtu", message.mtu);
  fields.read("assigned_ip6", message.assigned_ip6);
  fields.read("subnet6", message.subnet6);
  fields.read("server_ip6", message.server_ip6);
  fields.read("routes", message.routes);
  fields.read("exclude", message.exclude);
  fields.read("dns", message.dns);
  fields.read("lease", message.lease);
  fields.read("keepalive", message.keepalive_seconds);
  fields.read("grace", message.grace_seconds);
  fields.read("gateways", message.gateways);
  fields.read("sites", message.sites);
  fields.read("receive", message.receive);
  fields.read("resumed", message.resumed);
  fields.require_at_least("mtu", message.mtu, kMinMtu);
  fields.require_at_most("mtu", message.mtu, kMaxMtu);
  fields.require_family("assigned_ip", message.assigned_ip.family(), Family::ipv4);
  fields.require_family("subnet", message.subnet.family(), Family::ipv4);
  fields.require_family("server_ip", message.server_ip.family(), Family::ipv4);
  if (message.assigned_ip6) fields.require_family("assigned_ip6", message.assigned_ip6->family(), Family::ipv6);
  if (message.subnet6) fields.require_family("subnet6", message.subnet6->family(), Family::ipv6);
  if (message.server_ip6) fields.require_family("server_ip6", message.server_ip6->family(), Family::ipv6);
  return fields.finish(std::move(message));
}

Result<ControlMessage> parse_config(Fields fields) {
  ConfigEvent message;
  fields.read("routes", message.routes);
  fields.read("exclude", message.exclude);
  fields.read("dns", message.dns);
  fields.read("sites", message.sites);
  return fields.finish(std::move(message));
}

Result<ControlMessage> parse_notice(Fields fields) {
  Notice message;
  fields.read("text", message.text);
  return fields.finish(std::move(message));
}

Result<ControlMessage> parse_goodbye(Fields fields) {
  Goodbye message;
  fields.read("reason", message.reason);
  fields.read("reconnect_after", message.reconnect_after_seconds);
  return fields.finish(std::move(message));
}

ErrorMessage parse_error(const Json& object) {
  const auto found = object.find("error");
  if (found == object.end() || !found->is_string()) return {};
  return {found->get<std::string>()};
}

// Looks at the structure alone, in one pass: what is too deep or has too many values never reaches the parser, whose
// time grows faster than the text does.
bool is_reasonable(std::string_view text) {
  int depth = 0;
  std::size_t values = 1;
  bool in_string = false;
  for (std::size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    if (in_string) {
      if (c == '\\') ++i;
      if (c == '"') in_string = false;
      continue;
    }
    if (c == '"') in_string = true;
    if (c == '{' || c == '[') ++depth;
    if (c == '}' || c == ']') --depth;
    if (c == ',' || c == '{' || c == '[') ++values;
    if (depth > kMaxDepth || values > kMaxValues) return false;
  }
  return true;
}

// No exceptions, and no library's message: that one would quote what it could not read, a credential perhaps.
Result<Json> parse_object(std::string_view text) {
  if (!is_reasonable(text)) return refuse("the message is nested too deeply or has too many values");
  Json object = Json::parse(text, nullptr, false);
  if (object.is_discarded()) return refuse("the message is not JSON");
  if (!object.is_object()) return refuse("the message is not a JSON object");
  return object;
}

template <typename T>
Json texts(const std::vector<T>& values) {
  Json array = Json::array();
  for (const auto& value : values) {
    if constexpr (std::is_same_v<T, std::string>) {
      array.push_back(value);
    } else {
      array.push_back(value.to_string());
    }
  }
  return array;
}

Json message_of(const char* type) {
  Json object = Json::object();
  object["type"] = type;
  return object;
}

Json to_object(const Receive& receive) {
  return {{"max_packet", receive.max_packet},
          {"gso", texts(receive.gso)},
          {"batch_bytes", receive.batch_bytes},
          {"mtu", receive.mtu}};
}

Json to_object(const DnsSettings& dns) {
  return {{"servers", texts(dns.servers)}, {"search", texts(dns.search)}, {"split", texts(dns.split)}};
}

// Text that is no UTF-8 (somebody's error message) must not cost more than its bad bytes.
std::string dump(const Json& object) { return object.dump(-1, ' ', false, Json::error_handler_t::replace); }

void add_client(Json& object, const std::string& client, const std::optional<Receive>& receive) {
  if (!client.empty()) object["client"] = client;
  if (receive) object["receive"] = to_object(*receive);
}

}  // namespace

Result<ControlMessage> parse_control(std::string_view json) {
  PENSTOCK_TRY(const Json object, parse_object(json));
  const auto type = object.find("type");
  if (type == object.end() || !type->is_string()) return refuse("\"type\" must be a string");
  const auto& name = type->get_ref<const std::string&>();
  if (name == "ping") return Ping{};
  if (name == "pong") return Pong{};
  if (name == "auth") return parse_auth({object, name});
  if (name == "reconnect") return parse_reconnect({object, name});
  if (name == "auth_response") return parse_auth_response({object, name});
  if (name == "error") return parse_error(object);
  if (name == "config") return parse_config({object, name});
  if (name == "notice") return parse_notice({object, name});
  if (name == "goodbye") return parse_goodbye({object, name});
  return refuse("unknown type " + in_quotes(name));
}

std::string to_json(const Auth& message) {
  Json object = message_of("auth");
  if (!message.token.empty() || message.user.empty()) object["token"] = message.token;
  if (!message.user.empty()) {
    object["user"] = message.user;
    object["password"] = message.password;
  }
  add_client(object, message.client, message.receive);
  return dump(object);
}

std::string to_json(const Reconnect& message) {
  Json object = message_of("reconnect");
  if (!message.token.empty() || message.lease.empty()) object["token"] = message.token;
  if (message.previous_ip) object["previous_ip"] = message.previous_ip->to_string();
  if (!message.lease.empty()) object["lease"] = message.lease;
  add_client(object, message.client, message.receive);
  return dump(object);
}

std::string to_json(const AuthResponse& message) {
  Json object = message_of("auth_response");
  object["success"] = message.success;
  if (!message.success) {
    object["error"] = message.error;
    return dump(object);
  }
  object["assigned_ip"] = message.assigned_ip.to_string();
  object["subnet"] = message.subnet.to_string();
  object["server_ip"] = message.server_ip.to_string();
  object["mtu"] = message.mtu;
  if (message.assigned_ip6) object["assigned_ip6"] = message.assigned_ip6->to_string();
  if (message.subnet6) object["subnet6"] = message.subnet6->to_string();
  if (message.server_ip6) object["server_ip6"] = message.server_ip6->to_string();
  if (!message.routes.empty()) object["routes"] = texts(message.routes);
  if (!message.exclude.empty()) object["exclude"] = texts(message.exclude);
  if (message.dns) object["dns"] = to_object(*message.dns);
  if (!message.lease.empty()) object["lease"] = message.lease;
  if (message.keepalive_seconds) object["keepalive"] = *message.keepalive_seconds;
  if (message.grace_seconds) object["grace"] = *message.grace_seconds;
  if (!message.gateways.empty()) object["gateways"] = message.gateways;
  if (!message.sites.empty()) object["sites"] = texts(message.sites);
  if (message.receive) object["receive"] = to_object(*message.receive);
  if (message.resumed) object["resumed"] = true;
  return dump(object);
}

std::string to_json(const Ping&) { return R"({"type":"ping"})"; }
std::string to_json(const Pong&) { return R"({"type":"pong"})"; }
std::string to_json(const ErrorMessage& message) {
  Json object = message_of("error");
  object["error"] = message.error;
  return dump(object);
}

std::string to_json(const ConfigEvent& message) {
  Json object = message_of("config");
  object["routes"] = texts(message.routes);
  object["exclude"] = texts(message.exclude);
  if (message.dns) object["dns"] = to_object(*message.dns);
  if (!message.sites.empty()) object["sites"] = texts(message.sites);
  return dump(object);
}

std::string to_json(const Notice& message) {
  Json object = message_of("notice");
  object["text"] = message.text;
  return dump(object);
}

std::string to_json(const Goodbye& message) {
  Json object = message_of("goodbye");
  object["reason"] = message.reason;
  if (message.reconnect_after_seconds != 0) object["reconnect_after"] = message.reconnect_after_seconds;
  return dump(object);
}

std::string to_json(const ControlMessage& message) {
  return std::visit([](const auto& held) { return to_json(held); }, message);
}

}  // namespace penstock::protocol
