#include "cli/jobs/job_input.hpp"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <span>
#include <unordered_map>
#include <utility>

#include "cli/house/sha256.hpp"
#include "runtime/frame.hpp"

namespace consort::cli {

using runtime::ErrorKind;
using runtime::failure;
using runtime::Outcome;
using runtime::Status;

namespace {

constexpr std::size_t kBlockBytes = std::size_t{1} << 20;

std::uint32_t crc_of(std::string_view text) {
  return runtime::crc32c(std::as_bytes(std::span(text.data(), text.size())));
}

bool is_blank(std::string_view line) { return line.find_first_not_of(" \t\r") == std::string_view::npos; }

// Every wrong line, up to a bound.
class WrongLines {
 public:
  explicit WrongLines(const std::string& path) : path_(path) {}
  void add(std::uint64_t number, const std::string& what) {
    if (++count_ > JobInput::kMostWrongLines) return;
    text_ += (text_.empty() ? "" : "\n") + path_ + ":" + std::to_string(number) + ": " + what;
  }
  Status status() const {
    if (count_ == 0) return runtime::done();
    const std::size_t more = count_ - std::min(count_, JobInput::kMostWrongLines);
    return failure(ErrorKind::kInvalid, text_ + (more == 0 ? "" : "\nand " + std::to_string(more) + " more lines"));
  }

 private:
  const std::string& path_;
  std::string text_;
  std::size_t count_ = 0;
};

}  // namespace

JobInput::~JobInput() {
  if (file_ >= 0) ::close(file_);
}

JobInput::JobInput(JobInput&& other) noexcept
    : path_(std::move(other.path_)),
      file_(std::exchange(other.file_, -1)),
      digest_(std::move(other.digest_)),
      entries_(std::move(other.entries_)) {}

Outcome<JobInput> JobInput::open(const std::string& path) {
  JobInput input(path);
  input.file_ = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (input.file_ < 0) return failure(ErrorKind::kInvalid, path + ": cannot be opened: " + std::strerror(errno));
  CONSORT_RETURN_IF_ERROR(input.scan());
  return input;
}

Status JobInput::scan() {
  Sha256 digest;
  WrongLines wrong(path_);
  std::unordered_map<std::string, std::uint64_t> seen;
  std::string text;  // the line that is being gathered
  std::uint64_t number = 0;
  std::uint64_t offset = 0;
  const auto end_line = [&]() -> Status {
    const std::uint64_t begin = offset;
    ++number;
    offset += text.size() + 1;
    if (is_blank(text)) return text.clear(), runtime::done();
    if (entries_.size() >= kMaxLines) {
      return failure(ErrorKind::kInvalid, path_ + ": has more than " + std::to_string(kMaxLines) + " lines: cut it");
    }
    auto line = parse_job_line(text);
    if (!line.ok()) {
      wrong.add(number, line.error().text);
    } else if (const auto [first, is_new] = seen.emplace(line->custom_id, number); !is_new) {
      wrong.add(number, "custom_id '" + line->custom_id.substr(0, 64) + "' is that of line " +
                            std::to_string(first->second) + " already");
    } else {
      entries_.push_back({number, begin, static_cast<std::uint32_t>(text.size()), crc_of(text), line->custom_id});
    }
    text.clear();
    return runtime::done();
  };
  std::vector<char> block(kBlockBytes);
  for (;;) {
    const ssize_t got = ::read(file_, block.data(), block.size());
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return failure(ErrorKind::kInvalid, path_ + ": cannot be read: " + std::strerror(errno));
    if (got == 0) break;
    std::string_view rest(block.data(), static_cast<std::size_t>(got));
    digest.add(rest);
    while (!rest.empty()) {
      const std::size_t end = rest.find('\n');
      text += rest.substr(0, end);
      if (text.size() > kMaxLineBytes) {
        return failure(ErrorKind::kInvalid, path_ + ":" + std::to_string(number + 1) + ": is longer than " +
                                                std::to_string(kMaxLineBytes) + " bytes");
      }
      if (end == std::string_view::npos) break;
      CONSORT_RETURN_IF_ERROR(end_line());
      rest.remove_prefix(end + 1);
    }
  }
  if (!text.empty()) CONSORT_RETURN_IF_ERROR(end_line());
  digest_ = digest.finish();
  CONSORT_RETURN_IF_ERROR(wrong.status());
  if (entries_.empty()) return failure(ErrorKind::kInvalid, path_ + ": has no lines");
  return runtime::done();
}

std::size_t JobInput::find_line(std::uint64_t number) const {
  const auto at = std::ranges::lower_bound(entries_, number, {}, &Entry::number);
  if (at == entries_.end() || at->number != number) return entries_.size();
  return static_cast<std::size_t>(at - entries_.begin());
}

Outcome<JobLine> JobInput::read(std::size_t index) const {
  const Entry& entry = entries_.at(index);
  std::string text(entry.bytes, '\0');
  std::size_t done = 0;
  while (done < text.size()) {
    const ssize_t got = ::pread(file_, text.data() + done, text.size() - done, static_cast<off_t>(entry.offset + done));
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) break;
    done += static_cast<std::size_t>(got);
  }
  if (done != text.size() || crc_of(text) != entry.crc) {
    return failure(ErrorKind::kInvalid, path_ + ":" + std::to_string(entry.number) +
                                            ": has changed while the job runs: put the file back as it was");
  }
  return parse_job_line(text);
}

}  // namespace consort::cli
