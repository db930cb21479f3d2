// Defaults and ranges of a recipe's fields, as the schema states them: the option `setting` of
// proto/iterand/v1/knobs.proto. Nothing else states them; the code of a family has only what depends on several fields,
// on the alphabet or on the length of a row.
#pragma once

#include <google/protobuf/message.h>

#include <string>

#include "absl/status/status.h"

namespace iterand {

// Writes the default of every field that is not given, in `message` and in all messages below it, and removes defaults
// that resolved recipes leave out. A default that is computed from other fields stays with the caller.
void WriteDefaults(google::protobuf::Message& message);

// Does the same for one field and what is below it.
void WriteDefault(google::protobuf::Message& message, int field_number);

// Checks every field of a message with all defaults written out, and of all messages below it: this build must know it,
// and its value must be in its range. Errors: InvalidArgument with the path of the field, which begins with `path`, its
// value and what is allowed.
absl::Status CheckFields(const google::protobuf::Message& message, const std::string& path);

// Does the same for one field, of a message that is not part of another, and for what is below it.
absl::Status CheckField(const google::protobuf::Message& message, int field_number);

// Checks that this build knows every field of a message and of all messages below it. Errors: as of CheckFields.
absl::Status CheckKnown(const google::protobuf::Message& message, const std::string& path);

// Checks the size of a list alone.
absl::Status CheckSize(const google::protobuf::Message& message, int field_number);

}  // namespace iterand
