#include "cli/metering/usage_log.hpp"

#include <array>
#include <charconv>
#include <cstdio>
#include <span>
#include <vector>

#include "runtime/frame.hpp"
#include "runtime/posix/posix_disk.hpp"

namespace consort::cli {

using runtime::ErrorKind;
using runtime::failure;
using runtime::Outcome;
using runtime::Status;

namespace {

constexpr std::size_t kCrcDigits = 8;
constexpr std::size_t kMaxKeyBytes = 64;
constexpr std::size_t kMaxFields = 10;
// A busy key writes some 80 bytes a second, 7 MB a day: rewritten every few days, in which nobody waits for it.
constexpr std::size_t kRewriteBytes = std::size_t{32} << 20;

std::string crc_text(std::string_view text) {
  char digits[kCrcDigits + 1];
  std::snprintf(digits, sizeof digits, "%08x", runtime::crc32c(std::as_bytes(std::span(text))));
  return digits;
}

void put_line(std::string& out, const std::string& text) { (((out += text) += ' ') += crc_text(text)) += '\n'; }

// The text of a line whose checksum is right.
std::optional<std::string_view> sound_text(std::string_view line) {
  if (line.size() < kCrcDigits + 2 || line[line.size() - kCrcDigits - 1] != ' ') return std::nullopt;
  const std::string_view text = line.substr(0, line.size() - kCrcDigits - 1);
  if (line.substr(line.size() - kCrcDigits) != crc_text(text)) return std::nullopt;
  return text;
}

struct Fields {
  std::array<std::string_view, kMaxFields> at;
  std::size_t count = 0;
};
Fields fields_of(std::string_view text) {
  Fields fields;
  while (!text.empty()) {
    if (fields.count == kMaxFields) return {};
    const std::size_t end = std::min(text.find(' '), text.size());
    fields.at[fields.count++] = text.substr(0, end);
    text.remove_prefix(std::min(end + 1, text.size()));
  }
  return fields;
}

bool read_number(std::string_view text, std::uint64_t& out) {
  const auto read = std::from_chars(text.data(), text.data() + text.size(), out);
  return read.ec == std::errc() && read.ptr == text.data() + text.size();
}

bool is_key(std::string_view key) {
  return key == kNoKey || (!key.empty() && key.size() <= kMaxKeyBytes &&
                           key.find_first_not_of("abcdefghijklmnopqrstuvwxyz0123456789._-") == std::string_view::npos);
}

bool read_use(const Fields& fields, UsageSums& sums) {
  const auto day = parse_day(fields.at[1]);
  Usage usage;
  std::uint64_t* const numbers[] = {&usage.prompt_tokens,    &usage.cached_tokens, &usage.completion_tokens,
                                    &usage.reasoning_tokens, &usage.requests,      &usage.failed,
                                    &usage.milliseconds};
  if (fields.count != 3 + std::size(numbers) || !day || !is_key(fields.at[2])) return false;
  for (std::size_t i = 0; i < std::size(numbers); ++i) {
    if (!read_number(fields.at[3 + i], *numbers[i])) return false;
  }
  sums.add(*day, std::string(fields.at[2]), usage);
  return true;
}

bool read_up(const Fields& fields, UsageSums& sums) {
  const auto day = parse_day(fields.at[1]);
  std::uint64_t milliseconds = 0;
  if (fields.count != 3 || !day || !read_number(fields.at[2], milliseconds)) return false;
  sums.up_milliseconds[*day] += milliseconds;
  return true;
}

std::vector<std::byte> bytes_of(std::string_view text) {
  const auto bytes = std::as_bytes(std::span(text));
  return {bytes.begin(), bytes.end()};
}

std::string whole_file(const UsageSums& sums) {
  std::string text;
  put_line(text, std::string(kUsageHead));
  return text + usage_lines(sums);
}

Outcome<UsageScan> read_with(runtime::Disk& disk, const std::string& path) {
  auto bytes = disk.read(path);
  if (!bytes.ok()) return bytes.error();
  auto scan = scan_usage({reinterpret_cast<const char*>(bytes->data()), bytes->size()});
  if (!scan.ok()) return failure(scan.error().kind, path + ": " + scan.error().text);
  return scan;
}

}  // namespace

std::string usage_lines(const UsageSums& sums) {
  std::string lines;
  for (const auto& [at, usage] : sums.used) {
    std::string text = "use " + day_text(at.first) + " " + at.second;
    for (const std::uint64_t number : {usage.prompt_tokens, usage.cached_tokens, usage.completion_tokens,
                                       usage.reasoning_tokens, usage.requests, usage.failed, usage.milliseconds}) {
      text += " " + std::to_string(number);
    }
    put_line(lines, text);
  }
  for (const auto& [day, milliseconds] : sums.up_milliseconds) {
    put_line(lines, "up " + day_text(day) + " " + std::to_string(milliseconds));
  }
  return lines;
}

Outcome<UsageScan> scan_usage(std::string_view text) {
  UsageScan scan;
  for (bool is_first = true; !text.empty(); is_first = false) {
    const std::size_t end = text.find('\n');
    if (end == std::string_view::npos) {
      scan.torn_bytes = text.size();
      break;
    }
    const auto line = sound_text(text.substr(0, end));
    text.remove_prefix(end + 1);
    if (is_first && line && *line == kUsageHead) continue;
    if (is_first && line && line->starts_with("consort-usage ")) {
      return failure(ErrorKind::kInvalid,
                     "was written by a newer version of this program (" + std::string(*line) + ")");
    }
    const Fields fields = line ? fields_of(*line) : Fields{};
    const bool is_known = fields.count > 2 && (fields.at[0] == "use"  ? read_use(fields, scan.sums)
                                               : fields.at[0] == "up" ? read_up(fields, scan.sums)
                                                                      : false);
    if (!is_known) ++scan.damaged_lines;
  }
  return scan;
}

Outcome<UsageScan> read_usage(const std::string& path) {
  runtime::posix::PosixDisk disk;
  auto scan = read_with(disk, path);
  if (scan.ok() || scan.error().kind != ErrorKind::kInvalid) return scan;
  // kInvalid: maybe there is none yet.
  std::FILE* file = std::fopen(path.c_str(), "re");
  if (file == nullptr && errno == ENOENT) return UsageScan{};
  if (file != nullptr) std::fclose(file);
  return scan;
}

UsageLog::UsageLog(runtime::Disk& disk, std::string path, Ways ways)
    : disk_(disk), path_(std::move(path)), ways_(std::move(ways)) {}

UsageLog::~UsageLog() {
  *alive_ = false;
  // The last of it: the disk ends after what it accepted is written.
  if (file_ && !pending_.empty()) file_->append_synced(bytes_of(usage_lines(pending_)), [](Status) {});
}

Outcome<std::unique_ptr<UsageLog>> UsageLog::open(runtime::Disk& disk, std::string path, Ways ways) {
  std::unique_ptr<UsageLog> log(new UsageLog(disk, std::move(path), std::move(ways)));
  CONSORT_TRY(auto scan, read_usage(log->path_));
  log->sums_ = std::move(scan.sums);
  log->is_damaged_ = scan.damaged_lines > 0;
  if (!log->is_damaged_) {
    const std::string text = whole_file(log->sums_);
    CONSORT_RETURN_IF_ERROR(disk.replace(log->path_, std::as_bytes(std::span(text))));
  }
  CONSORT_TRY(log->file_, disk.open_append(log->path_));
  if (log->is_damaged_) {
    log->ways_.say(log->path_ + ": " + std::to_string(scan.damaged_lines) +
                   " lines are damaged and do not count; the file is kept as it is");
    if (scan.torn_bytes > 0) log->file_->append_synced(bytes_of("\n"), [](Status) {});  // ends the torn line
  }
  return log;
}

void UsageLog::add(UtcDay day, const std::string& key, const Usage& usage) {
  if (usage.empty()) return;
  pending_.add(day, key, usage);
  sums_.add(day, key, usage);
}

void UsageLog::add_up(UtcDay day, std::uint64_t milliseconds) {
  pending_.up_milliseconds[day] += milliseconds;
  sums_.up_milliseconds[day] += milliseconds;
}

void UsageLog::commit() {
  if (is_busy_ || pending_.empty()) return;
  if (appended_bytes_ > kRewriteBytes && !is_damaged_) return rewrite();
  is_busy_ = true;
  auto what = std::make_shared<const UsageSums>(std::exchange(pending_, {}));
  const std::string lines = usage_lines(*what);
  appended_bytes_ += lines.size();
  file_->append_synced(bytes_of(lines), [this, alive = alive_, here = ways_.here, what](Status status) {
    here([this, alive, what, status = std::move(status)] {
      if (*alive) committed(status, *what);
    });
  });
}

void UsageLog::committed(const Status& status, const UsageSums& what) {
  is_busy_ = false;
  if (!status.ok()) {  // the file ends where it ended before: the next commit brings it
    pending_.add(what);
    if (!std::exchange(had_trouble_, true)) ways_.say("what is used cannot be written down: " + status.error().text);
    return;
  }
  if (std::exchange(had_trouble_, false)) ways_.say("what is used is written down again");
}

void UsageLog::rewrite() {
  is_busy_ = true;
  auto what = std::make_shared<UsageSums>(std::exchange(pending_, {}));
  auto file = std::make_shared<std::unique_ptr<runtime::DiskFile>>();
  ways_.aside(
      [this, alive = alive_, here = ways_.here, disk = &disk_, path = path_, what, file, text = whole_file(sums_)] {
        Status status = disk->replace(path, std::as_bytes(std::span(text)));
        if (status.ok()) {
          auto opened = disk->open_append(path);
          if (opened.ok()) {
            *file = std::move(opened).value();
          } else {
            status = opened.error();
          }
        }
        here([this, alive, what, file, status] {
          if (!*alive) return;
          if (*file) {
            file_ = std::move(*file);
            appended_bytes_ = 0;
          }
          committed(status, *what);
        });
      });
}

}  // namespace consort::cli
