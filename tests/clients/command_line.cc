#include "tests/clients/command_line.h"

#include <fcntl.h>
#include <openssl/evp.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <csignal>
#include <cstdlib>
#include <fstream>
#include <iterator>
#include <stdexcept>
#include <thread>

namespace iterand::testing {
namespace {

int ExitStatus(int wait_status) {
  return WIFSIGNALED(wait_status) ? 128 + WTERMSIG(wait_status) : WEXITSTATUS(wait_status);
}

}  // namespace

ScratchFolder::ScratchFolder() {
  std::string name = (std::filesystem::temp_directory_path() / "iterand-test.XXXXXX").string();
  if (mkdtemp(name.data()) == nullptr) throw std::runtime_error("cannot make a folder " + name);
  path_ = name;
}

ScratchFolder::~ScratchFolder() {
  std::error_code ignored;
  std::filesystem::remove_all(path_, ignored);
}

CommandResult RunShell(const std::string& command) {
  const ScratchFolder scratch;
  const std::string line = "ITERAND=" ITERAND_BINARY "\n{ " + command + "\n} > " + scratch.File("out") + " 2> " +
                           scratch.File("err") + " < /dev/null";
  CommandResult result;
  // NOLINTNEXTLINE(bugprone-command-processor): the test's own commands, which need a shell
  result.exit_status = ExitStatus(std::system(line.c_str()));
  result.out = ReadWholeFile(scratch.File("out"));
  result.err = ReadWholeFile(scratch.File("err"));
  return result;
}

CommandResult RunIterand(const std::string& arguments) { return RunShell("$ITERAND " + arguments); }

BackgroundIterand::BackgroundIterand(const std::vector<std::string>& arguments) {
  std::vector<std::string> words = {ITERAND_BINARY};
  words.insert(words.end(), arguments.begin(), arguments.end());
  std::vector<char*> argv;
  argv.reserve(words.size() + 1);
  for (std::string& word : words) argv.push_back(word.data());
  argv.push_back(nullptr);
  posix_spawn_file_actions_t files;
  posix_spawn_file_actions_init(&files);
  posix_spawn_file_actions_addopen(&files, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
  posix_spawn_file_actions_addopen(&files, STDOUT_FILENO, "/dev/null", O_WRONLY, 0);
  const int error = posix_spawn(&pid_, ITERAND_BINARY, &files, nullptr, argv.data(), environ);
  posix_spawn_file_actions_destroy(&files);
  if (error != 0) throw std::runtime_error("cannot start " ITERAND_BINARY);
}

BackgroundIterand::~BackgroundIterand() {
  if (running()) {
    Signal(SIGKILL);
    Wait();
  }
}

void BackgroundIterand::Signal(int signal) const {
  if (pid_ > 0) kill(pid_, signal);
}

bool BackgroundIterand::running() {
  if (pid_ <= 0) return false;
  int status = 0;
  if (waitpid(pid_, &status, WNOHANG) == 0) return true;
  exit_status_ = ExitStatus(status);
  pid_ = -1;
  return false;
}

int BackgroundIterand::Wait() {
  if (pid_ > 0) {
    int status = 0;
    waitpid(pid_, &status, 0);
    exit_status_ = ExitStatus(status);
    pid_ = -1;
  }
  return exit_status_;
}

RunningServer::RunningServer(const std::vector<std::string>& more_arguments) {
  std::vector<std::string> arguments = {"serve", "--listen", "127.0.0.1:0", "--address-file", address_file()};
  arguments.insert(arguments.end(), more_arguments.begin(), more_arguments.end());
  process_ = std::make_unique<BackgroundIterand>(arguments);
  const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(30);
  while (!std::filesystem::exists(address_file())) {
    if (!process_->running()) throw std::runtime_error("the server ended before it was ready");
    if (std::chrono::steady_clock::now() > deadline) throw std::runtime_error("the server was not ready in 30 s");
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
  }
  address_ = ReadWholeFile(address_file());
  while (!address_.empty() && address_.back() == '\n') address_.pop_back();
}

std::string ReadWholeFile(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  if (!file) throw std::runtime_error("cannot read " + path);
  return {std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
}

void WriteWholeFile(const std::string& path, const std::string& content) {
  std::ofstream file(path, std::ios::binary);
  file << content;
  file.close();
  if (!file) throw std::runtime_error("cannot write " + path);
}

std::string Sha256Hex(const std::string& bytes) {
  unsigned char digest[EVP_MAX_MD_SIZE];
  unsigned int size = 0;
  EVP_Digest(bytes.data(), bytes.size(), digest, &size, EVP_sha256(), nullptr);
  std::string hex;
  for (unsigned int i = 0; i < size; ++i) {
    constexpr char kDigits[] = "0123456789abcdef";
    hex += kDigits[digest[i] >> 4];
    hex += kDigits[digest[i] & 15];
  }
  return hex;
}

}  // namespace iterand::testing
