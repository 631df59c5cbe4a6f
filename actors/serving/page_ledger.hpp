// PageLedger: which KV pages of one Decoder incarnation are in use, and by how many; which are kept for their KV.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <span>
#include <utility>
#include <vector>

#include "actors/serving/page_name.hpp"

namespace consort::actors {

// A page is used (somebody refers to it), cached (nobody does, but its name says what KV it holds), or free.
class PageLedger {
 public:
  explicit PageLedger(std::uint32_t page_count);
  std::uint32_t page_count() const { return static_cast<std::uint32_t>(pages_.size()); }
  std::uint32_t used() const { return page_count() - available(); }
  std::uint32_t cached() const { return static_cast<std::uint32_t>(idle_.size()); }
  // What allocate() can give: free pages, and cached ones.
  std::uint32_t available() const { return static_cast<std::uint32_t>(free_.size() + idle_.size()); }
  // The lowest free ids, then the cached ones that were used longest ago, each with one reference; empty where there
  // are too few.
  std::vector<std::uint32_t> allocate(std::uint32_t count);
  void retain(std::uint32_t page);
  void release(std::uint32_t page);

  // The KV of this page is written, whole, and what `name` says. Where another page has the name, that one keeps it.
  void give_name(std::uint32_t page, const PageName& name);
  // One reference to each page of the longest run of these names, from the first on, that is here.
  std::vector<std::uint32_t> take(std::span<const PageName> names);

 private:
  struct Page {
    std::uint32_t references = 0;
    std::uint64_t idle_since = 0;  // place in the order of releases
    std::optional<PageName> name;
  };
  void free(std::uint32_t page);

  std::vector<Page> pages_;
  std::vector<std::uint32_t> free_;                         // a heap, lowest id first
  std::set<std::pair<std::uint64_t, std::uint32_t>> idle_;  // cached pages, longest idle first
  std::map<PageName, std::uint32_t> named_;
  std::uint64_t releases_ = 0;
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

  // Up to `count` pages in all; false, and nothing is taken, where there are too few.
  bool grow_to(std::uint32_t count);
  // A second reference to the same pages: a step under way keeps them from being handed out again.
  PageLease again() const;
  void release();
  const std::vector<std::uint32_t>& pages() const { return pages_; }

 private:
  std::shared_ptr<PageLedger> ledger_;
  std::vector<std::uint32_t> pages_;
};

}  // namespace consort::actors
