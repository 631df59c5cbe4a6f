// JobLine: one line of a job's input, as OpenAI's batch format has it, and the line that answers it. Pure.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "cli/http/api_request.hpp"
#include "runtime/outcome.hpp"

namespace consort::cli {

// {"custom_id", "method": "POST", "url", "body"}. The body is kept letter by letter, so that it is read exactly as the
// HTTP service reads it.
struct JobLine {
  std::string custom_id;
  AnswerShape shape = AnswerShape::kChat;
  std::string body;
};
inline constexpr std::size_t kMaxCustomIdBytes = 512;

// kInvalid in words, without the line's number. What is wrong in the body is not looked for here.
runtime::Outcome<JobLine> parse_job_line(std::string_view text);

// The call of a line, or why it has none: as the HTTP service refuses it, and streams, which a file cannot hold.
OrRefusal<AnswerCall> call_of(const JobLine& line, std::string_view served_model);

// One answer. Its id holds the input's digest and the line's number: that is how a job that goes on knows its lines.
struct JobAnswer {
  std::string job;         // the first digits of the input's digest
  std::uint64_t line = 0;  // counted from 1
  std::string custom_id;
  int status = 200;
  std::string request_id;
  std::string body;  // JSON: the answer, or {"error": ...}
};
std::string format_job_answer(const JobAnswer& answer);  // one line, with its end
struct AnswerRecord {
  std::string job;
  std::uint64_t line = 0;
  std::string custom_id;
  int status = 200;
  std::uint64_t prompt_tokens = 0;
  std::uint64_t completion_tokens = 0;
};
// What a job must know of a line that it wrote; nothing where it is none of a job's.
std::optional<AnswerRecord> read_job_answer(std::string_view text);

}  // namespace consort::cli
