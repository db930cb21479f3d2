#include "server/auth.h"

#include <openssl/crypto.h>
#include <openssl/sha.h>

#include <string_view>

#include "absl/strings/str_cat.h"

namespace iterand {
namespace {

constexpr char kBearer[] = "Bearer ";

std::string Digest(std::string_view text) {
  std::string digest(SHA256_DIGEST_LENGTH, '\0');
  SHA256(reinterpret_cast<const unsigned char*>(text.data()), text.size(),
         reinterpret_cast<unsigned char*>(digest.data()));
  return digest;
}

}  // namespace

Authenticator::Authenticator(const std::string& token)
    : needed_(!token.empty()), digest_(Digest(absl::StrCat(kBearer, token))) {}

absl::Status Authenticator::Check(const grpc::ServerContextBase& context) const {
  if (!needed_) return absl::OkStatus();
  const auto [begin, end] = context.client_metadata().equal_range("authorization");
  if (begin == end) {
    return absl::UnauthenticatedError("this server wants a token: send it as metadata \"authorization: Bearer TOKEN\"");
  }
  for (auto it = begin; it != end; ++it) {
    // Digests have one length, so the comparison takes the same time whatever was sent.
    const std::string digest = Digest({it->second.data(), it->second.size()});
    if (CRYPTO_memcmp(digest.data(), digest_.data(), digest.size()) == 0) return absl::OkStatus();
  }
  return absl::UnauthenticatedError("the token in the metadata \"authorization\" is not this server's");
}

}  // namespace iterand
