// ExpertGroup: loads what is placed, drops what is not, times its executor, and refuses what it cannot compute truly.
#include "actors/serving_world.hpp"

using namespace consort;
using namespace consort::tests;
using runtime::ErrorKind;
using runtime::Outcome;

namespace {

// One process with an ExpertGroup and nothing else.
struct Group {
  explicit Group(const TinyModel& tiny, cluster::ClusterViewPtr view = nullptr, std::size_t most = 1024) : model(tiny) {
    world.add_node("desk", NodeId{1}, [this, view, most](SimProcess& process) -> std::shared_ptr<void> {
      process.loop().set_incarnation(runtime::Incarnation{1});
      process.loop().spawn_root(static_cast<std::uint16_t>(Role::kExpertGroup), 0, [this, view, most] {
        return std::make_unique<actors::ExpertGroup>(
            actors::ExpertGroupParts{
                model.checkpoint, store, &buffers,
                [this](std::uint64_t done, std::uint64_t total) { progress.emplace_back(done, total); }, false, most},
            view);
      });
      return nullptr;
    });
    REQUIRE(world.run_until([&] { return world.find(NodeId{1}) != nullptr && world.find(NodeId{1})->alive(); }, "start")
                .ok());
  }
  template <class P, class M>
  Outcome<typename M::Reply> ask(M message) {
    auto answer = std::make_shared<std::optional<Outcome<typename M::Reply>>>();
    post<P>(std::move(message), answer);
    const auto status = world.run_until([&] { return answer->has_value(); }, "an answer");
    REQUIRE_MESSAGE(status.ok(), (status.ok() ? "" : status.error().text));
    return std::move(**answer);
  }
  template <class P, class M, class Answer>
  void post(M message, Answer answer) {
    auto shared = std::make_shared<M>(std::move(message));
    world.find(NodeId{1})->loop().spawn_root(900, ++asks, [shared, answer] {
      return std::make_unique<Waiter>([shared, answer](Waiter& waiter) {
        const runtime::RefTo<P> group{{NodeId{1}, {}, cluster::actor_id(Role::kExpertGroup)}};
        waiter.ask(group, std::move(*shared), 30s).then([answer](Outcome<typename M::Reply> reply) {
          answer->emplace(std::move(reply));
        });
      });
    });
    world.touch();
  }

  const TinyModel& model;
  std::shared_ptr<model::PartStore> store = std::make_shared<model::PartStore>();
  runtime::BufferPool buffers{1 << 20};
  std::vector<std::pair<std::uint64_t, std::uint64_t>> progress;
  std::uint32_t asks = 0;
  runtime::World world{1};
};

cluster::LoadParts parts_of_layer(const TinyModel& model, std::uint32_t layer, std::uint32_t epoch) {
  cluster::LoadParts load;
  load.epoch = runtime::Epoch{epoch};
  for (const model::PartKey& key : model::parts_of(model.checkpoint->config(), model.plan)) {
    if (key.layer.value == layer) load.parts.push_back(actors::part_id(key));
  }
  return load;
}

actors::ComputeParts two_rows(const TinyModel& model, std::uint32_t layer, std::uint64_t digest) {
  std::vector<float> rows(2 * 48);
  for (std::size_t i = 0; i < rows.size(); ++i) rows[i] = static_cast<float>(i % 5) - 2.0F;
  actors::ComputeParts message;
  message.key.layer = runtime::LayerIndex{layer};
  message.plan_digest = digest;
  const auto columns = model.plan.columns[0];
  const std::vector<actors::PartRequest> parts = {
      {{runtime::LayerIndex{layer}, model::PartKind::kRoutedExpert, 3, columns.first, columns.count}, {0, 1}},
      {{runtime::LayerIndex{layer}, model::PartKind::kRoutedExpert, 5, columns.first, columns.count}, {1}}};
  const runtime::ConstTensorView source(reinterpret_cast<const std::byte*>(rows.data()), runtime::Dtype::kF32, {2, 48});
  const std::vector<std::uint32_t> both = {0, 1};
  actors::pack_compute_parts(message, runtime::Buffer::allocate(actors::compute_parts_payload_bytes(2, 48, parts)),
                             source, both, parts);
  return message;
}

}  // namespace

