// Batcher: constraints, which the device compiles and whose slower masks it makes, and penalties.
#include <utility>

#include "actors/serving/batcher_records.hpp"

namespace consort::actors {

using runtime::ErrorKind;
using runtime::MessageClass;
using runtime::Outcome;
using runtime::Status;

// The request is accepted or refused when it is known whether its constraint can be followed.
void Batcher::compile(Request& request, model::ConstraintSpec spec) {
  using Compiled = std::optional<Outcome<std::unique_ptr<model::TokenConstraint>>>;
  auto compiled = std::make_shared<Compiled>();
  runtime::DeviceWork work;
  work.label = "constraint";
  work.run = [compiled, compiler = compiler_, spec = std::move(spec)](runtime::Workers&) {
    compiled->emplace(compiler(spec));
  };
  compute(std::move(work), MessageClass::kDecode, [this, name = request.name, compiled] {
    const auto found = requests_.find(name);
    if (found == requests_.end()) return;  // cancelled, or its deadline passed
    Request& waiting = *found->second;
    if (!compiled->has_value() || !(*compiled)->ok()) {
      runtime::Error why = compiled->has_value() ? std::move(**compiled).error()
                                                 : runtime::Error{ErrorKind::kInternal, "nothing was compiled"};
      end(name, EndReason::kFailed, std::move(why.text), why.kind);
    } else {
      waiting.constraint = std::move(**compiled).value();
      accept(waiting);
      prepare_mask(waiting);
    }
    schedule();
  });
}

Status Batcher::advance_constraint(Request& request, std::uint32_t token) {
  if (request.constraint == nullptr) return runtime::done();
  CONSORT_RETURN_IF_ERROR(request.constraint->advance(token));
  prepare_mask(request);
  return runtime::done();
}

void Batcher::prepare_mask(Request& request) {
  if (request.constraint->mask_is_ready()) {
    request.mask = request.constraint->mask();
    return;
  }
  request.lacks_mask = true;
  auto made = std::make_shared<model::TokenMaskPtr>();
  runtime::DeviceWork work;
  work.label = "mask";
  work.run = [made, constraint = request.constraint](runtime::Workers&) { *made = constraint->mask(); };
  compute(std::move(work), MessageClass::kDecode, [this, name = request.name, made] {
    const auto found = requests_.find(name);
    if (found == requests_.end()) return;
    found->second->mask = std::move(*made);
    found->second->lacks_mask = false;
    schedule();
  });
}

model::LogitAdjustment Batcher::adjustment_of(const Request& request) const {
  model::LogitAdjustment adjustment;
  if (request.penalties) adjustment = request.penalties->adjustment();
  adjustment.mask = request.mask;
  return adjustment;
}

}  // namespace consort::actors
