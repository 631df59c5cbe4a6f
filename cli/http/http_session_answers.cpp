// Session: what a request gets for an answer.
#include <algorithm>
#include <boost/asio/post.hpp>
#include <mutex>
#include <type_traits>

#include "cli/http/http_session.hpp"
#include "cli/http/http_text.hpp"

namespace consort::cli {

namespace {

constexpr auto kStateIsOld = std::chrono::seconds(5);  // the Gateway looks every second

// Larger bodies are parsed aside: 4 MiB of the worst JSON (all keys of an object) took 276 ms, in
// which others want their tokens. What is parsed here takes 3 ms at most.
constexpr std::size_t kDecodeHereBytes = 32u << 10;
// For the quota, before the prompt is encoded; what it really was is settled at its end.
constexpr std::size_t kBytesPerToken = 4;

std::uint64_t estimated_tokens(std::size_t body_bytes, const actors::AnswerRequest& request) {
  return body_bytes / kBytesPerToken +
         std::uint64_t{request.max_tokens.value_or(0)} * request.choices * request.prompts.size();
}

}  // namespace

// From the Gateway's loop to the server's thread: events, and what the work has used.
class WorkSink final : public actors::PortSink {
 public:
  WorkSink(asio::io_context& io, std::weak_ptr<Session> session, std::uint64_t work)
      : io_(io), session_(std::move(session)), work_(work) {}
  void take(actors::PortEvent event) override {
    asio::post(io_, [session = session_, work = work_, event = std::move(event)] {
      if (const auto alive = session.lock()) alive->on_event(work, event);
    });
  }
  void count(const actors::AnswerUsage& so_far) override {
    const std::lock_guard lock(mutex_);
    used_ = so_far;
  }
  actors::AnswerUsage used() const {
    const std::lock_guard lock(mutex_);
    return used_;
  }

