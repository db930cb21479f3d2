#include "clients/cpp/batch.h"

#include <google/protobuf/io/coded_stream.h>
#include <google/protobuf/wire_format_lite.h>
#include <grpcpp/grpcpp.h>
#include <grpcpp/support/proto_buffer_reader.h>

#include <algorithm>
#include <cstring>
#include <limits>

#include "absl/strings/str_cat.h"

namespace iterand {
namespace {

using google::protobuf::internal::WireFormatLite;
using google::protobuf::io::CodedInputStream;

constexpr std::uint64_t kMaxInt = std::numeric_limits<int>::max();

absl::Status Malformed(const std::string& what) {
  return absl::DataLossError(absl::StrCat("the server sent a malformed batch: ", what));
}

std::size_t DtypeBytes(v1::Dtype dtype) {
  switch (dtype) {
    case v1::DTYPE_UINT8:
      return 1;
    case v1::DTYPE_UINT16:
      return 2;
    case v1::DTYPE_UINT32:
      return 4;
    default:
      return 0;
  }
}

}  // namespace

struct Batch::Slices {
  std::vector<grpc::Slice> all;
};

Batch::Batch() = default;
Batch::~Batch() = default;
Batch::Batch(Batch&&) noexcept = default;
Batch& Batch::operator=(Batch&&) noexcept = default;

absl::Status Batch::Parse(grpc::ByteBuffer& message) {
  first_index_ = 0;
  stride_ = 0;
  rows_ = 0;
  length_ = 0;
  dtype_ = v1::DTYPE_UNSPECIFIED;
  token_bytes_ = 0;
  fingerprint_.clear();
  provenance_.clear();
  loss_mask_.clear();
  parts_.clear();
  pieces_.clear();
  joined_.clear();
  slices_ = std::make_unique<Slices>();
  if (!message.Dump(&slices_->all).ok()) return Malformed("it cannot be read");

  // The fields of v1.Batch; the tokens are not read but located.
  std::size_t tokens_begin = 0;
  grpc::ProtoBufferReader reader(&message);
  CodedInputStream in(&reader);
  for (std::uint32_t tag = in.ReadTag(); tag != 0; tag = in.ReadTag()) {
    bool ok = true;
    std::uint64_t number = 0;
    std::uint32_t size = 0;
    switch (WireFormatLite::GetTagFieldNumber(tag)) {
      case v1::Batch::kFirstIndexFieldNumber:
        ok = in.ReadVarint64(&first_index_);
        break;
      case v1::Batch::kStrideFieldNumber:
        ok = in.ReadVarint64(&stride_);
        break;
      case v1::Batch::kRowsFieldNumber:
        ok = in.ReadVarint64(&number) && number <= kMaxInt;
        rows_ = static_cast<int>(number);
        break;
      case v1::Batch::kLengthFieldNumber:
        ok = in.ReadVarint64(&number) && number <= kMaxInt;
        length_ = static_cast<int>(number);
        break;
      case v1::Batch::kDtypeFieldNumber:
        ok = in.ReadVarint64(&number);
        dtype_ = static_cast<v1::Dtype>(number);
        break;
      case v1::Batch::kFingerprintFieldNumber:
        ok = in.ReadVarint32(&size) && in.ReadString(&fingerprint_, static_cast<int>(size));
        break;
      case v1::Batch::kProvenanceFieldNumber: {
        ok = in.ReadVarint32(&size);
        const CodedInputStream::Limit limit = in.PushLimit(static_cast<int>(size));
        ok = ok && provenance_.emplace_back().ParseFromCodedStream(&in) && in.BytesUntilLimit() == 0;
        in.PopLimit(limit);
        break;
      }
      case v1::Batch::kLossMaskFieldNumber:
        ok = in.ReadVarint32(&size) && in.ReadString(&loss_mask_, static_cast<int>(size));
        break;
      case v1::Batch::kPartsFieldNumber:
        ok = in.ReadVarint32(&size) && in.ReadString(&parts_, static_cast<int>(size));
        break;
      case v1::Batch::kTokensFieldNumber:
        ok = in.ReadVarint32(&size);
        tokens_begin = static_cast<std::size_t>(in.CurrentPosition());
        token_bytes_ = size;
        ok = ok && in.Skip(static_cast<int>(size));
        break;
      default:
        ok = WireFormatLite::SkipField(&in, tag);
    }
    if (!ok) return Malformed(absl::StrCat("field ", WireFormatLite::GetTagFieldNumber(tag), " is broken"));
  }
  const std::size_t tokens = static_cast<std::size_t>(rows_) * static_cast<std::size_t>(length_);
  const std::size_t expected = tokens * DtypeBytes(dtype_);
  if (token_bytes_ != expected) {
    return Malformed(absl::StrCat(token_bytes_, " bytes of tokens for ", rows_, " rows of ", length_, " tokens"));
  }

  if (!loss_mask_.empty() && loss_mask_.size() != tokens) {
    return Malformed(
        absl::StrCat(loss_mask_.size(), " bytes of loss_mask for ", rows_, " rows of ", length_, " tokens"));
  }
  if (!parts_.empty() && parts_.size() != static_cast<std::size_t>(rows_)) {
    return Malformed(absl::StrCat(parts_.size(), " parts for ", rows_, " rows"));
  }

  std::size_t position = 0;  // in the message, of the slice's begin
  const std::size_t tokens_end = tokens_begin + token_bytes_;
  for (const grpc::Slice& slice : slices_->all) {
    const std::size_t begin = std::max(position, tokens_begin);
    const std::size_t end = std::min(position + slice.size(), tokens_end);
    if (begin < end) {
      pieces_.emplace_back(reinterpret_cast<const std::byte*>(slice.begin()) + (begin - position), end - begin);
    }
    position += slice.size();
  }
  return absl::OkStatus();
}

std::span<const std::byte> Batch::tokens() const {
  if (pieces_.size() <= 1) return pieces_.empty() ? std::span<const std::byte>() : pieces_.front();
  if (joined_.empty()) {
    joined_.resize(token_bytes_);
    CopyTo(joined_.data());
  }
  return joined_;
}

void Batch::CopyTo(void* out) const {
  auto* to = static_cast<std::byte*>(out);
  for (const std::span<const std::byte> piece : pieces_) {
    std::memcpy(to, piece.data(), piece.size());
    to += piece.size();
  }
}

}  // namespace iterand
