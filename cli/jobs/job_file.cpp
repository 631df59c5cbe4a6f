#include "cli/jobs/job_file.hpp"

#include <filesystem>

#include "actors/serving/request_port.hpp"
#include "cli/house/state_folder.hpp"
#include "cluster/ascii_toml.hpp"
#include "cluster/node_config.hpp"
#include "cluster/toml_section-inl.hpp"

namespace consort::cli {

using runtime::ErrorKind;
using runtime::failure;
using runtime::Outcome;
using runtime::Status;

namespace {

constexpr std::int64_t kMaxRetries = 100;  // of one line; more than a few say that something else is wrong

Status read_path(cluster::TomlSection& section, std::string_view key, const std::string& path, std::string& out) {
  CONSORT_RETURN_IF_ERROR(section.read(key, out));
  if (out.empty()) return section.missing(key, "is missing");
  const std::filesystem::path given(out);
  if (given.is_relative()) out = (std::filesystem::path(path).parent_path() / given).lexically_normal().string();
  return runtime::done();
}

}  // namespace

Outcome<JobFile> parse_job_file(std::string_view text, const std::string& path) {
  CONSORT_TRY(const std::string ascii, cluster::ascii_toml(text, path));
  const toml::parse_result parsed = toml::parse(ascii, path);
  if (!parsed) {
    const auto& error = parsed.error();
    return failure(ErrorKind::kInvalid,
                   path + ":" + std::to_string(error.source().begin.line) + ": " + std::string(error.description()));
  }
  cluster::TomlSection top(path, "file", parsed.table());
  const toml::node* job = top.find("job");
  CONSORT_RETURN_IF_ERROR(top.finish());
  if (job == nullptr || !job->is_table()) return top.missing("job", "a section [job] is missing");
  cluster::TomlSection section(path, "job", *job->as_table());
  JobFile file;
  CONSORT_RETURN_IF_ERROR(read_path(section, "input", path, file.input));
  CONSORT_RETURN_IF_ERROR(read_path(section, "output", path, file.output));
  CONSORT_RETURN_IF_ERROR(read_path(section, "cluster", path, file.cluster));
  CONSORT_RETURN_IF_ERROR(section.read("start_cluster", file.start_cluster));
  const auto most = static_cast<std::int64_t>(actors::RequestPort::kMaxOpen);
  CONSORT_RETURN_IF_ERROR(section.read_integer("concurrency", 1, most, file.concurrency));
  CONSORT_RETURN_IF_ERROR(section.read_integer("retries", 0, kMaxRetries, file.retries));
  CONSORT_RETURN_IF_ERROR(section.read_quantity("patience", cluster::parse_duration, file.patience));
  CONSORT_RETURN_IF_ERROR(section.finish());
  if (file.patience < std::chrono::seconds(1)) return section.missing("patience", "must be 1s or more");
  if (file.input == file.output) return section.missing("output", "is the input: answers need a file of their own");
  return file;
}

Outcome<JobFile> read_job_file(const std::string& path) {
  CONSORT_TRY(const std::string text, StateFolder::read(path));
  return parse_job_file(text, path);
}

}  // namespace consort::cli
