#include "randnet/settings.h"

#include <google/protobuf/descriptor.h>
#include <google/protobuf/text_format.h>
#include <gtest/gtest.h>

#include <climits>
#include <functional>
#include <set>
#include <string>

#include "iterand/v1/recipe.pb.h"
#include "randnet/knob.h"

namespace iterand {
namespace {

using google::protobuf::Descriptor;
using google::protobuf::FieldDescriptor;

template <typename Message>
Message Parse(const std::string& text) {
  Message message;
  EXPECT_TRUE(google::protobuf::TextFormat::ParseFromString(text, &message)) << text;
  return message;
}

template <typename Message>
std::string Resolved(const std::string& text) {
  auto message = Parse<Message>(text);
  WriteDefaults(message);
  return message.ShortDebugString();
}

template <typename Message>
std::string Refusal(const std::string& text) {
  const absl::Status status = CheckFields(Parse<Message>(text), "it");
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << text;
  return std::string(status.message());
}

// Adds all fields of a message and of the messages below it, except those of knobs.
void AddFields(const Descriptor& type, std::set<const FieldDescriptor*>& fields) {
  for (int i = 0; i < type.field_count(); ++i) {
    const FieldDescriptor* field = type.field(i);
    if (!fields.insert(field).second) continue;  // a recipe may have recipes below it
    const Descriptor* below = field->message_type();
    if (below != nullptr && below != v1::Integer::descriptor() && below != v1::Real::descriptor()) {
      AddFields(*below, fields);
    }
  }
}

// The fault in a field's statement of its default and range; empty if there is none.
std::string Fault(const FieldDescriptor& field) {
  const v1::Setting& setting = field.options().GetExtension(v1::setting);
  const bool range = setting.min() < setting.max();
  if (field.is_repeated()) return range ? "" : "a list needs a range";
  if (field.message_type() == v1::Integer::descriptor()) {
    if (!setting.has_integer()) return "an Integer needs a default";
    if (setting.min() < INT_MIN || setting.max() > INT_MAX) return "an Integer draws values of an int";
    const absl::Status status = IntegerKnob::Check(setting.integer(), "default", static_cast<int>(setting.min()),
                                                   static_cast<int>(setting.max()));
    return std::string(status.message());
  }
  if (field.message_type() == v1::Real::descriptor()) {
    if (!setting.has_real()) return "a Real needs a default";
    return std::string(RealKnob::Check(setting.real(), "default", setting.min(), setting.max()).message());
  }
  switch (field.cpp_type()) {
    case FieldDescriptor::CPPTYPE_INT64:
    case FieldDescriptor::CPPTYPE_DOUBLE:
      if (setting.has_computed()) return range ? "" : "a number needs a range";
      if (!setting.has_number()) return "a number needs a default";
      return setting.min() <= setting.number() && setting.number() <= setting.max() ? ""
                                                                                    : "the default is out of range";
    case FieldDescriptor::CPPTYPE_BOOL:
      return setting.has_flag() ? "" : "a bool needs a default";
    case FieldDescriptor::CPPTYPE_ENUM: {
      const auto* value = field.enum_type()->FindValueByName(setting.name());
      return value != nullptr && value->number() != 0 ? "" : "an enum needs the name of a default";
    }
    default:
      return setting.ByteSizeLong() == 0 ? "" : "has a setting, which nothing applies";
  }
}

TEST(SettingsTest, EveryFieldStatesItsDefaultAndRange) {
  std::set<const FieldDescriptor*> fields;
  AddFields(*v1::Recipe::descriptor(), fields);
  for (const FieldDescriptor* field : fields) {
    // Not given, it reads as false, and recipes that state false keep their fingerprints.
    if (field->full_name() == "iterand.v1.Tasks.one_mark") continue;
    EXPECT_EQ(Fault(*field), "") << field->full_name();
  }
  EXPECT_GT(fields.size(), 150U);
}

TEST(SettingsTest, DefaultsAreWrittenWhereNothingIsGiven) {
  EXPECT_EQ(Resolved<v1::Dyck>(""),
            "kinds { log_uniform { low: 1 high: 64 } } open_probability { uniform { low: 0.4 high: 0.6 } } "
            "max_depth { log_uniform { low: 4 high: 64 } }");
  EXPECT_EQ(Resolved<v1::Dyck>("kinds { fixed: 3 } open_probability {} max_depth { choice { values: [5, 6] } }"),
            "kinds { fixed: 3 } open_probability { uniform { low: 0.4 high: 0.6 } } "
            "max_depth { choice { values: 5 values: 6 } }");
  EXPECT_EQ(Resolved<v1::Band::Trial>("rows: 4"), "rows: 4 symbols: 128 margin: 0.1");
  EXPECT_EQ(Resolved<v1::Repeat>("period { fixed: 7 } symbols { fixed: 0 } source: SOURCE_UNSPECIFIED"),
            "period { fixed: 7 } symbols { fixed: 0 } source: RANDOM");
  EXPECT_EQ(Resolved<v1::Repeat>("period { fixed: 7 } symbols { fixed: 0 } source: ROW"),
            "period { fixed: 7 } symbols { fixed: 0 } source: ROW");
}

TEST(SettingsTest, DefaultsAreWrittenInMessagesThatAreThere) {
  EXPECT_EQ(Resolved<v1::Band>(""), "low: 0 high: 10");
  EXPECT_EQ(Resolved<v1::Band>("trial { stages {} }"),
            "low: 0 high: 10 trial { rows: 1 symbols: 128 margin: 0.1 stages { first: 32 margin: 0.015 } }");
  const auto recipe = [](const std::string& text) {
    auto message = Parse<v1::Recipe>(text);
    WriteDefaults(message);
    return message;
  };
  EXPECT_EQ(
      recipe("families { uniform {} } families { repeat { period { fixed: 1 } } }").families(1).ShortDebugString(),
      "weight: 1 repeat { period { fixed: 1 } symbols { fixed: 65536 } source: RANDOM }");
  EXPECT_FALSE(recipe("").has_chain());
  EXPECT_TRUE(recipe("pool {}").pool().iterate());
}

TEST(SettingsTest, SomeDefaultsAreLeftOut) {
  EXPECT_EQ(Resolved<v1::Marks>("begin: false end: true separator_every: 0"), "end: true");
  EXPECT_EQ(Resolved<v1::Marks>("begin: true separator_every: 5"), "begin: true separator_every: 5");
  auto recipe = Parse<v1::Recipe>("pack: 1 loss_mask: false");
  WriteDefaults(recipe);
  EXPECT_FALSE(recipe.has_pack());
  EXPECT_FALSE(recipe.has_loss_mask());
}

TEST(SettingsTest, OneFieldAlone) {
  auto recipe = Parse<v1::Recipe>("marks { begin: false } loss_mask: false mixture { recipe {} }");
  WriteDefault(recipe, v1::Recipe::kLengthFieldNumber);
  WriteDefault(recipe, v1::Recipe::kMarksFieldNumber);
  WriteDefault(recipe, v1::Recipe::kLossMaskFieldNumber);
  EXPECT_EQ(recipe.ShortDebugString(), "length: 512 marks { } mixture { recipe { } }");
  recipe.set_length(15);
  EXPECT_EQ(CheckField(recipe, v1::Recipe::kLengthFieldNumber).message(), "length: is 15, must be in [16, 65536]");
  EXPECT_TRUE(CheckField(recipe, v1::Recipe::kLanesFieldNumber).ok());
}

TEST(SettingsTest, UnknownFieldsAreFoundInNestedRecipes) {
  auto recipe = Parse<v1::Recipe>("mixture { preset: \"eca\" } mixture { recipe { families { eca {} } } }");
  EXPECT_TRUE(CheckKnown(recipe, "").ok());
  v1::Family& family = *recipe.mutable_mixture(1)->mutable_recipe()->mutable_families(0);
  family.GetReflection()->MutableUnknownFields(&family)->AddVarint(9000, 1);
  EXPECT_EQ(CheckKnown(recipe, "").message(),
            "mixture[1].recipe.families[0]: has unknown field number 9000; this server may be older than the client");
}

TEST(SettingsTest, ErrorsNameTheFieldItsValueAndItsRange) {
  EXPECT_EQ(Refusal<v1::Nca>("height: 1025"), "it.height: is 1025, must be in [1, 1024]");
  EXPECT_EQ(Refusal<v1::Nca>("identity_bias { uniform { low: -2e6 high: 1 } }"),
            "it.identity_bias.uniform.low: is -2e+06, must be in [-1e+06, 1e+06]");
  EXPECT_EQ(Refusal<v1::Lstm>("layers { choice { values: [1, 17] } }"),
            "it.layers.choice.values[1]: is 17, must be in [1, 16]");
  EXPECT_EQ(Refusal<v1::Chain>("noise_share: nan"), "it.noise_share: is nan, must be in [0, 1]");
  EXPECT_EQ(Refusal<v1::Markov>("tree { depth { fixed: 33 } }"), "it.tree.depth.fixed: is 33, must be in [1, 32]");
  EXPECT_EQ(Refusal<v1::Recipe>("families { weight: 2 } families { weight: -1 }"),
            "it.families[1].weight: is -1, must be in [0, 1e+06]");
  EXPECT_EQ(Refusal<v1::Recipe>(""), "it.families: has 0 entries, must have 1 to 256");
  EXPECT_EQ(CheckFields(Parse<v1::Nca>("height: 1025"), "").message(), "height: is 1025, must be in [1, 1024]");
}

TEST(SettingsTest, BothEndsOfARangeAreInIt) {
  for (const char* text : {"height: 1 colours { fixed: 2 }", "height: 1024 colours { fixed: 4096 }",
                           "identity_bias { uniform { low: -1e6 high: 1e6 } }"}) {
    EXPECT_TRUE(CheckFields(Parse<v1::Nca>(text), "it").ok()) << text;
  }
}

}  // namespace
}  // namespace iterand
