// Quotas in virtual time, the usage log cut anywhere, and money to the last digit.
#include <sys/stat.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <mutex>

#include "cli/metering/bill.hpp"
#include "cli/metering/metering.hpp"
#include "cli/metering/usage_table.hpp"
#include "runtime/frame.hpp"
#include "runtime/posix/posix_disk.hpp"
#include "support/test.hpp"

using namespace consort;
using namespace consort::cli;
using namespace std::chrono_literals;

namespace {

constexpr UtcDay kDay = UtcDay(std::chrono::days(20'000));  // 2024-10-04

class VirtualClock final : public runtime::Clock {
 public:
  runtime::Instant now() const override { return at; }
  std::int64_t unix_ns() const override {
    return (runtime::Duration(kDay.time_since_epoch()) + at.time_since_epoch()).count();
  }
  void pass(runtime::Duration time) { at += time; }

  runtime::Instant at{};
};

Payer payer(KeyLimits limits) { return {"ann", limits}; }

actors::AnswerUsage used(std::uint32_t prompt, std::uint32_t completion) {
  actors::AnswerUsage usage;
  usage.prompt_tokens = prompt;
  usage.completion_tokens = completion;
  return usage;
}

struct Folder {
  Folder() { REQUIRE(::mkdtemp(path) != nullptr); }
  ~Folder() { std::filesystem::remove_all(path); }
  char path[32] = "/tmp/consort-usage-XXXXXX";
  std::string log() const { return std::string(path) + "/usage.log"; }
};

std::string text_of(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

UsageSums some_sums() {
  UsageSums sums;
  sums.add(kDay, "ann", {10, 4, 20, 5, 1, 0, 1234});
  sums.add(kDay, std::string(kNoKey), {1, 0, 2, 0, 1, 1, 5});
  sums.add(kDay + std::chrono::days(1), "ann", {7, 0, 8, 0, 2, 0, 99});
  sums.up_milliseconds[kDay] = 3'600'000;
  return sums;
}

// A log whose owner is this thread, where `turn` gives it what others post.
struct OwnedLog {
  explicit OwnedLog(const std::string& path) {
    UsageLog::Ways ways;
    ways.here = [this](std::function<void()> work) {
      const std::lock_guard lock(mutex);
      posted.push_back(std::move(work));
    };
    ways.aside = [](std::function<void()> work) { work(); };
    ways.say = [this](const std::string& text) { said += text + "\n"; };
    auto opened = UsageLog::open(disk, path, std::move(ways));
    REQUIRE(opened.ok());
    log = std::move(opened).value();
  }
  void wait_committed() {
    for (;;) {
      std::function<void()> work;
      {
        const std::lock_guard lock(mutex);
        if (!posted.empty()) {
          work = std::move(posted.front());
          posted.erase(posted.begin());
        }
      }
      if (work) return work();
      ::usleep(100);
    }
  }

  std::mutex mutex;
  std::vector<std::function<void()>> posted;
  std::string said;
  runtime::posix::PosixDisk disk;
  std::unique_ptr<UsageLog> log;
};

}  // namespace

// --- quotas ----------------------------------------------------------------------------------------------------------

TEST_CASE("a bucket holds a minute's worth and fills at that rate") {
  TokenBucket bucket;
  runtime::Instant now{};
  bucket.set(60, now);
  CHECK(bucket.level(now) == 60);
  bucket.take(60, now);
  CHECK(bucket.level(now) == 0);
  CHECK(bucket.until(1, now) == 1s);
  CHECK(bucket.level(now + 30s) == 30);
  CHECK(bucket.level(now + 10min) == 60);
  bucket.take(90, now + 30s);  // overdrawn
  CHECK(bucket.level(now + 30s) == -60);
  CHECK(bucket.until(1, now + 30s) == 61s);
  CHECK(bucket.until(1000, now + 30s) == 120s);  // never more than the whole
  bucket.take(-1000, now + 30s);
  CHECK(bucket.level(now + 30s) == 60);
  bucket.take(20, now + 30s);
  bucket.set(600, now + 30s);  // what is missing stays missing
  CHECK(bucket.level(now + 30s) == 580);
}

TEST_CASE("requests per minute, at once, and tokens per minute are refused with when to come again") {
  VirtualClock clock;
  Metering metering(clock, nullptr);
  const Payer two = payer({.requests_per_minute = 2});
  for (int i = 0; i < 2; ++i) {
    auto admitted = metering.admit(two, 5, clock.now());
    REQUIRE(admitted.request);
    admitted.request->end({}, false);
  }
  auto refused = metering.admit(two, 5, clock.now());
  REQUIRE(refused.over);
  CHECK(refused.over->quota == Quota::kRequestsPerMinute);
  CHECK(refused.over->retry_after == 30s);
  clock.pass(30s);
  CHECK(metering.admit(two, 5, clock.now()).request);

  const Payer one = {"bob", {.concurrent = 1}};
  auto running = metering.admit(one, 5, clock.now());
  CHECK(metering.admit(one, 5, clock.now()).over->quota == Quota::kConcurrent);
  running.request.reset();
  CHECK(metering.admit(one, 5, clock.now()).request);

  const Payer tokens = {"eve", {.tokens_per_minute = 100}};
  auto first = metering.admit(tokens, 80, clock.now());
  REQUIRE(first.request);
  CHECK(metering.admit(tokens, 80, clock.now()).over->retry_after == 36s);
  first.request->end(used(10, 10), false);  // the 60 that it did not need come back
  CHECK(metering.admit(tokens, 80, clock.now()).request);
  clock.pass(5min);
  auto greedy = metering.admit(tokens, 5000, clock.now());  // more than a minute gives: the whole minute is enough
  REQUIRE(greedy.request);
  greedy.request->progress(used(100, 200));
  greedy.request->end(used(100, 200), false);
  CHECK(metering.admit(tokens, 1, clock.now()).over->retry_after == 121s);  // 200 were owed
  CHECK_FALSE(metering.admit({}, 1u << 30, clock.now()).over);              // nobody's request has no limits
}

TEST_CASE("a day's tokens are counted over restarts and are new at midnight UTC") {
  Folder folder;
  VirtualClock clock;
  const Payer limited = payer({.tokens_per_day = 100});
  {
    OwnedLog owned(folder.log());
    Metering metering(clock, std::move(owned.log));
    auto request = metering.admit(limited, 10, clock.now());
    REQUIRE(request.request);
    request.request->end(used(60, 40), false);
    const auto over = metering.admit(limited, 1, clock.now()).over;
    REQUIRE(over);
    CHECK(over->quota == Quota::kTokensPerDay);
    CHECK(over->retry_after == 24h);
  }
  OwnedLog owned(folder.log());
  Metering metering(clock, std::move(owned.log));
  clock.pass(23h);
  CHECK(metering.look(limited)->quota == Quota::kTokensPerDay);
  clock.pass(1h);
  CHECK_FALSE(metering.look(limited));
  auto request = metering.admit(limited, 10, clock.now());
  request.request->progress(used(60, 0));
  CHECK_FALSE(metering.look(limited));
  request.request->progress(used(60, 41));
  CHECK(metering.look(limited));
}

TEST_CASE("limited keys see OpenAI's fields, others none") {
  VirtualClock clock;
  Metering metering(clock, nullptr);
  CHECK(metering.fields(payer({})).empty());
  const Payer limited = payer({.requests_per_minute = 10, .tokens_per_minute = 6000});
  auto request = metering.admit(limited, 3000, clock.now());
  std::map<std::string_view, std::string> fields;
  for (const auto& [name, value] : metering.fields(limited)) fields[name] = value;
  CHECK(fields["x-ratelimit-limit-requests"] == "10");
  CHECK(fields["x-ratelimit-remaining-requests"] == "9");
  CHECK(fields["x-ratelimit-reset-requests"] == "6s");
  CHECK(fields["x-ratelimit-limit-tokens"] == "6000");
  CHECK(fields["x-ratelimit-remaining-tokens"] == "3000");
  CHECK(fields["x-ratelimit-reset-tokens"] == "30s");
}

TEST_CASE("usage grows with the request, and its parts add up to the whole") {
  Folder folder;
  VirtualClock clock;
  OwnedLog owned(folder.log());
  UsageLog* log = owned.log.get();
  Metering metering(clock, std::move(owned.log));
  auto request = metering.admit(payer({}), 0, clock.now()).request;
  clock.pass(1500us);
  request->progress(used(10, 1));
  CHECK(log->sums().used.at({kDay, "ann"}) == Usage{10, 0, 1, 0, 0, 0, 1});
  clock.pass(1500us);
  actors::AnswerUsage last = used(10, 7);
  last.cached_tokens = 4;
  last.reasoning_tokens = 3;
  request->end(last, true);
  request->end(last, true);
  request.reset();
  CHECK(log->sums().used.at({kDay, "ann"}) == Usage{10, 4, 7, 3, 1, 1, 3});
  metering.count_refused(payer({}));
  CHECK(log->sums().used.at({kDay, "ann"}).failed == 2);
}

// --- the log ---------------------------------------------------------------------------------------------------------

TEST_CASE("a usage log cut at any byte gives the lines before the cut") {
  std::string text;
  std::vector<std::pair<std::size_t, UsageSums>> after;  // a whole line ends there
  UsageSums so_far;
  const auto add = [&](const UsageSums& more) {
    text += usage_lines(more);
    so_far.add(more);
    after.emplace_back(text.size(), so_far);
  };
  for (std::uint64_t i = 0; i < 40; ++i) {
    UsageSums one;
    if (i % 5 == 4) {
      one.up_milliseconds[kDay + std::chrono::days(i / 10)] = i;
    } else {
      one.add(kDay + std::chrono::days(i / 10), i % 2 == 0 ? "ann" : "bob",
              {i, i / 2, i * i, 1, 1, i % 3, 1u << i % 30});
    }
    add(one);
  }
  UsageSums expected;
  std::size_t next = 0, line_end = 0;
  for (std::size_t cut = 0; cut <= text.size(); ++cut) {
    if (next < after.size() && cut == after[next].first) {
      expected = after[next].second;
      line_end = cut;
      ++next;
    }
    const auto scan = scan_usage(std::string_view(text).substr(0, cut));
    REQUIRE(scan.ok());
    REQUIRE(scan->sums == expected);
    REQUIRE(scan->damaged_lines == 0);
    REQUIRE(scan->torn_bytes == cut - line_end);
  }
  CHECK(next == after.size());
}

TEST_CASE("a changed bit costs its own line and no other") {
  const std::string text = usage_lines(some_sums());
  const auto whole = scan_usage(text);
  for (std::size_t at = 0; at < text.size(); ++at) {
    for (int bit = 0; bit < 8; ++bit) {
      std::string damaged = text;
      damaged[at] = static_cast<char>(damaged[at] ^ (1 << bit));
      const auto scan = scan_usage(damaged);
      REQUIRE(scan.ok());
      REQUIRE(scan->sums != whole->sums);
      const std::size_t kept = scan->sums.used.size() + scan->sums.up_milliseconds.size();
      REQUIRE(kept >= 2);  // of four lines; where a line's end is hit it takes the next with it
      REQUIRE(scan->damaged_lines + (scan->torn_bytes > 0 ? 1 : 0) >= 1);
    }
  }
}

TEST_CASE("what was committed is there after the next start, in one line per day and key") {
  Folder folder;
  UsageSums expected;
  {
    OwnedLog owned(folder.log());
    for (std::uint64_t i = 0; i < 10; ++i) {
      owned.log->add(kDay, "ann", {i, 0, 1, 0, 1, 0, 2});
      owned.log->add_up(kDay, 250);
      owned.log->commit();
      owned.wait_committed();
    }
    expected = owned.log->sums();
    struct stat info {};
    REQUIRE(::stat(folder.log().c_str(), &info) == 0);
    CHECK((info.st_mode & 0777) == 0600);
  }
  CHECK(read_usage(folder.log())->sums == expected);
  const auto before = text_of(folder.log()).size();
  {
    OwnedLog again(folder.log());
    CHECK(again.log->sums() == expected);
    again.log->add(kDay, "bob", {1, 1, 1, 1, 1, 1, 1});
    expected = again.log->sums();
  }  // the end commits what is left
  CHECK(text_of(folder.log()).size() < before);
  CHECK(read_usage(folder.log())->sums == expected);
}

TEST_CASE("a log cut at any byte is opened, and goes on behind what is whole") {
  Folder folder;
  const std::string text = usage_lines(some_sums()) + usage_lines(some_sums());
  for (std::size_t cut = 0; cut <= text.size(); cut += 3) {
    std::ofstream(folder.log(), std::ios::binary | std::ios::trunc) << text.substr(0, cut);
    UsageSums expected = scan_usage(std::string_view(text).substr(0, cut))->sums;
    {
      OwnedLog owned(folder.log());
      REQUIRE(owned.log->sums() == expected);
      REQUIRE(owned.said.empty());
      owned.log->add(kDay, "eve", {1, 0, 0, 0, 0, 0, 0});
      expected.add(kDay, "eve", {1, 0, 0, 0, 0, 0, 0});
    }
    const auto scan = read_usage(folder.log());
    REQUIRE(scan.ok());
    REQUIRE(scan->sums == expected);
    REQUIRE(scan->torn_bytes + scan->damaged_lines == 0);
  }
}

TEST_CASE("a damaged log is kept as it is, said so, and goes on") {
  Folder folder;
  std::string text = usage_lines(some_sums());
  text[5] ^= 1;
  text += "torn";
  std::ofstream(folder.log(), std::ios::binary) << text;
  {
    OwnedLog owned(folder.log());
    CHECK(owned.said.find("1 lines are damaged") != std::string::npos);
    owned.log->add(kDay, "eve", {1, 0, 0, 0, 0, 0, 0});
  }
  CHECK(text_of(folder.log()).starts_with(text));
  const auto scan = read_usage(folder.log());
  CHECK(scan->sums.used.at({kDay, "eve"}).prompt_tokens == 1);
  CHECK(scan->damaged_lines == 2);
}

TEST_CASE("no log yet is no usage, another version's is refused") {
  Folder folder;
  CHECK(read_usage(folder.log())->sums.empty());
  std::string head(kUsageHead);
  head.back() = '2';
  char crc[16];
  std::snprintf(crc, sizeof crc, " %08x\n", runtime::crc32c(std::as_bytes(std::span(head))));
  CHECK_FALSE(scan_usage(head + crc).ok());
}

TEST_CASE("days are read as they are written") {
  for (const char* day : {"1970-01-01", "2024-02-29", "2026-11-24"}) CHECK(day_text(*parse_day(day)) == day);
  for (const char* bad : {"", "2023-02-29", "2024-13-01", "2024-1-01", "2024-01-00", "2024/01/01", "+024-01-01"})
    CHECK_MESSAGE(!parse_day(bad).has_value(), bad);
}

// --- money -----------------------------------------------------------------------------------------------------------

TEST_CASE("bills are exact to the last digit") {
  cluster::PriceList price;
  price.bills = true;
  price.per_million_prompt = {550'000};
  price.per_million_cached = cluster::Money{140'000};
  price.per_million_completion = {2'190'000};
  const ExactMoney one = bill_of({3, 1, 1, 0, 1, 0, 0}, price);  // 2 x 0.55 + 0.14 + 2.19 millionths
  CHECK(exact_text(one) == "0.00000343");
  CHECK(rounded_text(one, 6) == "0.000003");
  const std::uint64_t many = 1'000'000'000'000'000;
  CHECK(exact_text(bill_of({many, 0, many, 0, 1, 0, 0}, price)) == "2740000000.00");
  ExactMoney sum;
  for (int i = 0; i < 10; ++i) sum += one;
  CHECK(exact_text(sum) == "0.0000343");
  CHECK(rounded_text({500'000}, 6) == "0.000001");  // half up
  CHECK(rounded_text({499'999}, 6) == "0.000000");
  price.per_million_cached.reset();
  CHECK(exact_text(bill_of({2, 1, 0, 0, 1, 0, 0}, price)) == "0.0000011");
}

TEST_CASE("what machines cost is spread over the tokens that they made") {
  CHECK(exact_text(cost_of({1'500'000}, 7'200'000)) == "3.00");
  CHECK(exact_text(cost_of({1}, 3'600'000)) == "0.000001");
  CHECK(rounded_text(*per_million(cost_of({3'000'000}, 3'600'000), 1'500'000), 2) == "2.00");
  CHECK_FALSE(per_million({1}, 0).has_value());
}

TEST_CASE("usage comes as a table with sums and as comma separated values") {
  UsageQuestion question;
  question.price.bills = true;
  question.price.per_million_prompt = {1'000'000};
  question.price.per_million_completion = {2'000'000};
  question.cost_per_hour = cluster::Money{3'000'000};
  const std::string table = usage_table(some_sums(), question);
  CHECK(table ==
        "day         key       requests  failed  prompt  cached  completion  reasoning  seconds    bill $\n"
        "2024-10-04  ann              1       0      10       4          20          5    1.234  0.000050\n"
        "2024-10-04  (no key)         1       1       1       0           2          0    0.005  0.000005\n"
        "2024-10-05  ann              2       0       7       0           8          0    0.099  0.000023\n"
        "all days    ann              3       0      17       4          28          5    1.333  0.000073\n"
        "all days    (no key)         1       1       1       0           2          0    0.005  0.000005\n"
        "all days    all keys         4       1      18       4          30          5    1.338  0.000078\n"
        "\n"
        "machines: 3600.000 s up at $3.00 an hour: $3.000000\n"
        "a million tokens, of prompts and answers of all keys, cost $62500.00 and were billed at $1.63\n");
  CHECK(usage_csv(some_sums(), question) ==
        "day,key,requests,failed,prompt,cached,completion,reasoning,seconds,bill_usd\n"
        "2024-10-04,ann,1,0,10,4,20,5,1.234,0.00005\n"
        "2024-10-04,,1,1,1,0,2,0,0.005,0.000005\n"
        "2024-10-05,ann,2,0,7,0,8,0,0.099,0.000023\n");
  question.key = "ann";
  question.from = question.to = kDay + std::chrono::days(1);
  question.cost_per_hour.reset();
  question.price.bills = false;
  CHECK(usage_table(some_sums(), question) ==
        "day         key  requests  failed  prompt  cached  completion  reasoning  seconds\n"
        "2024-10-05  ann         2       0       7       0           8          0    0.099\n");
  CHECK(usage_table({}, question) == "nothing was used\n");
}
