#include "model/grammar/constraint_compiler.hpp"

#include <boost/json.hpp>
#include <list>
#include <mutex>
#include <optional>
#include <utility>

#include "model/grammar/masks.hpp"
#include "model/grammar/schema_text-inl.hpp"
#include "model/json_text.hpp"
#include "model/text/tool_calls.hpp"

namespace consort::model {

namespace json = boost::json;
using runtime::ErrorKind;
using runtime::failure;
using runtime::Outcome;
using runtime::Status;

namespace {

class GrammarConstraint final : public TokenConstraint {
 public:
  GrammarConstraint(std::shared_ptr<GrammarMasks> masks, TokenMaskPtr in_thought, bool begins_in_thought)
      : masks_(std::move(masks)), in_thought_(std::move(in_thought)) {
    const GrammarVocabulary& words = masks_->vocabulary();
    const auto begin = words.marker("<think>");
    const auto end = words.marker("</think>");
    if (begin && end) {
      thought_begin_ = static_cast<std::uint32_t>(*begin);
      thought_end_ = static_cast<std::uint32_t>(*end);
    }
    if (begins_in_thought && thought_end_) {
      place_ = Place::kThought;
    } else {
      go_on({GrammarMachine::at_state(masks_->machine().grammar().start)});
    }
  }

  bool mask_is_ready() const override {
    if (place_ == Place::kThought || mask_) return true;
    return (mask_ = masks_->kept(key_)) != nullptr;
  }

  TokenMaskPtr mask() override {
    if (place_ == Place::kThought) return in_thought_;
    if (!mask_) mask_ = masks_->make(key_, threads_);
    if (place_ == Place::kStart && thought_begin_) return with(*mask_, *thought_begin_);
    if (place_ == Place::kEnded || allows_nothing(*mask_)) return only_the_end();
    return mask_;
  }

  Status advance(std::uint32_t token) override {
    const Tokenizer& tokenizer = masks_->vocabulary().tokenizer();
    if (place_ == Place::kThought) {
      if (token == thought_end_) {
        place_ = Place::kValue;
        go_on({GrammarMachine::at_state(masks_->machine().grammar().start_after_thought)});
      }
      return runtime::done();
    }
    if (place_ == Place::kStart && thought_begin_ && token == *thought_begin_) {
      place_ = Place::kThought;
      return runtime::done();
    }
    if (tokenizer.is_eos(static_cast<std::int32_t>(token))) {
      bool may_end = place_ == Place::kEnded;
      for (const GrammarThread& thread : threads_) may_end = may_end || masks_->machine().may_end(thread);
      if (!may_end)
        return failure(ErrorKind::kInvalid, "this model's vocabulary cannot write what the schema asks for next");
      place_ = Place::kEnded;
      return runtime::done();
    }
    GrammarArena scratch;
    auto next = masks_->after(threads_, token, scratch);
    if (next.empty()) {
      return failure(ErrorKind::kInternal,
                     "token " + std::to_string(token) + " came where the grammar has no place for it");
    }
    place_ = Place::kValue;
    go_on(next);
    return runtime::done();
  }

 private:
  enum class Place : std::uint8_t { kStart, kThought, kValue, kEnded };

  void go_on(std::span<const GrammarThread> threads) {
    GrammarArena fresh;
    threads_ = GrammarMachine::moved(threads, fresh);
    arena_ = std::move(fresh);
    key_ = masks_->key(threads_);
    mask_.reset();
  }
  void go_on(std::initializer_list<GrammarThread> threads) { go_on(std::span(threads.begin(), threads.size())); }

