// Runs the program `iterand` as a user does, and looks at what comes out.
#pragma once

#include <sys/types.h>

#include <filesystem>
#include <memory>
#include <string>
#include <vector>

namespace iterand::testing {

struct CommandResult {
  int exit_status = -1;  // 128 + the signal's number if one ended it, as shells count
  std::string out;
  std::string err;
};

// A folder for a test's files, removed with its content.
class ScratchFolder {
 public:
  ScratchFolder();
  ~ScratchFolder();
  ScratchFolder(const ScratchFolder&) = delete;
  ScratchFolder& operator=(const ScratchFolder&) = delete;

  const std::filesystem::path& path() const { return path_; }
  std::string File(const std::string& name) const { return (path_ / name).string(); }

 private:
  std::filesystem::path path_;
};

// Runs a shell command in which $ITERAND is the program.
CommandResult RunShell(const std::string& command);

// Runs `iterand ARGUMENTS`, which the shell splits.
CommandResult RunIterand(const std::string& arguments);

// `iterand ARGUMENTS...` in the background.
class BackgroundIterand {
 public:
  explicit BackgroundIterand(const std::vector<std::string>& arguments);
  ~BackgroundIterand();  // kills it if it still runs
  BackgroundIterand(const BackgroundIterand&) = delete;
  BackgroundIterand& operator=(const BackgroundIterand&) = delete;

  void Signal(int signal) const;
  bool running();
  pid_t pid() const { return pid_; }
  // Waits for its end; the exit status as in CommandResult.
  int Wait();

 private:
  pid_t pid_ = -1;
  int exit_status_ = -1;
};

// A server of `iterand serve` on a free port of this machine.
class RunningServer {
 public:
  explicit RunningServer(const std::vector<std::string>& more_arguments = {});
  const std::string& address() const { return address_; }
  BackgroundIterand& process() { return *process_; }
  std::string address_file() const { return scratch_.File("address"); }

 private:
  ScratchFolder scratch_;
  std::unique_ptr<BackgroundIterand> process_;
  std::string address_;
};

std::string ReadWholeFile(const std::string& path);
void WriteWholeFile(const std::string& path, const std::string& content);

// Lower-case hexadecimal SHA-256.
std::string Sha256Hex(const std::string& bytes);

}  // namespace iterand::testing
