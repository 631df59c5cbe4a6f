#include "actors/serving/page_ledger.hpp"

#include <algorithm>
#include <functional>

#include "runtime/check.hpp"

namespace consort::actors {

PageLedger::PageLedger(std::uint32_t page_count) : references_(page_count, 0) {
  for (std::uint32_t page = 0; page < page_count; ++page) free_.push_back(page);  // ascending: a heap already
}

std::vector<std::uint32_t> PageLedger::allocate(std::uint32_t count) {
  std::vector<std::uint32_t> pages;
  if (count > available()) return pages;
  for (std::uint32_t i = 0; i < count; ++i) {
    std::ranges::pop_heap(free_, std::greater<>());
    pages.push_back(free_.back());
    free_.pop_back();
    references_[pages.back()] = 1;
  }
  return pages;
}

void PageLedger::retain(std::uint32_t page) {
  CONSORT_CHECK(page < page_count() && references_[page] > 0, page);
  ++references_[page];
}

void PageLedger::release(std::uint32_t page) {
  CONSORT_CHECK(page < page_count() && references_[page] > 0, page);
  if (--references_[page] > 0) return;
  free_.push_back(page);
  std::ranges::push_heap(free_, std::greater<>());
}

PageLease& PageLease::operator=(PageLease&& other) noexcept {
  if (this != &other) {
    release();
    ledger_ = std::move(other.ledger_);
    pages_ = std::exchange(other.pages_, {});
  }
  return *this;
}

PageLease PageLease::again() const {
  for (const std::uint32_t page : pages_) ledger_->retain(page);
  return {ledger_, pages_};
}

void PageLease::release() {
  for (const std::uint32_t page : pages_) ledger_->release(page);
  pages_.clear();
  ledger_.reset();
}

}  // namespace consort::actors
