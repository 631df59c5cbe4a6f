#include "cli/cluster_run.hpp"

#include <algorithm>
#include <csignal>
#include <cstring>

#include "cli/house/client.hpp"
#include "cli/ids_text.hpp"
#include "cli/local_run.hpp"
#include "cli/logits_tensors.hpp"
#include "cli/prompt.hpp"
#include "cli/token_printer.hpp"

namespace consort::cli {

using runtime::Outcome;

namespace {

constexpr auto kBatcherPatience = std::chrono::seconds(5);  // its node may just be starting again
constexpr auto kSliceDeadline = std::chrono::seconds(30);
constexpr auto kEndSlack =
    std::chrono::seconds(5);  // the Batcher ends a stream at its deadline; the words need a moment

volatile std::sig_atomic_t interrupted = 0;

// A connected client and the Batcher to talk to.
struct Door {
  std::unique_ptr<Client> client;
  runtime::RefTo<actors::BatcherProtocol> batcher;
};

Outcome<Door> open_door(const ClusterState& state) {
  Door door;
  CONSORT_TRY(door.client, Client::open(state));
  CONSORT_TRY(door.batcher, door.client->find_batcher(kBatcherPatience));
  return door;
}

actors::GenerationRequest request_of(const GenerateOptions& options, const Prompt& prompt,
                                     std::span<const std::int32_t> stop_ids) {
  actors::GenerationRequest request;
  request.prompt.assign(prompt.ids.begin(), prompt.ids.end());
  request.sampling = sampling_of(options);
  request.max_new_tokens = static_cast<std::uint32_t>(options.max_new_tokens);
  request.stop_ids.assign(stop_ids.begin(), stop_ids.end());
  request.deadline = options.deadline;
  return request;
}

int stream_tokens(Door& door, actors::GenerationRequest request, TokenPrinter& printer) {
  const runtime::Duration patience = request.deadline + kEndSlack;
  std::optional<actors::GenerationEnded> end;
  actors::StreamEvents events;
  events.token = [&](const actors::GeneratedToken& token) {
    printer.token(static_cast<std::int32_t>(token.id), token.logprob, token.logits_crc);
  };
  events.ended = [&](const actors::GenerationEnded& ended) { end = ended; };
  std::signal(SIGINT, [](int) { interrupted = 1; });
  const auto stream = door.client->start_stream(door.batcher, std::move(request), std::move(events));
  const bool ended = door.client->turn_until([&] { return end.has_value() || interrupted != 0; }, patience);
  if (!end) {
    door.client->stop(stream);
    printer.end(ended ? "cancelled" : "failed", ended ? "interrupted" : "the batcher's node does not answer");
    return job_failed(ended ? "interrupted" : "the batcher's node does not answer");
  }
  printer.end(actors::name(end->reason), end->text, Journey{end->decoder_moves, end->waits});
  const bool complete = end->reason == actors::EndReason::kStop || end->reason == actors::EndReason::kLength;
  return complete ? kExitOk : job_failed(std::string(actors::name(end->reason)) + ": " + end->text);
}

// One tensor of a capture, slice by slice, into `out`.
runtime::Status read_tensor(Door& door, std::uint64_t capture, const std::string& name, std::span<std::byte> out) {
  for (std::size_t done = 0; done < out.size();) {
    actors::ReadLogitsSlice read;
    read.capture = capture;
    read.tensor = name;
    read.first_byte = done;
    CONSORT_TRY(const actors::LogitsSlice slice, door.client->ask(door.batcher, std::move(read), kSliceDeadline));
    const auto bytes = slice.bytes.bytes();
    if (slice.tensor_bytes != out.size() || bytes.empty() || bytes.size() > out.size() - done) {
      return runtime::failure(runtime::ErrorKind::kMalformed, name + ": the cluster's slice does not fit");
    }
    std::ranges::copy(bytes, out.begin() + static_cast<std::ptrdiff_t>(done));
    done += bytes.size();
  }
  return runtime::done();
}

template <class T>
std::span<std::byte> writable(std::span<T> values) {
  return std::as_writable_bytes(values);
}

runtime::Status read_all(Door& door, const actors::LogitsComputed& run, LogitsTensors& tensors) {
  const auto f32 = [&](const std::string& name, std::uint32_t cols) {
    return read_tensor(door, run.capture, name, writable(tensors.f32(name, cols)));
  };
  CONSORT_RETURN_IF_ERROR(f32("logits", run.vocabulary));
  for (std::uint32_t i = 0; i <= run.layers; ++i)
    CONSORT_RETURN_IF_ERROR(f32("hidden." + std::to_string(i), run.hidden));
  for (std::uint32_t layer = run.first_moe_layer; layer < run.layers; ++layer) {
    const std::string prefix = "routes." + std::to_string(layer);
    CONSORT_RETURN_IF_ERROR(
        read_tensor(door, run.capture, prefix + ".experts", writable(tensors.i64(prefix + ".experts", run.top_k))));
    CONSORT_RETURN_IF_ERROR(f32(prefix + ".weights", run.top_k));
  }
  return runtime::done();
}

}  // namespace

int generate_on_cluster(const GenerateOptions& options) {
  const auto state = ClusterState::of_file(options.source.cluster_file);
  if (!state.ok()) return wrong_use(state.error().text);
  const auto tokenizer = tokenizer_of(state->config.model);
  if (!tokenizer.ok()) return wrong_use(tokenizer.error().text);
  const auto prompt = make_prompt(options, *tokenizer);
  if (!prompt.ok()) return wrong_use(prompt.error().text);
  auto door = open_door(*state);
  if (!door.ok()) return job_failed(door.error().text);
  TokenPrinter printer(*tokenizer, options.json, prompt->shown_first);
  return stream_tokens(*door, request_of(options, *prompt, stop_ids_of(options, *tokenizer)), printer);
}

int logits_on_cluster(const LogitsOptions& options) {
  const auto state = ClusterState::of_file(options.source.cluster_file);
  if (!state.ok()) return wrong_use(state.error().text);
  const auto ids = parse_ids(options.ids);
  if (!ids.ok()) return wrong_use(ids.error().text);
  auto door = open_door(*state);
  if (!door.ok()) return job_failed(door.error().text);
  actors::ComputeLogits compute;
  compute.ids.assign(ids->begin(), ids->end());
  compute.deadline_ms = static_cast<std::uint32_t>(state->config.request_deadline / std::chrono::milliseconds(1));
  const auto run = door->client->ask(door->batcher, std::move(compute), state->config.request_deadline + kEndSlack);
  if (!run.ok()) return job_failed(run.error().text);
  LogitsTensors tensors(*ids);
  const auto read = read_all(*door, *run, tensors);
  if (!read.ok()) return job_failed(read.error().text);
  const auto written = tensors.write(options.out);
  return written.ok() ? kExitOk : job_failed(written.error().text);
}

}  // namespace consort::cli
