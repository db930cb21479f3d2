# Shell functions that ./run, ./check and the programs in tools/ share. Sourced, never run.
#
# After `source tools/common.sh`: the working directory is the repository's root, `fail`, `say` and the functions below
# exist, and the shell stops at the first error that nobody handles.

set -euo pipefail

# The comment at a program's top is its help.
case ${1:-} in
  -h | --help)
    sed -n -e '1d' -e '/^#/!q' -e 's/^# \{0,1\}//p' "$0"
    exit 0
    ;;
esac

cd "$(dirname "${BASH_SOURCE[0]}")/.."

# Where programs and Python packages are put; both are ignored by git. A script that needs a Python environment of its
# own sets VENV_DIR first.
readonly RELEASE_DIR=build/release
readonly VENV_DIR=${VENV_DIR:-.venv}

# Pinned tools. All come from PyPI, so that every machine formats and checks in the same way.
readonly CLANG_FORMAT_VERSION=18.1.8
readonly CLANG_TIDY_VERSION=23.1.4

# Prints a progress line for the user; on standard error, so that results can be piped.
say() { printf '%s\n' "$*" >&2; }

# Prints one line that says what went wrong, and exits.
fail() {
  printf '%s: %s\n' "${PROGRAM:-$(basename "$0")}" "$*" >&2
  exit 1
}

# Compilers at work: one per core, but no more than memory allows (about 1.5 GB for a file with gRPC's headers).
build_jobs() {
  local cores memory_gb
  cores=$(nproc)
  memory_gb=$(awk '/^MemAvailable/ {print int($2 / 1500000)}' /proc/meminfo)
  if ((memory_gb < 1)); then memory_gb=1; fi
  if ((memory_gb < cores)); then echo "$memory_gb"; else echo "$cores"; fi
}

# The sanitizers for addresses and undefined behaviour are built with clang, since gcc takes several times as long.
need_clang() {
  command -v clang++-19 > /dev/null || fail 'needs clang (apt-get install clang-19 libclang-rt-19-dev libomp-19-dev)'
}

# The packages of apt-packages.txt, one per line.
listed_packages() { sed -e 's/#.*//' -e '/^[[:space:]]*$/d' apt-packages.txt | tr -d ' \t'; }

# Installs the system packages that are missing. Does nothing, in a few milliseconds, where all are installed.
ensure_system_packages() {
  if ! command -v dpkg-query > /dev/null; then
    say "This system is neither Debian nor Ubuntu: install what apt-packages.txt lists by hand if the build fails."
    return
  fi
  local installed missing=()
  installed=$(dpkg-query -W -f '${db:Status-Abbrev}${Package}\n' 2> /dev/null | sed -n 's/^ii //p' | sort -u)
  mapfile -t missing < <(comm -23 <(listed_packages | sort -u) <(printf '%s\n' "$installed"))
  if ((${#missing[@]} == 0)); then return; fi
  local as_root=()
  if ((EUID != 0)); then
    command -v sudo > /dev/null ||
      fail "missing system packages, and neither root nor sudo to install them; as root: apt-get install ${missing[*]}"
    as_root=(sudo)
  fi
  say "Installing ${#missing[@]} system packages: ${missing[*]}"
  mkdir -p build
  local log=build/apt.log
  : > "$log"
  # Package lists of a fresh machine or container may be empty or old; without network an old list may still work.
  "${as_root[@]}" apt-get update -q >> "$log" 2>&1 || say "apt-get update failed (see $log); trying with the lists at hand"
  "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends "${missing[@]}" \
    >> "$log" 2>&1 < /dev/null || {
    tail -n 5 "$log" >&2
    fail "apt-get could not install the packages above; the whole log is $log"
  }
}

# Prints the path of a Python that is new enough and can make virtual environments.
find_python() {
  local candidate path
  for candidate in "${PYTHON:-python3}" python3.13 python3.12 python3.11 python3.10; do
    path=$(command -v "$candidate") || continue
    if "$path" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 10))' 2> /dev/null; then
      echo "$path"
      return
    fi
  done
  fail "no Python >= 3.10 with the venv module was found (on Debian or Ubuntu: apt-get install python3 python3-venv;" \
    "another one can be named: PYTHON=/path/to/python3 $0)"
}

