#include "server/tls.h"

#include <grpc/grpc.h>
#include <grpc/grpc_security.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>

#include <cstdint>
#include <mutex>
#include <utility>
#include <vector>

#include "common/pem.h"

namespace iterand {
namespace {

using Bio = std::unique_ptr<BIO, decltype(&BIO_free)>;
using Certificate = std::unique_ptr<X509, decltype(&X509_free)>;

Bio BioOf(const std::string& text) { return {BIO_new_mem_buf(text.data(), static_cast<int>(text.size())), BIO_free}; }

std::vector<Certificate> CertificatesOf(const std::string& pem) {
  std::vector<Certificate> certificates;
  const Bio text = BioOf(pem);
  while (X509* const certificate = PEM_read_bio_X509(text.get(), nullptr, nullptr, nullptr)) {
    certificates.emplace_back(certificate, X509_free);
  }
  ERR_clear_error();  // of the end
  return certificates;
}

}  // namespace

// What the files held.
struct ServerTls::State {
  mutable std::mutex mutex;
  KeyPair identity;
  std::string client_ca;
  std::uint64_t version = 1;  // grows with each Reload
};

// One port as gRPC's C library sees it: it asks Fetch at each handshake. Only that library's interface has such a
// function; the C++ one has certificate providers that are experimental.
class ServerTls::PortCredentials final : public grpc::ServerCredentials {
 public:
  explicit PortCredentials(std::shared_ptr<ServerTls> tls) : tls_(std::move(tls)) {
    const grpc_ssl_client_certificate_request_type clients =
        tls_->files_.client_ca.empty() ? GRPC_SSL_DONT_REQUEST_CLIENT_CERTIFICATE
                                       : GRPC_SSL_REQUEST_AND_REQUIRE_CLIENT_CERTIFICATE_AND_VERIFY;
    credentials_ = grpc_ssl_server_credentials_create_with_options(
        grpc_ssl_server_credentials_create_options_using_config_fetcher(clients, Fetch, this));
  }

  ~PortCredentials() override { grpc_server_credentials_release(credentials_); }

  void SetAuthMetadataProcessor(const std::shared_ptr<grpc::AuthMetadataProcessor>& /*processor*/) override {}

 private:
  int AddPortToServer(const std::string& address, grpc_server* server) override {
    return grpc_server_add_http2_port(server, address.c_str(), credentials_);
  }

  static grpc_ssl_certificate_config_reload_status Fetch(void* self, grpc_ssl_server_certificate_config** config) {
    return static_cast<PortCredentials*>(self)->Renew(config);
  }

  // gRPC keeps what it has if it cannot use what it gets.
  grpc_ssl_certificate_config_reload_status Renew(grpc_ssl_server_certificate_config** config) {
    const State& state = *tls_->state_;
    const std::lock_guard lock(state.mutex);
    if (version_ == state.version) return GRPC_SSL_CERTIFICATE_CONFIG_RELOAD_UNCHANGED;
    const grpc_ssl_pem_key_cert_pair pair = {state.identity.key.c_str(), state.identity.cert.c_str()};
    // gRPC requires authorities even where it asks clients for no certificate, and then never uses them.
    const std::string& authorities = state.client_ca.empty() ? state.identity.cert : state.client_ca;
    *config = grpc_ssl_server_certificate_config_create(authorities.c_str(), &pair, 1);
    version_ = state.version;
    return GRPC_SSL_CERTIFICATE_CONFIG_RELOAD_NEW;
  }

  const std::shared_ptr<ServerTls> tls_;
  grpc_server_credentials* credentials_;
  std::uint64_t version_ = 0;  // of what gRPC has; guarded by State::mutex
};

ServerTls::ServerTls(TlsFiles files) : files_(std::move(files)), state_(std::make_unique<State>()) {}
ServerTls::~ServerTls() = default;

absl::StatusOr<std::shared_ptr<ServerTls>> ServerTls::Load(const TlsFiles& files) {
  if (files.cert.empty() != files.key.empty()) {
    return absl::InvalidArgumentError("TLS needs both a certificate file and a key file");
  }
  if (files.cert.empty()) {
    if (files.client_ca.empty()) return nullptr;
    return absl::InvalidArgumentError(
        "client certificates (--tls-client-ca) need TLS: a certificate file (--tls-cert) and a key file (--tls-key)");
  }
  std::shared_ptr<ServerTls> tls(new ServerTls(files));
  if (absl::Status status = tls->Reload(); !status.ok()) return status;
  return tls;
}

absl::Status ServerTls::Reload() {
  absl::StatusOr<KeyPair> identity = ReadKeyPair(files_.cert, files_.key);
  if (!identity.ok()) return identity.status();
  std::string client_ca;
  if (!files_.client_ca.empty()) {
    absl::StatusOr<std::string> authorities = ReadAuthorities(files_.client_ca);
    if (!authorities.ok()) return authorities.status();
    client_ca = *std::move(authorities);
  }
  const std::lock_guard lock(state_->mutex);
  state_->identity = *std::move(identity);
  state_->client_ca = std::move(client_ca);
  ++state_->version;
  return absl::OkStatus();
}

void ServerTls::Configure(const std::shared_ptr<ServerTls>& tls, ssl_ctx_st* context) {
  SSL_CTX_set_min_proto_version(context, TLS1_2_VERSION);
  // Every handshake is a whole one, which meets the authorities of the moment.
  SSL_CTX_set_session_cache_mode(context, SSL_SESS_CACHE_OFF);
  SSL_CTX_set_options(context, SSL_OP_NO_TICKET);
  SSL_CTX_set_cert_cb(context, Furnish, tls.get());
}

// Gives a handshake what the files hold now. OpenSSL calls it when the client has said hello; 0 ends the handshake.
int ServerTls::Furnish(ssl_st* handshake, void* self) {
  const ServerTls& tls = *static_cast<const ServerTls*>(self);
  KeyPair identity;
  std::string client_ca;
  {
    const std::lock_guard lock(tls.state_->mutex);
    identity = tls.state_->identity;
    client_ca = tls.state_->client_ca;
  }
  const std::vector<Certificate> chain = CertificatesOf(identity.cert);
  const Bio key_text = BioOf(identity.key);
  const std::unique_ptr<EVP_PKEY, decltype(&EVP_PKEY_free)> key(
      PEM_read_bio_PrivateKey(key_text.get(), nullptr, nullptr, nullptr), EVP_PKEY_free);
  if (chain.empty() || SSL_use_certificate(handshake, chain.front().get()) != 1 ||
      SSL_use_PrivateKey(handshake, key.get()) != 1) {
    return 0;
  }
  for (std::size_t i = 1; i < chain.size(); ++i) {
    if (SSL_add1_chain_cert(handshake, chain[i].get()) != 1) return 0;
  }
  if (client_ca.empty()) return 1;
  const std::unique_ptr<X509_STORE, decltype(&X509_STORE_free)> store(X509_STORE_new(), X509_STORE_free);
  for (const Certificate& authority : CertificatesOf(client_ca)) {
    if (X509_STORE_add_cert(store.get(), authority.get()) != 1) return 0;
    SSL_add_client_CA(handshake, authority.get());
  }
  SSL_set1_verify_cert_store(handshake, store.get());
  SSL_set_verify(handshake, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, nullptr);
  return 1;
}

std::shared_ptr<grpc::ServerCredentials> ServerTls::Credentials(const std::shared_ptr<ServerTls>& tls) {
  return std::make_shared<PortCredentials>(tls);
}

}  // namespace iterand
