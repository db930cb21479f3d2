#include "randnet/settings.h"

#include <google/protobuf/descriptor.h>
#include <google/protobuf/unknown_field_set.h>

#include <cstdint>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "iterand/v1/knobs.pb.h"
#include "randnet/check.h"
#include "randnet/enum_name.h"
#include "randnet/knob.h"

namespace iterand {
namespace {

using google::protobuf::Descriptor;
using google::protobuf::EnumDescriptor;
using google::protobuf::FieldDescriptor;
using google::protobuf::Message;
using google::protobuf::Reflection;
using google::protobuf::UnknownFieldSet;

const v1::Setting& SettingOf(const FieldDescriptor& field) { return field.options().GetExtension(v1::setting); }

bool IsKnob(const FieldDescriptor& field) {
  return field.message_type() == v1::Integer::descriptor() || field.message_type() == v1::Real::descriptor();
}

bool IsGiven(const Message& message, const FieldDescriptor& field) {
  const Reflection& reflection = *message.GetReflection();
  if (!reflection.HasField(message, &field)) return false;
  if (field.cpp_type() == FieldDescriptor::CPPTYPE_ENUM) {
    return reflection.GetEnumValue(message, &field) != 0;  // the value that stands for "not given"
  }
  if (!IsKnob(field)) return true;
  const Message& knob = reflection.GetMessage(message, &field);
  return knob.GetReflection()->HasOneof(knob, knob.GetDescriptor()->FindOneofByName("kind"));
}

// Leaves fields of a newer schema in place, which CheckFields refuses.
void SetDefault(Message& message, const FieldDescriptor& field, const v1::Setting& setting) {
  const Reflection& reflection = *message.GetReflection();
  switch (setting.default_case()) {
    case v1::Setting::kInteger:
      reflection.MutableMessage(&message, &field)->MergeFrom(setting.integer());
      break;
    case v1::Setting::kReal:
      reflection.MutableMessage(&message, &field)->MergeFrom(setting.real());
      break;
    case v1::Setting::kNumber:
      if (field.cpp_type() == FieldDescriptor::CPPTYPE_DOUBLE) {
        reflection.SetDouble(&message, &field, setting.number());
      } else {
        reflection.SetInt64(&message, &field, static_cast<std::int64_t>(setting.number()));
      }
      break;
    case v1::Setting::kFlag:
      reflection.SetBool(&message, &field, setting.flag());
      break;
    case v1::Setting::kName:
      reflection.SetEnum(&message, &field, field.enum_type()->FindValueByName(setting.name()));
      break;
    case v1::Setting::kComputed:
    case v1::Setting::DEFAULT_NOT_SET:
      break;
  }
}

// Whether a bool or int64 has its default.
bool HasDefault(const Message& message, const FieldDescriptor& field, const v1::Setting& setting) {
  const Reflection& reflection = *message.GetReflection();
  return field.cpp_type() == FieldDescriptor::CPPTYPE_BOOL
             ? reflection.GetBool(message, &field) == setting.flag()
             : reflection.GetInt64(message, &field) == static_cast<std::int64_t>(setting.number());
}

absl::Status CheckSize(const Message& message, const FieldDescriptor& field, const std::string& path) {
  const int size = message.GetReflection()->FieldSize(message, &field);
  const v1::Setting& setting = SettingOf(field);
  if (setting.max() == 0 || (size >= setting.min() && size <= setting.max())) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat(path, ": has ", size, " entries, must have ", setting.min(), " to ", setting.max()));
}

// Values that a build does not know, and 0 in a list, can only come over the wire.
absl::Status CheckEnum(const FieldDescriptor& field, int value, const std::string& path) {
  const EnumDescriptor& type = *field.enum_type();
  if (value != 0 && type.FindValueByNumber(value) != nullptr) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat(path, ": is ", value, ", must be one of ", absl::StrJoin(EnumNames(type), ", ")));
}

absl::Status CheckMessage(const FieldDescriptor& field, const Message& value, const std::string& path) {
  const v1::Setting& setting = SettingOf(field);
  if (field.message_type() == v1::Integer::descriptor()) {
    absl::Status status =
        IntegerKnob::Check(static_cast<const v1::Integer&>(value), path, static_cast<std::int64_t>(setting.min()),
                           static_cast<std::int64_t>(setting.max()));
    if (!status.ok()) return status;
  } else if (field.message_type() == v1::Real::descriptor()) {
    absl::Status status = RealKnob::Check(static_cast<const v1::Real&>(value), path, setting.min(), setting.max());
    if (!status.ok()) return status;
  }
  return CheckFields(value, path);
}

absl::Status CheckList(const Message& message, const FieldDescriptor& field, const std::string& path) {
  const Reflection& reflection = *message.GetReflection();
  if (absl::Status s = CheckSize(message, field, path); !s.ok()) return s;
  for (int i = 0; i < reflection.FieldSize(message, &field); ++i) {
    const std::string element = absl::StrCat(path, "[", i, "]");
    absl::Status status;
    if (field.cpp_type() == FieldDescriptor::CPPTYPE_MESSAGE) {
      status = CheckMessage(field, reflection.GetRepeatedMessage(message, &field, i), element);
    } else if (field.cpp_type() == FieldDescriptor::CPPTYPE_ENUM) {
      status = CheckEnum(field, reflection.GetRepeatedEnumValue(message, &field, i), element);
    }
    if (!status.ok()) return status;
  }
  return absl::OkStatus();
}

