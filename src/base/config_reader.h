// Reads typed fields out of a Document and collects everything that is wrong with it, so that a person corrects a
// file once and not once a mistake.
//
//   ConfigReader reader(document);
//   Section vpn = reader.root().section("vpn");
//   vpn.value("subnet", config.vpn.subnet, form::prefix);
//   vpn.value("mtu", config.vpn.mtu, form::integer(576, 65535));
//   PENSTOCK_TRY_VOID(reader.finish());
//
// A key that is absent, or null, leaves its variable as it was: defaults stand where the variables are declared. A key
// that nobody asked for until finish() is refused, with the nearest one that somebody did ask for.
//
// A *form* says what a value must look like: anything callable as Result<T>(const Node&), whose refusal reads "expected
// an address such as 10.0.0.1, got ...". A form for secrets never repeats what it got.
//
// Refusals      invalid_argument from finish(): up to 20 lines "FILE:LINE:COLUMN: full.key.path: message", in the order
//               of the file, or "--set full.key.path: message".
// Ownership     the reader borrows the document, a Section the reader; Sections are cheap handles.
// Threads       one.
// Not here      which keys there are (config/), how files are parsed (document.h).
#pragma once

#include <chrono>
#include <cstdint>
#include <deque>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/document.h"
#include "base/ip.h"
#include "base/result.h"

namespace penstock {

namespace form {

// "expected WHAT, got ...": the text of a scalar, or "a list", "a section".
std::unexpected<Error> expected(std::string_view what, const Node& got);

// Any scalar as it was written, quoted or not, but not an empty one.
Result<std::string> text(const Node& node);
// The same without ever repeating it.
Result<std::string> secret(const Node& node);
// true, yes, on and false, no, off, in any case of letters and without quotes.
Result<bool> flag(const Node& node);
Result<IpAddress> address(const Node& node);
Result<Prefix> prefix(const Node& node);
Result<Endpoint> endpoint(const Node& node);

struct IntegerForm {
  int least;
  int most;
  Result<int> operator()(const Node& node) const;
};
inline IntegerForm integer(int least, int most) { return {.least = least, .most = most}; }

struct CountForm {
  IntegerForm number;
  Result<std::uint32_t> operator()(const Node& node) const {
    PENSTOCK_TRY(const int value, number(node));
    return static_cast<std::uint32_t>(value);
  }
};
// As integer(), for what is never negative.
inline CountForm count(std::uint32_t least, std::uint32_t most) {
  return {{.least = static_cast<int>(least), .most = static_cast<int>(most)}};
}

// Both bounds included.
struct DurationForm {
  std::chrono::milliseconds least;
  std::chrono::milliseconds most;
  Result<std::chrono::milliseconds> operator()(const Node& node) const;
};
inline DurationForm duration(std::chrono::milliseconds least, std::chrono::milliseconds most) {
  return {.least = least, .most = most};
}

// In bytes, both bounds included.
struct SizeForm {
  std::uint64_t least;
  std::uint64_t most;
  Result<std::uint64_t> operator()(const Node& node) const;
};
inline SizeForm size(std::uint64_t least, std::uint64_t most) { return {.least = least, .most = most}; }

// Which of `words` it is. YAML 1.1 and JSON know truth values where a person meant a word, so an unquoted off, no or
// false is the word "off", and an unquoted on, yes or true the word "on".
Result<std::size_t> index_of_word(const Node& node, const std::vector<std::string_view>& words);

template <typename E>
auto word(std::vector<std::pair<std::string_view, E>> choices) {
  return [choices = std::move(choices)](const Node& node) -> Result<E> {
    std::vector<std::string_view> words;
    for (const auto& [name, value] : choices) words.push_back(name);
    PENSTOCK_TRY(const std::size_t index, index_of_word(node, words));
    return choices[index].second;
  };
}

}  // namespace form

class ConfigReader;

// One map of the document, or the place where it would be. Its keys are asked for by name.
class Section {
 public:
  bool has(std::string_view key) const;

  template <typename T, typename Form>
  void value(std::string_view key, T& out, const Form& form) {
    if (const Node* node = ask(key)) read(*node, path_of(key), out, form);
  }
  template <typename T, typename Form>
  void required(std::string_view key, T& out, const Form& form) {
    value(key, out, form);
    insist_on(key);
  }
  // A file or directory; relative to the directory of the configuration file, or to the working directory from --set.
  void path(std::string_view key, std::filesystem::path& out);
  void required_path(std::string_view key, std::filesystem::path& out);

