#include "actors/serving/gateway.hpp"

#include <algorithm>
#include <set>
#include <utility>

#include "cluster/roles.hpp"
#include "model/grammar/constraint_compiler.hpp"
#include "model/text/tool_calls.hpp"

namespace consort::actors {

using cluster::Role;
using runtime::Duration;
using runtime::ErrorKind;
using runtime::failure;
using runtime::Outcome;

namespace {

constexpr Duration kLookEvery = std::chrono::seconds(1);
constexpr Duration kLookSoon = std::chrono::milliseconds(200);  // while the cluster would not serve
constexpr Duration kLookPatience = std::chrono::seconds(1);     // a worker answers in milliseconds or does not live
// Between the seeds of several answers to one prompt: any odd number that is far from small will do.
constexpr std::uint64_t kSeedStep = 0x9E3779B97F4A7C15;

WorkFailure failure_of(ErrorKind kind) {
  switch (kind) {
    case ErrorKind::kInvalid:
    case ErrorKind::kMalformed:
      return WorkFailure::kInvalid;
    case ErrorKind::kExhausted:
      return WorkFailure::kBusy;
    case ErrorKind::kTimedOut:
    case ErrorKind::kPeerDown:
    case ErrorKind::kNoActor:
    case ErrorKind::kStaleIncarnation:
      return WorkFailure::kUnavailable;
    default:
      return WorkFailure::kInternal;
  }
}

// Which calls a forced answer may be, for the grammar.
std::string forced_calls(const model::ChatFormat& format, std::span<const model::ToolDescription> tools,
                         const ToolUse& use) {
  model::ToolCallSpec spec{std::string(format.name()), use.is_parallel, {}};
  for (const model::ToolDescription& tool : tools) {
    if (use.names.contains(tool.name)) spec.tools.push_back({tool.name, tool.parameters});
  }
  return model::tool_call_text(spec);
}

}  // namespace

struct Gateway::Figures {
  explicit Figures(runtime::Metrics& metrics)
      : prompt_tokens(metrics.counter("vllm:prompt_tokens_total")),
        generation_tokens(metrics.counter("vllm:generation_tokens_total")),
        stopped(metrics.counter("vllm:request_success_total{finished_reason=\"stop\"}")),
        lengthened(metrics.counter("vllm:request_success_total{finished_reason=\"length\"}")),
        aborted(metrics.counter("vllm:request_success_total{finished_reason=\"abort\"}")),
        failed(metrics.counter("consort:requests_failed_total")),
        running(metrics.gauge("vllm:num_requests_running")),
        waiting(metrics.gauge("vllm:num_requests_waiting")),
        first_token(metrics.histogram("vllm:time_to_first_token_seconds")),
        between_tokens(metrics.histogram("vllm:inter_token_latency_seconds")),
        whole(metrics.histogram("vllm:e2e_request_latency_seconds")) {}

  runtime::Counter& prompt_tokens;
  runtime::Counter& generation_tokens;
  runtime::Counter& stopped;
  runtime::Counter& lengthened;
  runtime::Counter& aborted;
  runtime::Counter& failed;
  runtime::Gauge& running;
  runtime::Gauge& waiting;
  runtime::Histogram& first_token;
  runtime::Histogram& between_tokens;
  runtime::Histogram& whole;
};

struct Gateway::Choice {
  explicit Choice(model::AnswerText answer) : text(std::move(answer)) {}
  model::AnswerText text;
  std::optional<model::ToolCallReader> calls;  // where tools may be called
  TokenStream* stream = nullptr;               // lives until it tells its end
  std::uint32_t tokens = 0;
  std::uint32_t cached_tokens = 0;
  bool accepted = false;
  bool ended = false;
};

struct Gateway::Work {
  std::uint64_t ticket = 0;
  std::shared_ptr<PortSink> sink;
  std::optional<AnswerRequest> request;
  std::vector<Choice> choices;
  std::uint32_t prompt_tokens = 0;
  runtime::Instant arrived;
  std::optional<runtime::Instant> last_token;
  bool started = false;
  std::vector<PortEvent> held;  // what came before that: no more than the streams have credit for

