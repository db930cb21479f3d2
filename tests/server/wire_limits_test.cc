#include "server/wire_limits.h"

#include <google/protobuf/descriptor.h>
#include <google/protobuf/io/zero_copy_stream_impl_lite.h>
#include <google/protobuf/unknown_field_set.h>
#include <gtest/gtest.h>

#include <random>
#include <string>
#include <vector>

#include "iterand/v1/noise_service.pb.h"
#include "iterate/presets.h"

namespace iterand {
namespace {

std::string Refusal(const google::protobuf::Descriptor& type, const std::string& wire, int block = -1) {
  google::protobuf::io::ArrayInputStream stream(wire.data(), static_cast<int>(wire.size()), block);
  return std::string(CheckWireLimits(stream, type).message());
}

constexpr char kTooMany[] =
    "the request has more than 65536 fields, with those of its submessages; it may have at most 65536";

v1::StreamRequest WithFamilies(int families) {
  v1::StreamRequest request;
  for (int i = 0; i < families; ++i) request.mutable_stream()->mutable_recipe()->add_families();
  return request;
}

TEST(WireLimits, SubmessagesCount) {
  const auto& type = *v1::StreamRequest::descriptor();
  // `stream` and `recipe` are two fields.
  EXPECT_EQ(Refusal(type, WithFamilies(65534).SerializeAsString()), "");
  EXPECT_EQ(Refusal(type, WithFamilies(65535).SerializeAsString()), kTooMany);
  v1::ExecuteRequest execute;
  for (int i = 0; i < 65537; ++i) execute.add_programs();
  EXPECT_EQ(Refusal(*v1::ExecuteRequest::descriptor(), execute.SerializeAsString()), kTooMany);
}

TEST(WireLimits, ElementsOfPackedFieldsCount) {
  v1::StreamRequest request;
  auto* values = request.mutable_stream()
                     ->mutable_recipe()
                     ->add_families()
                     ->mutable_lstm()
                     ->mutable_layers()
                     ->mutable_choice()
                     ->mutable_values();
  values->Resize(65000, 1);
  EXPECT_EQ(Refusal(*v1::StreamRequest::descriptor(), request.SerializeAsString()), "");
  values->Resize(65536, 1);
  EXPECT_EQ(Refusal(*v1::StreamRequest::descriptor(), request.SerializeAsString()), kTooMany);
  // The same whether or not they are packed.
  std::string unpacked;
  for (int i = 0; i < 65537; ++i) unpacked += std::string("\x08\x01", 2);
  EXPECT_EQ(Refusal(*v1::Integer::Choice::descriptor(), unpacked), kTooMany);
}

TEST(WireLimits, UnknownFieldsCount) {
  v1::StreamRequest request;
  auto* unknown = request.mutable_stream()->GetReflection()->MutableUnknownFields(request.mutable_stream());
  for (int i = 0; i < 1000; ++i) {
    unknown->AddVarint(1000, 1);
    unknown->AddFixed32(1001, 1);
    unknown->AddFixed64(1002, 1);
    unknown->AddLengthDelimited(1003, "some bytes");
  }
  EXPECT_EQ(Refusal(*v1::StreamRequest::descriptor(), request.SerializeAsString()), "");
  for (int i = 0; i < 65536; ++i) unknown->AddVarint(1000, 1);
  EXPECT_EQ(Refusal(*v1::StreamRequest::descriptor(), request.SerializeAsString()), kTooMany);
}

TEST(WireLimits, WhatIsNoMessageIsRefused) {
  const auto& type = *v1::StreamRequest::descriptor();
  const std::string no_request = "the request is not an iterand.v1.StreamRequest";
  EXPECT_EQ(Refusal(type, ""), "");
  EXPECT_EQ(Refusal(type, "\x0a"), no_request);                                          // no length
  EXPECT_EQ(Refusal(type, "\x0a\x05zz"), no_request);                                    // ends early
  EXPECT_EQ(Refusal(type, std::string("\x00\x01", 2)), no_request);                      // field 0
  EXPECT_EQ(Refusal(type, "\x0f"), no_request);                                          // wire type 7
  EXPECT_EQ(Refusal(type, "\x0a\xff\xff\xff\xff\x0f"), no_request);                      // 4 GiB
  EXPECT_EQ(Refusal(type, "\x18\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff"), no_request);  // a varint of 11 bytes
  // Groups, however deep, of a field that is unknown.
  EXPECT_EQ(Refusal(type, std::string(1 << 20, '\x33')), no_request);
}

TEST(WireLimits, WholeRequestsPassHoweverTheyAreCut) {
  for (const PresetEntry& preset : AllPresets()) {
    v1::StreamRequest request;
    *request.mutable_stream()->mutable_recipe() = *LoadPreset(preset.name);
    request.mutable_stream()->set_expected_fingerprint(std::string(32, 'x'));
    request.set_count(~std::uint64_t{0});
    for (const int block : {1, 3, 1000}) {
      EXPECT_EQ(Refusal(*v1::StreamRequest::descriptor(), request.SerializeAsString(), block), "") << preset.name;
    }
  }
}

bool HasGroup(const google::protobuf::UnknownFieldSet& fields) {
  for (int i = 0; i < fields.field_count(); ++i) {
    if (fields.field(i).type() == google::protobuf::UnknownField::TYPE_GROUP) return true;
  }
  return false;
}

bool HasGroup(const google::protobuf::Message& message) {
  const auto& reflection = *message.GetReflection();
  if (HasGroup(reflection.GetUnknownFields(message))) return true;
  std::vector<const google::protobuf::FieldDescriptor*> fields;
  reflection.ListFields(message, &fields);
  for (const auto* field : fields) {
    if (field->cpp_type() != google::protobuf::FieldDescriptor::CPPTYPE_MESSAGE) continue;
    if (!field->is_repeated() && HasGroup(reflection.GetMessage(message, field))) return true;
    for (int i = 0; field->is_repeated() && i < reflection.FieldSize(message, field); ++i) {
      if (HasGroup(reflection.GetRepeatedMessage(message, field, i))) return true;
    }
  }
  return false;
}

// Everything that protobuf accepts passes, except groups.
TEST(WireLimits, NothingThatProtobufTakesIsRefused) {
  std::mt19937 random(1);
  int taken = 0;
  for (const PresetEntry& preset : AllPresets()) {
    v1::StreamRequest request;
    *request.mutable_stream()->mutable_recipe() = *LoadPreset(preset.name);
    request.mutable_stream()->mutable_recipe()->clear_description();
    request.set_count(1);
    const std::string wire = request.SerializeAsString();
    for (int i = 0; i < 2000; ++i) {
      std::string changed = wire;
      for (int n = 1 + static_cast<int>(random() % 3); n > 0; --n) {
        changed[random() % changed.size()] = static_cast<char>(random());
      }
      if (random() % 4 == 0) changed.resize(random() % changed.size());
      v1::StreamRequest parsed;
      if (!parsed.ParsePartialFromString(changed) || HasGroup(parsed)) continue;
      ++taken;
      EXPECT_EQ(Refusal(*v1::StreamRequest::descriptor(), changed), "") << preset.name << " " << i;
    }
  }
  EXPECT_GT(taken, 1000);
}

}  // namespace
}  // namespace iterand
