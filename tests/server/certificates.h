// Certificates for tests, made by OpenSSL: self-signed, or signed by another one as their authority.
#pragma once

#include <gtest/gtest.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>
#include <unistd.h>

#include <cstdio>
#include <memory>
#include <string>

namespace iterand {

class Certificate {
 public:
  // For localhost and 127.0.0.1. `issuer` is the authority that signs it; without one, it is an authority itself. The
  // files are TEMPDIR/NAME_cert.pem and _key.pem.
  explicit Certificate(const std::string& name, const Certificate* issuer = nullptr, bool encrypted_key = false)
      : cert_file(::testing::TempDir() + "/" + std::to_string(getpid()) + name + "_cert.pem"),
        key_file(::testing::TempDir() + "/" + std::to_string(getpid()) + name + "_key.pem"),
        key_(EVP_EC_gen("P-256"), EVP_PKEY_free),
        cert_(X509_new(), X509_free) {
    X509* const cert = cert_.get();
    X509_set_version(cert, 2);
    ASN1_INTEGER_set(X509_get_serialNumber(cert), ++serial_);
    X509_gmtime_adj(X509_getm_notBefore(cert), -3600);
    X509_gmtime_adj(X509_getm_notAfter(cert), 3600);
    X509_set_pubkey(cert, key_.get());
    X509_NAME_add_entry_by_txt(X509_get_subject_name(cert), "CN", MBSTRING_ASC,
                               reinterpret_cast<const unsigned char*>(name.c_str()), -1, -1, 0);
    X509_set_issuer_name(cert, X509_get_subject_name(issuer != nullptr ? issuer->cert_.get() : cert));
    AddExtension(NID_subject_alt_name, "DNS:localhost,IP:127.0.0.1");
    if (issuer == nullptr) AddExtension(NID_basic_constraints, "critical,CA:TRUE");
    X509_sign(cert, (issuer != nullptr ? issuer : this)->key_.get(), EVP_sha256());
    FILE* file = std::fopen(cert_file.c_str(), "w");
    PEM_write_X509(file, cert);
    std::fclose(file);
    file = std::fopen(key_file.c_str(), "w");
    char phrase[] = "secret";
    PEM_write_PrivateKey(file, key_.get(), encrypted_key ? EVP_aes_128_cbc() : nullptr, nullptr, 0, nullptr,
                         encrypted_key ? phrase : nullptr);
    std::fclose(file);
  }

  ~Certificate() {
    std::remove(cert_file.c_str());
    std::remove(key_file.c_str());
  }
  Certificate(const Certificate&) = delete;
  Certificate& operator=(const Certificate&) = delete;

  const std::string cert_file;
  const std::string key_file;

 private:
  void AddExtension(int id, const char* value) {
    X509_EXTENSION* const extension = X509V3_EXT_conf_nid(nullptr, nullptr, id, value);
    X509_add_ext(cert_.get(), extension, -1);
    X509_EXTENSION_free(extension);
  }

  inline static int serial_ = 0;
  const std::unique_ptr<EVP_PKEY, decltype(&EVP_PKEY_free)> key_;
  const std::unique_ptr<X509, decltype(&X509_free)> cert_;
};

}  // namespace iterand
