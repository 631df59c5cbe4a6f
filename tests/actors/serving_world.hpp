// A cluster for the tests of actors: real Routers, ExpertGroups, Decoders, a Batcher and post offices in virtual time,
// with the test in the place of the Coordinator: it says who is here and what lives where.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "actors/experts/expert_group.hpp"
#include "actors/experts/router.hpp"
#include "actors/serving/batcher.hpp"
#include "actors/serving/decoder.hpp"
#include "actors/serving/generation_client.hpp"
#include "cluster/post_office.hpp"
#include "model/local_generation.hpp"
#include "runtime/simulated/world.hpp"
#include "support/formula_checkpoint.hpp"
#include "support/test.hpp"

namespace consort::tests {

using namespace std::chrono_literals;
using actors::GeneratedToken;
using cluster::Role;
using runtime::NodeId;
using runtime::SimProcess;

// One dense and two MoE layers of eight experts, two of which serve a row; experts of 32 columns can be cut in two.
inline std::string tiny_config() {
  return R"({"architectures": ["DeepseekV3ForCausalLM"], "model_type": "deepseek_v3", "vocab_size": 96,
    "hidden_size": 48, "intermediate_size": 80, "moe_intermediate_size": 32, "num_hidden_layers": 3,
    "num_attention_heads": 2, "num_key_value_heads": 2, "q_lora_rank": 24, "kv_lora_rank": 32, "qk_nope_head_dim": 16,
    "qk_rope_head_dim": 8, "v_head_dim": 16, "n_routed_experts": 8, "n_shared_experts": 1, "num_experts_per_tok": 2,
    "n_group": 1, "topk_group": 1, "first_k_dense_replace": 1, "norm_topk_prob": true, "scoring_func": "sigmoid",
    "topk_method": "noaux_tc", "routed_scaling_factor": 1.5, "rms_norm_eps": 1e-6, "rope_theta": 10000.0,
    "max_position_embeddings": 512, "hidden_act": "silu", "attention_bias": false, "tie_word_embeddings": false,
    "eos_token_id": 1, "bos_token_id": 0})";
}

// Each token leaves the rest 0, 1, 2, 0, ... when it is divided by three. Every other mask is slow to make.
class ToyConstraint final : public model::TokenConstraint {
 public:
  bool mask_is_ready() const override { return rest_ != 1; }
  model::TokenMaskPtr mask() override {
    auto made = std::make_shared<model::TokenMask>(96);
    for (std::uint32_t token = rest_; token < 96; token += 3) made->allow(token);
    return made;
  }
  runtime::Status advance(std::uint32_t token) override {
    if (token % 3 != rest_) return runtime::failure(runtime::ErrorKind::kInternal, "a token that the toy forbids");
    rest_ = (rest_ + 1) % 3;
    return runtime::done();
  }

 private:
  std::uint32_t rest_ = 0;
};
inline runtime::Outcome<std::unique_ptr<model::TokenConstraint>> compile_toy(const model::ConstraintSpec& spec) {
  if (spec.text == "nonsense") return runtime::failure(runtime::ErrorKind::kInvalid, "the schema makes no sense");
  return std::unique_ptr<model::TokenConstraint>(std::make_unique<ToyConstraint>());
}

// The checkpoint in one process: what every cluster must equal in bits.
class TinyModel {
 public:
  explicit TinyModel(std::int64_t ranges = 1) {
    const runtime::Status written = write_formula_checkpoint(directory_.path(), tiny_config());
    REQUIRE_MESSAGE(written.ok(), (written.ok() ? "" : written.error().text));
    auto opened = model::Checkpoint::open(directory_.path());
    REQUIRE_MESSAGE(opened.ok(), (opened.ok() ? "" : opened.error().text));
    checkpoint = opened.value();
    plan = model::cut_plan(checkpoint->config(), ranges).value();
    local = model::LocalModel::load(directory_.path(), plan).value();
    trunk = model::Trunk::load(*checkpoint, {0, checkpoint->config().num_hidden_layers}).value();
  }

