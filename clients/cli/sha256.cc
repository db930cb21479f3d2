#include "clients/cli/sha256.h"

#include <cstdlib>
#include <string>

#include "absl/strings/escaping.h"

namespace iterand::cli {
namespace {

// OpenSSL's digests fail only where SHA-256 is not available at all. Then nothing of a dump can be trusted.
void Require(int success) {
  if (success != 1) std::abort();
}

}  // namespace

Sha256::Sha256() : context_(EVP_MD_CTX_new()) {
  Require(context_ != nullptr ? 1 : 0);
  Require(EVP_DigestInit_ex(context_.get(), EVP_sha256(), nullptr));
}

void Sha256::Update(std::span<const std::byte> bytes) {
  Require(EVP_DigestUpdate(context_.get(), bytes.data(), bytes.size()));
}

std::string Sha256::Finish() {
  unsigned char digest[32];
  unsigned int size = 0;
  Require(EVP_DigestFinal_ex(context_.get(), digest, &size));
  Require(EVP_DigestInit_ex(context_.get(), EVP_sha256(), nullptr));
  return absl::BytesToHexString(std::string(reinterpret_cast<const char*>(digest), size));
}

}  // namespace iterand::cli
