#include "server/engine/fair_scheduler.h"

#include <gtest/gtest.h>

#include <memory>
#include <vector>

namespace iterand {
namespace {

using AccountPointer = std::shared_ptr<FairScheduler::Account>;

// Serves whichever account comes first for `seconds` in slices of the given lengths; returns each one's core time.
std::vector<double> Serve(FairScheduler& scheduler, const std::vector<AccountPointer>& accounts,
                          const std::vector<double>& slices, double seconds) {
  std::vector<double> before;
  before.reserve(accounts.size());
  for (const AccountPointer& account : accounts) before.push_back(FairScheduler::core_seconds(*account));
  for (double passed = 0; passed < seconds;) {
    std::size_t first = 0;
    for (std::size_t i = 1; i < accounts.size(); ++i) {
      if (scheduler.IsBefore(*accounts[i], *accounts[first])) first = i;
    }
    scheduler.EndSlice(scheduler.BeginSlice(accounts[first]), slices[first]);
    passed += slices[first];
  }
  std::vector<double> used;
  used.reserve(accounts.size());
  for (std::size_t i = 0; i < accounts.size(); ++i) {
    used.push_back(FairScheduler::core_seconds(*accounts[i]) - before[i]);
  }
  return used;
}

TEST(FairScheduler, SteadyAccountsShareEquallyWhateverTheirSlices) {
  FairScheduler scheduler;
  const std::vector<AccountPointer> accounts = {scheduler.NewAccount(), scheduler.NewAccount(), scheduler.NewAccount()};
  const std::vector<double> used = Serve(scheduler, accounts, {20e-6, 1e-3, 10e-3}, 3);
  for (const double seconds : used) EXPECT_NEAR(seconds, 1, 0.03);
}

TEST(FairScheduler, IdleTimeEarnsNoCredit) {
  FairScheduler scheduler;
  const AccountPointer busy = scheduler.NewAccount();
  const AccountPointer idle = scheduler.NewAccount();
  Serve(scheduler, {busy}, {1e-3}, 10);
  scheduler.Activate(*idle);
  const std::vector<double> used = Serve(scheduler, {busy, idle}, {1e-3, 1e-3}, 1);
  EXPECT_NEAR(used[0], 0.5, 0.02);
  EXPECT_NEAR(used[1], 0.5, 0.02);
  // Nor does a new account.
  const std::vector<double> with_new = Serve(scheduler, {busy, scheduler.NewAccount()}, {1e-3, 1e-3}, 1);
  EXPECT_NEAR(with_new[0], 0.5, 0.02);
}

TEST(FairScheduler, StartingAccountsComeOneAfterAnotherTheSmallestFirst) {
  FairScheduler scheduler;
  const AccountPointer large = scheduler.NewStartingAccount(1, 0.5);
  const AccountPointer small = scheduler.NewStartingAccount(1, 0.1);
  EXPECT_TRUE(scheduler.IsBefore(*small, *large));
  // It may use as much as was estimated, ...
  Serve(scheduler, {small}, {1e-3}, 0.4);
  EXPECT_TRUE(scheduler.IsBefore(*small, *large));
  // ... and falls back once it has used more than the other needs.
  Serve(scheduler, {small}, {1e-3}, 0.2);
  EXPECT_TRUE(scheduler.IsBefore(*large, *small));
}

TEST(FairScheduler, SegmentsCorrectTheEstimateOfAStart) {
  FairScheduler scheduler;
  const AccountPointer few = scheduler.NewStartingAccount(10, 1e-3);
  const AccountPointer many = scheduler.NewStartingAccount(30, 1e-3);
  EXPECT_TRUE(scheduler.IsBefore(*few, *many));
  scheduler.SetSegmentSeconds(*few, 4e-3);  // 40 ms in all, 30 for the other
  EXPECT_TRUE(scheduler.IsBefore(*many, *few));
  scheduler.SetSegmentSeconds(*many, 2e-3);
  EXPECT_TRUE(scheduler.IsBefore(*few, *many));
}

TEST(FairScheduler, StartingAccountsLeaveAShareToSteadyOnes) {
  FairScheduler scheduler;
  const std::vector<AccountPointer> accounts = {scheduler.NewStartingAccount(1, 100), scheduler.NewAccount()};
  const std::vector<double> used = Serve(scheduler, accounts, {10e-3, 1e-3}, 3);
  EXPECT_NEAR(used[0] / 3, FairScheduler::kShare, 0.02);
  EXPECT_EQ(scheduler.ClassOf(*accounts[0]), FairScheduler::Class::kStarting);
}

TEST(FairScheduler, NobodyStartsForLong) {
  FairScheduler scheduler;
  const std::vector<AccountPointer> accounts = {scheduler.NewStartingAccount(1, 100), scheduler.NewAccount()};
  Serve(scheduler, accounts, {10e-3, 1e-3}, 1.2 * FairScheduler::kMaxStartingSeconds);
  EXPECT_EQ(scheduler.ClassOf(*accounts[0]), FairScheduler::Class::kWaiting);
  const std::vector<double> used = Serve(scheduler, accounts, {10e-3, 1e-3}, 2);
  EXPECT_NEAR(used[0], 1, 0.05);
}

TEST(FairScheduler, WhatNobodyWaitsForLeavesMostToOthers) {
  FairScheduler scheduler;
  const std::vector<AccountPointer> accounts = {scheduler.NewAccount(), scheduler.NewAccount(), scheduler.NewAccount()};
  for (const AccountPointer& account : accounts) scheduler.EndWait(*account);
  // Alone, lookahead has all cores.
  Serve(scheduler, {accounts[0], accounts[1]}, {1e-3, 1e-3}, 1);
  EXPECT_EQ(scheduler.ClassOf(*accounts[0]), FairScheduler::Class::kAhead);
  scheduler.Activate(*accounts[2]);
  scheduler.BeginWait(*accounts[2]);
  const std::vector<double> used = Serve(scheduler, accounts, {1e-3, 5e-3, 5e-3}, 3);
  EXPECT_NEAR(used[2] / 3, FairScheduler::kShare, 0.02);
  EXPECT_NEAR(used[0], used[1], 0.02);
  // A client that waits now and then counts as one that waits.
  scheduler.BeginWait(*accounts[0]);
  scheduler.EndWait(*accounts[0]);
  EXPECT_EQ(scheduler.ClassOf(*accounts[0]), FairScheduler::Class::kWaiting);
  Serve(scheduler, {accounts[2]}, {1e-3}, 2 * FairScheduler::kRecentSeconds);
  EXPECT_EQ(scheduler.ClassOf(*accounts[0]), FairScheduler::Class::kAhead);
}

TEST(FairScheduler, AfterItsStartAnAccountIsAsAnyOther) {
  FairScheduler scheduler;
  const AccountPointer old = scheduler.NewAccount();
  Serve(scheduler, {old}, {1e-3}, 5);
  const AccountPointer fresh = scheduler.NewStartingAccount(1, 1);
  Serve(scheduler, {fresh}, {1e-3}, 1);
  scheduler.EndStart(*fresh);
  scheduler.BeginWait(*fresh);
  const std::vector<double> used = Serve(scheduler, {old, fresh}, {1e-3, 1e-3}, 1);
  EXPECT_NEAR(used[0], 0.5, 0.02);
  EXPECT_NEAR(used[1], 0.5, 0.02);
}

TEST(FairScheduler, AStartThatEndsDuringASliceChargesNothingTwice) {
  FairScheduler scheduler;
  const AccountPointer old = scheduler.NewAccount();
  const AccountPointer fresh = scheduler.NewStartingAccount(1, 1);
  const FairScheduler::Slice slice = scheduler.BeginSlice(fresh);
  EXPECT_EQ(FairScheduler::running_slices(*fresh), 1);
  scheduler.EndStart(*fresh);
  scheduler.EndSlice(slice, 1e-3);
  EXPECT_EQ(FairScheduler::running_slices(*fresh), 0);
  scheduler.BeginWait(*fresh);
  const std::vector<double> used = Serve(scheduler, {old, fresh}, {1e-3, 1e-3}, 1);
  EXPECT_NEAR(used[0], 0.5, 0.02);
}

TEST(FairScheduler, OneInEightCheapSlicesIsMeasured) {
  FairScheduler scheduler;
  const AccountPointer account = scheduler.NewAccount();
  int measured = 0;
  for (int i = 0; i < 81; ++i) {
    const FairScheduler::Slice slice = scheduler.BeginSlice(account);
    measured += slice.measured ? 1 : 0;
    scheduler.EndSlice(slice, slice.measured ? 10e-6 : slice.expected_seconds);
  }
  EXPECT_EQ(measured, 11);  // the first, and one in eight of the others
  EXPECT_NEAR(FairScheduler::core_seconds(*account), 81 * 10e-6, 1e-9);
}

}  // namespace
}  // namespace iterand