  // What a plain loop generates: one prefill, then token by token.
  std::vector<GeneratedToken> generate(const actors::GenerationRequest& request,
                                       model::PassListener* listener = nullptr) const {
    runtime::InlineWorkers workers;
    model::LocalGeneration generation(local, 16, workers);
    const std::uint64_t sequence = generation.open();
    model::Penalties penalties(request.penalties, request.prompt);
    std::unique_ptr<model::TokenConstraint> constraint;
    if (request.constraint.kind != model::ConstraintKind::kNone) constraint = compile_toy(request.constraint).value();
    std::vector<std::int32_t> rows(request.prompt.begin(), request.prompt.end());
    std::vector<GeneratedToken> out;
    while (out.size() < request.max_new_tokens) {
      const model::Matrix logits = generation.prefill(sequence, rows, 1000, 1, listener).value();
      const auto position = static_cast<std::uint64_t>(generation.length(sequence));
      model::LogitAdjustment adjustment = penalties.adjustment();
      if (constraint != nullptr) adjustment.mask = constraint->mask();
      const auto sampled = model::sample(logits.row(0), request.sampling, position, adjustment).value();
      penalties.count(static_cast<std::uint32_t>(sampled.token));
      out.push_back({static_cast<std::uint32_t>(out.size()), static_cast<std::uint32_t>(sampled.token), sampled.logprob,
                     model::logits_crc(logits.row(0)), sampled.alternatives});
      if (std::ranges::find(request.stop_ids, out.back().id) != request.stop_ids.end()) break;
      if (constraint != nullptr) REQUIRE(constraint->advance(out.back().id).ok());
      rows = {sampled.token};
    }
    return out;
  }

  std::shared_ptr<const model::Checkpoint> checkpoint;
  model::NumericPlan plan;
  std::shared_ptr<const model::LocalModel> local;
  std::shared_ptr<const model::Trunk> trunk;

 private:
  TemporaryDirectory directory_;
};

// An actor that does what the test says, in its own turn.
class Hand final : public runtime::ActorOf<Hand, runtime::Protocol<>> {
 public:
  explicit Hand(std::function<void(Hand&)> what) : what_(std::move(what)) {}
  using Actor::ask;
  using Actor::tell;

 private:
  void on_start() override {
    what_(*this);
    stop();
  }
  std::function<void(Hand&)> what_;
};

// One that stays for the answers to what it asked.
class Waiter final : public runtime::ActorOf<Waiter, runtime::Protocol<>> {
 public:
  explicit Waiter(std::function<void(Waiter&)> what) : what_(std::move(what)) {}
  using Actor::ask;

 private:
  void on_start() override { what_(*this); }
  std::function<void(Waiter&)> what_;
};

struct WorldNode {
  std::string name;
  bool batcher = false;
  bool trunk = false;
  bool experts = true;
};

// One generation as its client saw it.
struct ClientStream {
  std::vector<GeneratedToken> tokens;
  std::vector<actors::GenerationEnded> ends;
  bool ended() const { return !ends.empty(); }
};

struct ServingOptions {
  std::uint64_t seed = 1;
  actors::DecoderSettings decoder = {2, 4};
  actors::BatcherSettings batcher;
  std::int64_t page_count = 32;
  model::ConstraintCompiler compiler = compile_toy;
  std::uint32_t replicas = 1;
  runtime::WorldModel model;
};

class ServingWorld {
 public:
  static constexpr std::uint16_t kHandType = 900;

  ServingWorld(const TinyModel& model, std::vector<WorldNode> nodes, ServingOptions options = {})
      : model_(model), nodes_(std::move(nodes)), options_(options), world(options.seed, options.model) {
    view_.numeric_plan = {};
    for (const model::ColumnRange& range : model.plan.columns)
      view_.numeric_plan.cut.push_back({range.first, range.count});
    view_.numeric_plan.combine = model.plan.combine;
    view_.numeric_plan.wire = model.plan.wire;
    view_.numeric_plan.numeric_class = model.plan.numeric_class;
    place_round_robin();
    for (std::size_t i = 0; i < nodes_.size(); ++i) {
      SimProcess& process = world.add_node(nodes_[i].name, node_id(i), boot(i));
      processes_.push_back(&process);
    }
    client_ = &world.add_node("client", kClientNode, client_boot(), "desk");
    REQUIRE(world.run_until([&] { return all_alive(); }, "processes").ok());
    for (std::size_t i = 0; i < nodes_.size(); ++i) joined(i);
    connect_client();
    publish();
  }

  static NodeId node_id(std::size_t i) { return NodeId{static_cast<std::uint32_t>(i + 1)}; }
  SimProcess& process(std::size_t i) { return *processes_.at(i); }
  SimProcess& client() { return *client_; }
  cluster::ClusterView& view() { return view_; }
  const actors::RouterCounters& router(std::size_t i) { return *router_counters_[i]; }
  const actors::BatcherCounters& batcher() { return *batcher_counters_; }

