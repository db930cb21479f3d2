#include "common/pem.h"

#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <openssl/x509.h>

#include <cstddef>
#include <memory>

#include "absl/strings/str_cat.h"
#include "common/read_file.h"

namespace iterand {
namespace {

// The authorities of a whole system take about 200 KiB.
constexpr std::size_t kMaxPemBytes = std::size_t{16} << 20;

using Bio = std::unique_ptr<BIO, decltype(&BIO_free)>;
using Certificate = std::unique_ptr<X509, decltype(&X509_free)>;
using Key = std::unique_ptr<EVP_PKEY, decltype(&EVP_PKEY_free)>;

Bio Open(const std::string& text) { return {BIO_new_mem_buf(text.data(), static_cast<int>(text.size())), BIO_free}; }

// Replaces OpenSSL's own callback, which asks at the terminal.
int RefusePassphrase(char* /*buffer*/, int /*size*/, int /*writing*/, void* asked) {
  *static_cast<bool*>(asked) = true;
  return -1;
}

// The newest of OpenSSL's errors, in its own words.
std::string LastError() {
  const char* const reason = ERR_reason_error_string(ERR_peek_last_error());
  ERR_clear_error();
  return reason != nullptr ? reason : "OpenSSL names no reason";
}

// Checks every certificate of a file: the first one alone would hide that a chain was cut off.
absl::Status CheckCertificates(const std::string& path, const std::string& text) {
  ERR_clear_error();
  const Bio bio = Open(text);
  int count = 0;
  while (Certificate(PEM_read_bio_X509_AUX(bio.get(), nullptr, nullptr, nullptr), X509_free)) ++count;
  const bool at_end = ERR_GET_REASON(ERR_peek_last_error()) == PEM_R_NO_START_LINE;
  const std::string why = LastError();
  if (!at_end) {
    return absl::InvalidArgumentError(absl::StrCat(path, ": PEM certificate number ", count + 1, " is damaged: ", why));
  }
  if (count == 0) return absl::InvalidArgumentError(absl::StrCat(path, " has no PEM certificate"));
  return absl::OkStatus();
}

absl::StatusOr<std::string> ReadPem(const std::string& what, const std::string& path) {
  absl::StatusOr<std::string> text = ReadFile(path, kMaxPemBytes);
  if (text.ok()) return text;
  return absl::Status(text.status().code(), absl::StrCat(what, " ", text.status().message()));
}

}  // namespace

absl::StatusOr<KeyPair> ReadKeyPair(const std::string& cert_file, const std::string& key_file) {
  absl::StatusOr<std::string> cert_text = ReadPem("TLS certificate", cert_file);
  if (!cert_text.ok()) return cert_text.status();
  absl::StatusOr<std::string> key_text = ReadPem("TLS key", key_file);
  if (!key_text.ok()) return key_text.status();

  if (absl::Status status = CheckCertificates(cert_file, *cert_text); !status.ok()) return status;
  bool encrypted = false;
  const Key key(PEM_read_bio_PrivateKey(Open(*key_text).get(), nullptr, RefusePassphrase, &encrypted), EVP_PKEY_free);
  if (encrypted) {
    ERR_clear_error();
    return absl::InvalidArgumentError(absl::StrCat("the TLS key ", key_file, " is encrypted, must have no passphrase"));
  }
  if (!key) {
    ERR_clear_error();
    return absl::InvalidArgumentError(absl::StrCat(key_file, " has no PEM private key"));
  }
  const Certificate cert(PEM_read_bio_X509_AUX(Open(*cert_text).get(), nullptr, nullptr, nullptr), X509_free);
  if (X509_check_private_key(cert.get(), key.get()) != 1) {
    ERR_clear_error();
    return absl::InvalidArgumentError(
        absl::StrCat("the TLS certificate ", cert_file, " and the key ", key_file, " do not belong together"));
  }
  // Finds what a handshake would refuse, such as a key that is too short.
  const std::unique_ptr<SSL_CTX, decltype(&SSL_CTX_free)> context(SSL_CTX_new(TLS_method()), SSL_CTX_free);
  if (SSL_CTX_use_certificate(context.get(), cert.get()) != 1 ||
      SSL_CTX_use_PrivateKey(context.get(), key.get()) != 1) {
    return absl::InvalidArgumentError(
        absl::StrCat("the TLS certificate ", cert_file, " cannot be used: ", LastError()));
  }
  return KeyPair{*std::move(cert_text), *std::move(key_text)};
}

absl::StatusOr<std::string> ReadAuthorities(const std::string& path) {
  absl::StatusOr<std::string> text = ReadPem("TLS authorities", path);
  if (!text.ok()) return text;
  if (absl::Status status = CheckCertificates(path, *text); !status.ok()) return status;
  return text;
}

}  // namespace iterand
