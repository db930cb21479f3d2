// Runs this program again in another role, as a process of its own, and measures the core time of such processes.
#pragma once

#include <spawn.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <csignal>
#include <cstdlib>
#include <iostream>
#include <string>
#include <utility>
#include <vector>

namespace iterand {

[[noreturn]] inline void ProcessError(const char* what) {
  std::cerr << what << "\n";
  std::exit(1);
}

inline double CpuSecondsOf(pid_t process) {
  clockid_t clock;
  timespec now{};
  if (clock_getcpuclockid(process, &clock) == 0) clock_gettime(clock, &now);
  return static_cast<double>(now.tv_sec) + static_cast<double>(now.tv_nsec) * 1e-9;
}

// This program in another role, or another program.
class Process {
 public:
  explicit Process(std::vector<std::string> arguments, const std::string& program = "/proc/self/exe") {
    int pipe_ends[2];
    if (pipe(pipe_ends) != 0) ProcessError("no pipe");
    posix_spawn_file_actions_t actions;
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_adddup2(&actions, pipe_ends[1], STDOUT_FILENO);
    posix_spawn_file_actions_addclose(&actions, pipe_ends[0]);
    arguments.insert(arguments.begin(), program);
    std::vector<char*> pointers;
    pointers.reserve(arguments.size() + 1);
    for (std::string& argument : arguments) pointers.push_back(argument.data());
    pointers.push_back(nullptr);
    if (posix_spawn(&pid_, pointers[0], &actions, nullptr, pointers.data(), environ) != 0) {
      ProcessError("cannot start a process");
    }
    posix_spawn_file_actions_destroy(&actions);
    close(pipe_ends[1]);
    char c;
    while (read(pipe_ends[0], &c, 1) == 1 && c != '\n') line_ += c;
    close(pipe_ends[0]);
  }
  ~Process() {
    kill(pid_, SIGTERM);
    waitpid(pid_, nullptr, 0);
  }
  Process(const Process&) = delete;
  Process& operator=(const Process&) = delete;

  pid_t pid() const { return pid_; }
  const std::string& line() const { return line_; }  // the first that it printed

 private:
  pid_t pid_ = 0;
  std::string line_;
};

class ServerProcess : public Process {
 public:
  explicit ServerProcess(const char* role) : Process({role}) {}
  // The program iterand, with arguments to `iterand serve`.
  ServerProcess(const std::string& program, std::vector<std::string> arguments)
      : Process(std::move(arguments), program) {}
  std::string address() const { return line().substr(line().rfind(' ') + 1); }
};

// Core time of this process and of a server, if there is one.
class CpuMeter {
 public:
  explicit CpuMeter(pid_t server) : server_(server), start_(Now()) {}
  double Seconds() const { return Now() - start_; }

 private:
  double Now() const { return CpuSecondsOf(getpid()) + (server_ == 0 ? 0 : CpuSecondsOf(server_)); }
  pid_t server_;  // or 0
  double start_;
};

}  // namespace iterand