  // Every part at `replicas` of the nodes with experts, in turn.
  void place_round_robin() {
    std::vector<NodeId> holders;
    for (std::size_t i = 0; i < nodes_.size(); ++i) {
      if (nodes_[i].experts) holders.push_back(node_id(i));
    }
    std::size_t next = 0;
    for (const model::PartKey& key : model::parts_of(model_.checkpoint->config(), model_.plan)) {
      auto& replicas = view_.placement[actors::part_id(key)];
      for (std::uint32_t r = 0; r < options_.replicas; ++r) replicas.push_back(holders[(next + r) % holders.size()]);
      ++next;
    }
  }

  // --- as the Coordinator and Membership would
  // ------------------------------------------------------------------------
  void publish() {
    ++view_.version;
    auto snapshot = std::make_shared<const cluster::ClusterView>(view_);
    for_each_actor([snapshot](Hand& hand, const runtime::ActorRef& ref) {
      hand.tell(runtime::RefTo<cluster::ViewSubscriber>{ref}, cluster::ViewChanged{snapshot});
    });
  }
  void suspect(std::size_t i, bool suspected) {
    for_each_actor([i, suspected, life = lives_[i]](Hand& hand, const runtime::ActorRef& ref) {
      if (ref.node == node_id(i)) return;
      hand.tell(runtime::RefTo<cluster::ViewSubscriber>{ref}, cluster::PeerSuspected{node_id(i), life, suspected});
    });
  }
  // The node's life is over, known everywhere at once.
  void lose(std::size_t i, bool crash = true) {
    const runtime::Incarnation life = lives_[i];
    if (crash) world.crash(process(i));
    member(i).state = cluster::NodeState::kAbsent;
    member(i).incarnation = {};
    for (std::size_t other = 0; other < nodes_.size(); ++other) {
      if (other != i && process(other).alive()) posts_[other]->forget(node_id(i), life, "it died");
    }
    if (client_->alive()) client_post_->forget(node_id(i), life, "it died");
    for_each_actor([i, life](Hand& hand, const runtime::ActorRef& ref) {
      if (ref.node != node_id(i))
        hand.tell(runtime::RefTo<cluster::ViewSubscriber>{ref}, cluster::PeerLost{node_id(i), life});
    });
    publish();
  }
  // A new life of a node that was lost, with its parts.
  void bring_back(std::size_t i) {
    world.run_for(10ms);  // what lose() had told is told by then: views come in order
    processes_[i] = &world.restart(process(i));
    REQUIRE(world.run_until([&] { return process(i).alive(); }, "the new life").ok());
    joined(i);
    publish();
  }

  // --- clients
  // ----------------------------------------------------------------------------------------------------------
  std::shared_ptr<ClientStream> generate(actors::GenerationRequest request) {
    auto stream = std::make_shared<ClientStream>();
    actors::StreamEvents events;
    events.token = [stream](const GeneratedToken& token) { stream->tokens.push_back(token); };
    events.ended = [stream](const actors::GenerationEnded& end) { stream->ends.push_back(end); };
    const std::uint32_t index = ++next_index_;
    const auto batcher = batcher_ref();
    last_stream_ = std::make_shared<actors::TokenStream*>(nullptr);
    client_->loop().spawn_root(static_cast<std::uint16_t>(Role::kClient), index, [=, made = last_stream_] {
      auto actor = std::make_unique<actors::TokenStream>(batcher, index, request, events);
      *made = actor.get();
      return actor;
    });
    world.touch();
    return stream;
  }
  void cancel_last() {
    actors::TokenStream* stream = *last_stream_;
    stream->cancel();
    world.touch();
  }
  void lose_client() {
    world.crash(*client_);
    world.at(world.now() + 1ms, [this] {
      for (std::size_t i = 0; i < nodes_.size(); ++i) {
        if (process(i).alive()) posts_[i]->forget(kClientNode, client_life_, "it died");
      }
    });
  }
  // The Batcher's node has another life: the client finds it again.
  void reconnect() { connect_client(); }
  template <class M>
  std::shared_ptr<std::optional<runtime::Outcome<typename M::Reply>>> ask_batcher(M message,
                                                                                  runtime::Duration deadline = 60s) {
    auto answer = std::make_shared<std::optional<runtime::Outcome<typename M::Reply>>>();
    auto shared = std::make_shared<M>(std::move(message));
    const auto batcher = batcher_ref();
    client_->loop().spawn_root(kHandType, ++next_index_, [=] {
      return std::make_unique<Waiter>([=](Waiter& asker) {
        asker.ask(batcher, std::move(*shared), deadline).then([answer](runtime::Outcome<typename M::Reply> reply) {
          answer->emplace(std::move(reply));
        });
      });
    });
    world.touch();
    return answer;
  }
  runtime::RefTo<actors::BatcherProtocol> batcher_ref() {
    for (std::size_t i = 0; i < nodes_.size(); ++i) {
      if (nodes_[i].batcher) return {{node_id(i), lives_[i], cluster::actor_id(Role::kBatcher)}};
    }
    return {};
  }
  void run(const std::function<bool()>& until, runtime::Duration time = 120s) {
    const runtime::Status status = world.run_until(until, "the test's end", {time, 50'000'000});
    REQUIRE_MESSAGE(status.ok(), (status.ok() ? "" : status.error().text));
  }
  // Nothing is held any more: asks, device work, buffers, pages.
  void check_rest() {
    world.run_for(1s);
    const std::vector<std::string> busy = world.not_at_rest();
    for (const std::string& line : busy) FAIL_CHECK(line);
    CHECK(std::ranges::all_of(posts_, [&](const auto& post) {
      return !process(post.first).alive() || post.second->slots_out(runtime::MessageClass::kDecode) == 0;
    }));
    CHECK(batcher().pages_used == 0);
    CHECK(batcher().running == 0);
    CHECK(batcher().queued == 0);
    CHECK(batcher().accepted == batcher().ended);
  }

