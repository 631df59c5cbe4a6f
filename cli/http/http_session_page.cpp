// Session: the page, and what it and others see of the cluster.
#include <boost/asio/post.hpp>
#include <boost/json.hpp>

#include "cli/http/http_session.hpp"
#include "cli/http/live_json.hpp"
#include "cli/http/page.hpp"
#include "cli/http/prometheus.hpp"

namespace consort::cli {

void Session::get_page() {
  const HttpOptions& options = server_.options;
  switch (place_.route) {
    case Route::kPage:
      return answer(200, std::string(page_html()), "text/html; charset=utf-8",
                    {{"Content-Security-Policy", page_policy()},
                     {"X-Content-Type-Options", "nosniff"},
                     {"Referrer-Policy", "no-referrer"},
                     {"Cache-Control", "no-cache"}});
    case Route::kAbout:
      return answer(200, about_json({options.model, options.version, options.context_tokens, server_.keys.needs_key(),
                                     options.has_thinking_switch}));
    case Route::kMetrics:
    case Route::kLive:
      return look();
    default:
      return close();
  }
}

// The request waits for another actor than the Gateway: as with its works, the session lives on meanwhile.
void Session::begin_watching() {
  ++work_;
  ticket_ = 0;
  begin_work();
  watch_peer();
}

void Session::look() {
  if (server_.options.watch == nullptr) {
    begin_watching();
    return on_looked(work_, nullptr);
  }
  begin_watching();
  const bool taken = server_.options.watch->look(
      [io = &server_.io, weak = weak_from_this(), work = work_](cluster::ClusterPicturePtr picture) {
        asio::post(*io, [weak, work, picture = std::move(picture)] {
          if (const auto self = weak.lock()) self->on_looked(work, picture);
        });
      });
  if (taken) return;
  end_work();
  refuse({429, "rate_limit_error", "too_many_looks", "", "too many are looking at the cluster: try again"});
}

void Session::on_looked(std::uint64_t work, const cluster::ClusterPicturePtr& picture) {
  if (closed_ || !working_ || work != work_) return;
  end_work();
  const auto own = server_.metrics();
  if (place_.route == Route::kMetrics) {
    std::string text = prometheus_text(*own, server_.options.model);
    if (picture != nullptr) text += prometheus_text(*picture, server_.options.model);
    return answer(200, std::move(text), "text/plain; version=0.0.4; charset=utf-8");
  }
  if (picture == nullptr) {
    return refuse({503, "unavailable_error", "", "", "neither the Coordinator nor a node answers: is the cluster up?"});
  }
  answer(200, live_json(*picture, *own), "application/json", {{"Cache-Control", "no-store"}});
}

void Session::drain_node(std::string_view body) {
  const auto wrong = [this](std::string message) {
    refuse({400, "invalid_request_error", "", "node", std::move(message)});
  };
  boost::system::error_code error;
  const boost::json::value value = boost::json::parse({body.data(), body.size()}, error);
  const auto* object = error ? nullptr : value.if_object();
  const auto* node = object == nullptr || object->size() != 1 ? nullptr : object->if_contains("node");
  if (node == nullptr || !node->is_string()) return wrong(R"(the body must be {"node": "NAME"})");
  if (server_.options.watch == nullptr) return wrong("this service cannot speak to the cluster's Coordinator");
  begin_watching();
  const bool taken =
      server_.options.watch->drain(std::string(node->as_string()),
                                   [io = &server_.io, weak = weak_from_this(), work = work_](runtime::Status status) {
                                     asio::post(*io, [weak, work, status = std::move(status)] {
                                       if (const auto self = weak.lock()) self->on_drained(work, status);
                                     });
                                   });
  if (taken) return;
  end_work();
  refuse({429, "rate_limit_error", "too_many_looks", "", "too many are looking at the cluster: try again"});
}

void Session::on_drained(std::uint64_t work, const runtime::Status& status) {
  if (closed_ || !working_ || work != work_) return;
  end_work();
  if (status.ok()) return answer(200, R"({"drained":true})");
  const bool refused = status.error().kind == runtime::ErrorKind::kInvalid;
  refuse({refused ? 409 : 503, refused ? "invalid_request_error" : "unavailable_error", "", "node",
          refused ? status.error().text : "the Coordinator does not answer: nothing was changed as far as is known"});
}

}  // namespace consort::cli