  // What the document lists takes the place of what `out` held.
  template <typename T, typename Form>
  void list(std::string_view key, std::vector<T>& out, const Form& form) {
    const auto* items = ask_list(key);
    if (items == nullptr) return;
    out.clear();
    std::size_t index = 0;
    for (const Node& item : *items) {
      if (T element{}; read(item, path_of(key, index++), element, form)) out.push_back(std::move(element));
    }
  }
  template <typename T, typename Form>
  void one_or_list(std::string_view key, std::vector<T>& out, const Form& form) {
    const Node* node = ask(key);
    if (node != nullptr && node->is_scalar()) {
      if (T element{}; read(*node, path_of(key), element, form)) out = {std::move(element)};
    } else {
      list(key, out, form);
    }
  }

  Section section(std::string_view key);
  // Every item of a list, as visit(item): item.node() may be a scalar, and is a section where it is a map.
  template <typename Visit>
  void each(std::string_view key, const Visit& visit) {
    const auto* items = ask_list(key);
    if (items == nullptr) return;
    std::size_t index = 0;
    for (const Node& item : *items) visit(item_section(key, index++, item));
  }

  // The map itself, or an item of each(); null when the document has none.
  const Node* node() const;

  // Something is wrong with the value of `key`, or with its absence.
  void refuse(std::string_view key, std::string_view message);
  // Something is wrong with the whole of it.
  void refuse(std::string_view message);
  // For a map that was refused as a whole: its keys may be anything, also pieces of a secret.
  void ignore_unknown_keys();
  // The keys are valid, but nothing acts on them yet: those that are given are listed in reader.reserved().
  void mark_reserved(std::string_view key);
  void mark_reserved();

 private:
  friend class ConfigReader;
  struct State;
  Section(ConfigReader& reader, State& state) : reader_(&reader), state_(&state) {}

  const Node* ask(std::string_view key);
  void insist_on(std::string_view key);
  const std::vector<Node>* ask_list(std::string_view key);
  Section item_section(std::string_view key, std::size_t index, const Node& item);
  std::string path_of(std::string_view key) const;
  std::string path_of(std::string_view key, std::size_t index) const;
  void refuse_node(const Node& node, const std::string& path, const std::string& message);

  template <typename T, typename Form>
  bool read(const Node& node, const std::string& path, T& out, const Form& form) {
    auto value = form(node);
    if (!value) {
      refuse_node(node, path, value.error().message);
      return false;
    }
    out = *std::move(value);
    return true;
  }

  ConfigReader* reader_;
  State* state_;
};

struct Section::State {
  const Node* node = nullptr;
  std::string path;                // "auth.tokens[0]", empty for the root
  std::string pattern;             // "auth.tokens[]"
  std::vector<std::string> known;  // the keys that were asked for
  bool any_key_goes = false;
};

class ConfigReader {
 public:
  static constexpr std::size_t kMaxRefusals = 20;

  explicit ConfigReader(const Document& document);
  ConfigReader(const ConfigReader&) = delete;
  ConfigReader& operator=(const ConfigReader&) = delete;

  Section root() { return {*this, sections_.front()}; }
  // Refuses unknown keys, and returns everything that was refused since the beginning.
  Result<void> finish();

  bool failed() const { return !refusals_.empty(); }
  // Every key that was asked for and holds a value, as "vpn.subnet", "auth.tokens[].name"; sorted.
  std::vector<std::string> known_keys() const;
  // The keys given in the document that were marked as reserved, in the order of the marks.
  const std::vector<std::string>& reserved() const { return reserved_; }

 private:
  friend class Section;
  struct Refusal {
    Position position;
    std::size_t order;  // in which they were found
    std::string line;
  };

  void refuse(const Position& position, const std::string& path, std::string_view message);
  void refuse_unknown_keys(const Section::State& section);
  std::string suggestion(const Section::State& section, std::string_view key) const;

  const Document& document_;
  std::deque<Section::State> sections_;
  std::vector<std::string> reserved_;
  std::vector<Refusal> refusals_;
};

}  // namespace penstock
