// SHA-256, piece by piece.
#pragma once

#include <openssl/evp.h>

#include <cstddef>
#include <memory>
#include <span>
#include <string>

namespace iterand::cli {

class Sha256 {
 public:
  Sha256();
  void Update(std::span<const std::byte> bytes);
  // Lower-case hexadecimal, 64 characters, of everything so far; then starts again.
  std::string Finish();

 private:
  struct Free {
    void operator()(EVP_MD_CTX* context) const { EVP_MD_CTX_free(context); }
  };
  std::unique_ptr<EVP_MD_CTX, Free> context_;
};

}  // namespace iterand::cli
