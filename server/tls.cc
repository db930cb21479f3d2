#include "server/tls.h"

#include <openssl/pem.h>
#include <openssl/x509.h>

#include <cerrno>
#include <cstring>
#include <fstream>
#include <sstream>

#include "absl/strings/str_cat.h"

namespace iterand {
namespace {

// OpenSSL's own asks at the terminal.
int RefusePassphrase(char* /*buffer*/, int /*size*/, int /*writing*/, void* asked) {
  *static_cast<bool*>(asked) = true;
  return -1;
}

// gRPC would only say that it could not bind.
absl::Status CheckKeyPair(const std::string& cert_file, const std::string& key_file, const std::string& cert_text,
                          const std::string& key_text) {
  const std::unique_ptr<BIO, decltype(&BIO_free)> cert_bio(
      BIO_new_mem_buf(cert_text.data(), static_cast<int>(cert_text.size())), BIO_free);
  const std::unique_ptr<BIO, decltype(&BIO_free)> key_bio(
      BIO_new_mem_buf(key_text.data(), static_cast<int>(key_text.size())), BIO_free);
  bool encrypted = false;
  const std::unique_ptr<X509, decltype(&X509_free)> cert(PEM_read_bio_X509(cert_bio.get(), nullptr, nullptr, nullptr),
                                                         X509_free);
  const std::unique_ptr<EVP_PKEY, decltype(&EVP_PKEY_free)> key(
      PEM_read_bio_PrivateKey(key_bio.get(), nullptr, RefusePassphrase, &encrypted), EVP_PKEY_free);
  if (!cert) return absl::InvalidArgumentError(absl::StrCat(cert_file, " has no PEM certificate"));
  if (encrypted) {
    return absl::InvalidArgumentError(
        absl::StrCat("the TLS key ", key_file, " is encrypted: give one without a passphrase"));
  }
  if (!key) return absl::InvalidArgumentError(absl::StrCat(key_file, " has no PEM private key"));
  if (X509_check_private_key(cert.get(), key.get()) != 1) {
    return absl::InvalidArgumentError(
        absl::StrCat("the TLS certificate ", cert_file, " and the key ", key_file, " do not fit each other"));
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<std::string> ReadFileFor(const std::string& what, const std::string& path) {
  errno = 0;
  std::ifstream file(path, std::ios::binary);
  std::ostringstream text;
  if (!file || !(text << file.rdbuf())) {  // which fails for a file without content, too
    return absl::NotFoundError(
        absl::StrCat("cannot read ", what, " ", path, ": ", errno != 0 ? std::strerror(errno) : "it is empty"));
  }
  return text.str();
}

absl::StatusOr<std::shared_ptr<grpc::ServerCredentials>> ServerCredentials(const std::string& cert_file,
                                                                           const std::string& key_file) {
  if (cert_file.empty() && key_file.empty()) return grpc::InsecureServerCredentials();
  if (cert_file.empty() || key_file.empty()) {
    return absl::InvalidArgumentError("TLS needs both a certificate file and a key file");
  }
  const absl::StatusOr<std::string> cert = ReadFileFor("the TLS certificate", cert_file);
  if (!cert.ok()) return cert.status();
  const absl::StatusOr<std::string> key = ReadFileFor("the TLS key", key_file);
  if (!key.ok()) return key.status();
  if (absl::Status status = CheckKeyPair(cert_file, key_file, *cert, *key); !status.ok()) return status;
  grpc::SslServerCredentialsOptions ssl;
  ssl.pem_key_cert_pairs.push_back({*key, *cert});
  return grpc::SslServerCredentials(ssl);
}

}  // namespace iterand