TEST_CASE("an ExpertGroup loads what is placed on it, and drops what no longer is") {
  const TinyModel model;
  Group group(model);
  const auto before = model.checkpoint->data_bytes_read();
  const auto first = group.ask<cluster::PartHolder>(parts_of_layer(model, 1, 1));
  REQUIRE(first.ok());
  CHECK(first->part_count == 8);
  CHECK(first->part_bytes == 8 * 3 * 48 * 32 * sizeof(float));
  CHECK(first->checkpoint_bytes_read - before == first->part_bytes);  // these parts and nothing else
  REQUIRE_FALSE(group.progress.empty());
  CHECK(group.progress.back().first == group.progress.back().second);
  const auto again = group.ask<cluster::PartHolder>(parts_of_layer(model, 1, 2));
  CHECK(again->checkpoint_bytes_read == first->checkpoint_bytes_read);  // they are here already
  const auto second = group.ask<cluster::PartHolder>(parts_of_layer(model, 2, 3));
  CHECK(second->part_bytes == first->part_bytes);
  for (const model::PartKey& key : group.store->keys()) CHECK(key.layer.value == 2);
}

TEST_CASE("a newer placement takes over from one that is still being read") {
  const TinyModel model;
  Group group(model);
  auto older = std::make_shared<std::optional<Outcome<cluster::PartsLoaded>>>();
  group.post<cluster::PartHolder>(parts_of_layer(model, 1, 1), older);
  REQUIRE(group.world.run_until([&] { return group.world.find(NodeId{1})->device().queued() > 0; }, "reading").ok());
  const auto newer = group.ask<cluster::PartHolder>(parts_of_layer(model, 2, 2));
  REQUIRE(newer.ok());
  REQUIRE(older->has_value());
  CHECK((*older)->error().kind == ErrorKind::kCancelled);
  for (const model::PartKey& key : group.store->keys()) CHECK(key.layer.value == 2);
}

TEST_CASE("a part that the checkpoint does not have is refused in words, and the group goes on") {
  const TinyModel model;
  Group group(model);
  cluster::LoadParts load = parts_of_layer(model, 1, 1);
  load.parts[0].index = 70;
  const auto refused = group.ask<cluster::PartHolder>(load);
  REQUIRE_FALSE(refused.ok());
  CAPTURE(refused.error().text);
  CHECK(group.ask<cluster::PartHolder>(parts_of_layer(model, 1, 2)).ok());
}

TEST_CASE("a probe times the executor and reads hardly more than the node will hold") {
  const TinyModel model;
  Group group(model);
  const auto before = model.checkpoint->data_bytes_read();
  const auto probed = group.ask<cluster::PartHolder>(cluster::ProbeParts{});
  REQUIRE(probed.ok());
  CHECK(probed->expert_bytes_per_second > 0);
  CHECK(probed->checkpoint_bytes_read - before <= 3 * 48 * 16 * sizeof(float));  // one piece of one expert
  CHECK(group.store->keys().empty());
  group.world.find(NodeId{1})->set_slowness(3);
  const auto slow = group.ask<cluster::PartHolder>(cluster::ProbeParts{});
  CHECK(probed->expert_bytes_per_second / slow->expert_bytes_per_second > 2.5);
  CHECK(probed->expert_bytes_per_second / slow->expert_bytes_per_second < 3.5);
}

