#include "randnet/base/math.h"

#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <functional>
#include <vector>

#include "tests/randnet/base/vector_math.h"
#include "tests/randnet/targets.h"

namespace iterand {
namespace {

// Every 509th float, so that all exponents, both signs, infinities and NaNs are covered by 8 million arguments.
template <typename Visit>
void ForManyFloats(const Visit& visit) {
  for (std::uint64_t bits = 0; bits < (std::uint64_t{1} << 32); bits += 509) {
    visit(std::bit_cast<float>(static_cast<std::uint32_t>(bits)));
  }
  for (const float x : {0.0F, -0.0F, 1.0F, -1.0F, INFINITY, -INFINITY, NAN, 1e-45F, -1e-45F, 0x1p-126F, 3.4028235e38F})
    visit(x);
}

// Distance in units in the last place of the true value, as a normal or subnormal float32.
long double UlpError(float actual, long double expected) {
  int exponent = 0;
  std::frexp(expected, &exponent);
  return std::abs(actual - expected) / std::ldexp(1.0L, std::max(exponent, -125) - 24);
}

void ExpectWithin(const char* name, long double bound, float (*actual)(float), long double (*expected)(long double)) {
  long double worst = 0;
  float worst_at = 0;
  ForManyFloats([&](float x) {
    const float y = actual(x);
    const long double truth = expected(static_cast<long double>(x));
    if (std::isnan(truth) || std::isnan(y)) {
      ASSERT_EQ(std::isnan(truth), std::isnan(y)) << name << "(" << x << ")";
      return;
    }
    if (std::isinf(y) || std::isinf(static_cast<float>(truth))) {
      // The last float before infinity may round either way.
      ASSERT_GT(std::abs(truth), 3.4028233e38L) << name << "(" << x << ")";
      ASSERT_EQ(std::signbit(truth), std::signbit(y));
      return;
    }
    const long double error = UlpError(y, truth);
    if (error > worst) {
      worst = error;
      worst_at = x;
    }
  });
  std::printf("%s: largest error %.3Lf ulp, at %a\n", name, worst, static_cast<double>(worst_at));
  EXPECT_LE(worst, bound) << name << "(" << worst_at << ")";
}

// The bounds that randnet/base/math.h states.
TEST(MathTest, ExpWithinStatedError) {
  ExpectWithin("Exp", 1.0L, math::Exp, [](long double x) { return std::exp(x); });
}
TEST(MathTest, LogWithinStatedError) {
  ExpectWithin("Log", 1.0L, math::Log, [](long double x) { return std::log(x); });
}
TEST(MathTest, TanhWithinStatedError) {
  ExpectWithin("Tanh", 1.5L, math::Tanh, [](long double x) { return std::tanh(x); });
}

TEST(MathTest, GateExpWithinStatedErrorAndClamped) {
  double worst = 0;
  for (int i = -400000; i <= 400000; ++i) {
    const float x = static_cast<float>(i) * 1e-4F;
    const double clamped = std::clamp(static_cast<double>(x), -27.5, 27.5);
    worst = std::max(worst, std::abs(math::GateExp(x) / std::exp(clamped) - 1));
    worst = std::max(worst, std::abs(math::GateExp<-1>(x) / std::exp(-clamped) - 1));
    const double twice = std::clamp(2.0 * x, -27.5, 27.5);
    worst = std::max(worst, std::abs(math::GateExp<-2>(x) / std::exp(-twice) - 1));
  }
  EXPECT_LE(worst, 6e-7);
  EXPECT_EQ(math::GateExp(INFINITY), math::GateExp(27.5F));
  EXPECT_EQ(math::GateExp(-INFINITY), math::GateExp(-27.5F));
}

TEST(MathTest, NormalInvertsTheDistributionFunction) {
  double worst = 0;
  for (int k = 0; k < (1 << 24); k += 61) {
    const float x = static_cast<float>(2 * k + 1 - (1 << 24)) * 0x1.0p-24F;
    // 1 - erf and erfc keep their relative precision in the tails.
    const double z = math::NormalFromSymmetric(x);
    const double tail = 0.5 * std::erfc(std::abs(z) / std::sqrt(2.0));
    const double expected_tail = 0.5 * (1.0 - std::abs(static_cast<double>(x)));
    const double density = std::exp(-0.5 * z * z) / std::sqrt(2 * M_PI);
    worst = std::max(worst, std::abs(tail - expected_tail) / density / std::max(std::abs(z), 1e-3));
    ASSERT_EQ(std::signbit(z), x < 0);
  }
  std::printf("NormalFromSymmetric: largest relative error %.3g\n", worst);
  EXPECT_LE(worst, 2e-6);
  EXPECT_EQ(math::NormalFromSymmetric(1.0F), INFINITY);
  EXPECT_EQ(math::NormalFromSymmetric(-1.0F), -INFINITY);
  EXPECT_TRUE(std::isnan(math::NormalFromSymmetric(NAN)));
  EXPECT_NEAR(math::NormalFromSymmetric(0.95F), 1.9599640, 1e-5);
  EXPECT_EQ(math::NormalFromSymmetric(0.0F), 0.0F);
}

TEST(MathTest, VectorFormsGiveTheSameBits) {
  std::vector<float> arguments;
  ForManyFloats([&](float x) {
    if (arguments.size() % 7 != 3 || std::bit_cast<std::uint32_t>(x) % 3 == 0) arguments.push_back(x);
  });
  std::vector<float> normal;  // positive, finite, not subnormal
  std::vector<float> gates;   // no NaN
  std::vector<float> inside;  // within (-1, 1)
  for (const float x : arguments) {
    if (std::isnormal(x) && x > 0) normal.push_back(x);
    if (x == x) gates.push_back(x);
    if (std::abs(x) < 1.0F && std::abs(x) > 1e-30F) inside.push_back(x);
  }
  for (int k = 0; k < (1 << 24); k += 101) inside.push_back(static_cast<float>(2 * k + 1 - (1 << 24)) * 0x1.0p-24F);
  ForEachTarget([&](const char* target) {
    SCOPED_TRACE(target);
    const auto check = [](VectorFunction function, const std::vector<float>& x, float (*scalar)(float)) {
      std::vector<float> y(x.size());
      ApplyVectorFunction(function, x, y);
      for (std::size_t i = 0; i < x.size(); ++i) {
        const float expected = scalar(x[i]);
        if (std::isnan(expected)) {
          ASSERT_TRUE(std::isnan(y[i])) << static_cast<int>(function) << " of " << x[i];
        } else {
          ASSERT_EQ(std::bit_cast<std::uint32_t>(y[i]), std::bit_cast<std::uint32_t>(expected))
              << static_cast<int>(function) << " of " << x[i] << ": " << y[i] << " and " << expected;
        }
      }
    };
    check(VectorFunction::kExp, arguments, math::Exp);
    check(VectorFunction::kLogNormal, normal, math::Log);
    check(VectorFunction::kTanh, arguments, math::Tanh);
    check(VectorFunction::kNormal, inside, math::NormalFromSymmetric);
    check(VectorFunction::kGate, gates, math::GateExp<1>);
    check(VectorFunction::kGateMinus, gates, math::GateExp<-1>);
    check(VectorFunction::kGateMinusTwo, gates, math::GateExp<-2>);
  });
}

}  // namespace
}  // namespace iterand
