// Session: what a request gets for an answer.
#include <boost/asio/post.hpp>
#include <type_traits>

#include "cli/http/http_session.hpp"
#include "cli/http/http_text.hpp"

namespace consort::cli {

namespace {

constexpr auto kStateIsOld = std::chrono::seconds(5);  // the Gateway looks every second

// From the Gateway's loop to the server's thread.
class SessionSink final : public actors::PortSink {
 public:
  SessionSink(asio::io_context& io, std::weak_ptr<Session> session, std::uint64_t work)
      : io_(io), session_(std::move(session)), work_(work) {}
  void take(actors::PortEvent event) override {
    asio::post(io_, [session = session_, work = work_, event = std::move(event)] {
      if (const auto alive = session.lock()) alive->on_event(work, event);
    });
  }

 private:
  asio::io_context& io_;
  const std::weak_ptr<Session> session_;
  const std::uint64_t work_;
};

}  // namespace

std::optional<Refusal> Session::unknown_model(std::string_view model) const {
  if (model == server_.options.model) return std::nullopt;
  return Refusal{
      404, "not_found_error", "model_not_found", "model",
      "there is no model '" + std::string(model.substr(0, 128)) + "' here; there is '" + server_.options.model + "'"};
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

void Session::dispatch() {
  const std::string body = std::move(parser_->get().body());
  release_body();
  switch (place_.route) {
    case Route::kChat:
    case Route::kCompletion: {
      AnswerCall call;
      if (!accept_call(place_.route == Route::kChat ? decode_chat(body) : decode_completion(body), call)) return;
      call.request.cache_group = key_name_;
      const auto created = std::chrono::system_clock::now().time_since_epoch() / std::chrono::seconds(1);
      writer_.emplace(call, AnswerWriter::Head{hex(server_.rng.next()), created, server_.options.model});
      actors::PortWork work = std::move(call.request);
      call_ = std::move(call);
      return submit(std::move(work));
    }
    case Route::kEncode: {
      EncodeCall call;
      if (accept_call(decode_encode(body), call)) submit(std::move(call.request));
      return;
    }
    case Route::kDecode: {
      DecodeCall call;
      if (accept_call(decode_decode(body), call)) submit(std::move(call.request));
      return;
    }
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
      const auto target = parser_->get().target();
      const std::string_view path = path_of({target.data(), target.size()});
      const std::string_view id = path.substr(std::string_view("/v1/models/").size());
      if (const auto refused = unknown_model(id)) return refuse(*refused);
      return answer(200, model_json(options.model, options.created));
    }
    case Route::kMetrics:
      return answer(200, server_.metrics(), "text/plain; version=0.0.4; charset=utf-8");
    default:
      return close();
  }
}

void Session::submit(actors::PortWork work) {
  ++work_;
  auto ticket =
      server_.port->submit(std::move(work), std::make_shared<SessionSink>(server_.io, weak_from_this(), work_));
  if (!ticket.ok()) {
    return refuse(refusal_of({actors::WorkFailure::kBusy, "too many requests: " + ticket.error().text}));
  }
  ticket_ = *ticket;
  begin_work();
  watch_peer();
}

void Session::on_event(std::uint64_t work, const actors::PortEvent& event) {
  if (closed_ || !working_ || work != work_) return;
  if (actors::is_last(event)) end_work();
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
    ResponseHead head{200, "text/event-stream; charset=utf-8", request_id_, keep_alive_, {{"X-Accel-Buffering", "no"}}};
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
  answer_ends_ = true;
  log(status);
  send(whole_response(head, body, parser_->get().method() == http::verb::head));
}

void Session::refuse(const Refusal& refusal, std::vector<std::pair<std::string_view, std::string>> more) {
  release_body();
  const bool again = is_worth_retrying(refusal);
  if (again) more.emplace_back("Retry-After", std::to_string(refusal.retry_after_seconds));
  if (!again && refusal.status >= 500) more.emplace_back("x-should-retry", "false");
  answer(refusal.status, error_json(refusal), "application/json", std::move(more));
}

}  // namespace consort::cli
