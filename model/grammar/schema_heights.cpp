#include <algorithm>
#include <set>

#include "model/grammar/schema_heights-inl.hpp"
#include "model/grammar/schema_merge-inl.hpp"

namespace consort::model {

namespace {

constexpr std::uint32_t kNever = Grammar::kNeverEnds;

std::uint32_t node_height(const Grammar& grammar, GrammarNode node) {
  return node == kNoNode ? kNever : grammar.nodes[node].height;
}

std::uint32_t above(std::uint32_t height) { return height == kNever || height >= kMaxNesting ? kNever : height + 1; }

std::uint32_t array_height(const Grammar& grammar, const ArrayShape& array) {
  if (array.min > array.max) return kNever;
  std::uint32_t height = 0;
  const auto prefix = std::min<std::size_t>(array.min, array.prefix.size());
  for (std::size_t i = 0; i < prefix; ++i) height = std::max(height, node_height(grammar, array.prefix[i]));
  if (array.min > array.prefix.size()) height = std::max(height, node_height(grammar, array.items));
  return above(height);
}

std::uint32_t object_height(const Grammar& grammar, const ObjectShape& object) {
  const std::uint32_t required = object.required_after(0);
  if (required > object.max || object.min > object.max) return kNever;
  const bool needs_more = object.min > required;
  std::uint32_t height = 0;
  std::uint32_t possible = 0;
  for (const auto& property : object.properties) {
    const std::uint32_t its = node_height(grammar, property.value);
    if (property.required) height = std::max(height, its);
    if (its == kNever) continue;
    ++possible;
    // So that whichever are chosen, enough are left.
    if (needs_more) height = std::max(height, its);
  }
  if (needs_more && possible < object.min) {
    if (possible + 1 < object.min) return kNever;
    height = std::max(height, node_height(grammar, object.additional));
  }
  return above(height);
}

std::uint32_t shape_height(const Grammar& grammar, const Grammar::Shape& shape) {
  if (shape.kind == ShapeKind::kArray) return array_height(grammar, grammar.arrays[shape.index]);
  if (shape.kind == ShapeKind::kObject) return object_height(grammar, grammar.objects[shape.index]);
  return 0;
}

bool never_ends(const Grammar& grammar, GrammarNode node) { return node_height(grammar, node) == kNever; }

void take_out_what_never_ends(Grammar& grammar) {
  for (auto& array : grammar.arrays) {
    for (std::uint32_t i = 0; i < array.prefix.size(); ++i) {
      if (never_ends(grammar, array.prefix[i])) array.max = std::min(array.max, i);
    }
    if (never_ends(grammar, array.items))
      array.max = std::min(array.max, static_cast<std::uint32_t>(array.prefix.size()));
  }
  for (auto& object : grammar.objects) {
    std::erase_if(object.properties,
                  [&](const auto& property) { return !property.required && never_ends(grammar, property.value); });
    if (object.additional != kNoNode && never_ends(grammar, object.additional)) object.additional = kNoNode;
  }
  for (auto& node : grammar.nodes)
    std::erase_if(node.shapes, [&](ShapeIndex shape) { return grammar.shapes[shape].height == kNever; });
}

// --- choices that exclude each other
// -----------------------------------------------------------------------------------

char first_letters(const std::string& text) {  // of the type: numbers begin with digits or a minus
  const char c = text.front();
  return c == '-' || (c >= '0' && c <= '9') ? '0' : c == 'f' ? 't' : c;
}

std::set<char> types_of(const Grammar& grammar, ShapeIndex index) {
  const auto& shape = grammar.shapes[index];
  switch (shape.kind) {
    case ShapeKind::kLiterals: {
      std::set<char> types;
      for (const std::string& text : grammar.literals[shape.index].list) types.insert(first_letters(text));
      return types;
    }
    case ShapeKind::kNumber:
      return {'0'};
    case ShapeKind::kString:
      return {'"'};
    case ShapeKind::kArray:
      return {'['};
    case ShapeKind::kObject:
      return {'{'};
  }
  return {};
}

bool have_common(const std::vector<std::string>& a, const std::vector<std::string>& b) {
  return std::ranges::any_of(a, [&](const std::string& text) { return std::ranges::binary_search(b, text); });
}

// Only literals that are plain strings, whose one way to be written is all there is of them.
const LiteralsShape* strings_only(const Grammar& grammar, GrammarNode node) {
  const auto& shapes = grammar.nodes[node].shapes;
  if (shapes.size() != 1 || grammar.shapes[shapes[0]].kind != ShapeKind::kLiterals) return nullptr;
  const LiteralsShape& literals = grammar.literals[grammar.shapes[shapes[0]].index];
  const bool are_strings = std::ranges::all_of(literals.list, [](const auto& text) { return text.front() == '"'; });
  return are_strings ? &literals : nullptr;
}

bool objects_exclude(const Grammar& grammar, const ObjectShape& a, const ObjectShape& b) {
  for (const auto& mine : a.properties) {
    if (!mine.required) continue;
    const auto other = std::ranges::find(b.properties, mine.name, &ObjectShape::Property::name);
    if (other == b.properties.end()) {
      if (b.additional == kNoNode) return true;  // b has no such property
      continue;
    }
    const LiteralsShape* my_texts = strings_only(grammar, mine.value);
    const LiteralsShape* their_texts = strings_only(grammar, other->value);
    const bool differ =
        my_texts != nullptr && their_texts != nullptr && !have_common(my_texts->list, their_texts->list);
    if (differ && other->required) return true;
  }
  for (const auto& theirs : b.properties) {
    const bool is_mine =
        std::ranges::find(a.properties, theirs.name, &ObjectShape::Property::name) != a.properties.end();
    if (theirs.required && !is_mine && a.additional == kNoNode) return true;
  }
  return false;
}

bool shapes_exclude(const Grammar& grammar, ShapeIndex a, ShapeIndex b) {
  const std::set<char> types = types_of(grammar, a);
  const std::set<char> others = types_of(grammar, b);
  if (std::ranges::none_of(types, [&](char type) { return others.contains(type); })) return true;
  const auto& one = grammar.shapes[a];
  const auto& two = grammar.shapes[b];
  if (one.kind != two.kind) return false;
  if (one.kind == ShapeKind::kLiterals) {
    // Numbers may be equal and written differently.
    const bool have_numbers = types.contains('0') && others.contains('0');
    return !have_numbers && !have_common(grammar.literals[one.index].list, grammar.literals[two.index].list);
  }
  return one.kind == ShapeKind::kObject &&
         objects_exclude(grammar, grammar.objects[one.index], grammar.objects[two.index]);
}

}  // namespace

void take_included_shapes(Grammar& grammar, const std::vector<std::vector<GrammarNode>>& includes) {
  std::vector<std::vector<ShapeIndex>> all(grammar.nodes.size());
  for (GrammarNode node = 0; node < grammar.nodes.size(); ++node) {
    std::vector<bool> seen(grammar.nodes.size(), false);
    std::vector<GrammarNode> open{node};
    seen[node] = true;
    for (std::size_t i = 0; i < open.size(); ++i) {
      for (const ShapeIndex shape : grammar.nodes[open[i]].shapes) all[node].push_back(shape);
      for (const GrammarNode included : includes[open[i]]) {
        if (seen[included]) continue;
        seen[included] = true;
        open.push_back(included);
      }
    }
  }
  for (GrammarNode node = 0; node < grammar.nodes.size(); ++node) grammar.nodes[node].shapes = std::move(all[node]);
}

void measure_heights(Grammar& grammar) {
  bool changed = true;
  while (changed) {  // heights only fall, and there are kMaxNesting of them
    changed = false;
    for (auto& shape : grammar.shapes) {
      const std::uint32_t height = shape_height(grammar, shape);
      if (height < shape.height) {
        shape.height = height;
        changed = true;
      }
    }
    for (auto& node : grammar.nodes) {
      std::uint32_t height = kNever;
      for (const ShapeIndex shape : node.shapes) height = std::min(height, grammar.shapes[shape].height);
      if (height < node.height) {
        node.height = height;
        changed = true;
      }
    }
  }
  take_out_what_never_ends(grammar);
}

runtime::Status check_exclusive(const Grammar& grammar, const std::vector<ExclusiveChoice>& choices) {
  for (const ExclusiveChoice& choice : choices) {
    for (std::size_t a = 0; a < choice.nodes.size(); ++a) {
      for (std::size_t b = a + 1; b < choice.nodes.size(); ++b) {
        for (const ShapeIndex one : grammar.nodes[choice.nodes[a]].shapes) {
          for (const ShapeIndex two : grammar.nodes[choice.nodes[b]].shapes) {
            if (shapes_exclude(grammar, one, two)) continue;
            return schema_error(choice.pointer, "has choices " + std::to_string(a) + " and " + std::to_string(b) +
                                                    " that one value may meet both; write anyOf, or tell them apart by "
                                                    "their types or by a required property with other constants");
          }
        }
      }
    }
  }
  return runtime::done();
}

}  // namespace consort::model
