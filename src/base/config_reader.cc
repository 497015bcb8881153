#include "base/config_reader.h"

#include <algorithm>
#include <numeric>
#include <tuple>

namespace penstock {
namespace {

std::string join(std::string_view section, std::string_view key) {
  return section.empty() ? std::string(key) : std::string(section) + "." + std::string(key);
}

// Insertions, deletions, replacements and swaps of neighbours that turn one word into the other.
std::size_t edit_distance(std::string_view left, std::string_view right) {
  std::vector<std::size_t> before_last(right.size() + 1);
  std::vector<std::size_t> last(right.size() + 1);
  std::vector<std::size_t> row(right.size() + 1);
  std::iota(last.begin(), last.end(), std::size_t{0});
  for (std::size_t i = 1; i <= left.size(); ++i) {
    row[0] = i;
    for (std::size_t j = 1; j <= right.size(); ++j) {
      const std::size_t replaced = last[j - 1] + (left[i - 1] == right[j - 1] ? 0 : 1);
      row[j] = std::min({last[j] + 1, row[j - 1] + 1, replaced});
      if (i > 1 && j > 1 && left[i - 1] == right[j - 2] && left[i - 2] == right[j - 1]) {
        row[j] = std::min(row[j], before_last[j - 2] + 1);
      }
    }
    std::swap(before_last, last);
    std::swap(last, row);
  }
  return last[right.size()];
}

}  // namespace

bool Section::has(std::string_view key) const {
  const Node* node = state_->node == nullptr ? nullptr : state_->node->find(key);
  return node != nullptr && !node->is_null();
}

void Section::path(std::string_view key, std::filesystem::path& out) {
  const Node* node = ask(key);
  std::string text;
  if (node == nullptr || !read(*node, path_of(key), text, form::text)) return;
  out = text;
  if (out.is_relative() && node->position.source == 0) {
    out = std::filesystem::path(reader_->document_.sources.front()).parent_path() / out;
  }
}

void Section::required_path(std::string_view key, std::filesystem::path& out) {
  path(key, out);
  insist_on(key);
}

void Section::insist_on(std::string_view key) {
  if (!has(key)) refuse(key, "required, but not given");
}

Section Section::section(std::string_view key) {
  const Node* node = ask(key);
  if (node != nullptr && !node->is_map()) {
    // Not what it is instead: that may be a secret which slipped a level up.
    refuse_node(*node, path_of(key),
                node->is_scalar() ? "expected a section, got a single value" : "expected a section, got a list");
    node = nullptr;
  }
  // A section that holds nothing still has a place to point at.
  if (node == nullptr && state_->node != nullptr) {
    if (const Node* empty = state_->node->find(key); empty != nullptr && empty->is_null()) node = empty;
  }
  reader_->sections_.push_back({.node = node, .path = path_of(key), .pattern = join(state_->pattern, key)});
  return {*reader_, reader_->sections_.back()};
}

const Node* Section::node() const { return state_->node; }

void Section::refuse(std::string_view key, std::string_view message) {
  Position position;
  if (state_->node != nullptr) {
    const Node* value = state_->node->find(key);
    position = value != nullptr && !value->is_null() ? value->position : state_->node->key_position;
    if (position.line == 0 && position.source == 0) position = state_->node->position;
  }
  reader_->refuse(position, path_of(key), message);
}

void Section::refuse(std::string_view message) {
  reader_->refuse(state_->node == nullptr ? Position{} : state_->node->position, state_->path, message);
}

void Section::ignore_unknown_keys() { state_->any_key_goes = true; }

void Section::mark_reserved(std::string_view key) {
  if (has(key)) reader_->reserved_.push_back(path_of(key));
}

void Section::mark_reserved() {
  if (state_->node == nullptr) return;
  for (const Node& child : state_->node->children) mark_reserved(child.key);
}

const Node* Section::ask(std::string_view key) {
  if (std::ranges::find(state_->known, key) == state_->known.end()) state_->known.emplace_back(key);
  const Node* node = state_->node == nullptr ? nullptr : state_->node->find(key);
  return node == nullptr || node->is_null() ? nullptr : node;
}

const std::vector<Node>* Section::ask_list(std::string_view key) {
  const Node* node = ask(key);
  if (node == nullptr) return nullptr;
  if (node->is_sequence()) return &node->children;
  // The value itself is not repeated: a lone token is the likeliest thing to stand here.
  refuse_node(
      *node, path_of(key),
      node->is_scalar() ? "expected a list, got a single value; write [value]" : "expected a list, got a section");
  return nullptr;
}

Section Section::item_section(std::string_view key, std::size_t index, const Node& item) {
  reader_->sections_.push_back(
      {.node = &item, .path = path_of(key, index), .pattern = join(state_->pattern, key) + "[]"});
  return {*reader_, reader_->sections_.back()};
}

std::string Section::path_of(std::string_view key) const { return join(state_->path, key); }

std::string Section::path_of(std::string_view key, std::size_t index) const {
  return path_of(key) + "[" + std::to_string(index) + "]";
}

void Section::refuse_node(const Node& node, const std::string& path, const std::string& message) {
  reader_->refuse(node.position, path, message);
}

ConfigReader::ConfigReader(const Document& document) : document_(document) {
  sections_.push_back({.node = &document.root, .path = "", .pattern = ""});
}

Result<void> ConfigReader::finish() {
  for (const Section::State& section : sections_) refuse_unknown_keys(section);
  if (refusals_.empty()) return {};
  std::ranges::sort(refusals_, {}, [](const Refusal& refusal) {
    return std::tuple(refusal.position.source, refusal.position.line, refusal.position.column, refusal.order);
  });
  std::string message;
  for (std::size_t i = 0; i < std::min(refusals_.size(), kMaxRefusals); ++i) {
    if (i != 0) message += '\n';
    message += refusals_[i].line;
  }
  if (refusals_.size() > kMaxRefusals) {
    message += "\n... and " + std::to_string(refusals_.size() - kMaxRefusals) + " more";
  }
  return fail(ErrorCode::invalid_argument, std::move(message));
}

std::vector<std::string> ConfigReader::known_keys() const {
  std::vector<std::string> keys;
  for (const Section::State& section : sections_) {
    for (const std::string& key : section.known) keys.push_back(join(section.pattern, key));
  }
  std::ranges::sort(keys);
  keys.erase(std::ranges::unique(keys).begin(), keys.end());
  // Sections and lists of sections are no keys themselves: what they hold is.
  const std::vector<std::string> all = keys;
  std::erase_if(keys, [&all](const std::string& key) {
    return std::ranges::any_of(
        all, [&](const std::string& other) { return other.starts_with(key + ".") || other.starts_with(key + "[]."); });
  });
  return keys;
}

void ConfigReader::refuse(const Position& position, const std::string& path, std::string_view message) {
  std::string line = document_.describe(position) + ": ";
  if (!path.empty() && line != "--set " + path + ": ") line += path + ": ";
  line += message;
  refusals_.push_back({.position = position, .order = refusals_.size(), .line = std::move(line)});
}

void ConfigReader::refuse_unknown_keys(const Section::State& section) {
  if (section.node == nullptr || !section.node->is_map() || section.any_key_goes) return;
  for (const Node& child : section.node->children) {
    if (std::ranges::find(section.known, child.key) != section.known.end()) continue;
    // A file of nothing but unknown keys is not worth the comparisons.
    const std::string nearest = refusals_.size() < 1000 ? suggestion(section, child.key) : "";
    refuse(child.key_position, join(section.path, child.key),
           nearest.empty() ? "unknown key" : "unknown key; did you mean \"" + nearest + "\"?");
  }
}

// The nearest key of the same section, or one that begins or ends with that word, or else the full path of a key of
// that very name in another section.
std::string ConfigReader::suggestion(const Section::State& section, std::string_view key) const {
  std::string nearest;
  std::size_t nearest_distance = std::max<std::size_t>(1, key.size() / 3) + 1;
  if (key.size() <= 64) {
    for (const std::string& known : section.known) {
      const std::size_t distance = edit_distance(key, known);
      if (distance >= nearest_distance) continue;
      nearest = known;
      nearest_distance = distance;
    }
  }
  if (!nearest.empty()) return nearest;
  for (const std::string& known : section.known) {
    if (known.starts_with(std::string(key) + "_") || known.ends_with("_" + std::string(key))) return known;
  }
  for (const Section::State& other : sections_) {
    if (other.pattern.find('[') == std::string::npos && std::ranges::find(other.known, key) != other.known.end()) {
      return join(other.path, key);
    }
  }
  return {};
}

}  // namespace penstock
