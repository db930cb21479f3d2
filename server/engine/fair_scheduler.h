// FairScheduler: accounts of core time, and the order in which their owners may use the cores.
//
// An account belongs to one consumer of core time: a reader of a stream, or a background task. It is in one of three
// classes.
//   Starting: a stream whose client waits for its first batch. The account with the least work goes first: that is the
//             core time that its first batch needs by estimate or, if it has used more, what it has used. Each segment
//             that is complete corrects the estimate. Many streams that are opened at once therefore have their first
//             batches one after another, cheap ones first. After kMaxStartingSeconds of its own core time an account
//             is no longer in this class.
//   Waiting:  others whose client waits now, or did within the last kRecentSeconds of core time of all accounts.
//   Ahead:    readers that only fill their lookahead.
// In the last two classes the account that has used the least core time goes first (start-time fair queueing, Goyal et
// al. 1996): each carries a virtual time, which grows by the seconds that it uses. An account that was idle earns no
// credit for unused time.
//
// If several classes need a core, starting accounts get kShare of the core time, and waiting ones kShare of the rest.
//
// Time is charged in advance, as expected from the account's past, and corrected once it is known. Not thread-safe: the
// engine's mutex guards the scheduler and its accounts.
#pragma once

#include <memory>

namespace iterand {

class FairScheduler {
 public:
  static constexpr double kShare = 8.0 / 9;
  static constexpr double kMaxStartingSeconds = 60;
  static constexpr double kRecentSeconds = 0.1;

  enum class Class { kStarting, kWaiting, kAhead };

  // Opaque. It outlives its owner while a slice of it lasts.
  class Account;

  // One use of a core: a slice of a computation.
  struct Slice {
    std::shared_ptr<Account> account;
    double expected_seconds = 0;  // charged in advance
    bool measured = false;        // else expected_seconds count, since measuring would cost too much
    Class charged = Class::kWaiting;
  };

  // An account whose owner waits, until EndWait.
  std::shared_ptr<Account> NewAccount();
  // One in the starting class, whose first batch needs that many segments, each `seconds` of core time by estimate.
  std::shared_ptr<Account> NewStartingAccount(double segments, double seconds);

  // A better estimate of the seconds that a segment needs.
  void SetSegmentSeconds(Account& account, double seconds);

  // The account's first batch is complete.
  void EndStart(Account& account);

  // The account's owner waits for its work, or has received it.
  void BeginWait(Account& account);
  void EndWait(Account& account);

  // The account needs a core. To be called when it needed none before.
  void Activate(Account& account);

  // Whether `a` must be served before `b`.
  bool IsBefore(const Account& a, const Account& b) const;

  // A slice begins, and ends after `seconds` of core time.
  Slice BeginSlice(const std::shared_ptr<Account>& account);
  void EndSlice(const Slice& slice, double seconds);

  static double core_seconds(const Account& account);
  static int running_slices(const Account& account);
  Class ClassOf(const Account& account) const;

 private:
  void AddLead(Class charged, double seconds);

  double virtual_time_ = 0;   // of the account that was served last, starting ones excepted
  double core_seconds_ = 0;   // of all accounts
  double starting_lead_ = 0;  // seconds by which the starting class is ahead of its share
  double waiting_lead_ = 0;   // and the waiting class
};

}  // namespace iterand
