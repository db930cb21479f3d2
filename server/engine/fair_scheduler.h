// FairScheduler: accounts of core time, and the order in which their owners may use the cores.
//
// An account belongs to one consumer of core time: a reader of a stream, or a background task. It is in one of two
// classes.
//   Starting: a stream whose client still waits for its first batch. The account with the least work goes first: that
//   is
//             the core time that its first batch needs by estimate or, if it has used more, what it has used. So many
//             streams that are opened at once have their first batches one after another, cheap ones first.
//   Steady:   all others. The account that has used the least core time goes first (start-time fair queueing, Goyal et
//             al. 1996): each carries a virtual time, which grows by the seconds that it uses. An account that was idle
//             earns no credit for unused time.
// If both classes want a core, starting accounts get kStartingShare of the core time. An account is starting for
// kMaxStartingSeconds of its own core time at most.
//
// Time is charged in advance, as expected from the account's past, and corrected once it is known. Not thread-safe: the
// engine's mutex guards the scheduler and its accounts.
#pragma once

#include <memory>

namespace iterand {

class FairScheduler {
 public:
  static constexpr double kStartingShare = 8.0 / 9;
  static constexpr double kMaxStartingSeconds = 5;

  // Opaque. It outlives its owner while a slice of it lasts.
  class Account;

  // One use of a core: a slice of a computation.
  struct Slice {
    std::shared_ptr<Account> account;
    double expected_seconds = 0;  // charged in advance
    bool measured = false;        // else expected_seconds count, since measuring would cost too much
    bool starting = false;        // the class that it is charged to
  };

  // An account in the steady class.
  std::shared_ptr<Account> NewAccount();
  // An account in the starting class, whose first batch needs `seconds` of core time by estimate.
  std::shared_ptr<Account> NewStartingAccount(double seconds);

  // The account's first batch is there: it becomes steady.
  void EndStart(Account& account);

  // The account wants a core. To be called when it wanted none before.
  void Activate(Account& account);

  // Whether `a` must be served before `b`.
  bool IsBefore(const Account& a, const Account& b) const;

  // A slice begins, and ends after `seconds` of core time.
  Slice BeginSlice(const std::shared_ptr<Account>& account);
  void EndSlice(const Slice& slice, double seconds);

  static double core_seconds(const Account& account);
  static int running_slices(const Account& account);
  static bool starting(const Account& account);

 private:
  void AddLead(bool starting, double seconds);

  double virtual_time_ = 0;   // of the steady account that was served last
  double starting_lead_ = 0;  // seconds by which the starting class is ahead of its share
};

}  // namespace iterand
