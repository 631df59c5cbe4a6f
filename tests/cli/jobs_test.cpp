// Jobs: lines of a batch file in and out, the job file, the progress line.
#include <fstream>

#include "cli/http/api_answer.hpp"
#include "cli/jobs/job_file.hpp"
#include "cli/jobs/job_input.hpp"
#include "cli/jobs/job_line.hpp"
#include "cli/jobs/job_progress.hpp"
#include "cli/jobs/job_record.hpp"
#include "support/test.hpp"

using namespace consort;
using namespace consort::cli;

namespace {

std::string line_with(const std::string& body) {
  return R"({"custom_id":"a","method":"POST","url":"/v1/completions","body":)" + body + "}";
}

}  // namespace

TEST_CASE("the body of a job's line is kept letter by letter, wherever it stands") {
  const std::string body = R"({ "model":"m", "top_p" : 0.30000000000000004, "prompt":"} \" ] \\", "x":[{"body":1}] })";
  const std::string head = R"("custom_id":"a,}\"{","method":"POST","url":"/v1/completions")";
  for (const std::string& text : {"{" + head + ",\"body\":" + body + "}", "{\"body\" : " + body + " ," + head + "}",
                                  " {\t\"body\":" + body + ", " + head + "}\r"}) {
    CAPTURE(text);
    const auto line = parse_job_line(text);
    REQUIRE(line.ok());
    CHECK(line->body.substr(0, body.size()) == body);
    CHECK(line->custom_id == "a,}\"{");
  }
}

TEST_CASE("a key of a job's line that is written with escapes is not mistaken") {
  const auto line =
      parse_job_line(R"({"custom_id":"a","method":"POST","url":"/v1/completions","bod\u0079":{"model":"m"}})");
  REQUIRE(!line.ok());
  CHECK(line.error().text == "'body' must be an object");
}

TEST_CASE("what is not in the batch format is refused in words") {
  for (const std::string& text : {std::string("{\"custom_id\":\"a\""), std::string("3"), line_with("[1]"),
                                  line_with("null"), std::string("{\"custom_id\":\"\xff\"}"), std::string(4000, '[')}) {
    CAPTURE(text);
    CHECK(!parse_job_line(text).ok());
  }
}

TEST_CASE("a job refuses what the HTTP service refuses, and streams") {
  const auto refusal_of_body = [](const std::string& body) {
    const auto call = call_of({"a", AnswerShape::kCompletion, body}, "m");
    return std::get<Refusal>(call);
  };
  CHECK(refusal_of_body(R"({"model":"m"})").param == "prompt");
  CHECK(refusal_of_body(R"({"model":"n","prompt":"x"})").status == 404);
  CHECK(refusal_of_body(R"({"model":"m","prompt":"x","stream":true})").param == "stream");
  CHECK(std::holds_alternative<AnswerCall>(
      call_of({"a", AnswerShape::kCompletion, R"({"model":"m","prompt":"x"})"}, "m")));
}

TEST_CASE("a job reads back the answers that it wrote") {
  const std::string text =
      format_job_answer({"0123456789abcdef", 12, "quote\" and \n", 200, "req_1",
                         R"({"usage":{"prompt_tokens":3,"completion_tokens":4,"total_tokens":7}})"});
  CHECK(text.find('\n') == text.size() - 1);
  const auto record = read_job_answer(text.substr(0, text.size() - 1));
  REQUIRE(record);
  CHECK(record->job == "0123456789abcdef");
  CHECK(record->line == 12);
  CHECK(record->custom_id == "quote\" and \n");
  CHECK(record->prompt_tokens == 3);
  CHECK(record->completion_tokens == 4);
  // However it is torn, it is no answer.
  for (std::size_t bytes = 0; bytes + 1 < text.size(); ++bytes) CHECK(!read_job_answer(text.substr(0, bytes)));
}

TEST_CASE("a job's input that changes while the job runs is noticed") {
  const std::string path = std::string(CONSORT_BINARY_DIR) + "/job-input.jsonl";
  const auto write = [&](const std::string& prompt) {
    std::ofstream(path) << "\n" << line_with("{\"model\":\"m\",\"prompt\":\"" + prompt + "\"}") << "\n";
  };
  write("one");
  const auto input = JobInput::open(path);
  REQUIRE(input.ok());
  CHECK(input->size() == 1);
  CHECK(input->line_number(0) == 2);
  CHECK(input->find_line(1) == input->size());
  CHECK(input->read(0).ok());
  write("two");
  const auto changed = input->read(0);
  REQUIRE(!changed.ok());
  CHECK(changed.error().text.find("has changed") != std::string::npos);
}

TEST_CASE("paths of a job file are relative to it") {
  const auto job = parse_job_file(
      "[job]\ninput = \"in\"\noutput = \"/x/out\"\ncluster = \"../c.toml\"\npatience = \"2min\"\n", "/a/b/job.toml");
  REQUIRE(job.ok());
  CHECK(job->input == "/a/b/in");
  CHECK(job->output == "/x/out");
  CHECK(job->cluster == "/a/c.toml");
  CHECK(job->patience == std::chrono::minutes(2));
  CHECK(job->concurrency == 16);
}

TEST_CASE("a job's progress says lines, failures, pace and time left") {
  JobState state;
  state.lines = 400;
  state.done = 100;
  state.tokens_per_second = 812.34;
  state.left = std::chrono::seconds(3723);
  CHECK(progress_text(state, 8) == "[==>     ] 100/400 lines, 812.3 tokens/s, 1:02:03 left");
  state.failed = 2;
  state.left.reset();
  state.trouble = "no node";
  CHECK(progress_text(state, 0) == "100/400 lines, 2 failed, 812.3 tokens/s; waiting: no node");
  CHECK(clock_text(std::chrono::seconds(42)) == "0:42");
}
