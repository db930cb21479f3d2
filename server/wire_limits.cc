#include "server/wire_limits.h"

#include <google/protobuf/io/coded_stream.h>
#include <google/protobuf/wire_format_lite.h>

#include <cstdint>
#include <limits>

#include "absl/strings/str_cat.h"

namespace iterand {
namespace {

using google::protobuf::Descriptor;
using google::protobuf::FieldDescriptor;
using google::protobuf::internal::WireFormatLite;
using google::protobuf::io::CodedInputStream;

enum class Verdict { kOk, kTooMany, kMalformed };

// Counts the fields of a message that ends where `in` ends. Recursion is bounded by the schema, which has no cycles.
Verdict Count(CodedInputStream& in, const Descriptor& type, int& fields) {
  while (const std::uint32_t tag = in.ReadTag()) {
    if (++fields > kMaxRequestFields) return Verdict::kTooMany;
    switch (WireFormatLite::GetTagWireType(tag)) {
      case WireFormatLite::WIRETYPE_VARINT: {
        std::uint64_t value;
        if (!in.ReadVarint64(&value)) return Verdict::kMalformed;
        break;
      }
      case WireFormatLite::WIRETYPE_FIXED64:
        if (!in.Skip(8)) return Verdict::kMalformed;
        break;
      case WireFormatLite::WIRETYPE_FIXED32:
        if (!in.Skip(4)) return Verdict::kMalformed;
        break;
      case WireFormatLite::WIRETYPE_LENGTH_DELIMITED: {
        std::uint32_t size;
        if (!in.ReadVarint32(&size) || size > static_cast<std::uint32_t>(std::numeric_limits<int>::max())) {
          return Verdict::kMalformed;
        }
        const FieldDescriptor* field = type.FindFieldByNumber(WireFormatLite::GetTagFieldNumber(tag));
        if (field != nullptr && field->cpp_type() == FieldDescriptor::CPPTYPE_MESSAGE) {
          const CodedInputStream::Limit limit = in.PushLimit(static_cast<int>(size));
          const Verdict verdict = Count(in, *field->message_type(), fields);
          if (verdict != Verdict::kOk) return verdict;
          if (in.BytesUntilLimit() != 0) return Verdict::kMalformed;
          in.PopLimit(limit);
          break;
        }
        if (field != nullptr && field->is_packable() && size > 0) {
          // An element takes at least one byte.
          if (size > static_cast<std::uint32_t>(kMaxRequestFields - fields)) return Verdict::kTooMany;
          fields += static_cast<int>(size);
        }
        if (!in.Skip(static_cast<int>(size))) return Verdict::kMalformed;
        break;
      }
      default:  // groups, which no message of ours has, and types that do not exist
        return Verdict::kMalformed;
    }
  }
  return in.ConsumedEntireMessage() ? Verdict::kOk : Verdict::kMalformed;
}

}  // namespace

absl::Status CheckWireLimits(google::protobuf::io::ZeroCopyInputStream& wire, const Descriptor& type) {
  CodedInputStream in(&wire);
  int fields = 0;
  switch (Count(in, type, fields)) {
    case Verdict::kTooMany:
      return absl::InvalidArgumentError(absl::StrCat("the request has more than ", kMaxRequestFields,
                                                     " fields, with those of its submessages; it may have at most ",
                                                     kMaxRequestFields));
    case Verdict::kMalformed:
      return absl::InvalidArgumentError(absl::StrCat("the request is not an ", type.full_name()));
    case Verdict::kOk:
      break;
  }
  return absl::OkStatus();
}

}  // namespace iterand
