// Checks certificates and keys before a TLS library takes them. gRPC reports only that it cannot connect or listen.
#pragma once

#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace iterand {

// A private key and the certificates that go with it, both PEM.
struct KeyPair {
  std::string cert;  // chain, the owner's certificate first
  std::string key;
};

// Reads both files and checks that they can be used together. Errors name the file: NotFound if one cannot be read,
// InvalidArgument if one holds something else, the key has a passphrase, or the two do not belong together.
absl::StatusOr<KeyPair> ReadKeyPair(const std::string& cert_file, const std::string& key_file);

// Reads a file of certificates of authorities. Errors: NotFound if it cannot be read, InvalidArgument if it has no
// certificate or one that is damaged.
absl::StatusOr<std::string> ReadAuthorities(const std::string& path);

}  // namespace iterand
