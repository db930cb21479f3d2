#include "server/auth.h"

#include <openssl/crypto.h>
#include <openssl/sha.h>

#include <string_view>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/rpc/error_info.h"

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

Authenticator::Authenticator(const std::vector<std::string>& tokens) : needed_(!tokens.empty()) { SetTokens(tokens); }

void Authenticator::SetTokens(const std::vector<std::string>& tokens) {
  auto digests = std::make_shared<Digests>();
  for (const std::string& token : tokens) digests->push_back(Digest(absl::StrCat(kBearer, token)));
  const std::lock_guard lock(mutex_);
  digests_ = std::move(digests);
}

absl::Status Authenticator::Check(const grpc::ServerContextBase& context) const {
  if (!needed_) return absl::OkStatus();
  std::vector<std::string_view> values;
  const auto [begin, end] = context.client_metadata().equal_range("authorization");
  for (auto it = begin; it != end; ++it) values.emplace_back(it->second.data(), it->second.size());
  return CheckValues(values);
}

absl::Status Authenticator::CheckValue(std::string_view authorization) const {
  if (!needed_) return absl::OkStatus();
  return CheckValues(authorization.empty() ? std::vector<std::string_view>() : std::vector{authorization});
}

absl::Status Authenticator::CheckValues(const std::vector<std::string_view>& values) const {
  if (values.empty()) {
    return WithReason(v1::TOKEN_MISSING, absl::UnauthenticatedError("this server needs a token: send it as metadata "
                                                                    "\"authorization: Bearer TOKEN\""));
  }
  std::shared_ptr<const Digests> digests;
  {
    const std::lock_guard lock(mutex_);
    digests = digests_;
  }
  bool found = false;
  for (const std::string_view value : values) {
    // Digests have one length and each is compared, so the time does not depend on what was sent.
    const std::string sent = Digest(value);
    for (const std::string& digest : *digests) found |= CRYPTO_memcmp(sent.data(), digest.data(), digest.size()) == 0;
  }
  if (found) return absl::OkStatus();
  return WithReason(v1::TOKEN_INVALID,
                    absl::UnauthenticatedError("the token in the metadata \"authorization\" is not this server's"));
}

}  // namespace iterand