TEST_CASE("outputs are those of compute_part, in the order of the request") {
  const TinyModel model;
  Group group(model);
  REQUIRE(group.ask<cluster::PartHolder>(parts_of_layer(model, 1, 1)).ok());
  const auto request = two_rows(model, 1, model.plan.digest());
  const auto outputs = group.ask<actors::ExpertGroupProtocol>(request);
  REQUIRE_MESSAGE(outputs.ok(), (outputs.ok() ? "" : outputs.error().text));
  CHECK(outputs->output_count == 3);
  runtime::InlineWorkers workers;
  std::vector<float> expected(3 * 48);
  auto* bytes = reinterpret_cast<std::byte*>(expected.data());
  const auto find = [&](std::uint32_t expert) {
    return model.local->parts().find({runtime::LayerIndex{1}, model::PartKind::kRoutedExpert, expert, 0, 32});
  };
  model::compute_part(*find(3), request.rows(), runtime::TensorView(bytes, runtime::Dtype::kF32, {2, 48}), workers);
  model::compute_part(*find(5), request.rows().slice_rows(1, 1),
                      runtime::TensorView(bytes + 2 * 48 * sizeof(float), runtime::Dtype::kF32, {1, 48}), workers);
  const auto got = outputs->outputs.bytes();
  CHECK(std::equal(got.begin(), got.end(), bytes, bytes + expected.size() * sizeof(float)));
}

TEST_CASE("more computations than may wait are refused, and those that wait are done") {
  const TinyModel model;
  Group group(model, nullptr, 4);
  REQUIRE(group.ask<cluster::PartHolder>(parts_of_layer(model, 1, 1)).ok());
  std::vector<std::shared_ptr<std::optional<Outcome<actors::PartOutputs>>>> answers;
  for (std::size_t i = 0; i < 100; ++i) {
    answers.push_back(std::make_shared<std::optional<Outcome<actors::PartOutputs>>>());
    group.post<actors::ExpertGroupProtocol>(two_rows(model, 1, model.plan.digest()), answers.back());
  }
  const auto all_answered = [&] {
    return std::ranges::all_of(answers, [](const auto& answer) { return answer->has_value(); });
  };
  REQUIRE(group.world.run_until(all_answered, "answers").ok());
  std::size_t done = 0;
  std::size_t refused = 0;
  for (const auto& answer : answers) {
    if ((*answer)->ok()) {
      ++done;
    } else {
      refused += (*answer)->error().kind == ErrorKind::kExhausted &&
                 (*answer)->error().text.find("computations wait") != std::string::npos;
    }
  }
  CHECK(done >= 4);
  CHECK(refused > 0);
  CHECK(done + refused == answers.size());
  CHECK(group.ask<actors::ExpertGroupProtocol>(two_rows(model, 1, model.plan.digest())).ok());
}

TEST_CASE("another cut, a part that is not here and rows of another model are refused, never computed") {
  const TinyModel model;
  auto view = std::make_shared<cluster::ClusterView>();
  view->epoch = runtime::Epoch{4};
  for (const auto& range : model.plan.columns) view->numeric_plan.cut.push_back({range.first, range.count});
  view->numeric_plan.numeric_class = model.plan.numeric_class;
  Group group(model, view);
  REQUIRE(group.ask<cluster::PartHolder>(parts_of_layer(model, 1, 4)).ok());
  CHECK(group.ask<actors::ExpertGroupProtocol>(two_rows(model, 1, model.plan.digest())).ok());
  const auto other_cut = group.ask<actors::ExpertGroupProtocol>(two_rows(model, 1, model.plan.digest() + 1));
  REQUIRE_FALSE(other_cut.ok());
  CHECK(other_cut.error().kind == ErrorKind::kWrongEpoch);
  CHECK(other_cut.error().text.find("numeric plan") != std::string::npos);
  const auto not_here = group.ask<actors::ExpertGroupProtocol>(two_rows(model, 2, model.plan.digest()));
  REQUIRE_FALSE(not_here.ok());
  CHECK(not_here.error().kind == ErrorKind::kWrongEpoch);
  CHECK(not_here.error().text.find("layer 2 expert 3") != std::string::npos);
  auto wide = two_rows(model, 1, model.plan.digest());
  wide.hidden = 24;
  wide.row_count = 4;
  CHECK(group.ask<actors::ExpertGroupProtocol>(wide).error().kind == ErrorKind::kMalformed);
  CHECK(group.buffers.outstanding_bytes() == 0);
}
