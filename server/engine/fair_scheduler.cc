#include "server/engine/fair_scheduler.h"

#include <algorithm>
#include <utility>

namespace iterand {
namespace {

// How far a class that needed no core for a while may be ahead or behind, in seconds.
constexpr double kMaxLead = 0.005;

// Reading a thread's clock is a system call, which would take a large part of the cheapest slices. Of these, one in
// eight is measured.
constexpr double kCheapSliceSeconds = 50e-6;
constexpr int kMeasuredOneIn = 8;

}  // namespace

class FairScheduler::Account {
 public:
  bool starting = false;
  bool waits = true;
  double last_wait = 0;          // when a wait ended, by core_seconds_ of the scheduler
  double starting_segments = 0;  // that the first batch needs
  double segment_seconds = 0;    // an estimate
  double virtual_time = 0;
  double slice_seconds = 1e-3;  // expected; a moving average of what was measured
  bool measured = false;
  int unmeasured = 0;  // slices since the last measured one
  double core_seconds = 0;
  int running = 0;

  double StartingOrder() const { return std::max(starting_segments * segment_seconds, core_seconds); }
};

std::shared_ptr<FairScheduler::Account> FairScheduler::NewAccount() {
  auto account = std::make_shared<Account>();
  account->virtual_time = virtual_time_;
  return account;
}

std::shared_ptr<FairScheduler::Account> FairScheduler::NewStartingAccount(double segments, double seconds) {
  std::shared_ptr<Account> account = NewAccount();
  account->starting = true;
  account->starting_segments = segments;
  account->segment_seconds = seconds;
  return account;
}

void FairScheduler::SetSegmentSeconds(Account& account, double seconds) { account.segment_seconds = seconds; }

void FairScheduler::EndStart(Account& account) {
  account.starting = false;
  EndWait(account);
  account.virtual_time = std::max(account.virtual_time, virtual_time_);
}

void FairScheduler::BeginWait(Account& account) { account.waits = true; }

void FairScheduler::EndWait(Account& account) {
  account.waits = false;
  account.last_wait = core_seconds_;
}

FairScheduler::Class FairScheduler::ClassOf(const Account& account) const {
  if (account.starting && account.core_seconds <= kMaxStartingSeconds) return Class::kStarting;
  const bool waits = account.starting || account.waits || core_seconds_ - account.last_wait < kRecentSeconds;
  return waits ? Class::kWaiting : Class::kAhead;
}

void FairScheduler::Activate(Account& account) {
  if (account.running == 0) account.virtual_time = std::max(account.virtual_time, virtual_time_);
}

bool FairScheduler::IsBefore(const Account& a, const Account& b) const {
  const Class of_a = ClassOf(a);
  const Class of_b = ClassOf(b);
  if (of_a == of_b) {
    return of_a == Class::kStarting ? a.StartingOrder() < b.StartingOrder() : a.virtual_time < b.virtual_time;
  }
  if (of_a == Class::kStarting) return starting_lead_ <= 0;
  if (of_b == Class::kStarting) return starting_lead_ > 0;
  return (of_a == Class::kWaiting) == (waiting_lead_ <= 0);
}

FairScheduler::Slice FairScheduler::BeginSlice(const std::shared_ptr<Account>& owner) {
  Account& account = *owner;
  Slice slice{.account = owner, .expected_seconds = account.slice_seconds, .charged = ClassOf(account)};
  slice.measured =
      !account.measured || account.slice_seconds >= kCheapSliceSeconds || ++account.unmeasured == kMeasuredOneIn;
  if (slice.measured) account.unmeasured = 0;
  if (slice.charged != Class::kStarting) {
    virtual_time_ = std::max(virtual_time_, account.virtual_time);
    account.virtual_time += slice.expected_seconds;
  }
  AddLead(slice.charged, slice.expected_seconds);
  ++account.running;
  return slice;
}

void FairScheduler::EndSlice(const Slice& slice, double seconds) {
  Account& account = *slice.account;
  if (slice.charged != Class::kStarting) account.virtual_time += seconds - slice.expected_seconds;
  AddLead(slice.charged, seconds - slice.expected_seconds);
  const bool may_start = account.core_seconds <= kMaxStartingSeconds;
  account.core_seconds += seconds;
  core_seconds_ += seconds;
  if (account.starting && may_start && account.core_seconds > kMaxStartingSeconds) {  // it changes its class
    account.virtual_time = std::max(account.virtual_time, virtual_time_);
  }
  if (slice.measured) {
    account.slice_seconds = account.measured ? 0.75 * account.slice_seconds + 0.25 * seconds : seconds;
    account.measured = true;
  }
  --account.running;
}

void FairScheduler::AddLead(Class charged, double seconds) {
  const auto add = [seconds](double& lead, bool favoured) {
    lead = std::clamp(lead + (favoured ? 1 - kShare : -kShare) * seconds, -kMaxLead, kMaxLead);
  };
  add(starting_lead_, charged == Class::kStarting);
  if (charged != Class::kStarting) add(waiting_lead_, charged == Class::kWaiting);
}

double FairScheduler::core_seconds(const Account& account) { return account.core_seconds; }
int FairScheduler::running_slices(const Account& account) { return account.running; }

}  // namespace iterand
