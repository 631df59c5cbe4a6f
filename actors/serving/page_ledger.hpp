// PageLedger: which KV pages of one Decoder incarnation are in use, and by how many.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <memory>
#include <utility>
#include <vector>

namespace consort::actors {

class PageLedger {
 public:
  explicit PageLedger(std::uint32_t page_count);
  std::uint32_t page_count() const { return static_cast<std::uint32_t>(references_.size()); }
  std::uint32_t used() const { return page_count() - static_cast<std::uint32_t>(free_.size()); }
  std::uint32_t available() const { return static_cast<std::uint32_t>(free_.size()); }
  // The lowest free ids, each with one reference; empty where there are too few.
  std::vector<std::uint32_t> allocate(std::uint32_t count);
  void retain(std::uint32_t page);
  void release(std::uint32_t page);

 private:
  std::vector<std::uint32_t> references_;
  std::vector<std::uint32_t> free_;  // a heap, lowest id first
};

// References to pages, given back with the object. Holds its ledger, which may belong to a Decoder that is gone.
class PageLease {
 public:
  PageLease() = default;
  // Takes over one reference to each page.
  PageLease(std::shared_ptr<PageLedger> ledger, std::vector<std::uint32_t> pages)
      : ledger_(std::move(ledger)), pages_(std::move(pages)) {}
  PageLease(PageLease&& other) noexcept : ledger_(std::move(other.ledger_)), pages_(std::exchange(other.pages_, {})) {}
  PageLease& operator=(PageLease&& other) noexcept;
  ~PageLease() { release(); }

  // A second reference to the same pages: a step under way keeps them from being handed out again.
  PageLease again() const;
  void release();
  const std::vector<std::uint32_t>& pages() const { return pages_; }

 private:
  std::shared_ptr<PageLedger> ledger_;
  std::vector<std::uint32_t> pages_;
};

}  // namespace consort::actors