 private:
  static constexpr NodeId kClientNode{cluster::kFirstClientNode + 7};

  cluster::Member& member(std::size_t i) {
    for (cluster::Member& member : view_.members) {
      if (member.node == node_id(i)) return member;
    }
    cluster::Member& added = view_.members.emplace_back();
    added.node = node_id(i);
    added.name = nodes_[i].name;
    added.roles = {false, nodes_[i].batcher, nodes_[i].trunk, nodes_[i].experts};
    added.profile.expert_bytes_per_second = 1e9;
    added.profile.link_delay_seconds = 30e-6;
    return added;
  }

  bool all_alive() const {
    return client_->alive() && std::ranges::all_of(processes_, [](SimProcess* process) { return process->alive(); });
  }

  // What Membership does when a node has its incarnation: wires to all others.
  void joined(std::size_t i) {
    lives_[i] = process(i).loop().incarnation();
    member(i).incarnation = lives_[i];
    member(i).state = cluster::NodeState::kReady;
    for (std::size_t other = 0; other < nodes_.size(); ++other) {
      if (other == i || !process(other).alive() || lives_[other].value == 0) continue;
      for (const auto& [from, to] : {std::pair{i, other}, std::pair{other, i}}) {
        posts_[from]->expect(node_id(to), lives_[to]);
        const runtime::Status connected = posts_[from]->connect(
            cluster::Plane::kData, node_id(to), lives_[to], process(to).data().address(), process(to).data().token());
        REQUIRE(connected.ok());
      }
    }
    world.touch();
  }
  void connect_client() {
    const auto batcher = batcher_ref().ref;
    if (batcher.node.value == 0) return;
    client_post_->expect(batcher.node, batcher.incarnation);
    const runtime::Status connected = client_post_->connect(cluster::Plane::kControl, batcher.node, batcher.incarnation,
                                                            process(batcher.node.value - 1).control().address());
    REQUIRE(connected.ok());
  }

  void for_each_actor(const std::function<void(Hand&, const runtime::ActorRef&)>& what) {
    for (std::size_t i = 0; i < nodes_.size(); ++i) {
      if (!process(i).alive()) continue;
      std::vector<Role> roles;
      if (nodes_[i].trunk) roles.push_back(Role::kRouter);
      if (nodes_[i].experts) roles.push_back(Role::kExpertGroup);
      if (nodes_[i].batcher) roles.push_back(Role::kBatcher);
      const runtime::EventLoop& loop = process(i).loop();
      process(i).loop().spawn_root(kHandType, ++next_index_, [=, node = loop.node(), life = loop.incarnation()] {
        return std::make_unique<Hand>([=](Hand& hand) {
          for (const Role role : roles) what(hand, {node, life, cluster::actor_id(role)});
        });
      });
    }
    world.touch();
  }

