// What a chat says of tools and of its answer's format.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <vector>

#include "actors/serving/request_port.hpp"
#include "cli/http/api_fields-inl.hpp"

namespace consort::cli {

inline constexpr std::size_t kMaxTools = 128;         // of a chat, as in OpenAI's API
inline constexpr std::size_t kMaxToolNameBytes = 64;  // letters, digits, _ and -, as there
inline constexpr std::size_t kMaxCallsOfTurn = 128;   // tools called at once

// Which calls of a turn are answered. The formats name no ids: answers are put in the order of the calls.
class ToolTurns {
 public:
  void begin(std::vector<std::string> ids);
  // False where no call of the turn has this id, or it has an answer.
  bool answer(const std::string& id);
  bool is_answered() const { return answered_.size() == ids_.size(); }
  std::string first_unanswered() const;
  // The answers at the end of the messages.
  void put_in_order(std::vector<model::ChatMessage>& messages) const;

 private:
  std::vector<std::string> ids_;
  std::vector<std::size_t> answered_;  // places of the ids, as the answers came
};

void read_tool_calls(Fields& message, model::ChatMessage& out, ToolTurns& turns);
void read_tool_answer(Fields& message, ToolTurns& turns);
// tools, tool_choice, parallel_tool_calls
void read_tools(Fields& fields, actors::ChatPrompt& chat, actors::ToolUse& use);
// After tools and ignore_eos are read.
void read_response_format(Fields& fields, actors::AnswerRequest& request);

}  // namespace consort::cli