  AnswerUsage usage() const {
    AnswerUsage usage;
    usage.prompt_tokens = started ? prompt_tokens : 0;
    for (std::size_t c = 0; c < choices.size(); ++c) {
      const Choice& choice = choices[c];
      if (started && c % request->choices == 0) usage.cached_tokens += choice.cached_tokens;
      usage.completion_tokens += choice.tokens;
      usage.reasoning_tokens += choice.text.thought_tokens();
    }
    return usage;
  }
  void tell(PortEvent event) { started ? sink->take(std::move(event)) : held.push_back(std::move(event)); }
};

// What the device makes of a work's texts.
struct Gateway::Prepared {
  std::vector<std::vector<std::int32_t>> prompts;
  bool begins_in_thought = false;
  bool fences_calls = false;  // as the chat's format writes them
  model::ConstraintSpec constraint;
  std::optional<runtime::Error> error;
  std::string param;  // that the error is about, where that is known
  std::string text;   // decoded
};

Gateway::Gateway(GatewaySettings settings, std::shared_ptr<RequestPort> port, runtime::Metrics& metrics)
    : settings_(std::move(settings)), port_(std::move(port)), figures_(std::make_unique<Figures>(metrics)) {}

Gateway::~Gateway() = default;

void Gateway::on_start() {
  CONSORT_CHECK(env().device != nullptr, "the Gateway encodes on a device");
  port_->attach(
      [this, poster = loop().poster(), actor = self().actor] { poster.post(actor, [this] { take_works(); }); });
  look_at_cluster();
}

void Gateway::take_works() {
  RequestPort::Taken taken = port_->take();
  for (auto& entry : taken.works) begin(std::move(entry));
  for (const std::uint64_t ticket : taken.cancelled) {
    if (!works_.contains(ticket)) continue;
    figures_->aborted.add();
    close(ticket);
  }
}

// --- text to requests ------------------------------------------------------------------------------------------------

void Gateway::begin(RequestPort::Entry entry) {
  const std::uint64_t ticket = entry.ticket;
  auto work = std::make_unique<Work>();
  work->ticket = ticket;
  work->sink = std::move(entry.sink);
  work->arrived = now();
  auto made = std::make_shared<Prepared>();
  const auto* answer_wanted = std::get_if<AnswerRequest>(&entry.work);
  const auto tool_use = std::make_shared<const ToolUse>(answer_wanted == nullptr ? ToolUse{} : answer_wanted->tool_use);
  const bool forces_call = tool_use->is_forced;
  const auto encode = [settings = &settings_, made, tool_use, forces_call](const Prompt& prompt) -> runtime::Status {
    if (const auto* ids = std::get_if<IdsPrompt>(&prompt)) {
      for (const std::int32_t id : ids->ids) {
        if (id >= 0 && id < settings->vocabulary) continue;
        return failure(ErrorKind::kInvalid, "token id " + std::to_string(id) +
                                                " is outside the model's vocabulary of " +
                                                std::to_string(settings->vocabulary));
      }
      made->prompts.push_back(ids->ids);
    } else if (const auto* text = std::get_if<TextPrompt>(&prompt)) {
      // Who completes texts writes the markers of the format as text.
      CONSORT_TRY(auto encoded,
                  settings->tokenizer.encode(text->text, {.add_special_tokens = text->add_special_tokens}));
      made->prompts.push_back(std::move(encoded));
    } else {
      const auto& chat = std::get<ChatPrompt>(prompt);
      if (!settings->format.ok()) return settings->format.error();
      CONSORT_TRY(const model::ChatFormat format, settings->format->with_thinking(chat.thinking));
      if (!chat.tools.empty() && !format.has_tools()) made->param = "tools";
      CONSORT_TRY(auto rendered,
                  format.render(settings->tokenizer, chat.messages, chat.add_generation_prompt, chat.tools));
      made->begins_in_thought = rendered.opens_thought;
      made->fences_calls = format.fences_calls();
      if (forces_call) {
        made->constraint = {model::ConstraintKind::kToolCalls, forced_calls(format, chat.tools, *tool_use), false};
      }
      made->prompts.push_back(std::move(rendered.ids));
    }
    return runtime::done();
  };
  std::function<runtime::Status()> prepare;
  if (auto* answer = std::get_if<AnswerRequest>(&entry.work)) {
    work->request = std::move(*answer);
    made->constraint = work->request->constraint;
    prepare = [encode, made, forces_call, prompts = std::exchange(work->request->prompts, {})]() -> runtime::Status {
      for (const Prompt& prompt : prompts) CONSORT_RETURN_IF_ERROR(encode(prompt));
      if (made->constraint.kind == model::ConstraintKind::kNone) return runtime::done();
      made->constraint.begins_in_thought = made->begins_in_thought;
      // The Batcher compiles it, too, and its refusal would not know the field.
      made->param = forces_call ? "tools" : "response_format";
      CONSORT_RETURN_IF_ERROR(model::check_constraint(made->constraint));
      made->param.clear();
      return runtime::done();
    };
  } else if (auto* text = std::get_if<EncodeRequest>(&entry.work)) {
    prepare = [encode, prompt = std::move(text->prompt)] { return encode(prompt); };
  } else {
    prepare = [settings = &settings_, made, ids = std::move(std::get<DecodeRequest>(entry.work).ids)] {
      made->text = settings->tokenizer.decode(ids, false);
      return runtime::done();
    };
  }
  works_.emplace(ticket, std::move(work));
  count_open();
  runtime::DeviceWork device_work;
  device_work.label = "encode";
  device_work.run = [prepare = std::move(prepare), made](runtime::Workers&) {
    if (auto status = prepare(); !status.ok()) made->error = std::move(status).error();
  };
  compute(std::move(device_work), runtime::MessageClass::kBulk, [this, ticket, made] { prepared(ticket, made); });
}

void Gateway::prepared(std::uint64_t ticket, const std::shared_ptr<Prepared>& made) {
  const auto found = works_.find(ticket);
  if (found == works_.end()) return;  // cancelled meanwhile
  Work& work = *found->second;
  if (made->error)
    return fail(ticket, failure_of(made->error->kind), std::move(made->error->text), {}, std::move(made->param));
  if (work.request) return start_choices(work, *made);
  PortEvent event = made->prompts.empty() ? PortEvent(Decoded{std::move(made->text)})
                                          : PortEvent(Encoded{std::move(made->prompts.front())});
  work.sink->take(std::move(event));
  close(ticket);
}

void Gateway::start_choices(Work& work, const Prepared& made) {
  const std::uint64_t ticket = work.ticket;
  AnswerRequest& request = *work.request;
  if (!batcher_) return fail(ticket, WorkFailure::kUnavailable, why_not_);
  std::size_t longest = 0;
  for (const auto& prompt : made.prompts) {
    if (prompt.empty()) return fail(ticket, WorkFailure::kInvalid, "the prompt has no tokens");
    longest = std::max(longest, prompt.size());
    work.prompt_tokens += static_cast<std::uint32_t>(prompt.size());
  }
  const std::size_t context = settings_.context_tokens;
  if (longest >= context || (request.max_tokens && longest + *request.max_tokens > context)) {
    const std::string asked =
        request.max_tokens ? " and the answer may take " + std::to_string(*request.max_tokens) : "";
    return fail(ticket, WorkFailure::kTooLong,
                "this model's context is " + std::to_string(context) + " tokens; the prompt has " +
                    std::to_string(longest) + asked + ": shorten one of them");
  }
  const std::uint64_t seed = request.seed ? *request.seed : env().rng.next();
  figures_->prompt_tokens.add(work.prompt_tokens);
  std::uint32_t number = 0;
  for (const auto& prompt : made.prompts) {
    for (std::uint32_t c = 0; c < request.choices; ++c, ++number) {
      GenerationRequest generation;
      generation.prompt.assign(prompt.begin(), prompt.end());
      generation.sampling = request.sampling;
      generation.sampling.seed = seed + c * kSeedStep;
      generation.penalties = request.penalties;
      generation.constraint = made.constraint;
      generation.priority = request.priority;
      generation.cache_salt = request.cache_group + '\0' + request.cache_salt;
      generation.max_new_tokens = request.max_tokens.value_or(
          static_cast<std::uint32_t>(std::min<std::size_t>(settings_.default_max_tokens, context - prompt.size())));
      if (!request.ignore_eos) {
        for (const std::int32_t id : settings_.tokenizer.eos_ids())
          generation.stop_ids.push_back(static_cast<std::uint32_t>(id));
      }
      generation.deadline = settings_.request_deadline;
      StreamEvents events;
      events.accepted = [this, ticket, number](std::uint32_t) {
        const auto at = works_.find(ticket);
        if (at == works_.end()) return;
        at->second->choices[number].accepted = true;
        on_accepted(ticket);
      };
      events.token = [this, ticket, number](const GeneratedToken& token) { on_token(ticket, number, token); };
      events.ended = [this, ticket, number](const GenerationEnded& end) { on_ended(ticket, number, end); };
      add_choice(work, made);
      const std::uint32_t stream = next_stream_++;
      spawn(static_cast<std::uint16_t>(Role::kClient), stream,
            [this, ticket, number, batcher = *batcher_, stream, generation, events] {
              auto actor = std::make_unique<TokenStream>(batcher, stream, generation, events);
              if (const auto at = works_.find(ticket); at != works_.end())
                at->second->choices[number].stream = actor.get();
              return actor;
            });
    }
  }
  count_open();
}

void Gateway::add_choice(Work& work, const Prepared& made) {
  const AnswerRequest& request = *work.request;
  model::AnswerText::Options options{request.splits_thoughts, made.begins_in_thought, request.stops, {}};
  const bool reads_calls = !request.tool_use.names.empty();
  if (reads_calls) options.markers = model::ToolMarkers::of(settings_.tokenizer).ids();
  Choice& choice = work.choices.emplace_back(model::AnswerText(settings_.tokenizer, std::move(options)));
  if (!reads_calls) return;
  choice.calls.emplace(settings_.tokenizer, model::ToolCallReader::Options{made.fences_calls, request.tool_use.names,
                                                                           request.tool_use.is_forced});
}

// --- tokens to text --------------------------------------------------------------------------------------------------

// Headers go out when every answer is under way, so that a refusal can still be one.
void Gateway::on_accepted(std::uint64_t ticket) {
  Work& work = *works_.at(ticket);
  if (work.started || !std::ranges::all_of(work.choices, &Choice::accepted)) return;
  work.started = true;
  work.sink->count(work.usage());
  work.sink->take(AnswerStarted{work.prompt_tokens});
  for (PortEvent& event : std::exchange(work.held, {})) work.sink->take(std::move(event));
}

TokenDetail Gateway::detail_of(const GeneratedToken& token) const {
  const auto named = [&](std::int32_t id, float logprob) {
    return TokenDetail{std::string(settings_.tokenizer.token_bytes(id).value_or("")), logprob, {}};
  };
  TokenDetail detail = named(static_cast<std::int32_t>(token.id), token.logprob);
  for (const auto& other : token.alternatives) detail.alternatives.push_back(named(other.token, other.logprob));
  return detail;
}

// What goes out of what the model wrote: its calls apart from its content.
AnswerPiece Gateway::piece_of(Choice& choice, std::uint32_t number, model::AnswerText::Piece piece) {
  AnswerPiece out{number, std::move(piece.reasoning), std::move(piece.content), piece.of_thought, {}};
  if (!choice.calls) return out;
  const auto add = [&](model::ToolCallReader::Piece read) {
    out.content += read.content;
    for (auto& delta : read.calls) {
      ToolCallPiece call{delta.index, {}, std::move(delta.name), std::move(delta.arguments)};
      if (!call.name.empty()) call.id = call_id();
      out.calls.push_back(std::move(call));
    }
  };
  const std::string content = std::exchange(out.content, {});
  if (!content.empty()) add(choice.calls->text(content));
  if (piece.marker) add(choice.calls->marker(*piece.marker));
  return out;
}

// As OpenAI's look; unique by chance.
std::string Gateway::call_id() {
  constexpr std::string_view kLetters = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
  std::string id = "call_";
  for (int i = 0; i < 24; ++i) id += kLetters[env().rng.next() % kLetters.size()];
  return id;
}

void Gateway::on_token(std::uint64_t ticket, std::uint32_t number, const GeneratedToken& token) {
  const auto found = works_.find(ticket);
  if (found == works_.end()) return;
  Work& work = *found->second;
  Choice& choice = work.choices[number];
  if (choice.ended) return;  // after a stop text some may be under way
  ++choice.tokens;
  figures_->generation_tokens.add();
  if (work.last_token) {
    figures_->between_tokens.record(now() - *work.last_token);
  } else {
    figures_->first_token.record(now() - work.arrived);
    work.last_token = now();
    count_open();
  }
  work.last_token = now();
  const auto id = static_cast<std::int32_t>(token.id);
  if (!work.request->ignore_eos && settings_.tokenizer.is_eos(id))
    return work.sink->count(work.usage());  // its end follows
  AnswerPiece out = piece_of(choice, number, choice.text.add(id));
  work.sink->count(work.usage());
  const bool stopped = choice.text.stopped();
  if (work.request->wants_logprobs && !stopped) out.token = detail_of(token);
  if (!out.reasoning.empty() || !out.content.empty() || !out.calls.empty() || out.token) work.tell(std::move(out));
  const bool has_its_call = choice.calls && choice.calls->calls() > 0 && !work.request->tool_use.is_parallel;
  if (!stopped && !has_its_call) return;
  std::exchange(choice.stream, nullptr)->cancel();
  end_choice(work, number, has_its_call ? Finish::kToolCalls : Finish::kStop);
}

void Gateway::on_ended(std::uint64_t ticket, std::uint32_t number, const GenerationEnded& end) {
  const auto found = works_.find(ticket);
  if (found == works_.end()) return;
  Work& work = *found->second;
  Choice& choice = work.choices[number];
  choice.stream = nullptr;
  choice.cached_tokens = end.cached_tokens;
  if (choice.ended) return;
  switch (end.reason) {
    case EndReason::kStop:
    case EndReason::kLength: {
      AnswerPiece rest = piece_of(choice, number, choice.text.finish());
      if (choice.calls) rest.content += choice.calls->finish().content;
      if (!rest.reasoning.empty() || !rest.content.empty() || !rest.calls.empty()) work.tell(std::move(rest));
      const bool stopped = end.reason == EndReason::kStop || choice.text.stopped();
      const bool called = choice.calls && choice.calls->calls() > 0;
      return end_choice(work, number, !stopped ? Finish::kLength : called ? Finish::kToolCalls : Finish::kStop);
    }
    case EndReason::kDeadline:
      return fail(ticket, WorkFailure::kDeadline, end.text);
    case EndReason::kCancelled:
    case EndReason::kFailed:
      return fail(ticket, end.reason == EndReason::kFailed ? failure_of(end.kind) : WorkFailure::kUnavailable, end.text,
                  std::chrono::milliseconds(end.come_again_ms));
  }
}

void Gateway::end_choice(Work& work, std::uint32_t number, Finish finish) {
  work.choices[number].ended = true;
  (finish == Finish::kLength ? figures_->lengthened : figures_->stopped).add();
  work.tell(ChoiceEnded{number, finish});
  if (!std::ranges::all_of(work.choices, &Choice::ended)) return;
  const AnswerUsage usage = work.usage();
  work.sink->count(usage);
  figures_->whole.record(now() - work.arrived);
  work.sink->take(AnswerEnded{usage});
  close(work.ticket);
}

void Gateway::fail(std::uint64_t ticket, WorkFailure kind, std::string text, std::chrono::milliseconds come_again,
                   std::string param) {
  figures_->failed.add();
  works_.at(ticket)->sink->take(WorkFailed{kind, std::move(text), come_again, std::move(param)});
  close(ticket);
}

void Gateway::close(std::uint64_t ticket) {
  const auto found = works_.find(ticket);
  for (const Choice& choice : found->second->choices) {
    if (choice.stream != nullptr) choice.stream->cancel();
  }
  works_.erase(found);
  port_->close(ticket);
  count_open();
}

void Gateway::count_open() {
  const auto running =
      std::ranges::count_if(works_, [](const auto& entry) { return entry.second->last_token.has_value(); });
  figures_->running.set(running);
  figures_->waiting.set(static_cast<std::int64_t>(works_.size()) - running);
}

// --- the cluster -----------------------------------------------------------------------------------------------------

ServingState serving_state(const cluster::ClusterStatusReport& report, runtime::NodeId batcher_node) {
  const cluster::ClusterView& view = *report.view;
  const auto says_no = [](std::string why) { return ServingState{false, std::move(why), {}}; };
  const auto serves = [&](runtime::NodeId node) {
    return view.serves(node) && std::ranges::find(report.suspected, node) == report.suspected.end();
  };
  if (!serves(batcher_node)) return says_no("the node with the Batcher is not ready");
  const bool has_trunk = std::ranges::any_of(
      view.members, [&](const cluster::Member& member) { return member.roles.trunk && serves(member.node); });
  if (!has_trunk) return says_no("no node with the role trunk is ready");
  if (view.placement.empty())
    return says_no("no parts are placed yet" + (report.trouble.empty() ? "" : ": " + report.trouble));
  std::size_t lost = 0;
  std::set<std::string> holders_gone;
  for (const auto& [part, holders] : view.placement) {
    if (std::ranges::any_of(holders, serves)) continue;
    ++lost;
    for (const runtime::NodeId node : holders) {
      if (const cluster::Member* member = view.find(node)) holders_gone.insert(member->name);
    }
  }
  if (lost > 0) {
    std::string names;
    for (const std::string& name : holders_gone) names += (names.empty() ? "" : ", ") + name;
    return says_no(std::to_string(lost) + " parts are at no node that is ready; they are at " + names);
  }
  return {true, "", {}};
}

// The node with the Batcher must answer for any request to be served, and it knows the others as the Batcher does.
void Gateway::look_at_cluster() {
  const runtime::RefTo<cluster::MembershipProtocol> membership{
      {settings_.batcher_node, {}, cluster::actor_id(Role::kMembership)}};
  ask(membership, cluster::ClusterStatus{}, kLookPatience).then([this](Outcome<cluster::ClusterStatusReport> report) {
    ServingState state{false, "the node with the Batcher does not answer", {}};
    if (report.ok()) {  // else the last Batcher known: it may only be slow, and its streams tell when it is gone
      batcher_.reset();
      state = serving_state(*report, settings_.batcher_node);
      const cluster::Member* member = report->view->find(settings_.batcher_node);
      if (member != nullptr && member->incarnation.value != 0) {
        batcher_ =
            runtime::RefTo<BatcherProtocol>{{member->node, member->incarnation, cluster::actor_id(Role::kBatcher)}};
      }
    }
    why_not_ = batcher_ ? std::string() : state.why;
    state.asked_at = now();
    const bool serves = state.serves;
    port_->set_state(std::move(state));
    after(serves ? kLookEvery : kLookSoon, [this] { look_at_cluster(); });
  });
}

}  // namespace consort::actors
