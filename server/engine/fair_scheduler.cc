#include "server/engine/fair_scheduler.h"

#include <algorithm>
#include <utility>

namespace iterand {
namespace {

// A class that wanted no core for a while may be ahead or behind by this much, in seconds.
constexpr double kMaxLead = 0.005;

// Reading the clock of a thread is a system call, which would be a good part of the cheapest slices: of these, one in
// eight is measured.
constexpr double kCheapSliceSeconds = 50e-6;
constexpr int kMeasuredOneIn = 8;

}  // namespace

class FairScheduler::Account {
 public:
  bool starting = false;
  double starting_seconds = 0;  // estimate of what the first batch needs
  double virtual_time = 0;
  double slice_seconds = 1e-3;  // expected; a moving average of what was measured
  bool measured = false;
  int unmeasured = 0;  // slices since the last measured one
  double core_seconds = 0;
  int running = 0;

  double StartingOrder() const { return std::max(starting_seconds, core_seconds); }
};

std::shared_ptr<FairScheduler::Account> FairScheduler::NewAccount() {
  auto account = std::make_shared<Account>();
  account->virtual_time = virtual_time_;
  return account;
}

std::shared_ptr<FairScheduler::Account> FairScheduler::NewStartingAccount(double seconds) {
  std::shared_ptr<Account> account = NewAccount();
  account->starting = true;
  account->starting_seconds = seconds;
  return account;
}

void FairScheduler::EndStart(Account& account) {
  if (!account.starting) return;
  account.starting = false;
  account.virtual_time = std::max(account.virtual_time, virtual_time_);
}

void FairScheduler::Activate(Account& account) {
  if (account.running == 0) account.virtual_time = std::max(account.virtual_time, virtual_time_);
}

bool FairScheduler::IsBefore(const Account& a, const Account& b) const {
  if (a.starting != b.starting) return a.starting == (starting_lead_ <= 0);
  return a.starting ? a.StartingOrder() < b.StartingOrder() : a.virtual_time < b.virtual_time;
}

FairScheduler::Slice FairScheduler::BeginSlice(const std::shared_ptr<Account>& owner) {
  Account& account = *owner;
  Slice slice{.account = owner, .expected_seconds = account.slice_seconds, .starting = account.starting};
  slice.measured =
      !account.measured || account.slice_seconds >= kCheapSliceSeconds || ++account.unmeasured == kMeasuredOneIn;
  if (slice.measured) account.unmeasured = 0;
  if (!account.starting) {
    virtual_time_ = std::max(virtual_time_, account.virtual_time);
    account.virtual_time += slice.expected_seconds;
  }
  AddLead(slice.starting, slice.expected_seconds);
  ++account.running;
  return slice;
}

void FairScheduler::EndSlice(const Slice& slice, double seconds) {
  Account& account = *slice.account;
  if (!slice.starting) account.virtual_time += seconds - slice.expected_seconds;
  AddLead(slice.starting, seconds - slice.expected_seconds);
  account.core_seconds += seconds;
  if (slice.measured) {
    account.slice_seconds = account.measured ? 0.75 * account.slice_seconds + 0.25 * seconds : seconds;
    account.measured = true;
  }
  --account.running;
  if (account.core_seconds > kMaxStartingSeconds) EndStart(account);
}

void FairScheduler::AddLead(bool starting, double seconds) {
  const double share = starting ? 1 - kStartingShare : -kStartingShare;
  starting_lead_ = std::clamp(starting_lead_ + share * seconds, -kMaxLead, kMaxLead);
}

double FairScheduler::core_seconds(const Account& account) { return account.core_seconds; }
int FairScheduler::running_slices(const Account& account) { return account.running; }
bool FairScheduler::starting(const Account& account) { return account.starting; }

}  // namespace iterand
