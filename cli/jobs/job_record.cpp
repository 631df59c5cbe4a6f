#include "cli/jobs/job_record.hpp"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <boost/json.hpp>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <utility>

#include "cli/house/state_folder.hpp"

namespace consort::cli {

namespace json = boost::json;
using runtime::ErrorKind;
using runtime::failure;
using runtime::Outcome;
using runtime::Status;

namespace {

constexpr std::size_t kBlockBytes = std::size_t{1} << 20;
// An answer of a million tokens with all their alternatives is near this; a longer line is none of ours.
constexpr std::size_t kMaxAnswerBytes = std::size_t{1} << 30;

std::string note_of(const std::string& path) { return path + ".job"; }

std::string why() { return std::strerror(errno); }

// A new file's name is durable when its folder is.
Status sync_folder_of(const std::string& path) {
  std::string folder = std::filesystem::path(path).parent_path().string();
  if (folder.empty()) folder = ".";
  const int file = ::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (file < 0) return failure(ErrorKind::kInvalid, folder + ": cannot be opened: " + why());
  const bool synced = ::fsync(file) == 0 || errno == EINVAL;  // some file systems know no sync of folders
  const std::string text = why();
  ::close(file);
  return synced ? runtime::done() : Status(failure(ErrorKind::kInvalid, folder + ": cannot be synced: " + text));
}

}  // namespace

JobRecord::~JobRecord() {
  if (file_ >= 0) ::close(file_);  // and with it the claim
}

JobRecord::JobRecord(JobRecord&& other) noexcept
    : path_(std::move(other.path_)),
      input_(other.input_),
      file_(std::exchange(other.file_, -1)),
      done_(std::move(other.done_)),
      totals_(other.totals_),
      cut_bytes_(other.cut_bytes_),
      started_agent_(other.started_agent_) {}

Outcome<JobRecord> JobRecord::open(const std::string& path, const JobInput& input) {
  JobRecord record(path, input);
  CONSORT_RETURN_IF_ERROR(record.claim());
  CONSORT_RETURN_IF_ERROR(record.read_note());
  CONSORT_RETURN_IF_ERROR(record.take_up());
  return record;
}

Status JobRecord::claim() {
  file_ = ::open(path_.c_str(), O_RDWR | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
  if (file_ < 0) return failure(ErrorKind::kInvalid, path_ + ": cannot be written: " + why());
  if (::flock(file_, LOCK_EX | LOCK_NB) == 0) return runtime::done();
  return failure(ErrorKind::kInvalid, path_ + ": another `consort run` writes it now: wait for its end");
}

Status JobRecord::read_note() {
  struct stat info {};
  if (::fstat(file_, &info) != 0 || !S_ISREG(info.st_mode)) {
    return failure(ErrorKind::kInvalid, path_ + ": is no ordinary file");
  }
  const auto text = StateFolder::read_if_there(note_of(path_));
  if (info.st_size == 0 && !text) return write_note();
  if (!text) {
    return failure(ErrorKind::kInvalid, path_ + ": is there already and is no job's output (" + note_of(path_) +
                                            " is not there): give another output or move it away");
  }
  json::error_code code;
  const json::value note = json::parse(*text, code);
  const json::object* object = code ? nullptr : note.if_object();
  const json::value* digest = object == nullptr ? nullptr : object->if_contains("input_sha256");
  const bool is_this_input = digest != nullptr && digest->is_string() && digest->as_string() == input_->digest();
  if (!is_this_input && info.st_size > 0) {
    return failure(ErrorKind::kInvalid, path_ + ": answers another input than " + input_->path() +
                                            " is now (its SHA-256 is not the one in " + note_of(path_) +
                                            "): put that input back, or give another output, or move both files away");
  }
  if (object != nullptr) {
    const json::value* pid = object->if_contains("started_agent");
    if (pid != nullptr && pid->is_int64()) started_agent_ = static_cast<int>(pid->as_int64());
  }
  return is_this_input ? runtime::done() : write_note();
}

Status JobRecord::write_note() const {
  const json::object note{{"input", input_->path()},
                          {"input_sha256", input_->digest()},
                          {"requests", input_->size()},
                          {"started_agent", started_agent_}};
  CONSORT_RETURN_IF_ERROR(StateFolder::write(note_of(path_), json::serialize(note) + "\n"));
  return sync_folder_of(path_);
}

Status JobRecord::note_started_agent(int pid) {
  started_agent_ = pid;
  return write_note();
}

Status JobRecord::take_line(std::string_view text, bool& is_ours) {
  const auto record = read_job_answer(text);
  const std::size_t index = record && record->job == input_->job() ? input_->find_line(record->line) : input_->size();
  is_ours = index < input_->size() && record->custom_id == input_->custom_id(index);
  if (!is_ours) return runtime::done();
  if (done_[index]) {
    return failure(ErrorKind::kInvalid, path_ + ": answers line " + std::to_string(record->line) +
                                            " twice: somebody has edited it; take one of them out");
  }
  done_[index] = true;
  count(*record);
  return runtime::done();
}

void JobRecord::count(const AnswerRecord& record) {
  ++totals_.lines;
  if (record.status != 200) ++totals_.failed;
  totals_.prompt_tokens += record.prompt_tokens;
  totals_.completion_tokens += record.completion_tokens;
}

// Good lines, then maybe an end that was torn: a line without its end, or pages that never reached the disk. A line of
// ours after a strange one would be lost with it, and is a sign that somebody has edited the file.
Status JobRecord::take_up() {
  std::string text;
  std::uint64_t good_bytes = 0;
  std::uint64_t all_bytes = 0;
  std::uint64_t number = 0;
  std::uint64_t first_strange = 0;
  std::vector<char> block(kBlockBytes);
  for (;;) {
    const ssize_t got = ::pread(file_, block.data(), block.size(), static_cast<off_t>(all_bytes));
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return failure(ErrorKind::kInvalid, path_ + ": cannot be read: " + why());
    if (got == 0) break;
    std::string_view rest(block.data(), static_cast<std::size_t>(got));
    while (!rest.empty()) {
      const std::size_t end = rest.find('\n');
      text += rest.substr(0, end);
      all_bytes += std::min(end, rest.size());
      if (text.size() > kMaxAnswerBytes) return failure(ErrorKind::kInvalid, path_ + ": has a line that is too long");
      if (end == std::string_view::npos) break;
      ++all_bytes;
      ++number;
      bool is_ours = false;
      CONSORT_RETURN_IF_ERROR(take_line(text, is_ours));
      if (is_ours && first_strange != 0) {
        return failure(ErrorKind::kInvalid, path_ + ":" + std::to_string(first_strange) +
                                                ": is no answer of this job, and answers follow it: take it out");
      }
      if (is_ours) good_bytes = all_bytes;
      if (!is_ours && first_strange == 0) first_strange = number;
      text.clear();
      rest.remove_prefix(end + 1);
    }
  }
  cut_bytes_ = all_bytes - good_bytes;
  if (cut_bytes_ == 0) return runtime::done();
  if (::ftruncate(file_, static_cast<off_t>(good_bytes)) == 0 && ::fdatasync(file_) == 0) return runtime::done();
  return failure(ErrorKind::kInvalid, path_ + ": its torn end cannot be cut off: " + why());
}

Status JobRecord::append(const std::vector<Line>& lines) {
  std::string text;
  for (const Line& line : lines) text += format_job_answer(line.answer);
  std::string_view rest = text;
  while (!rest.empty()) {
    const ssize_t written = ::write(file_, rest.data(), rest.size());
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) return failure(ErrorKind::kInvalid, path_ + ": cannot be written: " + why());
    rest.remove_prefix(static_cast<std::size_t>(written));
  }
  if (::fdatasync(file_) != 0) return failure(ErrorKind::kInvalid, path_ + ": cannot be synced: " + why());
  std::string_view written = text;
  for (const Line& line : lines) {
    const std::size_t end = written.find('\n');
    done_[line.index] = true;
    if (const auto record = read_job_answer(written.substr(0, end))) count(*record);
    written.remove_prefix(end + 1);
  }
  return runtime::done();
}

}  // namespace consort::cli
