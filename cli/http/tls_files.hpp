// TlsFiles: the service's certificate and key as they are on disk now. SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <string>

#include "cli/http/http_stream.hpp"
#include "runtime/outcome.hpp"

struct ssl_ctx_st;

namespace consort::cli {

class TlsFiles {
 public:
  // PEM: the certificate with those that vouch for it, and its key without a password, which only its owner can read.
  static runtime::Outcome<TlsFiles> open(std::string certificate, std::string key);
  TlsFiles(TlsFiles&&) noexcept;
  TlsFiles& operator=(TlsFiles&&) noexcept;
  ~TlsFiles();

  // For one more connection. Files that have changed are taken; where they are wrong the last good ones stay, and
  // `trouble` says once why.
  TlsSession session(std::string& trouble);

 private:
  struct Stamp {
    std::int64_t seconds = 0, nanoseconds = 0, size = 0;
    std::uint64_t inode = 0;
    bool operator==(const Stamp&) const = default;
  };
  using Stamps = std::array<Stamp, 2>;
  struct FreeContext {
    void operator()(ssl_ctx_st* context) const;
  };
  using Context = std::unique_ptr<ssl_ctx_st, FreeContext>;

  TlsFiles(std::string certificate, std::string key) : certificate_(std::move(certificate)), key_(std::move(key)) {}
  Stamps look() const;
  runtime::Outcome<Context> load() const;

  std::string certificate_, key_;
  Stamps seen_{};
  Context context_;
};

}  // namespace consort::cli
