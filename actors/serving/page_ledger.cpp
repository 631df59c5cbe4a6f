#include "actors/serving/page_ledger.hpp"

#include <algorithm>
#include <functional>

#include "runtime/check.hpp"

namespace consort::actors {

PageLedger::PageLedger(std::uint32_t page_count) : pages_(page_count) {
  for (std::uint32_t page = 0; page < page_count; ++page) free_.push_back(page);  // ascending: a heap already
}

std::vector<std::uint32_t> PageLedger::allocate(std::uint32_t count) {
  std::vector<std::uint32_t> taken;
  if (count > available()) return taken;
  while (taken.size() < count) {
    if (free_.empty()) {
      const std::uint32_t oldest = idle_.begin()->second;
      idle_.erase(idle_.begin());
      named_.erase(*pages_[oldest].name);
      pages_[oldest].name.reset();
      free(oldest);
    }
    std::ranges::pop_heap(free_, std::greater<>());
    taken.push_back(free_.back());
    free_.pop_back();
    pages_[taken.back()].references = 1;
  }
  return taken;
}

void PageLedger::free(std::uint32_t page) {
  free_.push_back(page);
  std::ranges::push_heap(free_, std::greater<>());
}

void PageLedger::retain(std::uint32_t page) {
  CONSORT_CHECK(page < page_count() && pages_[page].references > 0, page);
  ++pages_[page].references;
}

void PageLedger::release(std::uint32_t page) {
  CONSORT_CHECK(page < page_count() && pages_[page].references > 0, page);
  Page& released = pages_[page];
  if (--released.references > 0) return;
  if (!released.name) return free(page);
  released.idle_since = ++releases_;
  idle_.emplace(released.idle_since, page);
}

void PageLedger::give_name(std::uint32_t page, const PageName& name) {
  CONSORT_CHECK(page < page_count() && pages_[page].references > 0, page);
  if (!pages_[page].name && named_.emplace(name, page).second) pages_[page].name = name;
}

std::vector<std::uint32_t> PageLedger::take(std::span<const PageName> names) {
  std::vector<std::uint32_t> taken;
  for (const PageName& name : names) {
    const auto found = named_.find(name);
    if (found == named_.end()) break;
    Page& page = pages_[found->second];
    if (page.references++ == 0) idle_.erase({page.idle_since, found->second});
    taken.push_back(found->second);
  }
  return taken;
}

PageLease& PageLease::operator=(PageLease&& other) noexcept {
  if (this != &other) {
    release();
    ledger_ = std::move(other.ledger_);
    pages_ = std::exchange(other.pages_, {});
  }
  return *this;
}

bool PageLease::grow_to(std::uint32_t count) {
  if (count <= pages_.size()) return true;
  const auto more = ledger_->allocate(count - static_cast<std::uint32_t>(pages_.size()));
  if (more.empty()) return false;
  pages_.insert(pages_.end(), more.begin(), more.end());
  return true;
}

PageLease PageLease::again() const {
  for (const std::uint32_t page : pages_) ledger_->retain(page);
  return {ledger_, pages_};
}

// Last page first: a page is of no use without those before it, so that it must be forgotten before them.
void PageLease::release() {
  for (auto page = pages_.rbegin(); page != pages_.rend(); ++page) ledger_->release(*page);
  pages_.clear();
  ledger_.reset();
}

}  // namespace consort::actors
