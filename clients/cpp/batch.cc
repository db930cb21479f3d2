#include "iterand/batch.h"

#include <google/protobuf/io/coded_stream.h>
#include <google/protobuf/wire_format_lite.h>
#include <grpcpp/grpcpp.h>
#include <grpcpp/support/proto_buffer_reader.h>

#include <algorithm>
#include <cstring>
#include <limits>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "clients/cpp/from_proto.h"

namespace iterand {
namespace {

using google::protobuf::internal::WireFormatLite;
using google::protobuf::io::CodedInputStream;

constexpr std::uint64_t kMaxInt = std::numeric_limits<int>::max();

absl::Status Malformed(const std::string& what) {
  return absl::DataLossError(absl::StrCat("the server sent a malformed batch: ", what));
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
  dtype_ = Dtype::kUint8;
  token_bytes_ = 0;
  fingerprint_.clear();
  provenance_.clear();
  loss_mask_.clear();
  parts_.clear();
  pieces_.clear();
  joined_.clear();
  slices_ = std::make_unique<Slices>();
  if (!message.Dump(&slices_->all).ok()) return Malformed("it cannot be read");

  std::size_t tokens_begin = 0;
  bool dtype_known = false;
  if (absl::Status status = ReadFields(message, tokens_begin, dtype_known); !status.ok()) return status;
  if (absl::Status status = CheckSizes(dtype_known); !status.ok()) return status;
  LocateTokens(tokens_begin);
  return absl::OkStatus();
}

absl::Status Batch::ReadFields(grpc::ByteBuffer& message, std::size_t& tokens_begin, bool& dtype_known) {
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
        if (const auto dtype = FromProto(static_cast<v1::Dtype>(number))) {
          dtype_ = *dtype;
          dtype_known = true;
        } else {
          dtype_known = false;
        }
        break;
      case v1::Batch::kFingerprintFieldNumber:
        ok = in.ReadVarint32(&size) && in.ReadString(&fingerprint_, static_cast<int>(size));
        break;
      case v1::Batch::kProvenanceFieldNumber: {
        ok = in.ReadVarint32(&size);
        const CodedInputStream::Limit limit = in.PushLimit(static_cast<int>(size));
        v1::Provenance provenance;
        ok = ok && provenance.ParseFromCodedStream(&in) && in.BytesUntilLimit() == 0;
        provenance_.push_back(FromProto(provenance));
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
  return absl::OkStatus();
}

absl::Status Batch::CheckSizes(bool dtype_known) const {
  const std::size_t tokens = static_cast<std::size_t>(rows_) * static_cast<std::size_t>(length_);
  const std::size_t expected = dtype_known ? tokens * DtypeBytes(dtype_) : 0;
  if (token_bytes_ != expected || (!dtype_known && tokens > 0)) {
    return Malformed(absl::StrCat(token_bytes_, " bytes of tokens for ", rows_, " rows of ", length_, " tokens of ",
                                  dtype_known ? DtypeName(dtype_) : "an unknown dtype"));
  }

  if (!loss_mask_.empty() && loss_mask_.size() != tokens) {
    return Malformed(
        absl::StrCat(loss_mask_.size(), " bytes of loss_mask for ", rows_, " rows of ", length_, " tokens"));
  }
  if (!parts_.empty() && parts_.size() != static_cast<std::size_t>(rows_)) {
    return Malformed(absl::StrCat(parts_.size(), " parts for ", rows_, " rows"));
  }
  return absl::OkStatus();
}

void Batch::LocateTokens(std::size_t tokens_begin) {
  std::size_t position = 0;  // of the slice's begin in the message
  const std::size_t tokens_end = tokens_begin + token_bytes_;
  for (const grpc::Slice& slice : slices_->all) {
    const std::size_t begin = std::max(position, tokens_begin);
    const std::size_t end = std::min(position + slice.size(), tokens_end);
    if (begin < end) {
      pieces_.emplace_back(reinterpret_cast<const std::byte*>(slice.begin()) + (begin - position), end - begin);
    }
    position += slice.size();
  }
}

std::span<const std::byte> Batch::tokens() const {
  if (pieces_.size() <= 1) return pieces_.empty() ? std::span<const std::byte>() : pieces_.front();
  if (joined_.empty()) {
    joined_.resize(token_bytes_);
    CopyTo(joined_);
  }
  return joined_;
}

std::string Batch::fingerprint() const { return absl::BytesToHexString(fingerprint_); }

void Batch::CopyTo(std::span<std::byte> out) const {
  std::byte* to = out.data();
  for (const std::span<const std::byte> piece : pieces_) {
    std::memcpy(to, piece.data(), piece.size());
    to += piece.size();
  }
}

}  // namespace iterand