# ensure_venv NAME REQUIREMENT...: makes .venv if necessary and installs the requirements into it, unless exactly these
# were installed under this NAME before and the package's description has not changed since.
ensure_venv() {
  local name=$1
  shift
  local python stamp wanted log=build/pip.log
  mkdir -p build
  if [[ ! -x $VENV_DIR/bin/python ]]; then
    python=$(find_python)
    say "Making the Python environment $VENV_DIR with $("$python" --version)"
    rm -rf "$VENV_DIR"
    "$python" -m venv "$VENV_DIR" || fail "could not make the virtual environment $VENV_DIR with $python"
  fi
  stamp=$VENV_DIR/.iterand-$name
  # The folder's own path is part of it, since an editable install of a moved folder does not work.
  wanted=$(printf '%s\n' "$PWD" "$@" && sha256sum pyproject.toml clients/study/pyproject.toml)
  if [[ -f $stamp && $(< "$stamp") == "$wanted" ]]; then return; fi
  say "Installing Python packages: $*"
  # The native module comes from our own build: see pyproject.toml and python_options.
  ITERAND_BUILD_APART=1 "$VENV_DIR/bin/python" -m pip install --quiet --disable-pip-version-check --no-input "$@" \
    > "$log" 2>&1 || {
    tail -n 5 "$log" >&2
    fail "pip could not install the packages above; the whole log is $log"
  }
  printf '%s\n' "$wanted" > "$stamp"
}

# What has CMake build the Python module, for the Python of the environment, beside the package's sources. Prints
# nothing if the environment does not exist or lacks what that takes.
python_options() {
  local python=$PWD/$VENV_DIR/bin/python
  if [[ -x $python ]] && "$python" -c 'import grpc_tools, nanobind' 2> /dev/null; then
    printf '%s\n' -DITERAND_PYTHON=ON -DITERAND_PYTHON_INPLACE=ON "-DPython_EXECUTABLE=$python"
  fi
}

# Whether a build folder is configured for a Python that still exists, or needs none.
has_python() { # FOLDER
  local configured
  configured=$(sed -n 's/^Python_EXECUTABLE:[A-Z]*=//p' "$1/CMakeCache.txt" 2> /dev/null)
  [[ -n $configured && -x $configured ]]
}

# build PRESET TARGET...: configures if necessary and builds the targets. Prints nothing if they are up to date; counts
# the steps on a terminal; shows what failed.
build() {
  local preset=$1
  shift
  local folder=build/$preset log=build/$preset.log
  mkdir -p build
  local options=()
  if [[ $preset == release ]] && ! has_python "$folder"; then mapfile -t options < <(python_options); fi
  if [[ ! -f $folder/build.ninja || CMakePresets.json -nt $folder/build.ninja ]] || ((${#options[@]} > 0)); then
    say "Configuring the build in $folder"
    cmake --preset "$preset" "${options[@]}" > "$log" 2>&1 < /dev/null || {
      tail -n 15 "$log" >&2
      fail "cmake could not configure the build; the whole log is $log"
    }
  fi
  # A background job of a script ignores Ctrl-C by default.
  env --default-signal=INT NINJA_STATUS='[%f/%t] ' ninja -C "$folder" -j "$(build_jobs)" "$@" > "$log" 2>&1 < /dev/null &
  local ninja=$! ticks=0 steps
  while kill -0 "$ninja" 2> /dev/null; do
    sleep 0.1
    ticks=$((ticks + 1))
    if ((ticks == 10)); then say "Building $* (some minutes the first time)"; fi
    if ((ticks > 10)) && [[ -t 2 ]]; then
      steps=$(tail -c 4000 "$log" | sed -n 's#^\[\([0-9]*\)/\([0-9]*\)\] .*#\1 of \2 steps#p' | tail -n 1)
      printf '\r\033[K%s' "$steps" >&2
    fi
  done
  if ((ticks > 10)) && [[ -t 2 ]]; then printf '\r\033[K' >&2; fi
  wait "$ninja" || {
    grep -A 12 -m 3 'FAILED' "$log" >&2 || tail -n 15 "$log" >&2
    fail "the build failed; the whole log is $log"
  }
}
