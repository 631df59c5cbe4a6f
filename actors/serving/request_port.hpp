// RequestPort: how another thread (HTTP) gives work to the Gateway's loop and gets what comes of it. Bounded both ways.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <set>
#include <string>
#include <variant>
#include <vector>

#include "model/penalties.hpp"
#include "model/sampler.hpp"
#include "model/text/chat_format.hpp"
#include "model/token_constraint.hpp"
#include "runtime/outcome.hpp"
#include "runtime/time.hpp"

namespace consort::actors {

// --- in --------------------------------------------------------------------------------------------------------------
struct ChatPrompt {
  std::vector<model::ChatMessage> messages;
  bool add_generation_prompt = true;
  std::optional<bool> thinking;  // none: as the model's format does
  std::vector<model::ToolDescription> tools = {};
};
struct TextPrompt {
  std::string text;
  bool add_special_tokens = true;
};
struct IdsPrompt {
  std::vector<std::int32_t> ids;
};
using Prompt = std::variant<ChatPrompt, TextPrompt, IdsPrompt>;

// What of the chat's tools an answer may call.
struct ToolUse {
  std::set<std::string, std::less<>> names;  // empty: none, and nothing is read as a call
  bool is_forced = false;                    // the answer is a call, written under a grammar
  bool is_parallel = true;                   // several calls in one answer
};

// One or several prompts, `choices` answers to each; answer number p * choices + c is the c-th to prompt p.
struct AnswerRequest {
  std::vector<Prompt> prompts;
  std::uint32_t choices = 1;
  model::SamplingParams sampling;  // its seed is not read
  model::PenaltyParams penalties;
  std::int32_t priority = 0;  // lower runs earlier
  std::string cache_group;    // the API key's name: prompts of one group share cached pages
  std::string cache_salt;     // and of these only with the same salt
  std::optional<std::uint64_t> seed;
  std::optional<std::uint32_t> max_tokens;
  std::vector<std::string> stops;
  bool ignore_eos = false;
  bool splits_thoughts = false;  // chats
  bool wants_logprobs = false;
  ToolUse tool_use;
  model::ConstraintSpec constraint;  // of the answer's content, where no call is forced
};
struct EncodeRequest {
  Prompt prompt;
};
struct DecodeRequest {
  std::vector<std::int32_t> ids;
};
using PortWork = std::variant<AnswerRequest, EncodeRequest, DecodeRequest>;

// --- out -------------------------------------------------------------------------------------------------------------
struct TokenDetail {
  std::string bytes;  // of the token alone; maybe half a character
  float logprob = 0;
  std::vector<TokenDetail> alternatives;
};
struct AnswerStarted {  // every answer is accepted
  std::uint32_t prompt_tokens = 0;
};
struct ToolCallPiece {
  std::uint32_t index = 0;  // of the call in its answer
  std::string id, name;     // in its first piece
  std::string arguments;    // one more part of the JSON text
};
struct AnswerPiece {
  std::uint32_t choice = 0;
  std::string reasoning;
  std::string content;
  bool of_thought = false;
  std::optional<TokenDetail> token;  // where wanted
  std::vector<ToolCallPiece> calls = {};
};
enum class Finish : std::uint8_t { kStop, kLength, kToolCalls };
struct ChoiceEnded {
  std::uint32_t choice = 0;
  Finish finish = Finish::kStop;
};
struct AnswerUsage {
  std::uint32_t prompt_tokens = 0;
  std::uint32_t completion_tokens = 0;
  std::uint32_t reasoning_tokens = 0;
  std::uint32_t cached_tokens = 0;  // of the prompts; of several answers to one the first one's count
};
struct AnswerEnded {  // all choices ended before
  AnswerUsage usage;
};
struct Encoded {
  std::vector<std::int32_t> ids;
};
struct Decoded {
  std::string text;
};
enum class WorkFailure : std::uint8_t {
  kInvalid,      // the request can never be served; the text says why
  kTooLong,      // prompt and answer do not fit the model's context
  kBusy,         // every queue is full: later
  kUnavailable,  // the cluster cannot serve now
  kDeadline,
  kInternal,
};
struct WorkFailed {
  WorkFailure kind = WorkFailure::kInternal;
  std::string text;
  std::chrono::milliseconds come_again{0};  // of kBusy: there should be room after this; 0: not known
  std::string param = {};                   // of kInvalid: the field that it is about, where that is known
};
// The last event of a work is AnswerEnded, Encoded, Decoded or WorkFailed, exactly one of them, unless it was
// cancelled.
using PortEvent = std::variant<AnswerStarted, AnswerPiece, ChoiceEnded, AnswerEnded, Encoded, Decoded, WorkFailed>;
bool is_last(const PortEvent& event);

// Called on the Gateway's loop; hands over and returns at once.
class PortSink {
 public:
  virtual ~PortSink() = default;
  virtual void take(PortEvent event) = 0;
  // What an answer has used so far: with every token, before the event that tells of it.
  virtual void count(const AnswerUsage&) {}
};

// Whether a request would be served now, as the Gateway last saw it.
struct ServingState {
  bool serves = false;
  std::string why = "the cluster was not asked yet";
  runtime::Instant asked_at{};
};

class RequestPort {
 public:
  // Works that are open at once: the Batcher's queue is shorter, so that it is the one that says no.
  static constexpr std::size_t kMaxOpen = 1024;

  struct Entry {
    std::uint64_t ticket = 0;
    PortWork work;
    std::shared_ptr<PortSink> sink;
  };

  // --- any thread
  // ------------------------------------------------------------------------------------------------------ A ticket to
  // cancel by; kExhausted where too many are open.
  runtime::Outcome<std::uint64_t> submit(PortWork work, std::shared_ptr<PortSink> sink);
  void cancel(std::uint64_t ticket);  // nothing more comes, but what is on its way; may come too late
  ServingState state() const;

  // --- the Gateway
  // ----------------------------------------------------------------------------------------------------- `wake` is
  // called from any thread when there is something to take, at once where there is already.
  void attach(std::function<void()> wake);
  struct Taken {
    std::vector<Entry> works;
    std::vector<std::uint64_t> cancelled;
  };
  Taken take();
  void close(std::uint64_t ticket);  // the work has ended
  void set_state(ServingState state);

 private:
  mutable std::mutex mutex_;  // of all that follows
  std::function<void()> wake_;
  std::uint64_t next_ticket_ = 1;
  std::set<std::uint64_t> open_;
  Taken waiting_;
  ServingState state_;
};

}  // namespace consort::actors