std::string PathBelow(const std::string& path, const FieldDescriptor& field) {
  return path.empty() ? field.name() : absl::StrCat(path, ".", field.name());
}

// Refuses fields that this build does not know in a message, but not in those below it.
absl::Status CheckOwnFields(const Message& message, const std::string& path) {
  const UnknownFieldSet& unknown = message.GetReflection()->GetUnknownFields(message);
  if (unknown.empty()) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat(path.empty() ? "recipe" : path, ": has unknown field number ",
                                                 unknown.field(0).number(),
                                                 "; this server may be older than the client"));
}

absl::Status CheckField(const Message& message, const FieldDescriptor& field, const std::string& path) {
  const Reflection& reflection = *message.GetReflection();
  const v1::Setting& setting = SettingOf(field);
  const std::string below = PathBelow(path, field);
  if (field.is_repeated()) return CheckList(message, field, below);
  if (!reflection.HasField(message, &field)) return absl::OkStatus();
  switch (field.cpp_type()) {
    case FieldDescriptor::CPPTYPE_MESSAGE:
      return CheckMessage(field, reflection.GetMessage(message, &field), below);
    case FieldDescriptor::CPPTYPE_ENUM:
      return CheckEnum(field, reflection.GetEnumValue(message, &field), below);
    case FieldDescriptor::CPPTYPE_INT64:
      if (setting.max() == 0) return absl::OkStatus();
      return CheckRange(below, reflection.GetInt64(message, &field), static_cast<std::int64_t>(setting.min()),
                        static_cast<std::int64_t>(setting.max()));
    case FieldDescriptor::CPPTYPE_DOUBLE:
      if (setting.max() == 0) return absl::OkStatus();
      return CheckRange(below, reflection.GetDouble(message, &field), setting.min(), setting.max());
    default:
      return absl::OkStatus();
  }
}

void WriteDefault(Message& message, const FieldDescriptor& field) {
  const Reflection& reflection = *message.GetReflection();
  if (field.cpp_type() == FieldDescriptor::CPPTYPE_MESSAGE && !IsKnob(field)) {
    if (field.is_repeated()) {
      for (int j = 0; j < reflection.FieldSize(message, &field); ++j) {
        WriteDefaults(*reflection.MutableRepeatedMessage(&message, &field, j));
      }
    } else if (reflection.HasField(message, &field)) {
      WriteDefaults(*reflection.MutableMessage(&message, &field));
    }
  } else if (const v1::Setting& setting = SettingOf(field); setting.omitted()) {
    if (HasDefault(message, field, setting)) reflection.ClearField(&message, &field);
  } else if (!field.is_repeated() && !IsGiven(message, field)) {
    SetDefault(message, field, setting);
  }
}

}  // namespace

void WriteDefaults(Message& message) {
  const Descriptor& type = *message.GetDescriptor();
  for (int i = 0; i < type.field_count(); ++i) WriteDefault(message, *type.field(i));
}

void WriteDefault(Message& message, int field_number) {
  WriteDefault(message, *message.GetDescriptor()->FindFieldByNumber(field_number));
}

absl::Status CheckFields(const Message& message, const std::string& path) {
  if (absl::Status status = CheckOwnFields(message, path); !status.ok()) return status;
  const Descriptor& type = *message.GetDescriptor();
  for (int i = 0; i < type.field_count(); ++i) {
    if (absl::Status status = CheckField(message, *type.field(i), path); !status.ok()) return status;
  }
  return absl::OkStatus();
}

absl::Status CheckField(const Message& message, int field_number) {
  return CheckField(message, *message.GetDescriptor()->FindFieldByNumber(field_number), "");
}

absl::Status CheckKnown(const Message& message, const std::string& path) {
  if (absl::Status status = CheckOwnFields(message, path); !status.ok()) return status;
  const Reflection& reflection = *message.GetReflection();
  std::vector<const FieldDescriptor*> fields;
  reflection.ListFields(message, &fields);
  for (const FieldDescriptor* field : fields) {
    if (field->cpp_type() != FieldDescriptor::CPPTYPE_MESSAGE) continue;
    const std::string below = PathBelow(path, *field);
    if (!field->is_repeated()) {
      if (absl::Status status = CheckKnown(reflection.GetMessage(message, field), below); !status.ok()) return status;
      continue;
    }
    for (int i = 0; i < reflection.FieldSize(message, field); ++i) {
      absl::Status status =
          CheckKnown(reflection.GetRepeatedMessage(message, field, i), absl::StrCat(below, "[", i, "]"));
      if (!status.ok()) return status;
    }
  }
  return absl::OkStatus();
}

absl::Status CheckSize(const Message& message, int field_number) {
  const FieldDescriptor& field = *message.GetDescriptor()->FindFieldByNumber(field_number);
  return CheckSize(message, field, field.name());
}

}  // namespace iterand