 private:
  asio::io_context& io_;
  const std::weak_ptr<Session> session_;
  const std::uint64_t work_;
  mutable std::mutex mutex_;
  actors::AnswerUsage used_;
};

std::optional<Refusal> Session::unknown_model(std::string_view model) const {
  return other_model(model, server_.options.model);
}

template <class Call>
bool Session::accept_call(OrRefusal<Call> decoded, Call& out) {
  if (const auto* refused = std::get_if<Refusal>(&decoded)) {
    refuse(*refused);
    return false;
  }
  out = std::move(std::get<Call>(decoded));
  const bool may_be_unnamed = !std::is_same_v<Call, AnswerCall>;
  if (may_be_unnamed && out.model.empty()) return true;
  if (const auto refused = unknown_model(out.model)) {
    refuse(*refused);
    return false;
  }
  return true;
}

// Here where it is quickly done; the session stays in its phase meanwhile.
template <class Call, class Use>
void Session::decode(OrRefusal<Call> (*how)(std::string_view), std::string body, Use use) {
  const std::size_t bytes = body.size();
  auto take = [this, use, bytes](OrRefusal<Call> decoded) {
    Call call;
    if (accept_call(std::move(decoded), call)) use(std::move(call), bytes);
  };
  if (bytes <= kDecodeHereBytes) return take(how(body));
  asio::post(server_.aside, [self = shared_from_this(), how, body = std::move(body), take]() mutable {
    auto decoded = std::make_shared<OrRefusal<Call>>(how(body));
    asio::io_context& io = self->server_.io;
    asio::post(io, [self = std::move(self), decoded, take] {
      if (!self->closed_) take(std::move(*decoded));
    });
  });
}

void Session::dispatch() {
  std::string body = reader_.take_body();
  if (body_reserved_ > body.size()) server_.bodies_bytes -= std::exchange(body_reserved_, body.size()) - body.size();
  switch (place_.route) {
    case Route::kChat:
    case Route::kCompletion:
      return decode<AnswerCall>(
          place_.route == Route::kChat ? &decode_chat : &decode_completion, std::move(body),
          [this](AnswerCall call, std::size_t bytes) {
            call.request.cache_group = payer_.key;
            const auto created = std::chrono::system_clock::now().time_since_epoch() / std::chrono::seconds(1);
            writer_.emplace(call, AnswerWriter::Head{hex(server_.rng.next()), created, server_.options.model});
            const std::uint64_t tokens = estimated_tokens(bytes, call.request);
            actors::PortWork work = std::move(call.request);
            call_ = std::move(call);
            submit(std::move(work), tokens);
          });
    case Route::kEncode:
      return decode<EncodeCall>(&decode_encode, std::move(body),
                                [this](EncodeCall call, std::size_t) { submit(std::move(call.request), 0); });
    case Route::kDecode:
      return decode<DecodeCall>(&decode_decode, std::move(body),
                                [this](DecodeCall call, std::size_t) { submit(std::move(call.request), 0); });
    case Route::kDrain:
      return drain_node(body);
    default:
      return get();
  }
}

void Session::get() {
  const HttpOptions& options = server_.options;
  switch (place_.route) {
    case Route::kHealth: {
      actors::ServingState state = server_.port->state();
      const auto now = std::chrono::steady_clock::now().time_since_epoch();
      if (state.serves && now - state.asked_at.time_since_epoch() > kStateIsOld)
        state = {false, "the Gateway is stuck", {}};
      if (state.serves) return answer(200, health_json(state));
      return answer(503, health_json(state), "application/json", {{"Retry-After", "1"}});
    }
    case Route::kVersion:
      return answer(200, version_json(options.version));
    case Route::kModels:
      return answer(200, models_json(options.model, options.created));
    case Route::kModel: {
      const auto target = reader_.request().target();
      const std::string_view path = path_of({target.data(), target.size()});
      const std::string_view id = path.substr(std::string_view("/v1/models/").size());
      if (const auto refused = unknown_model(id)) return refuse(*refused);
      return answer(200, model_json(options.model, options.created));
    }
    default:
      return get_page();
  }
}

// The body counts as received until the Gateway has made tokens of it, or the work has ended.
void Session::submit(actors::PortWork work, std::uint64_t tokens) {
  Metering::Admission admission = server_.metering->admit(payer_, tokens, begun_);
  if (admission.over) return refuse_quota(*admission.over);
  ++work_;
  sink_ = std::make_shared<WorkSink>(server_.io, weak_from_this(), work_);
  auto ticket = server_.port->submit(std::move(work), sink_);
  if (!ticket.ok()) {
    admission.request->end({}, true);
    return refuse(refusal_of({actors::WorkFailure::kBusy, "too many requests: " + ticket.error().text}));
  }
  metered_ = std::move(admission.request);
  ticket_ = *ticket;
  begin_work();
  watch_peer();
}

void Session::begin_work() {
  working_ = true;
  server_.working.insert(shared_from_this());
}

// Whether there was work. Whoever calls holds the session.
bool Session::end_work(bool failed) {
  if (!std::exchange(working_, false)) return false;
  if (metered_) metered_->end(sink_->used(), failed);
  metered_.reset();
  server_.working.erase(shared_from_this());
  return true;
}

void Session::meter() {
  if (metered_) metered_->progress(sink_->used());
}

void Session::refuse_quota(const QuotaOver& over) {
  server_.metering->count_refused(payer_);
  std::vector<std::pair<std::string_view, std::string>> more{
      {"Retry-After", std::to_string(over.retry_after / std::chrono::seconds(1))}};
  if (over.quota == Quota::kTokensPerDay) {
    more.emplace_back("x-should-retry", "false");  // not within any client's patience
    return refuse({429, "insufficient_quota", "insufficient_quota", "", quota_message(over, payer_.key)}, more);
  }
  const bool of_tokens = over.quota == Quota::kTokensPerMinute;
  refuse({429, of_tokens ? "tokens" : "requests", "rate_limit_exceeded", "", quota_message(over, payer_.key)}, more);
}

void Session::on_event(std::uint64_t work, const actors::PortEvent& event) {
  if (closed_ || !working_ || work != work_) return;
  release_body();
  if (actors::is_last(event)) end_work(std::holds_alternative<actors::WorkFailed>(event));
  if (const auto* encoded = std::get_if<actors::Encoded>(&event)) {
    return answer(200, encoded_json(*encoded, server_.options.context_tokens));
  }
  if (const auto* decoded = std::get_if<actors::Decoded>(&event)) return answer(200, decoded_json(*decoded));
  if (const auto* failed = std::get_if<actors::WorkFailed>(&event); failed != nullptr && !head_is_sent_) {
    Refusal refusal = refusal_of(*failed);
    if (call_ && call_->shape == AnswerShape::kCompletion && !refusal.param.empty()) refusal.param = "prompt";
    return refuse(refusal);
  }
  if (!call_->stream) {
    writer_->gather(event);
    if (std::holds_alternative<actors::AnswerEnded>(event)) answer(200, writer_->body());
    return;
  }
  std::string text = writer_->stream(event);
  if (!text.empty() && chunked_) text = chunk(text);
  if (!head_is_sent_ && std::holds_alternative<actors::AnswerStarted>(event)) {
    head_is_sent_ = true;
    if (!chunked_) keep_alive_ = false;
    ResponseHead head{200, "text/event-stream; charset=utf-8", request_id_, keep_alive_,
                      server_.metering->fields(payer_)};
    head.more.emplace_back("X-Accel-Buffering", "no");
    text = response_head(head, std::nullopt, chunked_) + text;
    keep_alive_later();
  }
  if (actors::is_last(event) && chunked_) text += kLastChunk;
  if (actors::is_last(event)) answer_ends_ = true;
  send(text);
  if (answer_ends_) log(std::holds_alternative<actors::WorkFailed>(event) ? 500 : 200);
}

void Session::answer(int status, std::string body, std::string_view type,
                     std::vector<std::pair<std::string_view, std::string>> more) {
  ResponseHead head{status, type, request_id_, keep_alive_, std::move(more)};
  for (auto& field : server_.metering->fields(payer_)) head.more.push_back(std::move(field));
  const bool is_head_request = reader_.has_header() && reader_.request().method() == http::verb::head;
  release_body();
  answer_ends_ = true;
  log(status);
  send(whole_response(head, body, is_head_request));
}

void Session::refuse(const Refusal& refusal, std::vector<std::pair<std::string_view, std::string>> more) {
  const bool again = is_worth_retrying(refusal);
  const bool is_told = std::ranges::any_of(more, [](const auto& field) { return field.first == "Retry-After"; });
  if (again && !is_told) more.emplace_back("Retry-After", std::to_string(refusal.retry_after_seconds));
  if (!again && refusal.status >= 500) more.emplace_back("x-should-retry", "false");
  answer(refusal.status, error_json(refusal), "application/json", std::move(more));
}

}  // namespace consort::cli
