// Configuration documents: within their bounds, and what YAML was read as, written as JSON, reads as the same tree.
#include <algorithm>
#include <string>

#include "base/bytes.h"
#include "base/document.h"
#include "base/utf8.h"

namespace {

using namespace penstock;

void write_string(const std::string& text, std::string& out) {
  constexpr char kDigits[] = "0123456789abcdef";
  out += '"';
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    if (byte < 0x20 || c == '"' || c == '\\') {
      out += "\\u00";
      out += kDigits[byte >> 4];
      out += kDigits[byte & 15];
    } else {
      out += c;
    }
  }
  out += '"';
}

void write_json(const Node& node, std::string& out) {
  if (node.is_null()) out += "null";
  if (node.is_scalar()) write_string(node.text, out);
  if (!node.is_map() && !node.is_sequence()) return;
  out += node.is_map() ? '{' : '[';
  for (const Node& child : node.children) {
    if (&child != &node.children.front()) out += ',';
    if (node.is_map()) {
      write_string(child.key, out);
      out += ':';
    }
    write_json(child, out);
  }
  out += node.is_map() ? '}' : ']';
}

// A key means something below a map only.
bool same(const Node& left, const Node& right) {
  const auto same_child = [keyed = left.is_map()](const Node& one, const Node& other) {
    return (!keyed || one.key == other.key) && same(one, other);
  };
  return left.kind == right.kind && left.text == right.text &&
         std::ranges::equal(left.children, right.children, same_child);
}

struct Extent {
  std::size_t nodes = 0;
  std::size_t levels = 0;
};
void measure(const Node& node, std::size_t level, Extent& extent) {
  ++extent.nodes;
  extent.levels = std::max(extent.levels, level);
  PENSTOCK_ASSERT(is_utf8(as_bytes(node.key)) && is_utf8(as_bytes(node.text)));
  for (const Node& child : node.children) measure(child, level + 1, extent);
}

void check(std::string_view text, const std::string& name) {
  const auto document = parse_document(text, name);
  if (!document) {
    PENSTOCK_ASSERT(document.error().message.starts_with(name));
    return;
  }
  const Node& root = document->root;
  PENSTOCK_ASSERT(root.is_map() || root.is_null());
  Extent extent;
  measure(root, 0, extent);
  PENSTOCK_ASSERT(extent.nodes <= 100'000 && extent.levels <= 32);
  if (root.is_null()) return;
  std::string json;
  write_json(root, json);
  const auto again = parse_json(json, "again.json");
  PENSTOCK_ASSERT(again && same(again->root, root));
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view text = as_text({data, size});
  check(text, "fuzz.yaml");
  check(text, "fuzz.json");
  return 0;
}
