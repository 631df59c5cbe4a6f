// Pages: used, cached, free; names that say what KV a page holds.
#include "actors/serving/page_ledger.hpp"

#include <numeric>
#include <random>

#include "support/test.hpp"

using namespace consort::actors;

namespace {

struct Chance {
  explicit Chance(std::uint32_t seed) : engine(seed) {}
  std::uint32_t operator()() { return static_cast<std::uint32_t>(engine()); }
  std::mt19937 engine;
};

std::vector<std::uint32_t> tokens_from(std::uint32_t first, std::size_t count = 64) {
  std::vector<std::uint32_t> tokens(count);
  std::iota(tokens.begin(), tokens.end(), first);
  return tokens;
}
PageName name_of(std::uint32_t salt, std::vector<std::uint32_t> pages) {
  PageName name = root_name(1, 2, std::to_string(salt));
  for (const std::uint32_t page : pages) name = next_name(name, tokens_from(page));
  return name;
}

}  // namespace

TEST_CASE("a page's name depends on the model, the plan, the salt and every token so far") {
  const auto tokens = tokens_from(5);
  const PageName name = next_name(root_name(1, 2, "ann"), tokens);
  CHECK(name == next_name(root_name(1, 2, "ann"), tokens));
  CHECK(name != next_name(root_name(2, 2, "ann"), tokens));
  CHECK(name != next_name(root_name(1, 3, "ann"), tokens));
  CHECK(name != next_name(root_name(1, 2, "bob"), tokens));
  CHECK(name != next_name(name, tokens));
  for (std::size_t i = 0; i < tokens.size(); ++i) {
    auto other = tokens;
    ++other[i];
    CHECK(name != next_name(root_name(1, 2, "ann"), other));
  }
}

TEST_CASE("pages without a name are free when nobody refers to them, named ones are kept") {
  PageLedger ledger(4);
  const auto pages = ledger.allocate(3);
  CHECK(pages == std::vector<std::uint32_t>{0, 1, 2});
  ledger.give_name(0, name_of(0, {1}));
  for (const std::uint32_t page : pages) ledger.release(page);
  CHECK(ledger.used() == 0);
  CHECK(ledger.cached() == 1);
  CHECK(ledger.available() == 4);
  CHECK(ledger.allocate(5).empty());
  const std::vector<PageName> names = {name_of(0, {1}), name_of(0, {1, 2})};
  CHECK(ledger.take(names) == std::vector<std::uint32_t>{0});
  CHECK(ledger.used() == 1);
  CHECK(ledger.cached() == 0);
  CHECK(ledger.take(std::span(names).subspan(1)).empty());
  ledger.release(0);
}

TEST_CASE("the cached page that was used longest ago makes room, and a prefix goes after what follows it") {
  auto ledger = std::make_shared<PageLedger>(4);
  const std::vector<PageName> names = {name_of(0, {1}), name_of(0, {1, 2}), name_of(0, {1, 2, 3})};
  {
    PageLease lease(ledger, ledger->allocate(3));
    for (std::uint32_t i = 0; i < 3; ++i) ledger->give_name(lease.pages()[i], names[i]);
  }
  CHECK(ledger->cached() == 3);
  PageLease two(ledger, ledger->allocate(2));  // the free one and one of the cached
  CHECK(ledger->cached() == 2);
  PageLease prefix(ledger, ledger->take(names));
  CHECK(prefix.pages().size() == 2);
  two.release();
  prefix.release();
  PageLease all(ledger, ledger->allocate(4));
  CHECK(all.pages().size() == 4);
  CHECK(ledger->take(names).empty());
}

TEST_CASE("of two pages with the same KV one has the name") {
  PageLedger ledger(2);
  (void)ledger.allocate(2);
  ledger.give_name(0, name_of(0, {1}));
  ledger.give_name(1, name_of(0, {1}));
  ledger.give_name(0, name_of(0, {9}));  // its KV does not change while it has a name
  ledger.release(1);
  CHECK(ledger.cached() == 0);
  ledger.release(0);
  CHECK(ledger.cached() == 1);
  CHECK(ledger.take(std::vector{name_of(0, {9})}).empty());
}

TEST_CASE("whatever is allocated, named, taken and released, no page is in two hands") {
  for (const std::uint32_t seed : {1u, 2u, 3u, 4u, 5u}) {
    Chance chance(seed);
    auto ledger = std::make_shared<PageLedger>(12);
    std::vector<PageLease> leases;
    std::map<std::uint32_t, std::uint32_t> written;  // page: what its KV is of, by who wrote it last
    for (int i = 0; i < 3000; ++i) {
      const auto what = chance() % 4;
      if (what == 0 || leases.empty()) {
        const std::uint32_t first = chance() % 6;
        std::vector<PageName> names = {name_of(0, {first}), name_of(0, {first, first + 100})};
        PageLease lease(ledger, ledger->take(names));
        for (std::size_t p = 0; p < lease.pages().size(); ++p) {
          CHECK(written[lease.pages()[p]] == first + 100 * static_cast<std::uint32_t>(p));
        }
        const std::size_t had = lease.pages().size();
        if (!lease.grow_to(2)) continue;
        for (std::size_t p = had; p < 2; ++p) {
          written[lease.pages()[p]] = first + 100 * static_cast<std::uint32_t>(p);
          ledger->give_name(lease.pages()[p], names[p]);
        }
        leases.push_back(std::move(lease));
      } else if (what == 1) {
        leases.push_back(leases[chance() % leases.size()].again());
      } else {
        std::swap(leases[chance() % leases.size()], leases.back());
        leases.pop_back();
      }
      std::set<std::uint32_t> held;
      for (const PageLease& lease : leases) held.insert(lease.pages().begin(), lease.pages().end());
      CHECK(ledger->used() == held.size());
    }
    leases.clear();
    CHECK(ledger->used() == 0);
  }
}