  runtime::SimBoot boot(std::size_t i) {
    return [this, i](SimProcess& process) -> std::shared_ptr<void> {
      const runtime::Incarnation life{static_cast<std::uint32_t>(process.id()) + 100};
      process.loop().set_incarnation(life);
      process.data().set_incarnation(life);
      process.control().set_incarnation(life);
      auto post = std::make_shared<cluster::PostOffice>(process.loop());
      posts_[i] = post.get();
      auto buffers = std::make_shared<runtime::BufferPool>(64u << 20);
      process.keep(buffers);
      process.add_rest_check("buffer bytes", [buffers] { return buffers->outstanding_bytes(); });
      process.trace().enable(true);
      const auto spawn = [&](Role role, auto make) {
        process.loop().spawn_root(static_cast<std::uint16_t>(role), 0, std::move(make));
      };
      if (nodes_[i].experts) {
        actors::ExpertGroupParts parts{model_.checkpoint, std::make_shared<model::PartStore>(), buffers.get(), {}};
        std::vector<model::PartKey> keys;
        for (const auto& [id, nodes] : view_.placement) {
          if (std::ranges::find(nodes, node_id(i)) != nodes.end()) keys.push_back(actors::part_key(id));
        }
        REQUIRE(parts.store->load(*model_.checkpoint, keys).ok());
        spawn(Role::kExpertGroup, [parts] { return std::make_unique<actors::ExpertGroup>(parts, nullptr); });
      }
      if (nodes_[i].trunk) {
        router_counters_[i] = std::make_shared<actors::RouterCounters>();
        spawn(Role::kRouter, [buffers, counters = router_counters_[i]] {
          return std::make_unique<actors::Router>(actors::RouterSettings{3.0 * 48 * 4}, *buffers, nullptr, counters);
        });
        actors::DecoderParts parts;
        parts.trunk = model_.trunk;
        const model::ModelConfig& config = model_.checkpoint->config();
        parts.pages = std::make_shared<model::KvPages>(config, config.num_hidden_layers, options_.page_count);
        parts.buffers = buffers.get();
        parts.trunk_bytes = 1 << 20;
        spawn(Role::kDecoder,
              [parts, settings = options_.decoder] { return std::make_unique<actors::Decoder>(parts, settings); });
      }
      if (nodes_[i].batcher) {
        batcher_counters_ = std::make_shared<actors::BatcherCounters>();
        spawn(Role::kBatcher,
              [settings = options_.batcher, counters = batcher_counters_, compiler = options_.compiler] {
                return std::make_unique<actors::Batcher>(settings, nullptr, counters, compiler);
              });
      }
      return post;
    };
  }
  runtime::SimBoot client_boot() {
    return [this](SimProcess& process) -> std::shared_ptr<void> {
      const runtime::Incarnation life{static_cast<std::uint32_t>(process.id()) + 100};
      process.loop().set_incarnation(life);
      process.control().set_incarnation(life);
      auto post = std::make_shared<cluster::PostOffice>(process.loop());
      client_post_ = post.get();
      client_life_ = life;
      return post;
    };
  }

  const TinyModel& model_;
  const std::vector<WorldNode> nodes_;
  const ServingOptions options_;
  cluster::ClusterView view_;
  std::map<std::size_t, runtime::Incarnation> lives_;
  std::map<std::size_t, cluster::PostOffice*> posts_;
  std::map<std::size_t, std::shared_ptr<actors::RouterCounters>> router_counters_;
  std::shared_ptr<actors::BatcherCounters> batcher_counters_;
  std::vector<SimProcess*> processes_;
  SimProcess* client_ = nullptr;
  cluster::PostOffice* client_post_ = nullptr;
  std::uint32_t next_index_ = 0;
  std::shared_ptr<actors::TokenStream*> last_stream_;
  runtime::Incarnation client_life_;

 public:
  runtime::World world;  // last: it ends first
};

inline actors::GenerationRequest request_of(std::vector<std::uint32_t> prompt, std::uint32_t max_new_tokens = 12) {
  actors::GenerationRequest request;
  request.prompt = std::move(prompt);
  request.max_new_tokens = max_new_tokens;
  request.sampling.temperature = 0.8F;
  request.sampling.top_p = 0.95F;
  request.sampling.seed = 42;
  return request;
}

// Ids that look like a prompt: a walk through the vocabulary.
inline std::vector<std::uint32_t> prompt_of(std::size_t length, std::uint32_t start = 3) {
  std::vector<std::uint32_t> ids;
  for (std::size_t i = 0; i < length; ++i) ids.push_back(static_cast<std::uint32_t>((start + 7 * i + i * i) % 96));
  return ids;
}

inline void check_equal(const ClientStream& stream, const std::vector<GeneratedToken>& expected) {
  REQUIRE(stream.ends.size() == 1);
  CAPTURE(stream.ends[0].text);
  CHECK(actors::name(stream.ends[0].reason) == "length");
  REQUIRE(stream.tokens.size() == expected.size());
  for (std::size_t i = 0; i < expected.size(); ++i) {
    CHECK(stream.tokens[i].index == i);
    CHECK(stream.tokens[i].id == expected[i].id);
    CHECK(stream.tokens[i].logits_crc == expected[i].logits_crc);
    CHECK(stream.tokens[i].logprob == expected[i].logprob);
  }
}

}  // namespace consort::tests