  static bool allows_nothing(const TokenMask& mask) {
    for (const std::uint32_t word : mask.words()) {
      if (word != 0) return false;
    }
    return true;
  }
  static TokenMaskPtr with(TokenMask mask, std::uint32_t token) {
    mask.allow(token);
    return std::make_shared<const TokenMask>(std::move(mask));
  }
  TokenMaskPtr only_the_end() const {
    TokenMask mask(masks_->vocabulary().token_count());
    for (const std::int32_t id : masks_->vocabulary().tokenizer().eos_ids()) mask.allow(static_cast<std::size_t>(id));
    return std::make_shared<const TokenMask>(std::move(mask));
  }

  const std::shared_ptr<GrammarMasks> masks_;
  const TokenMaskPtr in_thought_;
  std::optional<std::uint32_t> thought_begin_, thought_end_;
  Place place_ = Place::kStart;
  GrammarArena arena_;  // of threads_
  std::vector<GrammarThread> threads_;
  std::string key_;
  mutable TokenMaskPtr mask_;  // of threads_, once it is known
};

Outcome<ToolCallSpec> read_tool_calls(std::string_view text) {
  const auto bad = [] { return failure(ErrorKind::kInvalid, "the tools of a constraint are not readable"); };
  CONSORT_RETURN_IF_ERROR(check_json(text, "the tools", kMaxSchemaDepth));
  json::parse_options options;
  options.max_depth = kMaxSchemaDepth;
  json::error_code code;
  const json::value value = json::parse(text, code, {}, options);
  const json::object* object = code ? nullptr : value.if_object();
  if (object == nullptr) return bad();
  const json::value* format = object->if_contains("format");
  const json::value* parallel = object->if_contains("parallel");
  const json::value* tools = object->if_contains("tools");
  const bool has_all = format != nullptr && format->is_string() && parallel != nullptr && parallel->is_bool() &&
                       tools != nullptr && tools->is_array() && !tools->get_array().empty();
  if (!has_all) return bad();
  ToolCallSpec spec{std::string(format->get_string()), parallel->get_bool(), {}};
  for (const json::value& tool : tools->get_array()) {
    const json::object* one = tool.if_object();
    const json::value* name = one == nullptr ? nullptr : one->if_contains("name");
    if (name == nullptr || !name->is_string() || name->get_string().empty()) return bad();
    const json::value* parameters = one->if_contains("parameters");
    spec.tools.push_back(
        {std::string(name->get_string()), parameters == nullptr ? std::string() : json_compact(*parameters)});
  }
  return spec;
}

Outcome<Grammar> compile(const ConstraintSpec& spec, const Tokenizer* tokenizer) {
  if (spec.text.size() > kMaxConstraintBytes) {
    return failure(ErrorKind::kInvalid, "the schema has more than " + std::to_string(kMaxConstraintBytes) + " bytes");
  }
  switch (spec.kind) {
    case ConstraintKind::kJsonObject:
      return compile_json_object();
    case ConstraintKind::kJsonSchema:
      return compile_json_schema(spec.text);
    case ConstraintKind::kToolCalls: {
      CONSORT_TRY(const ToolCallSpec calls, read_tool_calls(spec.text));
      ToolCallLayout layout;
      if (tokenizer != nullptr) {
        CONSORT_TRY(layout, tool_call_layout(calls.format, *tokenizer));
      }
      return compile_tool_calls(layout, calls.tools, calls.parallel);
    }
    case ConstraintKind::kNone:
      break;
  }
  return failure(ErrorKind::kInvalid, "a constraint of no kind was asked for");
}

// What the copies of a compiler share.
class Workshop {
 public:
  explicit Workshop(const Tokenizer& tokenizer) : tokenizer_(tokenizer) {}

