// TokenConstraint: what a request's next token may be, given those before it: a JSON grammar, for example.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "model/token_mask.hpp"
#include "runtime/outcome.hpp"

namespace consort::model {

enum class ConstraintKind : std::uint8_t {
  kNone = 0,
  kJsonObject,  // any JSON object; text is empty
  kJsonSchema,  // text is the schema as JSON
  kToolCalls,   // text says what may be called, see tool_call_text
};
inline constexpr std::uint8_t kConstraintKinds = 4;
// Of ConstraintSpec::text: far beyond any schema that people write; compiling is linear in it or refused.
inline constexpr std::size_t kMaxConstraintBytes = std::size_t{256} << 10;

// What a client asks for; travels to the Batcher with the request.
struct ConstraintSpec {
  ConstraintKind kind = ConstraintKind::kNone;
  std::string text;
  // The prompt has opened a thought: tokens are free until the thought's end, the constraint begins after it.
  bool begins_in_thought = false;
  bool operator==(const ConstraintSpec&) const = default;
};

// One request's. The Batcher advances it by committed tokens only, each once and in order, and committed tokens never
// change: preemption, another Decoder or a step done again take the mask that is in force, so that nothing is ever
// taken back. Never called from two threads at once, but from different ones: what several constraints share (a
// compiled grammar, a cache of masks) must be guarded by whoever shares it.
class TokenConstraint {
 public:
  virtual ~TokenConstraint() = default;
  // True where mask() only looks it up (microseconds): it is called on the loop then, else on the device.
  virtual bool mask_is_ready() const = 0;
  // For the token after those committed. Null: every token is allowed. Where the text may end the mask allows the
  // end-of-sequence tokens, where it must end nothing else; it always allows something.
  virtual TokenMaskPtr mask() = 0;
  // A token was committed: one that mask() allowed, else an error, which ends the request in words. Microseconds.
  virtual runtime::Status advance(std::uint32_t token) = 0;
};

// Makes a constraint of its description, or says in words what it can't follow (kInvalid, which the client is told).
// Called on the device, maybe for several requests at once; keeps what it compiled where that helps.
using ConstraintCompiler = std::function<runtime::Outcome<std::unique_ptr<TokenConstraint>>(const ConstraintSpec&)>;

}  // namespace consort::model
