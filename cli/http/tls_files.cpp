#include "cli/http/tls_files.hpp"

#include <fcntl.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "runtime/check.hpp"

namespace consort::cli {

using runtime::ErrorKind;
using runtime::failure;
using runtime::Outcome;

namespace {

constexpr unsigned char kProtocols[] = "\x08http/1.1";

// HTTP/1.1 where the client offers it; else it is let in without, and sees for itself.
int choose_protocol(SSL*, const unsigned char** out, unsigned char* out_bytes, const unsigned char* offered,
                    unsigned int offered_bytes, void*) {
  unsigned char* chosen = nullptr;
  const int found =
      SSL_select_next_proto(&chosen, out_bytes, kProtocols, sizeof kProtocols - 1, offered, offered_bytes);
  *out = chosen;
  return found == OPENSSL_NPN_NEGOTIATED ? SSL_TLSEXT_ERR_OK : SSL_TLSEXT_ERR_NOACK;
}

std::string why() {
  const char* reason = ERR_reason_error_string(ERR_peek_error());
  return reason == nullptr ? "it is damaged" : reason;
}

// A key with a password could not be read after a restart at night.
int no_password(char*, int, int, void*) { return -1; }

Outcome<std::unique_ptr<EVP_PKEY, decltype(&EVP_PKEY_free)>> read_key(const std::string& path) {
  std::unique_ptr<FILE, decltype(&std::fclose)> file(std::fopen(path.c_str(), "rbe"), &std::fclose);
  if (!file) return failure(ErrorKind::kInvalid, "tls_key " + path + ": cannot be read: " + std::strerror(errno));
  struct stat info {};
  if (::fstat(::fileno(file.get()), &info) != 0 || !S_ISREG(info.st_mode))
    return failure(ErrorKind::kInvalid, "tls_key " + path + ": is not a plain file");
  if ((info.st_mode & 077) != 0) {
    return failure(ErrorKind::kInvalid, "tls_key " + path + ": others can read it: chmod 600");
  }
  std::unique_ptr<EVP_PKEY, decltype(&EVP_PKEY_free)> key(
      PEM_read_PrivateKey(file.get(), nullptr, &no_password, nullptr), &EVP_PKEY_free);
  if (!key) {
    return failure(ErrorKind::kInvalid, "tls_key " + path + ": is no private key in PEM without a password: " + why());
  }
  return key;
}

}  // namespace

void TlsFiles::FreeContext::operator()(ssl_ctx_st* context) const { SSL_CTX_free(context); }

TlsFiles::TlsFiles(TlsFiles&&) noexcept = default;
TlsFiles& TlsFiles::operator=(TlsFiles&&) noexcept = default;
TlsFiles::~TlsFiles() = default;

TlsFiles::Stamps TlsFiles::look() const {
  const auto stamp = [](const std::string& path) {
    struct stat info {};
    if (::stat(path.c_str(), &info) != 0) return Stamp{-1, 0, 0, 0};
    return Stamp{info.st_mtim.tv_sec, info.st_mtim.tv_nsec, info.st_size, info.st_ino};
  };
  return {stamp(certificate_), stamp(key_)};
}

Outcome<TlsFiles::Context> TlsFiles::load() const {
  ERR_clear_error();
  CONSORT_TRY(const auto key, read_key(key_));
  Context context(SSL_CTX_new(TLS_server_method()));
  CONSORT_CHECK(context != nullptr, "OpenSSL gives no context");
  SSL_CTX* raw = context.get();
  SSL_CTX_set_min_proto_version(raw, TLS1_3_VERSION);
  // An idle connection holds no buffers; what is written may be moved meanwhile and go in parts.
  SSL_CTX_set_mode(raw, SSL_MODE_RELEASE_BUFFERS | SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
  // Connections are kept; nothing of one is kept for the next, so that there is no key to it either.
  SSL_CTX_set_session_cache_mode(raw, SSL_SESS_CACHE_OFF);
  SSL_CTX_set_num_tickets(raw, 0);
  SSL_CTX_set_alpn_select_cb(raw, choose_protocol, nullptr);
  if (SSL_CTX_use_certificate_chain_file(raw, certificate_.c_str()) != 1) {
    return failure(ErrorKind::kInvalid,
                   "tls_certificate " + certificate_ + ": is no readable certificate in PEM: " + why());
  }
  if (SSL_CTX_use_PrivateKey(raw, key.get()) != 1 || SSL_CTX_check_private_key(raw) != 1) {
    return failure(ErrorKind::kInvalid, "tls_key " + key_ + ": is not the key of " + certificate_ + ": " + why());
  }
  return context;
}

Outcome<TlsFiles> TlsFiles::open(std::string certificate, std::string key) {
  TlsFiles files(std::move(certificate), std::move(key));
  files.seen_ = files.look();
  CONSORT_TRY(files.context_, files.load());
  return files;
}

TlsSession TlsFiles::session(std::string& trouble) {
  if (const Stamps now = look(); now != seen_) {
    seen_ = now;
    auto loaded = load();
    if (loaded.ok()) {
      context_ = std::move(loaded).value();
    } else {
      trouble = loaded.error().text;
    }
  }
  TlsSession session(SSL_new(context_.get()));
  CONSORT_CHECK(session != nullptr, "OpenSSL gives no session");
  return session;
}

}  // namespace consort::cli