  Outcome<std::unique_ptr<TokenConstraint>> make(const ConstraintSpec& spec) {
    const std::string key = std::to_string(static_cast<int>(spec.kind)) + spec.text;
    std::shared_ptr<GrammarMasks> masks = kept(key);
    if (!masks) {
      CONSORT_TRY(Grammar grammar, compile(spec, &tokenizer_));
      masks = std::make_shared<GrammarMasks>(std::move(grammar), vocabulary());
      const GrammarThread start = GrammarMachine::at_state(masks->machine().grammar().start);
      const TokenMaskPtr first = masks->make(masks->key({&start, 1}), {&start, 1});
      if (*first == TokenMask(first->token_count()))
        return failure(ErrorKind::kInvalid, "this model's vocabulary cannot write what the schema asks for");
      keep(key, masks);
    }
    return std::unique_ptr<TokenConstraint>(
        std::make_unique<GrammarConstraint>(std::move(masks), in_thought_, spec.begins_in_thought));
  }

 private:
  std::shared_ptr<GrammarMasks> kept(const std::string& key) {
    const std::lock_guard lock(mutex_);
    for (auto at = kept_.begin(); at != kept_.end(); ++at) {
      if (at->first != key) continue;
      kept_.splice(kept_.begin(), kept_, at);
      return kept_.front().second;
    }
    return nullptr;
  }
  void keep(const std::string& key, std::shared_ptr<GrammarMasks> masks) {
    const std::lock_guard lock(mutex_);
    if (kept_.size() >= kMaxKeptGrammars) kept_.pop_back();
    kept_.emplace_front(key, std::move(masks));
  }
  // Made when it is first needed: most services never are asked for JSON.
  std::shared_ptr<const GrammarVocabulary> vocabulary() {
    const std::lock_guard lock(mutex_);
    if (vocabulary_) return vocabulary_;
    vocabulary_ = std::make_shared<const GrammarVocabulary>(tokenizer_);
    // A thought is free but for the end: what follows it is the answer.
    TokenMask mask(vocabulary_->token_count());
    for (std::int32_t id = 0; id < tokenizer_.vocab_size(); ++id) {
      if (!tokenizer_.is_eos(id)) mask.allow(static_cast<std::size_t>(id));
    }
    in_thought_ = std::make_shared<const TokenMask>(std::move(mask));
    return vocabulary_;
  }

  const Tokenizer tokenizer_;
  std::mutex mutex_;  // of all that follows
  std::shared_ptr<const GrammarVocabulary> vocabulary_;
  TokenMaskPtr in_thought_;
  std::list<std::pair<std::string, std::shared_ptr<GrammarMasks>>> kept_;
};

}  // namespace

std::string tool_call_text(const ToolCallSpec& spec) {
  std::string tools;
  for (const ToolSchema& tool : spec.tools) {
    tools += (tools.empty() ? "" : ",") + std::string("{\"name\":") + json_quoted(tool.name);
    if (!tool.parameters.empty()) tools += ",\"parameters\":" + tool.parameters;
    tools += '}';
  }
  return "{\"format\":" + json_quoted(spec.format) + ",\"parallel\":" + (spec.parallel ? "true" : "false") +
         ",\"tools\":[" + tools + "]}";
}

Status check_constraint(const ConstraintSpec& spec) {
  auto grammar = compile(spec, nullptr);
  if (!grammar.ok()) return std::move(grammar).error();
  return runtime::done();
}

ConstraintCompiler make_constraint_compiler(const Tokenizer& tokenizer) {
  return
      [workshop = std::make_shared<Workshop>(tokenizer)](const ConstraintSpec& spec) { return workshop->make(spec); };
}

ConstraintCompiler make_constraint_compiler(const std::filesystem::path& folder) {
  struct Late {
    std::mutex mutex;  // of what follows
    ConstraintCompiler compile;
  };
  return [late = std::make_shared<Late>(),
          folder](const ConstraintSpec& spec) -> Outcome<std::unique_ptr<TokenConstraint>> {
    ConstraintCompiler compile;
    {
      const std::lock_guard lock(late->mutex);
      if (!late->compile) {
        CONSORT_TRY(const Tokenizer tokenizer, Tokenizer::from_directory(folder));
        late->compile = make_constraint_compiler(tokenizer);
      }
      compile = late->compile;
    }
    return compile(spec);
  };
}

}  // namespace consort::model
