#include "base/document.h"

#include <algorithm>

#include "base/atomic_file.h"
#include "base/document_builder.h"
#include "base/in_quotes.h"
#include "base/utf8.h"

namespace penstock {
namespace {

std::size_t count_nodes(const Node& node) {
  std::size_t nodes = 1;
  for (const Node& child : node.children) nodes += count_nodes(child);
  return nodes;
}

std::size_t count_levels(const Node& node) {
  std::size_t deepest = 0;
  for (const Node& child : node.children) deepest = std::max(deepest, count_levels(child));
  return deepest + (node.is_scalar() || node.is_null() ? 0 : 1);
}

bool is_key_path(std::string_view path) {
  if (path.empty() || path.front() == '.' || path.back() == '.' || path.find("..") != std::string_view::npos) {
    return false;
  }
  return std::ranges::all_of(path, [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' || c == '-' ||
           c == '.';
  });
}

void set_source(Node& node, std::uint32_t source) {
  node.position.source = node.key_position.source = source;
  for (Node& child : node.children) set_source(child, source);
}

// Only what opens like a list, a map or a quoted string is parsed, and only if nothing is left over: "[::]:443" is an
// address, and "a: b" is the text of a token.
Node parse_override_value(std::string_view text, const std::string& name) {
  if (!text.empty() && std::string_view("[{\"'").find(text.front()) != std::string_view::npos) {
    auto parsed = parse_json(text, name);
    if (!parsed) parsed = parse_yaml(text, name);
    if (parsed && (!parsed->root.is_scalar() || parsed->root.quoted)) return std::move(parsed->root);
  }
  Node node;
  node.kind = text.empty() ? Node::Kind::null : Node::Kind::scalar;
  node.text = text;
  return node;
}

}  // namespace

const Node* Node::find(std::string_view name) const {
  const auto found = std::ranges::find(children, name, &Node::key);
  return is_map() && found != children.end() ? &*found : nullptr;
}

Node* Node::find(std::string_view name) {
  const auto found = std::ranges::find(children, name, &Node::key);
  return is_map() && found != children.end() ? &*found : nullptr;
}

std::string Document::describe(const Position& position) const {
  PENSTOCK_ASSERT(position.source < sources.size());
  std::string text = sources[position.source];
  if (position.source == 0 && position.line != 0) {
    text += ":" + std::to_string(position.line) + ":" + std::to_string(position.column);
  }
  return text;
}

Result<Document> read_document(const std::filesystem::path& file) {
  const std::string name = file.string();
  PENSTOCK_TRY(const std::string text, read_whole_file(name, DocumentBuilder::kMaxBytes));
  return parse_document(text, name);
}

Result<Document> parse_document(std::string_view text, const std::string& file_name) {
  if (text.size() > DocumentBuilder::kMaxBytes) {
    return fail(ErrorCode::invalid_argument, file_name + ": larger than 4 MiB, which no configuration is");
  }
  if (text.find('\0') != std::string_view::npos) {
    return fail(ErrorCode::invalid_argument, file_name + ": holds a zero byte, so it is no text in UTF-8");
  }
  const bool json = std::filesystem::path(file_name).extension() == ".json";
  PENSTOCK_TRY(Document document, json ? parse_json(text, file_name) : parse_yaml(text, file_name));
  if (!document.root.is_map() && !document.root.is_null()) {
    return fail(ErrorCode::invalid_argument,
                document.describe(document.root.position) + ": expected sections such as \"server:\" and \"vpn:\"");
  }
  return document;
}

Result<void> apply_override(Document& document, std::string_view assignment) {
  const std::size_t equals = assignment.find('=');
  const std::string path(assignment.substr(0, equals));
  // The text is not repeated: without its "=" it might be a secret.
  if (equals == std::string_view::npos || !is_key_path(path)) {
    return fail(ErrorCode::invalid_argument, "--set: expected section.key=value, for example vpn.mtu=1400");
  }
  const std::string name = "--set " + path;
  const auto source = static_cast<std::uint32_t>(document.sources.size());
  document.sources.push_back(name);

  if (!is_utf8(as_bytes(assignment))) {
    return fail(ErrorCode::invalid_argument, name + ": the value is not valid UTF-8");
  }
  Node value = parse_override_value(assignment.substr(equals + 1), name);
  set_source(value, source);

  Node* at = &document.root;
  for (std::size_t begin = 0; begin <= path.size();) {
    const std::size_t end = std::min(path.find('.', begin), path.size());
    const std::string key = path.substr(begin, end - begin);
    if (at->is_null()) at->kind = Node::Kind::map;
    if (!at->is_map()) {
      return fail(ErrorCode::invalid_argument, name + ": " + path.substr(0, begin - 1) + " is not a section");
    }
    Node* child = at->find(key);
    if (child == nullptr) {
      child = &at->children.emplace_back();
      child->key = key;
      child->key_position.source = child->position.source = source;
    }
    at = child;
    begin = end + 1;
  }
  value.key = at->key;
  value.key_position.source = source;
  *at = std::move(value);
  return {};
}

Result<void> refuse_unless_utf8(std::string_view text, const std::string& name) {
  const std::size_t valid = utf8_prefix(as_bytes(text));
  if (valid == text.size()) return {};
  Position position{.line = 1, .column = 1};
  for (const char c : text.substr(0, valid)) {
    const bool continues_character = (static_cast<unsigned char>(c) & 0xC0) == 0x80;
    if (!continues_character) ++position.column;
    if (c == '\n') position = {.line = position.line + 1, .column = 1};
  }
  return fail(ErrorCode::invalid_argument, name + ":" + std::to_string(position.line) + ":" +
                                               std::to_string(position.column) +
                                               ": not valid UTF-8 from here on; save the file as UTF-8");
}

bool DocumentBuilder::begin(Node::Kind kind, Position position) {
  completed_ = nullptr;
  if (!count(1, 1, position)) return false;
  if (!open_.empty() && open_.back().node.is_map() && !open_.back().key) {
    return refuse(position, "a key must be plain text, not a list or a map");
  }
  Node node;
  node.kind = kind;
  node.position = position;
  open_.push_back({.node = std::move(node), .key = std::nullopt});
  return true;
}

bool DocumentBuilder::end() {
  if (refusal_) return false;
  PENSTOCK_ASSERT(!open_.empty() && !open_.back().key);
  Node node = std::move(open_.back().node);
  open_.pop_back();
  return place(std::move(node));
}

bool DocumentBuilder::add(Node node) {
  if (!count(count_nodes(node), count_levels(node), node.position)) return false;
  if (!open_.empty() && open_.back().node.is_map() && !open_.back().key) return add_key(open_.back(), std::move(node));
  return place(std::move(node));
}

bool DocumentBuilder::charge(const Node& copy, Position position) { return count(count_nodes(copy), 0, position); }

bool DocumentBuilder::refuse(Position position, std::string_view reason) {
  if (!refusal_) {
    refusal_ = Error{ErrorCode::invalid_argument, document_.describe(position) + ": " + std::string(reason)};
  }
  return false;
}

Result<Document> DocumentBuilder::finish() {
  if (refusal_) return std::unexpected(*std::move(refusal_));
  PENSTOCK_ASSERT(open_.empty());
  return std::move(document_);
}

bool DocumentBuilder::count(std::size_t nodes, std::size_t levels, Position position) {
  if (refusal_) return false;
  if (open_.size() + levels > kMaxDepth) return refuse(position, "more than 32 levels of lists and maps");
  nodes_ += nodes;
  if (nodes_ > kMaxNodes)
    return refuse(position, "more than 100000 values (aliases counted as often as they are used)");
  return true;
}

bool DocumentBuilder::add_key(Frame& map, Node key) {
  completed_ = nullptr;
  if (!key.is_scalar()) return refuse(key.position, "a key must be plain text, not a list or a map");
  if (!map.keys.insert(key.text).second)
    return refuse(key.position, "the key " + in_quotes(key.text) + " is here twice");
  map.key = std::move(key);
  return true;
}

bool DocumentBuilder::place(Node node) {
  if (open_.empty()) {
    document_.root = std::move(node);
    completed_ = &document_.root;
    return true;
  }
  Frame& parent = open_.back();
  if (parent.key) {
    node.key = std::move(parent.key->text);
    node.key_position = parent.key->position;
    parent.key.reset();
  }
  completed_ = &parent.node.children.emplace_back(std::move(node));
  return true;
}

}  // namespace penstock
