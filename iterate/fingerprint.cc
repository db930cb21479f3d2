#include "iterate/fingerprint.h"

#include <google/protobuf/descriptor.h>
#include <openssl/sha.h>

#include <bit>
#include <vector>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"

namespace iterand {
namespace {

using google::protobuf::FieldDescriptor;
using google::protobuf::Message;
using google::protobuf::Reflection;

void AppendCanonical(const Message& message, const std::string& path, std::string& out);

void AppendValue(const Message& message, const FieldDescriptor& field, const std::string& path, std::string& out) {
  const Reflection& reflection = *message.GetReflection();
  switch (field.cpp_type()) {
    case FieldDescriptor::CPPTYPE_MESSAGE:
      AppendCanonical(reflection.GetMessage(message, &field), path, out);
      return;
    case FieldDescriptor::CPPTYPE_DOUBLE:
      // + 0.0 turns -0 into 0.
      absl::StrAppendFormat(&out, "%s=%016x\n", path,
                            std::bit_cast<std::uint64_t>(reflection.GetDouble(message, &field) + 0.0));
      return;
    case FieldDescriptor::CPPTYPE_INT64:
      absl::StrAppend(&out, path, "=", reflection.GetInt64(message, &field), "\n");
      return;
    case FieldDescriptor::CPPTYPE_BOOL:
      absl::StrAppend(&out, path, "=", reflection.GetBool(message, &field) ? "true" : "false", "\n");
      return;
    case FieldDescriptor::CPPTYPE_ENUM:
      absl::StrAppend(&out, path, "=", reflection.GetEnum(message, &field)->name(), "\n");
      return;
    default:
      // The schema has no other types. A new type without a canonical form must change the text visibly.
      absl::StrAppend(&out, path, "=?", field.type_name(), "\n");
  }
}

// Fields that are for people, and no part of the stream.
bool IsForPeople(const FieldDescriptor& field) {
  const auto* type = field.containing_type();
  return (type == v1::Recipe::descriptor() && field.number() == v1::Recipe::kDescriptionFieldNumber) ||
         (type == v1::Part::descriptor() && field.number() == v1::Part::kNameFieldNumber);
}

void AppendCanonical(const Message& message, const std::string& path, std::string& out) {
  const Reflection& reflection = *message.GetReflection();
  std::vector<const FieldDescriptor*> fields;
  reflection.ListFields(message, &fields);
  // An empty message must differ from an absent one.
  if (fields.empty()) absl::StrAppend(&out, path, "={}\n");
  for (const FieldDescriptor* field : fields) {
    if (IsForPeople(*field)) continue;
    const std::string below = path.empty() ? field->name() : absl::StrCat(path, ".", field->name());
    if (!field->is_repeated()) {
      AppendValue(message, *field, below, out);
      continue;
    }
    for (int i = 0; i < reflection.FieldSize(message, field); ++i) {
      const std::string element = absl::StrCat(below, "[", i, "]");
      if (field->cpp_type() == FieldDescriptor::CPPTYPE_MESSAGE) {
        AppendCanonical(reflection.GetRepeatedMessage(message, field, i), element, out);
      } else if (field->cpp_type() == FieldDescriptor::CPPTYPE_INT64) {
        absl::StrAppend(&out, element, "=", reflection.GetRepeatedInt64(message, field, i), "\n");
      } else if (field->cpp_type() == FieldDescriptor::CPPTYPE_ENUM) {
        absl::StrAppend(&out, element, "=", reflection.GetRepeatedEnum(message, field, i)->name(), "\n");
      } else if (field->cpp_type() == FieldDescriptor::CPPTYPE_STRING) {
        absl::StrAppend(&out, element, "=\"", absl::CEscape(reflection.GetRepeatedString(message, field, i)), "\"\n");
      } else {
        absl::StrAppend(&out, element, "=?", field->type_name(), "\n");
      }
    }
  }
}

}  // namespace

std::string ToHex(const Fingerprint& fingerprint) {
  constexpr char kDigits[] = "0123456789abcdef";
  std::string hex;
  for (const std::uint8_t byte : fingerprint) {
    hex += kDigits[byte >> 4];
    hex += kDigits[byte & 15];
  }
  return hex;
}

std::string CanonicalText(const v1::Recipe& resolved) {
  std::string text;
  AppendCanonical(resolved, "", text);
  return text;
}

Fingerprint ComputeFingerprint(const v1::Recipe& resolved, std::uint64_t seed) {
  const std::string text =
      absl::StrCat("iterand\nengine_version=", kEngineVersion, "\nseed=", seed, "\n", CanonicalText(resolved));
  Fingerprint fingerprint;
  SHA256(reinterpret_cast<const unsigned char*>(text.data()), text.size(), fingerprint.data());
  return fingerprint;
}

}  // namespace iterand
